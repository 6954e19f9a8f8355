import { assert, describe, it } from "@effect/vitest"
import * as Format from "../../src/dashboard/format.ts"

const second = 1000
const minute = 60 * second
const hour = 60 * minute

describe("format", () => {
  it.each(
    [
      [-5, "0 ms"],
      [0, "0 ms"],
      [0.4, "<1 ms"],
      [41.4, "41 ms"],
      [999.4, "999 ms"],
      [999.6, "1.0 s"],
      [9_940, "9.9 s"],
      [9_950, "10 s"],
      [59_499, "59 s"],
      [59_500, "1 m 00 s"],
      [3 * minute + 5 * second, "3 m 05 s"],
      [2 * hour + 10 * minute, "2 h 10 m"],
      [24 * hour, "1 d 00 h"],
      [100 * hour, "4 d 04 h"]
    ] as const
  )("a span of %d ms is %s", (ms, text) => {
    assert.strictEqual(Format.duration(ms), text)
  })

  it("a span that grows never runs ahead", () => {
    assert.deepStrictEqual([-1, 0, 199, 59_999, 60_999].map(Format.elapsed), [
      "0.0 s",
      "0.0 s",
      "0.1 s",
      "59.9 s",
      "1 m 00 s"
    ])
  })

  it("says how long ago, or in how long", () => {
    assert.deepStrictEqual([-90_000, -500, 999, 1000, 9_999, 61_000].map(Format.ago), [
      "in 1 m 30 s",
      "just now",
      "just now",
      "1 s ago",
      "9 s ago",
      "1 m 01 s ago"
    ])
  })

  it("says that counting stopped", () => {
    assert.strictEqual(Format.count(10_000, true), "10,000+")
    assert.strictEqual(Format.count(0, true), "?")
    assert.strictEqual(Format.plural(1, "task"), "1 task")
    assert.strictEqual(Format.plural(0, "task"), "0 tasks")
    assert.strictEqual(Format.plural(1234, "entry", "entries"), "1,234 entries")
  })

  it("keeps the digits that matter", () => {
    assert.deepStrictEqual([0, 0.44, 9.99, 12.6, 1204].map(Format.rate), ["0", "0.4", "10.0", "13", "1,204"])
    assert.deepStrictEqual([1023, 1024, 300_000, 5 * 1024 * 1024].map(Format.bytes), [
      "1023 B",
      "1.0 kB",
      "293.0 kB",
      "5.0 MB"
    ])
  })

  it("writes times in the reader's zone", () => {
    const at = new Date(2026, 0, 2, 3, 4, 5)
    assert.strictEqual(Format.time(at), `2026-01-02 03:04:05 ${Format.zone(at)}`)
    const zone = (east: number) => Format.zone(Object.assign(new Date(), { getTimezoneOffset: () => -east }))
    assert.deepStrictEqual([0, 60, 330, -210].map(zone), ["UTC", "UTC+1", "UTC+5:30", "UTC-3:30"])
  })
})

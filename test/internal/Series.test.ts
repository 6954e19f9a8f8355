import { assert, describe, it } from "@effect/vitest"
import { DateTime } from "effect"
import { LastMinute, Series } from "../../src/internal/Series.ts"

const at = (millis: number) => DateTime.formatIso(DateTime.makeUnsafe(millis))

describe("a series", () => {
  it("counts in the bucket of the moment, and leaves out those in which nothing happened", () => {
    const series = new Series(1000, 10)
    series.ended(500, "completed", 10)
    series.ended(999, "failed", 10)
    series.ended(1000, "retried", undefined)
    series.ended(3999, "cancelled", 10)
    assert.deepStrictEqual(
      series.read(4000).map(({ at, cancelled, completed, failed, retried }) => ({
        at: DateTime.toEpochMillis(at),
        counts: [completed, failed, retried, cancelled]
      })),
      [
        { at: 0, counts: [1, 1, 0, 0] },
        { at: 1000, counts: [0, 0, 1, 0] },
        { at: 3000, counts: [0, 0, 0, 1] }
      ]
    )
  })

  it("forgets what is older than its ring, and keeps what is not", () => {
    const series = new Series(1000, 10)
    series.ended(500, "completed", 1)
    series.ended(1500, "completed", 1)
    assert.deepStrictEqual(series.read(10_999).map(({ at: time }) => DateTime.formatIso(time)), [at(1000)])
    series.ended(11_500, "failed", 1)
    assert.deepStrictEqual(series.read(11_500).map(({ completed, failed }) => [completed, failed]), [[0, 1]])
  })

  it("knows quantiles within the width of a bin", () => {
    const series = new Series()
    for (let millis = 1; millis <= 1000; millis++) {
      series.started(0, millis)
      series.ended(0, "completed", 2 * millis)
    }
    const [bucket] = series.read(0)
    const within = (value: number | null, expected: number) =>
      assert.isTrue(value! > expected / 1.2 && value! < expected * 1.2, `${value} is not about ${expected}`)
    within(bucket!.waitP50Ms, 500)
    within(bucket!.waitP95Ms, 950)
    within(bucket!.runP50Ms, 1000)
    within(bucket!.runP95Ms, 1900)
  })

  it("has no quantiles of nothing", () => {
    const series = new Series()
    series.ended(0, "cancelled", undefined)
    const [bucket] = series.read(0)
    assert.deepStrictEqual([bucket!.waitP50Ms, bucket!.waitP95Ms, bucket!.runP50Ms, bucket!.runP95Ms], [
      null,
      null,
      null,
      null
    ])
  })

  it("takes times that are out of any range", () => {
    const series = new Series()
    for (const millis of [0, 1e12, Infinity]) series.ended(0, "completed", millis)
    assert.strictEqual(series.read(0)[0]!.completed, 3)
    assert.isTrue(Number.isFinite(series.read(0)[0]!.runP95Ms))
  })
})

describe("the last minute", () => {
  const of = (minute: LastMinute, now: number) => Object.fromEntries(minute.read(now))

  it("has what ended of each queue, and drops it after a minute", () => {
    const minute = new LastMinute()
    minute.ended(0, "a", "completed")
    minute.ended(30_000, "a", "completed")
    minute.ended(30_000, "b", "failed")
    minute.ended(30_000, "b", "cancelled")
    const b = { completed: 0, failed: 1, cancelled: 1 }
    assert.deepStrictEqual(of(minute, 59_999), { a: { completed: 2, failed: 0, cancelled: 0 }, b })
    assert.deepStrictEqual(of(minute, 60_000), { a: { completed: 1, failed: 0, cancelled: 0 }, b })
    assert.deepStrictEqual(of(minute, 90_000), {})
    minute.ended(200_000, "a", "failed")
    assert.deepStrictEqual(of(minute, 200_000), { a: { completed: 0, failed: 1, cancelled: 0 } })
  })

  it("keeps the queues that were busy last, a thousand of them", () => {
    const minute = new LastMinute()
    for (let i = 0; i < 3000; i++) minute.ended(i * 10, `q${i}`, "completed")
    const kept = of(minute, 30_000)
    assert.lengthOf(Object.keys(kept), 1000)
    assert.property(kept, "q2999")
    assert.notProperty(kept, "q1999")
  })

  it("drops the one that has been idle longest, whoever reads in between", () => {
    const minute = new LastMinute()
    for (let i = 0; i < 1000; i++) minute.ended(0, `q${i}`, "completed")
    minute.ended(10_000, "q0", "completed")
    minute.read(11_000)
    minute.ended(12_000, "new", "completed")
    const kept = of(minute, 12_000)
    assert.property(kept, "q0")
    assert.notProperty(kept, "q1")
    assert.property(kept, "new")
  })

  it("survives a clock that is set back", () => {
    const minute = new LastMinute()
    minute.ended(1_000_000, "a", "completed")
    minute.ended(500_000, "a", "failed")
    assert.deepStrictEqual(of(minute, 500_000), { a: { completed: 0, failed: 1, cancelled: 0 } })
  })
})

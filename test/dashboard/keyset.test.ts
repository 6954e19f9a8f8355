import { assert, describe, it } from "@effect/vitest"
import * as Keyset from "../../src/dashboard/keyset.ts"
import * as Tasks from "../../src/dashboard/tasks.ts"

describe("keyset", () => {
  it("goes back the way it came", () => {
    const second = Keyset.older([], undefined, "90")
    const third = Keyset.older(second.trail, second.cursor, "80")
    assert.deepStrictEqual(third, { cursor: "80", trail: [null, "90"] })
    assert.deepStrictEqual(Keyset.newer(third.trail), second)
    assert.deepStrictEqual(Keyset.newer(second.trail), { cursor: undefined, trail: [] })
  })

  it("knows no way from the newest page, nor from an address that somebody sent", () => {
    assert.isUndefined(Keyset.newer([]))
    assert.isUndefined(Keyset.newer(Keyset.trailOf(null)))
  })

  it("takes nothing from the history that it did not put there", () => {
    for (const state of [null, undefined, "90", [1], { length: 1 }, [null, {}]]) {
      assert.deepStrictEqual(Keyset.trailOf(state), [])
    }
    assert.deepStrictEqual(Keyset.trailOf([null, "90"]), [null, "90"])
  })
})

describe("lists as addresses", () => {
  it("reads what is known and leaves the rest", () => {
    assert.deepStrictEqual(
      Tasks.filterOf(new URLSearchParams("status=failed&type=%20a%20&tag=&q=x&userId=u&before=3&limit=9&status=no")),
      { status: "failed", type: "a", q: "x", userId: "u" }
    )
    assert.deepStrictEqual(Tasks.filterOf(new URLSearchParams("status=broken")), {})
  })

  it("names the same list the same", () => {
    assert.strictEqual(Tasks.addressOf({ type: "a", q: "x" }, "1"), Tasks.addressOf({ q: "x", type: "a" }, "1"))
    assert.notStrictEqual(Tasks.addressOf({ type: "a" }, undefined), Tasks.addressOf({ tag: "a" }, undefined))
    assert.notStrictEqual(Tasks.addressOf({}, "1"), Tasks.addressOf({}, "2"))
  })

  it("takes ids for ids only", () => {
    assert.strictEqual(Tasks.idOf("9007199254740993"), 9007199254740993n as never)
    for (const text of ["", "0", "-1", "1.5", "0x1", "1e3", "12345678901234567890", " 1", "abc"]) {
      assert.isUndefined(Tasks.idOf(text), text)
    }
  })
})

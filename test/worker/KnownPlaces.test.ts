import { assert, describe, it } from "@effect/vitest"
import { KnownPlaces, perLook, type Share } from "../../src/worker/KnownPlaces.ts"

const found = (queue: string, waitMillis = 0, priority = 0) => ({ type: "t", queue, priority, waitMillis })
const anywhere = () => Infinity
const any = () => true
const named = (shares: ReadonlyArray<Share>) =>
  shares.map(({ priority, queue, share }) => `${queue}/${priority}×${share}`)

describe("what is known of many places", () => {
  it("lets queues take turns, each with an equal share", () => {
    const known = new KnownPlaces()
    known.found(["a", "b", "c"].map((queue) => found(queue)), 0)
    const first = known.next(2, 0, anywhere, any)
    assert.deepStrictEqual(named(first), ["a/0×1", "b/0×1"])
    known.took(first, first, [[0, 0], [0, 0]], 0, undefined)
    assert.deepStrictEqual(named(known.next(2, 0, anywhere, any)), ["c/0×1", "a/0×1"])
    assert.deepStrictEqual(named(known.next(7, 0, anywhere, any)), ["c/0×3", "a/0×3", "b/0×3"])
    assert.deepStrictEqual(named(known.next(7, 0, (queue) => queue === "a" ? 1 : 0, any)), ["a/0×1"])
    assert.isEmpty(known.next(7, 0, anywhere, () => false))
  })

  it("offers the priorities of a queue from the highest down, each when it is due", () => {
    const known = new KnownPlaces()
    known.found([found("a", 0, 1), found("a", 50, 9), found("a", 0, 5), found("b", Infinity)], 0)
    assert.deepStrictEqual(named(known.next(1, 0, anywhere, any)), ["a/5×1", "a/1×1"])
    assert.strictEqual(known.nextDueAt(), 50)
    assert.deepStrictEqual(named(known.next(1, 50, anywhere, any)), ["a/9×1", "a/5×1", "a/1×1"])
    assert.strictEqual(known.nextDueAt(), Infinity)
  })

  it("forgets what is empty, waits for what is not due, and leaves to others what they have locked", () => {
    const known = new KnownPlaces()
    known.found(["taken", "later", "locked", "more"].map((queue) => found(queue)), 0)
    const asked = known.next(4, 0, anywhere, any)
    known.took(asked, [found("taken"), found("later"), found("more")], [[0], [0, 300], [0], [0, 0]], 10, 100)
    assert.deepStrictEqual(named(known.next(9, 10, anywhere, any)), ["more/0×9"])
    assert.deepStrictEqual(named(known.next(9, 100, anywhere, any)), ["more/0×5", "locked/0×5"])
    assert.deepStrictEqual(named(known.next(9, 310, anywhere, any)), ["more/0×3", "locked/0×3", "later/0×3"])
  })

  it("has nothing locked by others when there was no room for all it asked for", () => {
    const known = new KnownPlaces()
    known.found([found("a"), found("b")], 0)
    const asked = known.next(2, 0, anywhere, any)
    known.took(asked, [found("a")], [[0, 0], [0]], 0, undefined)
    assert.deepStrictEqual(named(known.next(2, 0, anywhere, any)), ["a/0×1", "b/0×1"])
  })

  it("goes around all places in parts, and again when something may have been missed", () => {
    const known = new KnownPlaces()
    const part = (count: number) => Array.from({ length: count }, (_, n) => ({ ...found(`${n}`, 1000), nth: 1 }))
    known.walked(part(perLook), 0)
    assert.isFalse(known.complete)
    assert.strictEqual(known.position?.queue, String(perLook - 1))
    known.walked(part(3), 0)
    assert.isTrue(known.complete)
    assert.strictEqual(known.size, perLook + 3)
    assert.isUndefined(known.position)
    known.startOver()
    assert.isFalse(known.complete)
    known.walked(part(2), 0)
    assert.strictEqual(known.size, 2)
  })

  it("keeps a time that is a little early, and takes one that is earlier by more", () => {
    const known = new KnownPlaces()
    known.found([found("a", 1000)], 0)
    known.found([found("a", 1000)], 20)
    assert.strictEqual(known.nextDueAt(), 1000)
    known.found([found("a", 100)], 20)
    assert.strictEqual(known.nextDueAt(), 120)
    known.found([found("a", 5000)], 20)
    assert.strictEqual(known.nextDueAt(), 5020)
  })
})

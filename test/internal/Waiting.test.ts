import { assert, describe, it } from "@effect/vitest"
import * as Waiting from "../../src/internal/Waiting.ts"

const now = Date.UTC(2026, 10, 28)
const row = { status: "queued", type: "mail:send", queue: "default", runAt: now - 60_000 }
const serving: Waiting.Serving = { handles: () => true, takes: () => true, queues: undefined }
const tags = (given: Partial<Waiting.Row>, worker?: Partial<Waiting.Serving>) =>
  Waiting.reasons({ ...row, ...given }, now, worker && { ...serving, ...worker }).map(({ _tag }) => _tag)

describe("why a task waits", () => {
  it("is asked only of what is queued", () => {
    for (const status of ["processing", "completed", "failed", "cancelled"]) {
      assert.deepStrictEqual(tags({ status }), [])
    }
  })

  it("is everything that stands in its way", () => {
    assert.deepStrictEqual(tags({}, { handles: () => false }), ["Unhandled"])
    assert.deepStrictEqual(tags({}, { takes: () => false }), ["Excluded"])
    assert.deepStrictEqual(tags({}, { queues: new Set(["other"]) }), ["OtherQueue"])
    assert.deepStrictEqual(tags({}, { queues: new Set(["default"]), full: 5 }), ["Full"])
    assert.deepStrictEqual(tags({}, { setAside: "refused" }), ["HeldBack"])
    assert.deepStrictEqual(tags({ heldKey: 7n }, {}), ["SameKey"])
    assert.deepStrictEqual(tags({ runAt: now + 1 }, {}), ["Later"])
    assert.deepStrictEqual(tags({ runAt: now + 1 }, { handles: () => false, full: 5 }), ["Unhandled", "Later"])
  })

  it("is nothing for a moment, and then that nobody has taken it", () => {
    assert.deepStrictEqual(tags({ runAt: now }, {}), [])
    assert.deepStrictEqual(tags({ runAt: now }), [])
    assert.deepStrictEqual(tags({ runAt: now - Waiting.patienceMillis }, {}), ["Unclaimed"])
    assert.deepStrictEqual(tags({}), ["Unclaimed"])
    assert.deepStrictEqual(tags({ runAt: now + 60_000 }), ["Later"])
  })

  it("is told in words", () => {
    const told = (given: Partial<Waiting.Row>, worker?: Partial<Waiting.Serving>) =>
      Waiting.reasons({ ...row, ...given }, now, worker && { ...serving, ...worker }).map(Waiting.words)
    assert.deepStrictEqual(told({}, { handles: () => false }), [
      "No worker of this process handles the type mail:send"
    ])
    assert.deepStrictEqual(told({ runAt: now + 90_000 }), ["It is due in 1m 30s"])
    assert.deepStrictEqual(told({ runAt: Date.UTC(9999, 11, 31) }), ["It never becomes due"])
    assert.deepStrictEqual(told({}), [
      "It has been due for 1m and no worker has taken it: does one run that handles the type mail:send?"
    ])
    assert.deepStrictEqual(told({}, { full: 1 }), ["The worker of this process is busy with 1 other task"])
    assert.deepStrictEqual(told({ heldKey: 7n }), [
      "Task 7, which has the same unique key, was cancelled and is still stopping"
    ])
  })
})

import { assert, describe, it } from "@effect/vitest"
import * as State from "../../src/dashboard/state.ts"
import type { Status } from "../../src/server/Views.ts"

const task = (status: Status, given: Partial<State.Standing> = {}): State.Standing => ({
  status,
  attempts: 0,
  lockedBy: null,
  runAt: { epochMilliseconds: 0 },
  ...given
})
const later = { runAt: { epochMilliseconds: 100 } }

describe("what a task is doing", () => {
  it("is told apart further than its status", () => {
    assert.strictEqual(State.stateOf(task("queued"), 50), "queued")
    assert.strictEqual(State.stateOf(task("queued", later), 50), "scheduled")
    assert.strictEqual(State.stateOf(task("queued", { ...later, attempts: 1 }), 50), "retrying")
    assert.strictEqual(State.stateOf(task("cancelled", { lockedBy: "w" }), 50), "stopping")
    assert.strictEqual(State.stateOf(task("processing", { lockedBy: "w" }), 50), "processing")
  })

  it("decides what can be done with it", () => {
    const possible = (standing: State.Standing) =>
      (["cancel", "retry", "runNow"] as const).filter((action) => State.obstacle(action, standing, 50) === undefined)
    assert.deepStrictEqual(possible(task("queued")), ["cancel"])
    assert.deepStrictEqual(possible(task("queued", later)), ["cancel", "runNow"])
    assert.deepStrictEqual(possible(task("processing", { lockedBy: "w" })), ["cancel"])
    assert.deepStrictEqual(possible(task("cancelled", { lockedBy: "w" })), [])
    for (const status of ["completed", "failed", "cancelled"] as const) {
      assert.deepStrictEqual(possible(task(status)), ["retry"], status)
    }
  })

  it("is over when it has ended and nobody holds it", () => {
    assert.isTrue(State.isOver(task("failed")))
    assert.isFalse(State.isOver(task("cancelled", { lockedBy: "w" })))
    assert.isFalse(State.isOver(task("queued")))
  })
})

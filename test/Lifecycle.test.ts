import { assert, describe, it } from "@effect/vitest"
import { DateTime, Effect, PubSub } from "effect"
import * as Lifecycle from "../src/Lifecycle.ts"
import * as Task from "../src/Task.ts"

const row = (id: bigint): Task.Row => ({
  id: Task.TaskId.make(id),
  type: "t",
  queue: "default",
  priority: 0,
  tag: null,
  userId: null,
  metadata: {},
  createdAt: DateTime.makeUnsafe(0),
  runAt: DateTime.makeUnsafe(0)
})
const cancelled = (id: number) => Lifecycle.Event.Cancelled({ task: row(BigInt(id)) })

// they share the bus of the process
describe("Lifecycle", { concurrent: false }, () => {
  it.effect("subscribers of the process's bus get what is published after they came", () =>
    Effect.gen(function*() {
      yield* Lifecycle.publish(cancelled(1))
      const first = yield* PubSub.subscribe(yield* Lifecycle.Bus)
      yield* Lifecycle.publish(cancelled(2))
      const second = yield* PubSub.subscribe(yield* Lifecycle.Bus)
      yield* Lifecycle.publish(cancelled(3))
      assert.deepStrictEqual(yield* PubSub.takeAll(first), [cancelled(2), cancelled(3)])
      assert.deepStrictEqual(yield* PubSub.takeAll(second), [cancelled(3)])
    }))

  it.effect("a slow subscriber loses the oldest and holds nobody up", () =>
    Effect.gen(function*() {
      const slow = yield* PubSub.subscribe(yield* Lifecycle.Bus)
      for (let id = 1; id <= 1030; id++) yield* Lifecycle.publish(cancelled(id))
      const seen = yield* PubSub.takeAll(slow)
      assert.lengthOf(seen, 1024)
      assert.deepStrictEqual([seen[0], seen[1023]], [cancelled(7), cancelled(1030)])
    }))

  it.effect("a bus of one's own keeps events to itself", () =>
    Effect.gen(function*() {
      const own = yield* PubSub.sliding<Lifecycle.Event>(2)
      const mine = yield* PubSub.subscribe(own)
      const others = yield* PubSub.subscribe(yield* Lifecycle.Bus)
      yield* Effect.provideService(Lifecycle.publish(cancelled(1)), Lifecycle.Bus, own)
      assert.deepStrictEqual(yield* PubSub.takeAll(mine), [cancelled(1)])
      assert.strictEqual(yield* PubSub.remaining(others), 0)
    }))
})

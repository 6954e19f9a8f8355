import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Queue } from "effect"
import { TestClock } from "effect/testing"
import { StorageError } from "../../src/storage/StorageError.ts"
import { type Held, TaskStore } from "../../src/storage/TaskStore.ts"
import type { Attempt } from "../../src/worker/Attempt.ts"
import { CancelWatcher } from "../../src/worker/CancelWatcher.ts"
import { Measures } from "../../src/worker/Measures.ts"
import { Problems } from "../../src/worker/Problems.ts"
import { Pulses } from "../../src/worker/Pulse.ts"
import { Settings } from "../../src/worker/Settings.ts"
import { Supervisor } from "../../src/worker/Supervisor.ts"
import { WakeUps } from "../../src/worker/WakeUps.ts"

describe("a look for cancelled tasks", () => {
  it.effect("finds the others, though one row cannot be read", () =>
    Effect.gen(function*() {
      const interrupted: Array<bigint> = []
      const held = [1n, 2n, 3n, 4n, 5n].map((id) => ({ row: { id, epoch: 1n } }) as Attempt)
      const services = Layer.mergeAll(
        Layer.mock(TaskStore)({
          cancelled: (_, ids) =>
            ids.includes(3n)
              ? Effect.fail(new StorageError({ operation: "look", transient: false, cause: new Error("unreadable") }))
              : Effect.succeed(ids.map((id) => ({ id, epoch: 1n, cancelledForMillis: null })))
        }),
        Layer.succeed(
          Supervisor,
          {
            held: () => held.values(),
            interrupt: ({ id }: Held) => {
              interrupted.push(id)
              return true
            }
          } as unknown as Supervisor["Service"]
        ),
        Layer.succeed(WakeUps, { cancelled: yield* Queue.unbounded<bigint | undefined>() } as WakeUps["Service"]),
        Layer.succeed(Settings, { pollMillis: 1000, workerId: "worker" } as Settings["Service"]),
        Measures.layer,
        Pulses.layer
      )
      const { run } = yield* CancelWatcher.pipe(
        Effect.provide(CancelWatcher.layer.pipe(Layer.provide(services)))
      )
      yield* Effect.forkScoped(Effect.all(run, { concurrency: "unbounded" }))
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(interrupted, [1n, 2n, 4n, 5n])
      const problems = yield* Problems
      assert.deepStrictEqual(problems.all().map(({ message }) => message), [
        "task 3 cannot be looked at for a cancel: Could not look: unreadable"
      ])
    }).pipe(Effect.scoped, Effect.provide(Problems.layer)))
})

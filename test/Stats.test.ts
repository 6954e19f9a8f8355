import { assert, describe, it } from "@effect/vitest"
import { DateTime, Duration, Effect } from "effect"
import { TestClock } from "effect/testing"
import * as Lifecycle from "../src/Lifecycle.ts"
import { Stats } from "../src/Stats.ts"
import * as Task from "../src/Task.ts"

const task = (id: bigint, queue = "default"): Task.Row => ({
  id: Task.TaskId.make(id),
  type: "email:send",
  queue,
  priority: 0,
  tag: null,
  userId: null,
  metadata: {},
  createdAt: DateTime.makeUnsafe(0),
  runAt: DateTime.makeUnsafe(0)
})

const { Cancelled, Completed, Failed, Released, Started } = Lifecycle.Event
const error = { kind: "failure", tag: "Refused", message: "no" } as const

describe("the series of a worker", () => {
  it.effect("tells what ended when, how long it had waited and ran", () =>
    Effect.gen(function*() {
      const stats = yield* Stats
      const attempt = Effect.fnUntraced(function*(row: Task.Row, ending: Lifecycle.Event, wait: number, run: number) {
        stats.record(Started({ task: row, attempt: 1 }), wait)
        yield* TestClock.adjust(run)
        stats.record(ending, run)
      })
      const [a, b, c, d, e] = [task(1n), task(2n), task(3n, "other"), task(4n), task(5n)] as const
      yield* attempt(a, Completed({ task: a, result: null, duration: Duration.seconds(1) }), 100, 1000)
      yield* attempt(b, Failed({ task: b, error, willRetry: true }), 100, 1000)
      yield* TestClock.adjust("10 seconds")
      yield* attempt(b, Failed({ task: b, error, willRetry: false }), 100, 10)
      yield* attempt(c, Cancelled({ task: c }), 100, 10)
      yield* attempt(d, Released({ task: d }), 100, 10)
      stats.record(Cancelled({ task: e }), 0)

      const { bucketMs, buckets } = yield* stats.series
      assert.deepStrictEqual(
        buckets.map(({ at, cancelled, completed, failed, retried }) => [
          DateTime.toEpochMillis(at) / bucketMs,
          completed,
          failed,
          retried,
          cancelled
        ]),
        [[0, 1, 0, 1, 0], [2, 0, 1, 0, 2]]
      )
      assert.isTrue(Math.abs(buckets[0]!.runP50Ms! - 1000) < 420)
      assert.isTrue(Math.abs(buckets[1]!.waitP95Ms! - 100) < 42)
      assert.deepStrictEqual(Object.fromEntries(yield* stats.endedLastMinute), {
        default: { completed: 1, failed: 1, cancelled: 1 },
        other: { completed: 0, failed: 0, cancelled: 1 }
      })
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual((yield* stats.series).buckets, [])
      assert.strictEqual((yield* stats.endedLastMinute).size, 0)
    }).pipe(Effect.provide(Stats.layer)))
})

describe("what ended last", () => {
  it.effect("is told in little, however much the tasks had to say", () =>
    Effect.gen(function*() {
      const stats = yield* Stats
      const long = "x".repeat(100_000)
      for (let id = 1n; id <= 250n; id++) {
        const row = { ...task(id, long), tag: long, userId: long, metadata: { long } }
        stats.record(
          Failed({ task: row, error: { ...error, message: long, stack: long, data: { long } }, willRetry: false }),
          1
        )
      }
      const { recent } = yield* stats.snapshot
      assert.deepStrictEqual(recent.map(({ task }) => Number(task.id)), Array.from({ length: 100 }, (_, n) => 250 - n))
      const [last] = recent
      assert.deepInclude(last, {
        status: "failed",
        error: { kind: "failure", tag: "Refused", message: long.slice(0, 1000), stack: long.slice(0, 1000) }
      })
      assert.deepStrictEqual([last!.task.queue.length, last!.task.tag!.length, last!.task.metadata], [1000, 1000, {}])
    }).pipe(Effect.provide(Stats.layer)))
})

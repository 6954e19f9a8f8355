import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Queue } from "effect"
import * as Enqueue from "../../src/internal/Enqueue.ts"
import { StorageError } from "../../src/storage/StorageError.ts"
import type * as TaskTable from "../../src/storage/TaskTable.ts"

const task = (tag: string): TaskTable.NewTask => ({
  queue: "default",
  priority: 0,
  payload: "{}",
  maxAttempts: 3,
  timeoutMillis: null,
  runAtMillis: null,
  delayMillis: 0,
  uniqueKey: null,
  tag,
  userId: null,
  metadata: "{}"
})

/** A table whose statements are answered when the test says so. */
const make = Effect.gen(function*() {
  const statements = yield* Queue.unbounded<{
    readonly tags: ReadonlyArray<string | null>
    readonly answer: Deferred.Deferred<ReadonlyArray<TaskTable.Inserted>, StorageError>
  }>()
  let id = 0n
  const together = Enqueue.makeTogether({
    insert: (_: string, tasks: ReadonlyArray<TaskTable.NewTask>) =>
      Effect.gen(function*() {
        const answer = yield* Deferred.make<ReadonlyArray<TaskTable.Inserted>, StorageError>()
        yield* Queue.offer(statements, { tags: tasks.map(({ tag }) => tag), answer })
        return yield* Deferred.await(answer)
      })
  } as unknown as TaskTable.TaskTable)
  const next = Queue.take(statements)
  const accept = ({ answer, tags }: Effect.Success<typeof next>) =>
    Deferred.succeed(
      answer,
      tags.map(() => ({ id: ++id, unique_key: null, run_at: new Date(0), created_at: new Date(0) }))
    )
  return { together, next, accept }
})

const refused = new StorageError({ operation: "enqueue", transient: false, cause: new Error("no") })

describe("tasks that many callers store at the same time", () => {
  it.effect("share statements, two at a time, and each caller gets its own", () =>
    Effect.gen(function*() {
      const { accept, next, together } = yield* make
      const store = (...tags: ReadonlyArray<string>) =>
        Effect.forEach(tags, (tag) => Effect.forkChild(together("a", task(tag))))
      const some = yield* store("1", "2", "3")
      const first = yield* next
      assert.deepStrictEqual(first.tags, ["1", "2", "3"])
      // Nobody waits for company while there is a statement to have.
      const others = yield* store("4", "5")
      const second = yield* next
      assert.deepStrictEqual(second.tags, ["4", "5"])
      const [six, seven, eight] = yield* store("6", "7", "8")
      yield* Effect.yieldNow
      yield* Fiber.interrupt(seven!)
      yield* accept(first)
      const third = yield* next
      assert.deepStrictEqual(third.tags, ["6", "8"])
      yield* accept(second)
      yield* accept(third)
      const rows = yield* Effect.forEach([...some, ...others, six!, eight!], Fiber.join)
      assert.deepStrictEqual(rows.map(({ id }) => id), [1n, 2n, 3n, 4n, 5n, 6n, 7n])
      // What comes after all is answered begins anew.
      const [late] = yield* store("9")
      yield* accept(yield* next)
      yield* Fiber.join(late!)
    }))

  it.effect("are stored one by one where one of them is refused", () =>
    Effect.gen(function*() {
      const { accept, next, together } = yield* make
      const callers = yield* Effect.forEach(["a", "b"], (tag) => Effect.forkChild(together("a", task(tag))))
      const both = yield* next
      assert.deepStrictEqual(both.tags, ["a", "b"])
      yield* Deferred.fail(both.answer, refused)
      yield* Deferred.fail((yield* next).answer, refused)
      yield* accept(yield* next)
      assert.strictEqual(yield* Effect.flip(Fiber.join(callers[0]!)), refused)
      assert.strictEqual((yield* Fiber.join(callers[1]!)).id, 1n)
    }))
})

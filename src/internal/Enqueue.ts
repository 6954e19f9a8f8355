/**
 * Stores tasks: one statement for any number, each unique key once.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as SqlClient from "effect/sql/SqlClient"
import * as Db from "../Db.ts"
import * as Lifecycle from "../Lifecycle.ts"
import * as StorageError from "../storage/StorageError.ts"
import type * as TaskTable from "../storage/TaskTable.ts"
import type * as Task from "../Task.ts"
import type { Enqueued } from "../TaskQueue.ts"
import * as NewTask from "./NewTask.ts"
import * as Tracing from "./Tracing.ts"

const maxStatementSize = 8 * 1024 * 1024
const maxRounds = 100

interface Entry {
  readonly place: number
  readonly task: TaskTable.NewTask
}

/**
 * Stores all of them or none, and answers in their order. Of those that share a unique key the first is stored.
 *
 * Those with a key are stored after the others and in the order of their keys, so that callers that store the same keys
 * at the same time wait for each other in one direction.
 *
 * @category combinators
 * @since 0.1.0
 */
export const store = Effect.fnUntraced(function*(
  sql: SqlClient.SqlClient,
  table: TaskTable.TaskTable,
  together: Together,
  type: string,
  tasks: ReadonlyArray<TaskTable.NewTask>
): Effect.fn.Return<ReadonlyArray<Enqueued>, StorageError.StorageError> {
  if (tasks.length === 0) return []
  const [only] = tasks
  if (tasks.length === 1 && only!.uniqueKey === null && (yield* stands(sql))) {
    const row = rowOf(type, only!, yield* together(type, only!))
    yield* Lifecycle.publish(Lifecycle.Event.Created({ task: row }))
    return [{ id: row.id, duplicate: false }]
  }
  yield* Tracing.sending(type, tasks[0]!.queue, tasks.length)
  const firstOfKey = new Map<string, number>()
  const keyed: Array<Entry> = []
  const keyless: Array<Entry> = []
  tasks.forEach((task, place) => {
    if (task.uniqueKey === null) {
      keyless.push({ place, task })
    } else if (!firstOfKey.has(task.uniqueKey)) {
      firstOfKey.set(task.uniqueKey, place)
      keyed.push({ place, task })
    }
  })
  const distinct = [...keyless, ...keyed.toSorted((a, b) => a.task.uniqueKey! < b.task.uniqueKey! ? -1 : 1)]
  const chunks = chunksOf(distinct)
  const insertAll = Effect.map(
    Effect.forEach(chunks, (chunk) => insert(table, type, chunk)),
    (answers) => answers.flat()
  )
  const answers = chunks.length === 1 && (distinct.length === 1 || keyed.length === 0)
    ? yield* insertAll
    // A key that became free is inserted out of order.
    : yield* Db.transaction(sql, insertAll).pipe(
      StorageError.refine("enqueue"),
      Effect.retry({ times: 5, while: ({ sqlState }) => sqlState === "40P01" })
    )

  const created = answers.flatMap(({ row }) => row ?? [])
  yield* sql.afterCommit(
    Effect.forEach(created, (task) => Lifecycle.publish(Lifecycle.Event.Created({ task })), { discard: true })
  )
  const ids = new Map(answers.map(({ id, place }) => [place, id]))
  const duplicates = new Set(answers.filter(({ duplicate }) => duplicate).map(({ place }) => place))
  return tasks.map(({ uniqueKey }, place) => {
    const first = uniqueKey === null ? place : firstOfKey.get(uniqueKey)!
    return { id: ids.get(first)!, duplicate: first !== place || duplicates.has(place) }
  })
})

// Neither in a transaction, whose fate its task must share, nor in a trace, which shows a statement of its own.
const stands = (sql: SqlClient.SqlClient) =>
  Effect.withFiber((fiber) =>
    Effect.map(
      Tracing.configured,
      (tracer) => tracer === undefined && Context.getOrUndefined(fiber.context, sql.transactionService) === undefined
    )
  )

/** Stores one task without a unique key, in one statement with those of other callers. */
export type Together = (
  type: string,
  task: TaskTable.NewTask
) => Effect.Effect<TaskTable.Inserted, StorageError.StorageError>

interface Waiting {
  readonly type: string
  readonly task: TaskTable.NewTask
  readonly answer: Deferred.Deferred<TaskTable.Inserted, StorageError.StorageError>
}

// Two, so that a large task does not hold up all others.
const statementsAtOnce = 2
const maxTogether = 1000

/**
 * What is asked for while statements are on their way is the next one: nobody waits for company, and many callers cost
 * few statements. If the database refuses one of them, each is stored by itself.
 */
export const makeTogether = (table: TaskTable.TaskTable): Together => {
  let waiting: Array<Waiting> = []
  let active = 0

  const insertAll = (all: ReadonlyArray<Waiting>): Effect.Effect<void> =>
    Effect.matchCauseEffect(table.insert(all[0]!.type, all.map(({ task }) => task)), {
      onSuccess: (rows) =>
        Effect.sync(() => all.forEach(({ answer }, n) => Deferred.doneUnsafe(answer, Effect.succeed(rows[n]!)))),
      onFailure: (cause) =>
        all.length === 1 || Option.exists(Cause.findErrorOption(cause), ({ transient }) => transient)
          ? Effect.sync(() => all.forEach(({ answer }) => Deferred.doneUnsafe(answer, Effect.failCause(cause))))
          : Effect.forEach(all, (one) => insertAll([one]), { discard: true })
    })

  const take = () => {
    const [first] = waiting
    let bytes = 0
    const batch: Array<Waiting> = []
    const rest: Array<Waiting> = []
    for (const one of waiting) {
      const size = NewTask.size(one.task)
      const fits = batch.length < maxTogether && (batch.length === 0 || bytes + size <= maxStatementSize)
      if (one.type !== first?.type || !fits) rest.push(one)
      else {
        batch.push(one)
        bytes += size
      }
    }
    waiting = rest
    return batch
  }

  const drain = Effect.gen(function*() {
    while (waiting.length > 0) yield* insertAll(take())
    // In the same breath: whoever comes next begins anew.
    active--
  })

  return (type, task) =>
    Effect.uninterruptibleMask((restore) =>
      Effect.suspend(() => {
        const answer = Deferred.makeUnsafe<TaskTable.Inserted, StorageError.StorageError>()
        const one: Waiting = { type, task, answer }
        waiting.push(one)
        const answered = Effect.onInterrupt(restore(Deferred.await(answer)), () =>
          Effect.sync(() => {
            waiting = waiting.filter((other) => other !== one)
          }))
        if (active === statementsAtOnce) return answered
        active++
        // It belongs to all who wait, and ends with them: none of them may end it for the others.
        return Effect.andThen(Effect.forkDetach(Effect.interruptible(drain)), answered)
      })
    )
}

interface Answer extends Enqueued {
  readonly place: number
  readonly row: Task.Row | undefined
}

// Whoever holds a key may end between the insert, which it refuses, and the look at it: then the key is free, once more.
const insert = Effect.fnUntraced(function*(
  table: TaskTable.TaskTable,
  type: string,
  entries: ReadonlyArray<Entry>
): Effect.fn.Return<ReadonlyArray<Answer>, StorageError.StorageError> {
  const answers: Array<Answer> = []
  let waiting = entries
  for (let round = 0; round < maxRounds; round++) {
    const inserted = yield* table.insert(type, waiting.map(({ task }) => task))
    let at = 0
    waiting = waiting.filter(({ place, task }) => {
      const row = inserted[at]
      if (row === undefined || row.unique_key !== task.uniqueKey) return true
      at++
      answers.push({ place, id: row.id as Task.TaskId, duplicate: false, row: rowOf(type, task, row) })
      return false
    })
    if (waiting.length === 0) return answers
    const holders = yield* table.holders(type, waiting.flatMap(({ task }) => task.uniqueKey ?? []))
    const byKey = new Map(holders.map(({ id, unique_key }) => [unique_key, id as Task.TaskId]))
    waiting = waiting.filter(({ place, task }) => {
      const id = byKey.get(task.uniqueKey!)
      if (id === undefined) return true
      answers.push({ place, id, duplicate: true, row: undefined })
      return false
    })
    if (waiting.length === 0) return answers
  }
  return yield* new StorageError.StorageError({
    operation: "enqueue",
    transient: true,
    cause: new Error(`the unique key ${JSON.stringify(waiting[0]!.task.uniqueKey)} changes hands all the time`)
  })
})

const rowOf = (type: string, task: TaskTable.NewTask, row: TaskTable.Inserted): Task.Row => ({
  id: row.id as Task.TaskId,
  type,
  queue: task.queue,
  priority: task.priority,
  tag: task.tag,
  userId: task.userId,
  metadata: JSON.parse(task.metadata),
  createdAt: DateTime.fromDateUnsafe(row.created_at),
  runAt: DateTime.fromDateUnsafe(row.run_at)
})

const chunksOf = (entries: ReadonlyArray<Entry>) => {
  const chunks: Array<Array<Entry>> = []
  let room = 0
  for (const entry of entries) {
    const size = NewTask.size(entry.task)
    if (chunks.length === 0 || size > room) {
      chunks.push([])
      room = maxStatementSize
    }
    room -= size
    chunks.at(-1)!.push(entry)
  }
  return chunks
}

/**
 * Stores tasks: one statement for any number, each unique key once.
 *
 * @since 0.1.0
 */
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
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
  type: string,
  tasks: ReadonlyArray<TaskTable.NewTask>
): Effect.fn.Return<ReadonlyArray<Enqueued>, StorageError.StorageError> {
  if (tasks.length === 0) return []
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

/**
 * The producer's side of the tables: the statements of `TaskQueue` on `tasks`, on the application's client.
 *
 * A producer's role may insert and read tasks and update `status`, `run_at` and `attempts`; nothing here needs more.
 *
 * @since 0.1.0
 */
import * as PgTypes from "@effect/sql-pg/PgTypes"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type * as SqlClient from "effect/sql/SqlClient"
import * as Json from "../internal/Json.ts"
import * as TaskEvent from "../TaskEvent.ts"
import type { Stats, Status, StoredTask } from "../TaskQueue.ts"
import * as Names from "./Names.ts"
import * as Parameters from "./Parameters.ts"
import * as StorageError from "./StorageError.ts"
import * as Times from "./Times.ts"

/**
 * A task that is not stored yet. `null` leaves a value to its default; the JSON is text already.
 *
 * @category models
 * @since 0.1.0
 */
export interface NewTask {
  readonly queue: string
  readonly priority: number
  readonly payload: string
  readonly maxAttempts: number
  readonly timeoutMillis: number | null
  readonly runAtMillis: number | null
  readonly delayMillis: number
  readonly uniqueKey: string | null
  readonly tag: string | null
  readonly userId: string | null
  readonly metadata: string
}

/**
 * What the database made of it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Inserted {
  readonly id: bigint
  readonly unique_key: string | null
  readonly run_at: Date
  readonly created_at: Date
}

/**
 * The statements, each written once for the schema.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (client: SqlClient.SqlClient, schema: string) => {
  const sql = client.withoutTransforms()
  const s = Names.quote(schema)
  const run = <Row extends object>(operation: string, text: string, parameters: ReadonlyArray<unknown>) =>
    StorageError.refine(operation)(sql.unsafe<Row>(text, parameters))

  const insertText = insert(s)
  const holdersText = holders(s)
  const cancelText = cancel(s)
  const retryText = retry(s)
  const findText = find(s)
  const listText = list(s)
  const statsText = stats(s)

  return {
    /** Stores tasks of one type, in order, and returns those whose unique key was free, in the same order. */
    insert: (type: string, tasks: ReadonlyArray<NewTask>) =>
      run<Inserted>("enqueue", insertText, [type, ...columnsOf(tasks)]),

    /** Who holds these unique keys. */
    holders: (type: string, keys: ReadonlyArray<string>) =>
      run<{ readonly id: bigint; readonly unique_key: string }>("enqueue", holdersText, [type, Parameters.text(keys)]),

    /** The status before, and whether this statement changed it. */
    cancel: (id: bigint) =>
      Effect.map(
        run<{ readonly status: Status; readonly changed: boolean }>("cancel the task", cancelText, [idOf(id)]),
        ([row]) => row
      ),

    /** The status before, whether it was held by a worker, and whether this statement changed it. */
    retry: (id: bigint, resetAttempts: boolean) =>
      Effect.map(
        run<{ readonly status: Status; readonly held: boolean; readonly changed: boolean }>(
          "queue the task again",
          retryText,
          [idOf(id), PgTypes.bool(resetAttempts)]
        ),
        ([row]) => row
      ),

    find: (id: bigint) =>
      Effect.map(run<TaskRow>("read the task", findText, [idOf(id)]), ([row]) => row && decodeTask(row)),

    list: (filter: {
      readonly status: Status | undefined
      readonly type: string | undefined
      readonly queue: string | undefined
      readonly tag: string | undefined
      readonly userId: string | undefined
      readonly before: bigint | undefined
      readonly limit: number
      readonly values: boolean
    }) =>
      Effect.map(
        run<TaskRow>("list tasks", listText, [
          PgTypes.int8(filter.before ?? null),
          ...[filter.status, filter.type, filter.queue, filter.tag, filter.userId].map((text) =>
            PgTypes.text(text ?? null)
          ),
          PgTypes.int4(filter.limit),
          PgTypes.bool(filter.values)
        ]),
        (rows) => rows.map(decodeTask)
      ),

    stats: Effect.map(
      run<{ readonly [Key in keyof Stats]: bigint }>("count tasks", statsText, []),
      ([row]): Stats => ({
        queued: Number(row!.queued),
        processing: Number(row!.processing),
        completed: Number(row!.completed),
        failed: Number(row!.failed),
        cancelled: Number(row!.cancelled),
        total: Number(row!.total)
      })
    )
  }
}

/**
 * @category models
 * @since 0.1.0
 */
export type TaskTable = ReturnType<typeof make>

/**
 * The id of a task as a parameter. No task has an id beyond the range of the column.
 *
 * @category constructors
 * @since 0.1.0
 */
export const idOf = (id: bigint) => PgTypes.int8(BigInt.asIntN(64, id) === id ? id : null)

const columnsOf = (tasks: ReadonlyArray<NewTask>) => [
  Parameters.text(tasks.map(({ queue }) => queue)),
  Parameters.int4(tasks.map(({ priority }) => priority)),
  Parameters.text(tasks.map(({ payload }) => payload)),
  Parameters.int4(tasks.map(({ maxAttempts }) => maxAttempts)),
  Parameters.int4(tasks.map(({ timeoutMillis }) => timeoutMillis)),
  Parameters.array(tasks.map(({ runAtMillis }) => runAtMillis), PgTypes.OID.timestamptz),
  Parameters.float8(tasks.map(({ delayMillis }) => delayMillis)),
  Parameters.text(tasks.map(({ uniqueKey }) => uniqueKey)),
  Parameters.text(tasks.map(({ tag }) => tag)),
  Parameters.text(tasks.map(({ userId }) => userId)),
  Parameters.text(tasks.map(({ metadata }) => metadata))
]

const insert = (s: string) => `
insert into ${s}.tasks (
       type, queue, priority, payload, max_attempts, timeout_ms, run_at, unique_key, tag, user_id, metadata)
select $1, n.queue, n.priority::smallint, n.payload::jsonb, n.max_attempts, n.timeout_ms,
       coalesce(n.run_at, now() + n.delay_ms * interval '1 millisecond'),
       n.unique_key, n.tag, n.user_id, n.metadata::jsonb
  from unnest($2::text[], $3::int[], $4::text[], $5::int[], $6::int[], $7::timestamptz[], $8::float8[],
              $9::text[], $10::text[], $11::text[], $12::text[])
       with ordinality
    as n(queue, priority, payload, max_attempts, timeout_ms, run_at, delay_ms,
         unique_key, tag, user_id, metadata, place)
 order by n.place
    on conflict (type, unique_key) where unique_key is not null and status in ('queued', 'processing') do nothing
returning id, unique_key, ${Times.column("run_at")}, ${Times.column("created_at")}`

// served by tasks_unique_key_idx
const holders = (s: string) => `
select id, unique_key
  from ${s}.tasks
 where type = $1 and unique_key = any($2::text[]) and unique_key is not null
   and status in ('queued', 'processing')`

// An update that waited for another's change looks at the new row, but the select still sees the old one.
const cancel = (s: string) => `
with cancelled as (
  update ${s}.tasks set status = 'cancelled'
   where id = $1 and status in ('queued', 'processing')
  returning id
)
select status, exists (select from cancelled) as changed
  from ${s}.tasks
 where id = $1`

// Attempts that stay charged leave one for this run: a claim charges it.
const retry = (s: string) => `
with requeued as (
  update ${s}.tasks
     set status = 'queued', run_at = now(),
         attempts = case when $2 then 0 else least(attempts, max_attempts - 1) end
   where id = $1 and status in ('completed', 'failed', 'cancelled') and locked_by is null
  returning id
)
select status, locked_by is not null as held, exists (select from requeued) as changed
  from ${s}.tasks
 where id = $1`

const times = ["run_at", "lease_expires_at", "created_at", "started_at", "finished_at"].map(Times.column).join(
  ",\n       "
)

const taskColumns = (value: (column: string) => string) =>
  `id, type, queue, status, priority, error::text as error,
       ${["payload", "result", "metadata"].map(value).join(", ")},
       attempts, max_attempts, timeout_ms, epoch, locked_by, unique_key, tag, user_id,
       ${times}`

const find = (s: string) => `
select ${taskColumns((column) => `${column}::text as ${column}`)}
  from ${s}.tasks
 where id = $1`

// reads the primary key backwards
const list = (s: string) => `
select ${taskColumns((column) => `case when $8 then ${column}::text end as ${column}`)}
  from ${s}.tasks
 where id < coalesce($1, 9223372036854775807)
   and ($2::text is null or status = $2)
   and ($3::text is null or type = $3)
   and ($4::text is null or queue = $4)
   and ($5::text is null or tag = $5)
   and ($6::text is null or user_id = $6)
 order by id desc
 limit $7`

const stats = (s: string) => `
select count(*) filter (where status = 'queued') as queued,
       count(*) filter (where status = 'processing') as processing,
       count(*) filter (where status = 'completed') as completed,
       count(*) filter (where status = 'failed') as failed,
       count(*) filter (where status = 'cancelled') as cancelled,
       count(*) as total
  from ${s}.tasks`

/**
 * Whether the story of `t` is over: its status is final and no handler of it is unwinding.
 *
 * @category constants
 * @since 0.1.0
 */
export const over = "t.status in ('completed', 'failed', 'cancelled') and t.locked_by is null"

interface TaskRow {
  readonly id: bigint
  readonly type: string
  readonly queue: string
  readonly status: Status
  readonly priority: number
  readonly payload: string | null
  readonly result: string | null
  readonly error: string | null
  readonly run_at: Date
  readonly attempts: number
  readonly max_attempts: number
  readonly timeout_ms: number | null
  readonly epoch: bigint
  readonly locked_by: string | null
  readonly lease_expires_at: Date | null
  readonly unique_key: string | null
  readonly tag: string | null
  readonly user_id: string | null
  readonly metadata: string | null
  readonly created_at: Date
  readonly started_at: Date | null
  readonly finished_at: Date | null
}

const decodeTask = (row: TaskRow): StoredTask => ({
  id: row.id as StoredTask["id"],
  type: row.type,
  queue: row.queue,
  status: row.status,
  priority: row.priority,
  payload: Json.ofColumn(row.payload),
  result: Json.ofColumn(row.result),
  error: row.error === null ? null : failure(Json.parse(row.error)),
  runAt: DateTime.fromDateUnsafe(row.run_at),
  attempts: row.attempts,
  maxAttempts: row.max_attempts,
  timeout: row.timeout_ms === null ? null : Duration.millis(row.timeout_ms),
  epoch: row.epoch,
  lockedBy: row.locked_by,
  leaseExpiresAt: row.lease_expires_at && DateTime.fromDateUnsafe(row.lease_expires_at),
  uniqueKey: row.unique_key,
  tag: row.tag,
  userId: row.user_id,
  metadata: row.metadata === null ? {} : Json.parse(row.metadata) as Schema.JsonObject,
  createdAt: DateTime.fromDateUnsafe(row.created_at),
  startedAt: row.started_at && DateTime.fromDateUnsafe(row.started_at),
  finishedAt: row.finished_at && DateTime.fromDateUnsafe(row.finished_at)
})

const isFailure = Schema.is(TaskEvent.Failure)

/**
 * The column `error`; what another program has written there in a form of its own is the message.
 *
 * @category combinators
 * @since 0.1.0
 */
export const failure = (error: Schema.Json): TaskEvent.Failure =>
  isFailure(error) ? error : { kind: "failure", tag: "Unknown", message: JSON.stringify(error) }

/**
 * The reader's side of the tables: the statements of `TaskQueue` on `task_events`, on the application's client.
 *
 * @since 0.1.0
 */
import * as PgTypes from "@effect/sql-pg/PgTypes"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import type * as SqlClient from "effect/sql/SqlClient"
import * as Json from "../internal/Json.ts"
import * as TaskEvent from "../TaskEvent.ts"
import type { StoredEvent } from "../TaskQueue.ts"
import * as Names from "./Names.ts"
import * as Parameters from "./Parameters.ts"
import * as StorageError from "./StorageError.ts"
import { idOf } from "./TaskTable.ts"
import * as Times from "./Times.ts"

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

  const closingsText = `
select epoch, seq, type, data::text as data, created_at
  from (${closings(s)}) e
 order by epoch`

  return {
    /** The latest 200 events that closed the task's claims, oldest first: its attempts, read back. */
    closings: (id: bigint) =>
      Effect.map(
        run<EventRow>("read the task's attempts", closingsText, [
          idOf(id),
          Parameters.text([...TaskEvent.closingTypes]),
          PgTypes.int4(maxClosings)
        ]),
        (rows) => rows.map(decodeEvent)
      )
  }
}

/**
 * @category models
 * @since 0.1.0
 */
export type EventTable = ReturnType<typeof make>

/**
 * How many closing events are read of one task.
 *
 * @category constants
 * @since 0.1.0
 */
export const maxClosings = 200

/**
 * The latest closing events of a task. Nothing follows a closing event in its epoch, so one row is read of each epoch, from
 * the end of the primary key backwards, however long its stream is.
 *
 * @category statements
 * @since 0.1.0
 */
export const closings = (s: string): string => `
with recursive last as (
  (select epoch, seq, type, data, created_at
     from ${s}.task_events
    where task_id = $1
    order by epoch desc, seq desc
    limit 1)
  union all
  select before.*
    from last cross join lateral (
         select epoch, seq, type, data, created_at
           from ${s}.task_events
          where task_id = $1 and epoch < last.epoch
          order by epoch desc, seq desc
          limit 1
         ) before
)
select epoch, seq, type, data, ${Times.column("created_at")}
  from (select * from last where type = any($2::text[]) limit $3) e`

interface EventRow {
  readonly epoch: bigint
  readonly seq: number
  readonly type: string
  readonly data: string
  readonly created_at: Date
}

const decodeEvent = ({ created_at, data, epoch, seq, type }: EventRow): StoredEvent => ({
  position: { epoch, seq },
  type,
  data: Json.parse(data),
  createdAt: DateTime.fromDateUnsafe(created_at)
})

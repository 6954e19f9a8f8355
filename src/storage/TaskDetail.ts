/**
 * Everything that is known of one task, as the page shows it.
 *
 * @since 0.1.0
 */
import * as PgTypes from "@effect/sql-pg/PgTypes"
import * as Effect from "effect/Effect"
import type * as Schema from "effect/Schema"
import * as Json from "../internal/Json.ts"
import * as TaskEvent from "../TaskEvent.ts"
import type { Tables } from "./Browse.ts"
import * as EventTable from "./EventTable.ts"
import * as Parameters from "./Parameters.ts"
import * as TaskPages from "./TaskPages.ts"
import { idOf } from "./TaskTable.ts"
import * as Times from "./Times.ts"

/**
 * A larger value is left out, and its size told. In bytes of JSON text.
 *
 * @category constants
 * @since 0.1.0
 */
export const maxValueBytes = 256 * 1024

const maxClosingBytes = 16 * 1024

/**
 * @category models
 * @since 0.1.0
 */
export interface Row extends TaskPages.Row {
  readonly payload: Schema.Json
  readonly payload_bytes: number | null
  readonly result: Schema.Json
  readonly result_bytes: number | null
  readonly error_bytes: number | null
  readonly metadata: Schema.Json
  readonly metadata_bytes: number | null
  readonly unique_key: string | null
  readonly timeout_ms: number | null
  readonly epoch: bigint
  readonly lease_expires_at: Date | null
  readonly due: boolean
  /** The worker; null where it is not known. */
  readonly completed_by: string | null
}

/**
 * An event that closed a claim. Of data that is too large the stack and the encoded error are left out.
 *
 * @category models
 * @since 0.1.0
 */
export interface Closing {
  readonly epoch: bigint
  readonly type: "done" | "error" | "retry" | "released" | "cancelled"
  readonly data: Schema.JsonObject
  readonly created_at: Date
}

/**
 * The row and the latest 200 closing events, oldest first; undefined if there is no such task.
 *
 * @category statements
 * @since 0.1.0
 */
export const read = Effect.fnUntraced(function*(tables: Tables, id: bigint) {
  const { columns, run } = tables
  const [row] = yield* run<Omit<Row, Column> & { readonly [name in Column]: string | null }>(
    (s) => `
select t.id, t.type, t.queue, t.status, t.priority, t.attempts, t.max_attempts, t.epoch, t.locked_by,
       ${columns.tag ? "t.tag" : "null"} as tag, ${columns.userId ? "t.user_id" : "null"} as user_id,
       ${columns.uniqueKey ? "t.unique_key" : "null"} as unique_key,
       ${columns.timeout ? "t.timeout_ms" : "null::int"} as timeout_ms,
       ${columns.completedBy ? "t.completed_by" : "null"} as completed_by,
       ${times.map(Times.column).join(", ")},
       now() as now, t.run_at <= now() as due, ${TaskPages.heldKey(tables, s)} as held_key,
       ${value("payload")}, ${value("result")}, ${value("error")},
       ${columns.metadata ? value("metadata") : "'{}' as metadata, null::int as metadata_bytes"}
  from ${s}.tasks t
 where t.id = $1`,
    [idOf(id)]
  )
  if (row === undefined) return undefined
  const closings = yield* run<Omit<Closing, "data"> & { readonly data: string }>(
    (s) => `
select e.epoch, e.type, e.created_at,
       (case when octet_length(e.data::text) <= ${maxClosingBytes} then e.data
            when jsonb_typeof(e.data) <> 'object' then '{}'
            else (e.data - 'data' - 'stack' - 'message')
                 || jsonb_build_object('message', left(e.data ->> 'message', 2000)) end)::text as data
  from (${EventTable.closings(s)}) e
 order by e.epoch`,
    [idOf(id), Parameters.text([...TaskEvent.closingTypes]), PgTypes.int4(EventTable.maxClosings)]
  )
  return {
    row: {
      ...row,
      payload: Json.ofColumn(row.payload),
      result: Json.ofColumn(row.result),
      error: Json.ofColumn(row.error),
      metadata: Json.ofColumn(row.metadata)
    },
    closings: closings.map(({ created_at, data, epoch, type }): Closing => ({
      epoch,
      type,
      data: Json.parse(data) as Schema.JsonObject,
      created_at
    }))
  }
})

const times = ["t.created_at", "t.run_at", "t.started_at", "t.finished_at", "t.lease_expires_at"]

type Column = "payload" | "result" | "error" | "metadata"

const value = (column: Column) =>
  `case when octet_length(t.${column}::text) <= ${maxValueBytes} then t.${column}::text end as ${column},
       octet_length(t.${column}::text) as ${column}_bytes`

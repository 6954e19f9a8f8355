/**
 * The reader's side of the tables: the statements of `TaskQueue` on `task_events`, on the application's client.
 *
 * @since 0.1.0
 */
import * as PgTypes from "@effect/sql-pg/PgTypes"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import type * as Schema from "effect/Schema"
import type * as SqlClient from "effect/sql/SqlClient"
import * as TaskEvent from "../TaskEvent.ts"
import type { Status, StoredEvent } from "../TaskQueue.ts"
import * as Names from "./Names.ts"
import * as Parameters from "./Parameters.ts"
import * as StorageError from "./StorageError.ts"
import { idOf, over } from "./TaskTable.ts"

/**
 * A task and the events after a position, as they were at one moment.
 *
 * @category models
 * @since 0.1.0
 */
export interface Page {
  readonly type: string
  readonly epoch: bigint
  /** Whether the status is final and no handler of the task is unwinding. */
  readonly over: boolean
  readonly events: ReadonlyArray<StoredEvent>
}

/**
 * How a task ended, and the last event of its epoch.
 *
 * @category models
 * @since 0.1.0
 */
export interface Ending {
  readonly status: Status
  readonly epoch: bigint
  readonly over: boolean
  readonly error: Schema.Json
  readonly started_at: Date | null
  readonly closed_at: Date
  readonly seq: number
  readonly type: string | null
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

  const pageText = page(s)
  const endingText = ending(s)
  const closingsText = closings(s)

  return {
    /** The first events after the position, at most `limit`; undefined if there is no such task. */
    page: (id: bigint, { epoch, seq }: TaskEvent.Position, limit: number) =>
      Effect.map(
        run<PageRow>("read the task's events", pageText, [
          idOf(id),
          PgTypes.int8(epoch),
          PgTypes.int4(seq),
          PgTypes.int4(limit)
        ]),
        decodePage
      ),

    /** How the task stands, and the last event of its epoch. */
    ending: (id: bigint) =>
      Effect.map(run<Ending>("read the task's last event", endingText, [idOf(id)]), ([row]) => row),

    /** The events that closed the task's claims: its attempts, read back. */
    closings: (id: bigint) =>
      Effect.map(
        run<EventRow>("read the task's attempts", closingsText, [
          idOf(id),
          Parameters.text([...TaskEvent.closingTypes])
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

// One snapshot: a task that is over comes with its closing event, as both were written by one statement.
const page = (s: string) => `
select t.type as task_type, t.epoch as task_epoch, ${over} as over,
       e.epoch, e.seq, e.type, e.data, e.created_at
  from ${s}.tasks t
  left join lateral (
       select epoch, seq, type, data, created_at
         from ${s}.task_events
        where task_id = t.id and (epoch, seq) > ($2, $3)
        order by epoch, seq
        limit $4
       ) e on true
 where t.id = $1
 order by e.epoch, e.seq`

const ending = (s: string) => `
select t.status, t.epoch, ${over} as over, t.error, t.started_at,
       coalesce(t.finished_at, t.started_at, t.created_at) as closed_at, coalesce(e.seq, 0) as seq, e.type
  from ${s}.tasks t
  left join lateral (
       select seq, type
         from ${s}.task_events
        where task_id = t.id and epoch = t.epoch
        order by seq desc
        limit 1
       ) e on true
 where t.id = $1`

const closings = (s: string) => `
select epoch, seq, type, data, created_at
  from ${s}.task_events
 where task_id = $1 and type = any($2::text[])
 order by epoch, seq`

interface PageRow extends Omit<EventRow, "epoch"> {
  readonly task_type: string
  readonly task_epoch: bigint
  readonly over: boolean
  readonly epoch: bigint | null
}

interface EventRow {
  readonly epoch: bigint
  readonly seq: number
  readonly type: string
  readonly data: Schema.Json
  readonly created_at: Date
}

const decodePage = (rows: ReadonlyArray<PageRow>): Page | undefined => {
  const [first] = rows
  if (first === undefined) return undefined
  const events: Array<StoredEvent> = []
  for (const { epoch, ...row } of rows) {
    if (epoch !== null) events.push(decodeEvent({ ...row, epoch }))
  }
  return { type: first.task_type, epoch: first.task_epoch, over: first.over, events }
}

const decodeEvent = ({ created_at, data, epoch, seq, type }: EventRow): StoredEvent => ({
  position: { epoch, seq },
  type,
  data,
  createdAt: DateTime.fromDateUnsafe(created_at)
})

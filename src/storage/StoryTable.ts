/**
 * The followers' statements: each reads for many followers at once, as planned for `Db.controlPool`.
 *
 * @since 0.1.0
 */
import * as PgTypes from "@effect/sql-pg/PgTypes"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import type * as Schema from "effect/Schema"
import type * as SqlClient from "effect/sql/SqlClient"
import * as Json from "../internal/Json.ts"
import type * as Task from "../Task.ts"
import type * as TaskEvent from "../TaskEvent.ts"
import type { Status, StoredEvent } from "../TaskQueue.ts"
import * as Names from "./Names.ts"
import * as Parameters from "./Parameters.ts"
import * as StorageError from "./StorageError.ts"
import { failure, idOf, over } from "./TaskTable.ts"
import * as Times from "./Times.ts"

/**
 * Where a follower of a task stands.
 *
 * @category models
 * @since 0.1.0
 */
export interface Cursor {
  readonly id: bigint
  readonly position: TaskEvent.Position
}

/**
 * A task and the events after a position, as they were at one moment.
 *
 * @category models
 * @since 0.1.0
 */
export interface Page {
  readonly type: string
  readonly status: Status
  readonly epoch: bigint
  /** Whether the status is final and no handler of the task is unwinding. */
  readonly over: boolean
  readonly events: ReadonlyArray<StoredEvent>
  /** Whether there may be events that the page has no room for. */
  readonly more: boolean
  /** Of a task that is over: the last event of its epoch, and what its row says. */
  readonly ending: {
    readonly seq: number
    readonly type: string | null
    readonly error: Schema.Json
    readonly startedAt: DateTime.Utc | null
    readonly closedAt: DateTime.Utc
  }
}

/**
 * How a task stands, and when it is over, how it ended.
 *
 * @category models
 * @since 0.1.0
 */
export interface Ended {
  readonly id: Task.TaskId
  readonly type: string
  readonly status: Status
  readonly over: boolean
  readonly result: Schema.Json
  readonly error: TaskEvent.Failure | null
}

/**
 * How much a page holds. An event that is larger than a page is a page of its own.
 *
 * @category constants
 * @since 0.1.0
 */
export const pageLimit = { events: 200, bytes: 64 * 1024 }

/**
 * How many bytes of events one read brings before it puts off the rest. The event that goes beyond it is the last.
 *
 * @category constants
 * @since 0.1.0
 */
export const readBytes = 4 * 1024 * 1024

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

  const pagesText = pages(s)
  const movedText = moved(s)
  const endedText = ended(s)

  return {
    /**
     * A page per cursor, in their order; undefined where there is no such task. Where the read had no room left the page has
     * no event, and `more`.
     */
    pages: (cursors: ReadonlyArray<Cursor>) =>
      Effect.map(
        run<PageRow>("read the tasks' events", pagesText, [
          ...columnsOf(cursors),
          PgTypes.int4(pageLimit.events),
          PgTypes.int8(BigInt(pageLimit.bytes)),
          PgTypes.int8(BigInt(readBytes))
        ]),
        (rows) => {
          const rowsOf = cursors.map((): Array<PageRow> => [])
          for (const row of rows) rowsOf[Number(row.place) - 1]!.push(row)
          return rowsOf.map(decodePage)
        }
      ),

    /** Those of the cursors that a page has something to tell to. */
    moved: <A extends Cursor>(cursors: ReadonlyArray<A>) =>
      Effect.map(
        run<{ readonly place: bigint }>("look for events", movedText, columnsOf(cursors)),
        (rows) => rows.map(({ place }) => cursors[Number(place) - 1]!)
      ),

    /** Undefined where there is no such task. */
    ended: (id: bigint) =>
      Effect.map(
        run<EndedRow>("read the task", endedText, [idOf(id)]),
        ([row]): Ended | undefined =>
          row && {
            ...row,
            result: Json.ofColumn(row.result),
            error: row.error === null ? null : failure(Json.parse(row.error))
          }
      )
  }
}

/**
 * @category models
 * @since 0.1.0
 */
export type StoryTable = ReturnType<typeof make>

const columnsOf = (cursors: ReadonlyArray<Cursor>) => [
  Parameters.int8(cursors.map(({ id }) => BigInt.asIntN(64, id) === id ? id : null)),
  Parameters.int8(cursors.map(({ position }) => position.epoch)),
  Parameters.int4(cursors.map(({ position }) => position.seq))
]

/**
 * One snapshot: a task that is over comes with its closing event, as both were written by one statement.
 *
 * The stored size spares what has no place in a page from being unpacked; the size of the text is the bound. What all pages
 * together have no room for comes without its data.
 *
 * @category statements
 * @since 0.1.0
 */
export const pages = (s: string): string => `
select place, task_type, status, task_epoch, "over", case when fits then epoch end as epoch, seq, type,
       case when fits then data::text end as data, found, last_seq, last_type, error,
       ${["created_at", "started_at", "closed_at"].map(Times.column).join(",\n       ")}
  from (
select f.place, t.type as task_type, t.status, t.epoch as task_epoch, ${over} as "over",
       e.epoch, e.seq, e.type, e.data, e.created_at, e.found,
       coalesce(sum(e.size) over (order by f.place, e.epoch, e.seq rows unbounded preceding) - e.size < $6, true) as fits,
       coalesce(last.seq, 0) as last_seq, last.type as last_type,
       case when ${over} and last.type is distinct from 'error' then t.error::text end as error,
       t.started_at, coalesce(t.finished_at, t.started_at, t.created_at) as closed_at
  from unnest($1::bigint[], $2::bigint[], $3::int[]) with ordinality as f(id, epoch, seq, place)
  join ${s}.tasks t on t.id = f.id
  left join lateral (
       select seq, type
         from ${s}.task_events
        where ${over} and task_id = t.id and epoch = t.epoch
        order by seq desc
        limit 1
       ) last on true
  left join lateral (
       select *, sum(size) over (order by epoch, seq rows unbounded preceding) as bytes
         from (
              select *, octet_length(data::text) as size
                from (
                     select *, count(*) over () as found,
                            sum(pg_column_size(data)) over (order by epoch, seq rows unbounded preceding) as stored
                       from (
                            select epoch, seq, type, data, created_at
                              from ${s}.task_events
                             where task_id = t.id and (epoch, seq) > (f.epoch, f.seq)
                             order by epoch, seq
                             limit $4
                            ) next
                     ) near
               where stored - pg_column_size(data) < $5
               offset 0
              ) unpacked
       ) e on e.bytes - e.size < $5
       ) read
 order by place, read.epoch, read.seq`

/**
 * @category statements
 * @since 0.1.0
 */
export const moved = (s: string): string => `
select f.place
  from unnest($1::bigint[], $2::bigint[], $3::int[]) with ordinality as f(id, epoch, seq, place)
  left join ${s}.tasks t on t.id = f.id
 where t.id is null or ${over}
    or exists (
       select from ${s}.task_events
        where task_id = f.id and (epoch, seq) > (f.epoch, f.seq)
       )`

/**
 * Reads neither payload nor metadata: they can be as large as the result.
 *
 * @category statements
 * @since 0.1.0
 */
export const ended = (s: string): string => `
select t.id, t.type, t.status, ${over} as "over", case when ${over} then t.result::text end as result,
       case when ${over} then t.error::text end as error
  from ${s}.tasks t
 where t.id = $1`

type EndedRow =
  & Omit<Ended, "result" | "error">
  & { readonly result: string | null; readonly error: string | null }

interface PageRow {
  readonly place: bigint
  readonly task_type: string
  readonly status: Status
  readonly task_epoch: bigint
  readonly over: boolean
  readonly epoch: bigint | null
  readonly seq: number
  readonly type: string
  readonly data: string | null
  readonly created_at: Date
  readonly found: bigint | null
  readonly last_seq: number
  readonly last_type: string | null
  readonly error: string | null
  readonly started_at: Date | null
  readonly closed_at: Date
}

const decodePage = (rows: ReadonlyArray<PageRow>): Page | undefined => {
  const [first] = rows
  if (first === undefined) return undefined
  const events: Array<StoredEvent> = []
  for (const { created_at, data, epoch, seq, type } of rows) {
    if (epoch === null) continue
    events.push({
      position: { epoch, seq },
      type,
      data: Json.ofColumn(data),
      createdAt: DateTime.fromDateUnsafe(created_at)
    })
  }
  const found = Number(first.found ?? 0)
  return {
    type: first.task_type,
    status: first.status,
    epoch: first.task_epoch,
    over: first.over,
    events,
    more: found === pageLimit.events || found > events.length,
    ending: {
      seq: first.last_seq,
      type: first.last_type,
      error: Json.ofColumn(first.error),
      startedAt: first.started_at && DateTime.fromDateUnsafe(first.started_at),
      closedAt: DateTime.fromDateUnsafe(first.closed_at)
    }
  }
}

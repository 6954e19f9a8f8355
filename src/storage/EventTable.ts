/**
 * The reader's side of the tables: the statements of `TaskQueue` on `task_events`, on the application's client.
 *
 * @since 0.1.0
 */
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import type * as Schema from "effect/Schema"
import type * as SqlClient from "effect/sql/SqlClient"
import * as TaskEvent from "../TaskEvent.ts"
import type { StoredEvent } from "../TaskQueue.ts"
import * as Names from "./Names.ts"
import * as Parameters from "./Parameters.ts"
import * as StorageError from "./StorageError.ts"
import { idOf } from "./TaskTable.ts"

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

  const closingsText = closings(s)

  return {
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

const closings = (s: string) => `
select epoch, seq, type, data, created_at
  from ${s}.task_events
 where task_id = $1 and type = any($2::text[])
 order by epoch, seq`

interface EventRow {
  readonly epoch: bigint
  readonly seq: number
  readonly type: string
  readonly data: Schema.Json
  readonly created_at: Date
}

const decodeEvent = ({ created_at, data, epoch, seq, type }: EventRow): StoredEvent => ({
  position: { epoch, seq },
  type,
  data,
  createdAt: DateTime.fromDateUnsafe(created_at)
})

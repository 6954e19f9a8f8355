import { PgClient } from "@effect/sql-pg"
import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import * as EventTable from "../../src/storage/EventTable.ts"
import * as TaskEvent from "../../src/TaskEvent.ts"
import * as Harness from "../support/WorkerHarness.ts"

/** A task with so many claims of so many events each, all of them closed but the last. */
const insert = Effect.fnUntraced(function*(epochs: number, events: number) {
  const sql = yield* PgClient.PgClient
  const id = yield* Harness.insert("story", { epoch: epochs, status: "processing", locked_by: "w" })
  yield* sql`
    insert into spindle.task_events (task_id, epoch, seq, type, data)
    select ${id}, epoch, seq, case when seq = ${events} and epoch < ${epochs} then 'retry' else 'text_delta' end,
           jsonb_build_object('n', epoch)
      from generate_series(1, ${epochs}::int) epoch, generate_series(1, ${events}::int) seq`
  return id
})

interface Explained {
  readonly "QUERY PLAN": ReadonlyArray<{
    readonly Plan: { readonly "Shared Hit Blocks": number; readonly "Shared Read Blocks": number }
  }>
}

layer(Harness.database, { excludeTestServices: true })("the closing events of a task", (it) => {
  it.effect("are the latest 200, oldest first", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      const table = EventTable.make(sql, "spindle")
      const id = yield* insert(250, 3)
      yield* insert(2, 3)
      const closings = yield* table.closings(id)
      assert.deepStrictEqual(
        closings.map(({ data, position, type }) => [position, type, data]),
        Array.from({ length: 200 }, (_, i) => [{ epoch: BigInt(50 + i), seq: 3 }, "retry", { n: 50 + i }])
      )
      assert.deepStrictEqual(yield* table.closings(2n ** 62n), [])
    }))

  it.effect("cost the same however many events come before them, with statistics or without", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      const id = yield* insert(4, 50_000)
      const types = `'{${[...TaskEvent.closingTypes].join()}}'`
      const blocks = Effect.gen(function*() {
        const text = EventTable.closings("spindle").replaceAll("$1", `${id}::bigint`).replace("$2", types).replace(
          "$3",
          "200"
        )
        const [row] = yield* sql.unsafe<Explained>(`explain (analyze, buffers, format json) ${text}`)
        const { Plan: plan } = row!["QUERY PLAN"][0]!
        return plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
      })
      assert.isBelow(yield* blocks, 60)
      yield* sql`analyze spindle.task_events`
      assert.isBelow(yield* blocks, 60)
    }))
})

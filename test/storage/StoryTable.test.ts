import { PgClient } from "@effect/sql-pg"
import { assert, layer } from "@effect/vitest"
import { Array, Effect } from "effect"
import * as Db from "../../src/Db.ts"
import * as StoryTable from "../../src/storage/StoryTable.ts"
import type * as TaskEvent from "../../src/TaskEvent.ts"
import * as Harness from "../support/WorkerHarness.ts"

const make = Effect.gen(function*() {
  const sql = yield* Db.controlPool(yield* PgClient.PgClient, 1)
  return { sql, table: StoryTable.make(sql, "spindle") }
})

const insert = Effect.fnUntraced(function*(count: number, text: string) {
  const sql = yield* PgClient.PgClient
  const id = yield* Harness.insert("story", { epoch: 1, status: "processing", locked_by: "w" })
  yield* sql`
    insert into spindle.task_events (task_id, epoch, seq, type, data)
    select ${id}, 1, n, 'text_delta', jsonb_build_object('text', ${text}::text) from generate_series(1, ${count}::int) n`
  return id
})

const at = (epoch: number, seq: number): TaskEvent.Position => ({ epoch: BigInt(epoch), seq })

layer(Harness.database, { excludeTestServices: true })("a read for many followers", (it) => {
  it.effect("answers each cursor in its place with a page that is bounded by events and by bytes", () =>
    Effect.gen(function*() {
      const { table } = yield* make
      const many = yield* insert(500, "x")
      const large = yield* insert(30, "x".repeat(30_000))
      const none = yield* insert(0, "")
      const pages = yield* table.pages([
        { id: large, position: at(1, 3) },
        { id: 2n ** 62n, position: at(0, 0) },
        { id: many, position: at(0, 7) },
        { id: none, position: at(0, 0) },
        { id: many, position: at(1, 490) },
        { id: 2n ** 70n, position: at(0, 0) },
        { id: large, position: at(1, 29) }
      ])
      const told = pages.map((page) => page && [page.events.map(({ position }) => position.seq), page.more])
      assert.deepStrictEqual(told, [
        [[4, 5, 6], true],
        undefined,
        [Array.range(1, 200), true],
        [[], false],
        [Array.range(491, 500), false],
        undefined,
        [[30], false]
      ])
    }))

  it.effect("passes an event larger than a page on alone", () =>
    Effect.gen(function*() {
      const { table } = yield* make
      const id = yield* insert(2, "x".repeat(200_000))
      const [page] = yield* table.pages([{ id, position: at(0, 0) }])
      assert.deepStrictEqual([page!.events.length, page!.more], [1, true])
    }))

  it.effect("brings no more of all together than a read has room for, and says who was put off", () =>
    Effect.gen(function*() {
      const { table } = yield* make
      const large = yield* Effect.forEach(Array.range(1, 8), () => insert(2, "x".repeat(1_500_000)))
      const none = yield* insert(0, "")
      const pages = yield* table.pages([...large, none].map((id) => ({ id, position: at(0, 0) })))
      assert.deepStrictEqual(pages.map((page) => [page!.events.length, page!.more, page!.status]), [
        ...Array.makeBy(3, () => [1, true, "processing"]),
        ...Array.makeBy(5, () => [0, true, "processing"]),
        [0, false, "processing"]
      ])
      const bytes = JSON.stringify(pages.map((page) => page!.events.map(({ data }) => data))).length
      assert.isBelow(bytes, StoryTable.readBytes + 1_500_100)
    }))

  it.effect("finds those who have missed something", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      const { table } = yield* make
      const [behind, level, over] = [yield* insert(3, "x"), yield* insert(3, "x"), yield* insert(0, "x")]
      yield* sql`update spindle.tasks set status = 'completed', locked_by = null where id = ${over}`
      const moved = yield* table.moved([
        { id: level, position: at(1, 3) },
        { id: behind, position: at(1, 2) },
        { id: over, position: at(0, 0) },
        { id: 2n ** 62n, position: at(0, 0) },
        { id: level, position: at(4, 0) }
      ])
      assert.deepStrictEqual(moved.map(({ id }) => id).toSorted((a, b) => Number(a - b)), [behind, over, 2n ** 62n])
    }))
})

interface Explained {
  readonly "QUERY PLAN": ReadonlyArray<{ readonly Plan: Plan }>
}

interface Plan {
  readonly "Node Type": string
  readonly "Relation Name"?: string
  readonly "Shared Hit Blocks": number
  readonly "Shared Read Blocks": number
  readonly Plans?: ReadonlyArray<Plan>
}

const scans = (plan: Plan): ReadonlyArray<string> => [
  ...(plan["Relation Name"] === undefined ? [] : [`${plan["Node Type"]} ${plan["Relation Name"]}`]),
  ...(plan.Plans ?? []).flatMap(scans)
]

layer(Harness.database, { excludeTestServices: true })("the cost of a read", (it) => {
  it.effect(
    "does not grow with the events that are not read, with statistics or without",
    () =>
      Effect.gen(function*() {
        const app = yield* PgClient.PgClient
        const { sql } = yield* make
        const ids = yield* Effect.forEach(Array.range(1, 20), () => insert(300, "x"))
        const explain = Effect.fnUntraced(function*(text: string, name: string, parameters: string) {
          yield* sql.unsafe(`prepare ${name} as ${text}`)
          const list = (values: ReadonlyArray<unknown>) => `'{${values.join()}}'`
          const cursors = [list(ids), list(ids.map(() => 1)), list(ids.map(() => 295))].join()
          const [row] = yield* sql.unsafe<Explained>(
            `explain (analyze, buffers, format json) execute ${name}(${cursors}${parameters})`
          )
          yield* sql.unsafe(`deallocate ${name}`)
          return row!["QUERY PLAN"][0]!.Plan
        })
        const measure = Effect.gen(function*() {
          const plans = [
            yield* explain(StoryTable.pages("\"spindle\""), "pages", ", 200, 65536, 4194304"),
            yield* explain(StoryTable.moved("\"spindle\""), "moved", "")
          ]
          for (const scan of plans.flatMap(scans)) assert.match(scan, /^Index (Only )?Scan (tasks|task_events)$/)
          return plans.reduce((sum, plan) => sum + plan["Shared Hit Blocks"] + plan["Shared Read Blocks"], 0)
        })
        const alone = yield* measure
        yield* app`insert into spindle.tasks (type) select 'other' from generate_series(1, 5000)`
        yield* app`
        insert into spindle.task_events (task_id, epoch, seq, type, data)
        select id, 1, n, 'text_delta', '{"text": "x"}'
          from spindle.tasks, generate_series(1, 60) n where type = 'other'`
        for (const statistics of [app`select 1`, app`analyze spindle.task_events`]) {
          yield* statistics
          const crowded = yield* measure
          assert.isAtMost(crowded, 2 * alone + 40, `${alone} pages alone, ${crowded} now`)
        }
      }),
    60_000
  )
})

import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Redacted, Schema } from "effect"
import * as Task from "../../src/Task.ts"
import * as TaskGroup from "../../src/TaskGroup.ts"
import * as FaultProxy from "../support/FaultProxy.ts"
import { TestDatabase } from "../support/TestDatabase.ts"
import * as Harness from "../support/WorkerHarness.ts"

class Sized extends Task.make("sized", { payload: Schema.Json, success: Schema.Int }) {}
class Group extends TaskGroup.make(Sized) {}

const handlers = Group.toLayer({ sized: (payload) => Effect.succeed(JSON.stringify(payload).length) })

const completes = (id: bigint) => Harness.awaitRow(id, ({ status }) => status === "completed")

describe.concurrent("rows that cannot be claimed, or read", () => {
  it.live("stand for themselves: all others are claimed, and these are failed, or named", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      const insert = (columns: Readonly<Record<string, unknown>>) =>
        Harness.insert("sized", { priority: 9, payload: "1", ...columns })
      const lastAttempt = yield* insert({ attempts: 2147483647 })
      const lastEpoch = yield* insert({ epoch: 9223372036854775807n })
      const old = yield* insert({ tag: "old" })
      const guarded = yield* insert({ tag: "guarded" })
      const long = yield* insert({})
      yield* sql`update spindle.tasks set payload = (
        select jsonb_agg('1e131071'::numeric) from generate_series(1, 700)) where id = ${long}`
      yield* sql`alter table spindle.tasks add constraint owners check (tag <> 'old') not valid`
      yield* sql`create function refuse() returns trigger language plpgsql as $$ begin raise 'not this one'; end $$`
      yield* sql`create trigger owners before update on spindle.tasks for each row
        when (old.tag = 'guarded') execute function refuse()`
      const others = [yield* insert({ priority: 0 }), yield* insert({ priority: 0 }), yield* insert({ priority: 8 })]
      const worker = yield* Harness.launch(Group, handlers)
      for (const id of [...others, lastAttempt]) yield* completes(id)
      assert.deepInclude((yield* Harness.awaitRow(lastEpoch, ({ status }) => status === "failed")).error, {
        kind: "rejected",
        tag: "Unclaimable"
      })
      assert.deepStrictEqual((yield* Harness.eventsOf(lastEpoch)).map(({ type }) => type), ["error"])
      // its payload is longer than any client reads
      yield* Harness.eventually(
        "the end of the task with the long payload",
        sql<{ tag: string | null }>`select error ->> 'tag' as tag from spindle.tasks where id = ${long}`,
        ([row]) => row!.tag === "PayloadTooLarge"
      )
      const { problems, ready } = yield* Harness.eventually(
        "what is set aside",
        worker.health,
        ({ problems }) => problems.filter((problem) => problem.includes("cannot be claimed")).length === 2
      )
      assert.isTrue(ready)
      assert.isTrue(problems.some((text) => text.startsWith(`task ${old} cannot be claimed`) && /owners/.test(text)))
      assert.isTrue(problems.some((text) => text.startsWith(`task ${guarded} cannot`) && /not this one/.test(text)))
      assert.strictEqual((yield* Harness.rowOf(guarded)).attempts, 0)
    }).pipe(Harness.onDatabase))

  it.live(
    "are read one by one when they are large, over a line on which all would take too long",
    () =>
      Effect.gen(function*() {
        const sql = yield* PgClient.PgClient
        const { url } = yield* TestDatabase
        const { hostname, port } = new URL(Redacted.value(url))
        const proxy = yield* FaultProxy.make({ host: hostname, port: Number(port) })
        yield* sql`insert into spindle.tasks (type, payload, metadata)
        select 'sized', to_jsonb((select string_agg(md5((n * m)::text), '') from generate_series(1, 12500) m)),
               jsonb_build_object('note', repeat('x', 500000))
          from generate_series(1, 5) n`
        const worker = yield* Harness.launch(Group, handlers, { concurrency: 5 }, { url: proxy.url(url) })
        yield* proxy.throttle(1_000_000)
        yield* Harness.awaitAllOver
        assert.deepStrictEqual(
          yield* sql`select result, attempts, epoch::int, count(*)::int from spindle.tasks group by 1, 2, 3`,
          [{ result: 400_002, attempts: 1, epoch: 1, count: 5 }]
        )
        assert.isTrue((yield* worker.health).ready)
      }).pipe(Harness.onDatabase),
    20_000
  )

  it.live("are a matter of their own where their text would be much longer than what is stored", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      yield* sql`insert into spindle.tasks (type, payload)
        select 'sized', (select jsonb_agg('1e308'::numeric) from generate_series(1, 60000)) from generate_series(1, 2)`
      yield* sql`insert into spindle.tasks (type, payload)
        select 'sized', (select jsonb_agg('1e300'::numeric) from generate_series(1, 1000)) from generate_series(1, 2)`
      yield* Harness.launch(Group, handlers)
      yield* Harness.awaitAllOver
      assert.deepStrictEqual(
        yield* sql`select status, error ->> 'tag' as tag, count(*)::int from spindle.tasks group by 1, 2 order by 1`,
        [{ status: "completed", tag: null, count: 2 }, { status: "failed", tag: "PayloadTooLarge", count: 2 }]
      )
    }).pipe(Harness.onDatabase))
})

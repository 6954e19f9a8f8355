import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Layer, Redacted } from "effect"
import * as Db from "../../src/Db.ts"
import * as Ddl from "../../src/storage/Ddl.ts"
import { TestDatabase } from "../support/TestDatabase.ts"
import * as Harness from "../support/WorkerHarness.ts"

// Tables as another application may have made them: what the contract asks for and no more.
const foreign = [
  "create schema spindle",
  `create table spindle.tasks (
    id bigserial primary key, type text not null, queue text not null default 'default',
    status text not null default 'queued', priority smallint not null default 0, payload jsonb not null default '{}',
    result jsonb, error jsonb, run_at timestamptz not null default now(), attempts int not null default 0,
    max_attempts int not null default 3, epoch bigint not null default 0, locked_by text, lease_expires_at timestamptz,
    created_at timestamptz not null default now(), started_at timestamptz, finished_at timestamptz)`,
  `create table spindle.task_events (
    task_id bigint not null, epoch bigint not null, seq int not null, type text not null, data jsonb not null,
    created_at timestamptz not null default now(), primary key (task_id, epoch, seq))`
]

const onForeign = <A, E, R>(self: Effect.Effect<A, E, R>) =>
  Effect.gen(function*() {
    const sql = yield* PgClient.PgClient
    for (const statement of foreign) yield* sql.unsafe(statement)
    return yield* self
  }).pipe(
    Effect.scoped,
    Effect.provide(Layer.provideMerge(TestDatabase.layerClient({ maxConnections: 4 }), TestDatabase.layerEmpty))
  )

/** A role with a worker's rights, and the address with which it logs in. */
const workerRole = Effect.gen(function*() {
  const sql = yield* PgClient.PgClient
  const { name, url } = yield* TestDatabase
  const role = `${name}_worker`
  yield* Effect.acquireRelease(
    sql.unsafe(`create role ${role} login password 'secret'`),
    () => Effect.orDie(Effect.andThen(sql.unsafe(`drop owned by ${role}`), sql.unsafe(`drop role ${role}`)))
  )
  const address = new URL(Redacted.value(url))
  address.username = role
  address.password = "secret"
  return { role, url: Redacted.make(address.href) }
})

/** What a worker does for tasks: run, stream, retry, cancel queued and running, sweep, fail unknown types, release. */
const everything = Effect.fnUntraced(function*(url: Redacted.Redacted) {
  const sql = yield* PgClient.PgClient
  const script = Harness.script()
  const worker = yield* Harness.launch(Harness.Tasks, script.handlers, { unknownTypes: "fail", lease: "5 seconds" }, {
    url
  })
  const cancelledQueued = yield* Harness.insert("plain", { run_at: new Date(Date.now() + 3_600_000) })
  assert.isTrue(yield* Harness.cancel(cancelledQueued))
  const plain = yield* Harness.insert("plain", { payload: "{\"n\": 5}" })
  assert.deepInclude(yield* Harness.awaitRow(plain, Harness.isOver), { status: "completed", result: 5 })

  const retried = yield* Harness.insert("scripted")
  const first = yield* script.next(retried)
  yield* first.proceed(Effect.andThen(
    first.execution.emit({ _tag: "text_delta", text: "a" }),
    Effect.fail(new Harness.Refused({ why: "busy" }))
  ))
  yield* Effect.flatMap(script.next(retried), ({ proceed }) => proceed(Effect.succeed(1)))
  assert.deepInclude(yield* Harness.awaitRow(retried, Harness.isOver), { status: "completed", attempts: 2 })

  const cancelled = yield* Harness.insert("scripted")
  const running = yield* script.next(cancelled)
  yield* running.proceed(Effect.never)
  assert.isTrue(yield* Harness.cancel(cancelled))
  yield* Deferred.await(running.ended)
  assert.strictEqual((yield* Harness.awaitRow(cancelled, Harness.isOver)).status, "cancelled")

  const abandoned = yield* Harness.insert("plain", {
    status: "processing",
    locked_by: "dead",
    lease_expires_at: new Date(0),
    epoch: 1,
    attempts: 1
  })
  assert.deepInclude(yield* Harness.awaitRow(abandoned, Harness.isOver), {
    status: "completed",
    attempts: 2,
    epoch: 3n
  })
  const alien = yield* Harness.insert("alien")
  assert.strictEqual((yield* Harness.awaitRow(alien, Harness.isOver)).status, "failed")
  yield* Harness.awaitRow(cancelledQueued, ({ finished_at }) => finished_at !== null)

  const released = yield* Harness.insert("scripted")
  yield* Effect.flatMap(script.next(released), ({ proceed }) => proceed(Effect.never))
  yield* worker.stop
  assert.deepInclude(yield* Harness.rowOf(released), { status: "queued", attempts: 0 })
  yield* Harness.assertContract
  assert.deepStrictEqual(
    yield* sql`select t.id, e.type from spindle.tasks t join spindle.task_events e on e.task_id = t.id
                where t.status = 'cancelled' order by t.id`,
    [{ id: cancelledQueued, type: "cancelled" }, { id: cancelled, type: "cancelled" }]
  )
})

// Everything that somebody did to the catalogs would show here.
const catalogs = Effect.flatMap(
  PgClient.PgClient,
  (sql) =>
    sql`select oid::int8, relname, xmin::text from pg_class where relnamespace = 'spindle'::regnamespace
       union all select oid::int8, proname, xmin::text from pg_proc where pronamespace = 'spindle'::regnamespace
       union all select oid::int8, nspname, xmin::text from pg_namespace where nspname not like 'pg_%' order by 1`
)

describe("a worker attached to somebody else's tables", () => {
  it.live("does everything with no more than its rights, and no DDL", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      const { role, url } = yield* workerRole
      yield* sql.unsafe(`grant usage on schema spindle to ${role}`)
      yield* sql.unsafe(`grant select, update on spindle.tasks to ${role}`)
      yield* sql.unsafe(`grant select, insert on spindle.task_events to ${role}`)
      const before = yield* catalogs
      yield* everything(url)
      assert.deepStrictEqual(yield* catalogs, before)
    }).pipe(onForeign), 40_000)

  it.live("refuses to start without them, and says what it lacks", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      const { role, url } = yield* workerRole
      yield* sql.unsafe(`grant usage on schema spindle to ${role}`)
      yield* sql.unsafe(`grant select on spindle.tasks to ${role}`)
      const script = Harness.script()
      const error = yield* Effect.flip(Harness.launch(Harness.Tasks, script.handlers, {}, { url }))
      assert.strictEqual(
        error.message,
        "The database lacks what a worker needs: update on spindle.tasks; insert on spindle.task_events; " +
          "select on spindle.task_events"
      )
    }).pipe(onForeign))

  it.live("survives a payload that its owner has let grow too large", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      const script = Harness.script()
      yield* sql`insert into spindle.tasks (type, payload)
        select 'plain', jsonb_build_object('n', string_agg(md5(n::text), '')) from generate_series(1, 560000) n`
      yield* Harness.launch(Harness.Tasks, script.handlers, { concurrency: 1 })
      const next = yield* Harness.insert("plain")
      assert.strictEqual((yield* Harness.awaitRow(next, Harness.isOver)).status, "completed")
      const [large] = yield* sql<Harness.Row>`select status, error, attempts from spindle.tasks where id <> ${next}`
      assert.deepInclude(large, { status: "failed", attempts: 1 })
      assert.deepInclude(large!.error, { kind: "rejected", tag: "PayloadTooLarge" })
    }).pipe(onForeign), 40_000)
})

describe("a worker whose events refer to their tasks by a foreign key", () => {
  it.live("writes what others say while somebody has locked a task, and that one's in order when it is free", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      yield* sql`alter table spindle.task_events add foreign key (task_id) references spindle.tasks on delete cascade`
      const script = Harness.script()
      yield* Harness.launch(Harness.Tasks, script.handlers)
      const delta = (text: string) => ({ _tag: "text_delta", text }) as const
      const [locked, other] = [yield* Harness.insert("scripted"), yield* Harness.insert("scripted")]
      const [held, free] = [yield* script.next(locked), yield* script.next(other)]
      yield* Db.transaction(
        sql,
        Effect.gen(function*() {
          yield* sql`select from spindle.tasks where id = ${locked} for update`
          yield* held.proceed(
            Effect.as(Effect.forEach(["1", "2", "3"], (text) => held.execution.emit(delta(text))), "held")
          )
          yield* free.proceed(Effect.as(free.execution.emit(delta("free")), "free"))
          yield* Harness.awaitRow(other, Harness.isOver).pipe(Effect.provide(TestDatabase.layerClient()))
          assert.isEmpty(yield* Harness.eventsOf(locked))
        })
      )
      assert.deepInclude(yield* Harness.awaitOver(locked), { status: "completed", result: "held", attempts: 1 })
      assert.deepStrictEqual((yield* Harness.eventsOf(locked)).map(({ data, seq }) => [seq, data.text]), [
        [1, "1"],
        [2, "2"],
        [3, "3"],
        [4, undefined]
      ])
    }).pipe(onForeign))
})

describe("a worker on its own tables", () => {
  it.live("needs no more than the rights that are printed for it", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      const { role, url } = yield* workerRole
      for (const grant of Ddl.grants("spindle", "worker", role)) yield* sql.unsafe(grant)
      const before = yield* catalogs
      yield* everything(url)
      assert.deepStrictEqual(yield* catalogs, before)
      const denied = yield* Effect.flip(
        Effect.scoped(Effect.provide(
          Effect.flatMap(PgClient.PgClient, (sql) => sql`delete from spindle.tasks`),
          PgClient.layer({ url })
        ))
      )
      assert.strictEqual(Db.sqlState(denied), "42501")
    }).pipe(Harness.onDatabase), 40_000)
})

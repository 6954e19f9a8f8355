import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import { Cause, Deferred, Duration, Effect, Exit, Redacted, Schema } from "effect"
import * as Db from "../../src/Db.ts"
import * as Task from "../../src/Task.ts"
import * as TaskEvent from "../../src/TaskEvent.ts"
import * as TaskGroup from "../../src/TaskGroup.ts"
import * as FaultProxy from "../support/FaultProxy.ts"
import { TestDatabase } from "../support/TestDatabase.ts"
import * as Harness from "../support/WorkerHarness.ts"

const delta = (text: string) => ({ _tag: "text_delta", text }) as const

class Talking extends Task.make("talking", { payload: { count: Schema.Int }, event: TaskEvent.TextDelta }) {}
class Group extends TaskGroup.make(Talking) {}

describe("events", () => {
  it.live("are stored in the order in which each task said them, whatever the others say", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      yield* Harness.launch(
        Group,
        Group.toLayer({
          talking: Effect.fnUntraced(function*({ count }, { emit }) {
            for (let n = 1; n <= count; n++) {
              yield* emit(delta(String(n)))
              if (n % 7 === 0) yield* Effect.yieldNow
              if (n % 100 === 0) yield* Effect.sleep(3)
            }
          })
        }),
        { concurrency: 20 }
      )
      const count = 300
      yield* sql`insert into spindle.tasks (type, payload)
        select 'talking', jsonb_build_object('count', ${count}::int) from generate_series(1, 40)`
      yield* Harness.awaitAllOver
      yield* Harness.assertContract
      const [wrong] = yield* sql<{ readonly count: number }>`
        select count(*)::int as count from spindle.task_events
         where type = 'text_delta' and data ->> 'text' <> seq::text`
      assert.strictEqual(wrong!.count, 0)
      assert.deepStrictEqual(
        yield* sql`select type, count(*)::int as count from spindle.task_events group by 1 order by 1`,
        [{ type: "done", count: 40 }, { type: "text_delta", count: 40 * count }]
      )
    }).pipe(Harness.onDatabase))

  it.live("can be read while the task runs", () =>
    Effect.gen(function*() {
      const script = Harness.script()
      yield* Harness.launch(Harness.Tasks, script.handlers, { pollInterval: "1 hour" })
      const id = yield* Harness.insert("scripted")
      const { execution, proceed } = yield* script.next(id)
      const more = yield* Deferred.make<void>()
      yield* proceed(Effect.andThen(execution.emit(delta("first")), Effect.as(Deferred.await(more), 1)))
      yield* Harness.eventually("the event", Harness.eventsOf(id), (events) => events.length === 1)
      assert.strictEqual((yield* Harness.rowOf(id)).status, "processing")
      yield* Deferred.succeed(more, undefined)
      yield* Harness.awaitOver(id)
    }).pipe(Harness.onDatabase))

  it.live("wait for a database that does not take them, and none is dropped", () =>
    Effect.gen(function*() {
      const { url } = yield* TestDatabase
      const { hostname, port } = new URL(Redacted.value(url))
      const proxy = yield* FaultProxy.make({ host: hostname, port: Number(port) })
      const started = yield* Deferred.make<void>()
      const go = yield* Deferred.make<void>()
      const count = 25_000
      let said = 0
      yield* Harness.launch(
        Group,
        Group.toLayer({
          talking: Effect.fnUntraced(function*(_, { emit }) {
            yield* Deferred.succeed(started, undefined)
            yield* Deferred.await(go)
            for (; said < count; said++) yield* emit(delta(String(said)))
          })
        }),
        { lease: "1 minute" },
        { url: proxy.url(url) }
      )
      const id = yield* Harness.insert("talking", { payload: "{\"count\": 0}" })
      yield* Deferred.await(started)
      yield* proxy.blackhole(true)
      yield* Deferred.succeed(go, undefined)
      let before = -1
      yield* Harness.eventually("a handler that waits", Effect.sync(() => said), (now) => {
        const waits = now === before && now > 0
        before = now
        return waits
      })
      const held = said
      assert.isBelow(held, 15_000)
      yield* Effect.sleep("200 millis")
      assert.strictEqual(said, held)
      yield* proxy.blackhole(false)
      yield* Harness.awaitOver(id)
      const sql = yield* PgClient.PgClient
      const [stored] = yield* sql<{ readonly deltas: number; readonly ordered: boolean }>`
        select count(*)::int as deltas, bool_and(data ->> 'text' = (seq - 1)::text) as ordered
          from spindle.task_events where type = 'text_delta'`
      assert.deepStrictEqual(stored, { deltas: count, ordered: true })
    }).pipe(Harness.onDatabase), 40_000)

  it.live("that come after the handler has ended are not stored", () =>
    Effect.gen(function*() {
      class Chatty extends Task.make("chatty", { event: TaskEvent.TextDelta }) {}
      class Group extends TaskGroup.make(Chatty) {}
      const sql = yield* PgClient.PgClient
      yield* Harness.launch(
        Group,
        Group.toLayer({
          chatty: (_, { emit }) =>
            Effect.andThen(emit(delta("a")), Effect.yieldNow).pipe(
              Effect.repeat({ times: 50 }),
              Effect.forkDetach,
              Effect.andThen(Effect.yieldNow)
            )
        }),
        { concurrency: 10 }
      )
      yield* sql`insert into spindle.tasks (type) select 'chatty' from generate_series(1, 100)`
      yield* Harness.awaitAllOver
      yield* Harness.assertContract
      const [done] = yield* sql<{ readonly count: number }>`
        select count(*)::int as count from spindle.task_events where type = 'done'`
      assert.strictEqual(done!.count, 100)
    }).pipe(Harness.onDatabase))

  it.live("of a claim that is lost wait for nothing", () =>
    Effect.gen(function*() {
      const { url } = yield* TestDatabase
      const { hostname, port } = new URL(Redacted.value(url))
      const proxy = yield* FaultProxy.make({ host: hostname, port: Number(port) })
      const script = Harness.script()
      yield* Harness.launch(Harness.Tasks, script.handlers, { lease: "4 seconds" }, { url: proxy.url(url) })
      const ids = yield* Harness.insertMany("scripted", 2)
      const [flooding, careful] = yield* Effect.forEach(ids, script.next)
      yield* proxy.blackhole(true)
      yield* flooding!.proceed(Effect.forever(flooding!.execution.emit(delta("flood"))))
      yield* careful!.proceed(Effect.onInterrupt(Effect.never, () => careful!.execution.emit(delta("farewell"))))
      yield* Deferred.await(flooding!.ended)
      yield* Deferred.await(careful!.ended)
      yield* proxy.blackhole(false)
      for (const id of ids) {
        const again = yield* script.next(id)
        yield* again.proceed(Effect.succeed(1))
      }
      yield* Harness.awaitAllOver
      yield* Harness.assertContract
    }).pipe(Harness.onDatabase), 40_000)

  // As by a crash of the server: claims do not wait for the disk, what is stored under them does.
  const loseClaim = (id: bigint) =>
    Effect.flatMap(PgClient.PgClient, (sql) =>
      sql`update spindle.tasks
             set status = 'queued', epoch = epoch - 1, attempts = attempts - 1, locked_by = null,
                 lease_expires_at = null, started_at = null, run_at = now() + interval '1 hour'
           where id = ${id}`)

  const dueAgain = (id: bigint) =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      yield* sql`update spindle.tasks set run_at = now() where id = ${id}`
      yield* sql`notify spindle_task_queued, 'default'`
    })

  for (const unwinds of ["before the same worker has it again", "after the same worker has it again"]) {
    it.live(`that were lost with their claim take the attempt along, which ends ${unwinds}`, () =>
      Effect.gen(function*() {
        const script = Harness.script()
        yield* Harness.launch(Harness.Tasks, script.handlers, { lease: "1 hour" })
        const [id, other] = yield* Harness.insertMany("scripted", 2)
        const first = yield* script.next(id!)
        const witness = yield* script.next(other!)
        yield* loseClaim(id!)
        if (unwinds.startsWith("after")) first.unwind.closeUnsafe()
        yield* first.proceed(Effect.andThen(first.execution.emit(delta("unheard")), Effect.never))
        const exit = yield* Deferred.await(first.ended)
        assert.isTrue(Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause))
        if (unwinds.startsWith("before")) {
          yield* witness.proceed(Effect.succeed(1))
          yield* Harness.awaitOver(other!)
        }
        yield* dueAgain(id!)
        if (unwinds.startsWith("after")) {
          yield* Harness.awaitRow(id!, ({ status }) => status === "processing")
          yield* first.unwind.open
        }
        const second = yield* script.next(id!)
        yield* second.proceed(Effect.as(second.execution.emit(delta("heard")), 2))
        const row = yield* Harness.awaitOver(id!)
        assert.deepInclude(row, { status: "completed", result: 2, attempts: 1 })
        const said = (yield* Harness.eventsOf(id!)).filter(({ type }) => type === "text_delta")
        assert.deepStrictEqual(said.map(({ data }) => data.text), ["heard"])
      }).pipe(Harness.onDatabase))
  }

  // An event with the text "slow" is stored when nobody holds the lock 1 any more.
  const slowEvents = Effect.gen(function*() {
    const sql = yield* PgClient.PgClient
    yield* sql.unsafe(`
      create function wait() returns trigger language plpgsql as
        $$ begin perform pg_advisory_xact_lock_shared(1); return new; end $$`)
    yield* sql.unsafe(`
      create trigger wait before insert on spindle.task_events for each row
        when (new.data ->> 'text' = 'slow') execute function wait()`)
  })

  const slowWrite = Effect.flatMap(PgClient.PgClient, (sql) =>
    Harness.eventually(
      "the write",
      sql`select from pg_locks where locktype = 'advisory' and not granted`,
      (rows) => rows.length === 1
    ))

  it.live("that were lost with their claim take the outcome along that was reached before this was known", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      yield* slowEvents
      const script = Harness.script()
      const worker = yield* Harness.launch(Harness.Tasks, script.handlers, { lease: "1 hour" })
      const [id, other] = yield* Harness.insertMany("scripted", 2)
      const first = yield* script.next(id!)
      const witness = yield* script.next(other!)
      const { locked_by } = yield* Harness.rowOf(id!)
      yield* loseClaim(id!)
      yield* Db.transaction(
        sql,
        Effect.gen(function*() {
          yield* sql`select pg_advisory_xact_lock(1)`
          const both = [first.execution.emit(delta("unheard")), witness.execution.emit(delta("slow"))]
          yield* witness.proceed(Effect.as(Effect.all(both), 1))
          yield* Deferred.await(witness.ended)
          yield* first.proceed(Effect.succeed(1))
          yield* Deferred.await(first.ended)
          yield* slowWrite
          yield* sql`
            update spindle.tasks
               set status = 'processing', epoch = 1, attempts = 1, locked_by = ${locked_by},
                   lease_expires_at = now() + interval '1 hour', started_at = now()
             where id = ${id!}`
        })
      )
      yield* Harness.awaitOver(other!)
      yield* dueAgain(id!)
      const second = yield* script.next(id!)
      yield* second.proceed(Effect.as(second.execution.emit(delta("heard")), 2))
      assert.deepInclude(yield* Harness.awaitOver(id!), { status: "completed", result: 2, attempts: 1 })
      yield* worker.stop
      assert.deepInclude((yield* worker.stats.snapshot).counters, { completed: 2, released: 1 })
    }).pipe(Harness.onDatabase))

  it.live("that were lost with their claim are done with once, also where the write they wait for is refused", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      yield* slowEvents
      yield* sql`alter table spindle.task_events add check (type <> 'text_delta' or data ->> 'text' <> 'unspeakable')`
      const script = Harness.script()
      const worker = yield* Harness.launch(Harness.Tasks, script.handlers, { lease: "1 hour" })
      const [id, other] = yield* Harness.insertMany("scripted", 2)
      const first = yield* script.next(id!)
      const witness = yield* script.next(other!)
      yield* loseClaim(id!)
      yield* Db.transaction(
        sql,
        Effect.gen(function*() {
          yield* sql`select pg_advisory_xact_lock(1)`
          yield* first.execution.emit(delta("unheard"))
          yield* witness.execution.emit(delta("slow"))
          yield* slowWrite
          yield* first.execution.emit(delta("unheard, too"))
          yield* witness.execution.emit(delta("unspeakable"))
        })
      )
      yield* witness.proceed(Effect.succeed(1))
      yield* Harness.awaitOver(other!)
      assert.deepStrictEqual((yield* Harness.eventsOf(other!))[1]!.data, {
        sanitized: true,
        json: "{\"text\":\"unspeakable\"}"
      })
      assert.isEmpty(yield* Harness.eventsOf(id!))
      yield* Harness.awaitOver(yield* Harness.insert("plain"))
      // a shutdown waits for 4 seconds at most until all is written, and then ends without a word if no task is held
      const [stopping] = yield* Effect.timed(worker.stop)
      assert.isBelow(Duration.toMillis(stopping), 4000)
      assert.deepInclude((yield* worker.stats.snapshot).counters, { completed: 2, released: 1 })
    }).pipe(Harness.onDatabase))

  it.live("that were lost with their claim take the next ones along, also where each is written on its own", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      const script = Harness.script()
      const worker = yield* Harness.launch(Harness.Tasks, script.handlers, { lease: "1 hour" })
      const [id, other] = yield* Harness.insertMany("scripted", 2)
      const first = yield* script.next(id!)
      const witness = yield* script.next(other!)
      yield* loseClaim(id!)
      yield* sql`alter table spindle.task_events add check (type <> 'text_delta' or data ->> 'text' <> 'unspeakable')`
      // As if the same worker had it again just then.
      yield* sql.unsafe(`
        create function regain() returns trigger language plpgsql as $$ begin
          update spindle.tasks t
             set status = 'processing', epoch = 1, attempts = 1, started_at = now(),
                 locked_by = mine.locked_by, lease_expires_at = mine.lease_expires_at
            from spindle.tasks mine where mine.id = new.task_id and t.id = ${id};
          return new;
        end $$`)
      yield* sql.unsafe(`
        create trigger regain before insert on spindle.task_events for each row
          when (new.data ->> 'text' = 'regain') execute function regain()`)
      yield* witness.proceed(Effect.as(
        Effect.all([
          first.execution.emit(delta("unheard")),
          witness.execution.emit(delta("regain")),
          first.execution.emit(delta("unheard, too")),
          witness.execution.emit(delta("unspeakable"))
        ]),
        1
      ))
      yield* Harness.awaitOver(other!)
      yield* Harness.awaitRow(id!, ({ status }) => status === "queued")
      assert.deepStrictEqual((yield* Harness.eventsOf(id!)).map(({ seq, type }) => [seq, type]), [[1, "released"]])
      yield* worker.stop
      yield* Harness.assertContract
    }).pipe(Harness.onDatabase))

  it.live("that do not fit their schema, or are too large, are defects of the handler", () =>
    Effect.gen(function*() {
      const script = Harness.script()
      yield* Harness.launch(Harness.Tasks, script.handlers)
      const events = [{ _tag: "unheard_of" } as never, delta("x".repeat(17 * 1024 * 1024))]
      for (const event of events) {
        const id = yield* Harness.insert("scripted", { max_attempts: 1 })
        const { execution, proceed } = yield* script.next(id)
        yield* proceed(Effect.as(execution.emit(event), 1))
        const row = yield* Harness.awaitOver(id)
        assert.strictEqual(row.status, "failed")
        assert.strictEqual(row.error.kind, "defect")
        assert.deepStrictEqual((yield* Harness.eventsOf(id)).map(({ type }) => type), ["error"])
      }
    }).pipe(Harness.onDatabase))
})

describe("a task that is no longer the worker's", () => {
  const changes = {
    "somebody else has taken": (id: bigint) =>
      Effect.flatMap(
        PgClient.PgClient,
        (sql) =>
          sql`update spindle.tasks set epoch = epoch + 1, locked_by = 'other', lease_expires_at = now() + interval '1 hour'
             where id = ${id}`
      ),
    "somebody has deleted": (id: bigint) =>
      Effect.flatMap(PgClient.PgClient, (sql) => sql`delete from spindle.tasks where id = ${id}`)
  }
  for (const [what, change] of Object.entries(changes)) {
    it.live(`because ${what} it: the handler is interrupted and nothing more of it is stored`, () =>
      Effect.gen(function*() {
        const script = Harness.script()
        const worker = yield* Harness.launch(Harness.Tasks, script.handlers, { lease: "4 seconds" })
        const id = yield* Harness.insert("scripted")
        const { ended, execution, proceed } = yield* script.next(id)
        yield* proceed(Effect.onInterrupt(Effect.never, () => execution.emit(delta("too late"))))
        yield* change(id)
        const after = yield* Harness.rowOf(id)
        const exit = yield* Deferred.await(ended)
        assert.isTrue(Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause))
        yield* worker.stop
        assert.deepStrictEqual(yield* Harness.rowOf(id), after)
        assert.isEmpty(yield* Harness.eventsOf(id))
      }).pipe(Harness.onDatabase))
  }
})

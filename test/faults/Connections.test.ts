import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import { Cause, Deferred, Effect, Exit, Metric, Option, Redacted, Schema } from "effect"
import * as Db from "../../src/Db.ts"
import * as Task from "../../src/Task.ts"
import * as TaskEvent from "../../src/TaskEvent.ts"
import * as TaskGroup from "../../src/TaskGroup.ts"
import type * as Worker from "../../src/Worker.ts"
import * as Cli from "../support/Cli.ts"
import * as FaultProxy from "../support/FaultProxy.ts"
import { TestDatabase } from "../support/TestDatabase.ts"
import * as Harness from "../support/WorkerHarness.ts"

const delta = (text: string) => ({ _tag: "text_delta", text }) as const

const typesOf = (id: bigint) => Effect.map(Harness.eventsOf(id), (events) => events.map(({ type }) => type))

/** A worker that reaches the database through a proxy only; the test goes the direct way. */
const proxied = Effect.fnUntraced(function*(options: Partial<Worker.Options>) {
  const { url } = yield* TestDatabase
  const { hostname, port } = new URL(Redacted.value(url))
  const proxy = yield* FaultProxy.make({ host: hostname, port: Number(port) })
  const script = Harness.script()
  const worker = yield* Harness.launch(Harness.Tasks, script.handlers, options, { url: proxy.url(url) })
  return { proxy, script, worker }
})

const isClaim = ({ id }: Harness.Launched) => (request: Buffer) => request.includes(id) && request.includes("scripted")

/**
 * Stores a task and loses the reply of the claim that takes it. One that comes before the task is there takes nothing, and
 * its reply is lost, too.
 */
const insertIntoLostClaim = Effect.fnUntraced(function*<E, R>(
  { dropNextReply }: FaultProxy.FaultProxy,
  matches: (request: Buffer) => boolean,
  after: "reset" | "hang",
  insert: Effect.Effect<bigint, E, R>
) {
  let lost = yield* dropNextReply(matches, after)
  const id = yield* insert
  do {
    yield* Deferred.await(lost)
    lost = yield* dropNextReply(matches, after)
  } while ((yield* Harness.rowOf(id)).epoch === 0n)
  yield* dropNextReply(() => false)
  return id
})

describe.concurrent("a row that somebody's open transaction locks", () => {
  it.live("delays its own task alone", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      const script = Harness.script()
      // nobody renews the locked one's, which must not expire before the lock is gone
      yield* Harness.launch(Harness.Tasks, script.handlers, { lease: "20 seconds" })
      const held = yield* Harness.insert("scripted")
      const long = yield* Harness.insert("scripted")
      const { proceed } = yield* script.next(held)
      const bystander = yield* script.next(long)
      yield* Db.transaction(
        sql,
        Effect.gen(function*() {
          yield* sql`update spindle.tasks set tag = 'x' where id = ${held}`
          yield* proceed(Effect.succeed("result"))
          yield* Effect.gen(function*() {
            const others = yield* Harness.insertMany("plain", 20)
            for (const id of others) yield* Harness.awaitRow(id, ({ status }) => status === "completed")
            const before = yield* Harness.rowOf(long)
            yield* Harness.awaitRow(long, (row) => row.lease_expires_at! > before.lease_expires_at!)
            assert.strictEqual((yield* Harness.rowOf(held)).status, "processing")
          }).pipe(Effect.provide(TestDatabase.layerClient()))
        })
      )
      assert.deepInclude(yield* Harness.awaitOver(held), {
        status: "completed",
        result: "result",
        attempts: 1,
        epoch: 1n
      })
      yield* bystander.proceed(Effect.succeed(1))
      assert.deepInclude(yield* Harness.awaitOver(long), { status: "completed", epoch: 1n })
    }).pipe(Harness.onDatabase))
})

describe.concurrent("a database that is away for three leases", () => {
  for (const fault of ["refuse", "blackhole"] as const) {
    it.live(`gets what was reached before, and the rest back uncharged (${fault})`, () =>
      Effect.gen(function*() {
        const { proxy, script } = yield* proxied({ lease: "4 seconds", concurrency: 10 })
        const away = (on: boolean) =>
          fault === "blackhole" ? proxy.blackhole(on) : Effect.andThen(proxy.refuse(on), proxy.killAll)
        const reached = [yield* Harness.insert("scripted", { max_attempts: 1 }), yield* Harness.insert("scripted")]
        const lost = [yield* Harness.insert("scripted", { max_attempts: 1 }), yield* Harness.insert("scripted")]
        const first = new Map<bigint, Harness.Attempt>()
        for (const id of [...reached, ...lost]) first.set(id, yield* script.next(id))
        yield* away(true)
        for (const id of reached) {
          const { execution, proceed } = first.get(id)!
          yield* proceed(Effect.as(execution.emit(delta("while it was away")), "kept"))
        }
        for (const id of lost) {
          const { ended, execution, proceed } = first.get(id)!
          yield* proceed(Effect.andThen(execution.emit(delta("lost")), Effect.never))
          const exit = yield* Deferred.await(ended)
          assert.isTrue(Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause))
        }
        yield* Effect.sleep("9 seconds")
        yield* away(false)
        for (const id of reached) {
          assert.deepInclude(yield* Harness.awaitOver(id), {
            status: "completed",
            result: "kept",
            attempts: 1,
            epoch: 1n
          })
          assert.deepStrictEqual(yield* typesOf(id), ["text_delta", "done"])
        }
        for (const id of lost) {
          const { execution, proceed } = yield* script.next(id)
          assert.strictEqual(execution.attempt, 1)
          yield* proceed(Effect.succeed("again"))
          assert.deepInclude(yield* Harness.awaitOver(id), { status: "completed", result: "again", attempts: 1 })
        }
        assert.lengthOf(script.started, 6)
      }).pipe(Harness.onDatabase), 60_000)
  }
})

describe.concurrent("a claim whose reply never arrives", () => {
  for (const after of ["reset", "hang"] as const) {
    it.live(`is back soon, uncharged, and disturbs nobody (${after})`, () =>
      Effect.gen(function*() {
        const { proxy, script, worker } = yield* proxied({
          lease: "4 seconds",
          notifications: "off",
          pollInterval: "2 seconds"
        })
        const running = yield* Harness.insert("scripted")
        const bystander = yield* script.next(running)
        const id = yield* insertIntoLostClaim(
          proxy,
          isClaim(worker),
          after,
          Harness.insert("scripted", { max_attempts: 1 })
        )
        const { execution, proceed } = yield* script.next(id)
        assert.strictEqual(execution.attempt, 1)
        yield* proceed(Effect.succeed("in the end"))
        const over = yield* Harness.awaitOver(id)
        assert.deepInclude(over, { status: "completed", attempts: 1 })
        assert.isAbove(Number(over.epoch), 1)
        assert.deepStrictEqual(script.started, [running, id])
        yield* bystander.proceed(Effect.succeed("all along"))
        assert.deepInclude(yield* Harness.awaitOver(running), { status: "completed", attempts: 1, epoch: 1n })
      }).pipe(Harness.onDatabase), 30_000)
  }
})

describe("a look at what a lost claim took that fails", () => {
  it.live("is no missed heartbeat", () =>
    Effect.gen(function*() {
      const { proxy, script, worker } = yield* proxied({
        lease: "12 seconds",
        notifications: "off",
        pollInterval: "4 seconds"
      })
      const first = yield* Harness.insert("plain")
      yield* Harness.awaitOver(first)
      // the text of a statement is sent when a connection first prepares it
      const requests: Array<"claim" | "look"> = []
      const claimOrLook = proxy.dropNextReply((request) => {
        const looks = request.includes("locked_by as \"lockedBy\"")
        if (!looks && !isClaim(worker)(request)) return false
        requests.push(looks ? "look" : "claim")
        return true
      })
      let lost = yield* claimOrLook
      const id = yield* Harness.insert("scripted", { max_attempts: 1 })
      yield* Deferred.await(lost)
      // every claim is lost until one has taken the task, and a heartbeat has made the worker look for it
      while (requests.at(-1) === "claim") {
        lost = yield* claimOrLook
        yield* Deferred.await(lost)
      }
      const { proceed } = yield* script.next(id)
      const missed = (yield* Metric.snapshot).filter(({ id }) => id === "spindle_heartbeats_missed_total")
      assert.deepStrictEqual(missed.map(({ state }) => Number("count" in state ? state.count : Number.NaN)), [0])
      yield* proceed(Effect.succeed(null))
      assert.deepInclude(yield* Harness.awaitOver(id), { status: "completed", attempts: 1 })
    }).pipe(Harness.onDatabase), 40_000)
})

describe.concurrent("a shutdown after a claim whose reply never arrived", () => {
  for (const after of ["reset", "hang"] as const) {
    it.live(`gives back what it took (${after})`, () =>
      Effect.gen(function*() {
        // No heartbeat comes in time to find it.
        const { proxy, script, worker } = yield* proxied({
          lease: "60 seconds",
          notifications: "off",
          pollInterval: "2 seconds"
        })
        const first = yield* Harness.insert("plain")
        yield* Harness.awaitOver(first)
        const id = yield* insertIntoLostClaim(
          proxy,
          isClaim(worker),
          after,
          Harness.insert("scripted", { max_attempts: 1 })
        )
        // The service has 5 seconds for it; the driver alone would take as long to give up the statement.
        assert.isTrue(Option.isSome(yield* Db.patiently(worker.stop, "5 seconds")))
        assert.notInclude(script.started, id)
        assert.deepInclude(yield* Harness.rowOf(id), { status: "queued", attempts: 0, locked_by: null })
        yield* Harness.assertContract
      }).pipe(Harness.onDatabase), 30_000)
  }
})

describe.concurrent("a service that is told to stop while a claim is not answered", () => {
  it.live("gives back what it took, and exits with 0 although that connection is dead", () =>
    Effect.gen(function*() {
      const { url } = yield* TestDatabase
      const { hostname, port } = new URL(Redacted.value(url))
      const proxy = yield* FaultProxy.make({ host: hostname, port: Number(port) })
      const service = yield* Cli.spawn({
        DATABASE_URL: Redacted.value(proxy.url(url)),
        WORKER_NOTIFICATIONS: "on",
        WORKER_POLL_INTERVAL: "60000",
        WORKER_SHUTDOWN_GRACE: "0"
      }, ["start"])
      yield* service.says("worker started")
      const payload = "{\"ms\": 1}"
      yield* Harness.awaitOver(yield* Harness.insert("demo:sleep", { payload }))
      const id = yield* insertIntoLostClaim(
        proxy,
        (request) => request.includes("demo:sleep"),
        "hang",
        Harness.insert("demo:sleep", { payload })
      )
      yield* service.signal("SIGTERM")
      assert.strictEqual(yield* service.ended, 0, service.output().stderr)
      assert.deepInclude(yield* Harness.rowOf(id), { status: "queued", attempts: 0, locked_by: null })
    }).pipe(Harness.onDatabase), 40_000)
})

describe.concurrent("a write whose reply never arrives", () => {
  it.live("is repeated, and recorded once", () =>
    Effect.gen(function*() {
      const { proxy, script, worker } = yield* proxied({ lease: "10 seconds", notifications: "off" })
      const id = yield* Harness.insert("scripted")
      const { execution, proceed } = yield* script.next(id)
      const lost = yield* proxy.dropNextReply((request) => request.includes("precious"))
      yield* proceed(Effect.as(execution.emit(delta("said")), "precious"))
      yield* Deferred.await(lost)
      assert.deepInclude(yield* Harness.awaitOver(id), { status: "completed", result: "precious", epoch: 1n })
      assert.deepStrictEqual(yield* typesOf(id), ["text_delta", "done"])
      const next = yield* Harness.insert("plain")
      assert.deepInclude(yield* Harness.awaitOver(next), { status: "completed", epoch: 1n })
      const { counters } = yield* Harness.eventually(
        "what the worker counts",
        worker.stats.snapshot,
        ({ counters }) => counters.completed + counters.released === 2
      )
      assert.deepInclude(counters, { completed: 2, released: 0 })
    }).pipe(Harness.onDatabase))
})

describe.concurrent("a look for cancelled tasks whose reply never arrives", () => {
  it.live("is given up, and the next one finds them", () =>
    Effect.gen(function*() {
      const { proxy, script } = yield* proxied({ lease: "10 seconds", notifications: "off" })
      // the text of a statement is sent when a connection first prepares it
      const lost = yield* proxy.dropNextReply(
        (request) => request.includes("status = 'cancelled' and locked_by"),
        "hang"
      )
      const id = yield* Harness.insert("scripted")
      const { ended, proceed } = yield* script.next(id)
      yield* proceed(Effect.never)
      yield* Deferred.await(lost)
      yield* Harness.cancel(id)
      yield* Deferred.await(ended)
      assert.deepInclude(yield* Harness.awaitOver(id), { status: "cancelled", epoch: 1n })
    }).pipe(Harness.onDatabase), 40_000)
})

describe.concurrent("a listening connection that dies in silence", () => {
  it.live("leaves what it would tell to polling", () =>
    Effect.gen(function*() {
      const { url } = yield* TestDatabase
      const { hostname, port } = new URL(Redacted.value(url))
      const proxy = yield* FaultProxy.make({ host: hostname, port: Number(port) })
      // The connection that comes after some seconds is no better.
      const silence = proxy.dropNextReply((request) => request.includes("spindle_task_cancelled"), "hang")
      const silent = yield* silence
      const script = Harness.script()
      const worker = yield* Harness.launch(Harness.Tasks, script.handlers, { notifications: "on" }, {
        url: proxy.url(url)
      })
      yield* Deferred.await(silent)
      yield* Effect.forkScoped(Effect.forever(Effect.flatMap(silence, Deferred.await)))
      const id = yield* Harness.insert("scripted")
      const { ended, proceed } = yield* script.next(id)
      yield* proceed(Effect.never)
      yield* Harness.cancel(id)
      yield* Deferred.await(ended)
      assert.include((yield* worker.health).problems.join(), "notifications do not arrive")
      yield* Harness.awaitOver(id)
    }).pipe(Harness.onDatabase))
})

describe.concurrent("sessions that are terminated one after the other", () => {
  it.live("lose and double nothing", () =>
    Effect.gen(function*() {
      class Brief
        extends Task.make("brief", { payload: { n: Schema.Int }, success: Schema.Int, event: TaskEvent.TextDelta })
      {}
      class Group extends TaskGroup.make(Brief) {}
      const sql = yield* PgClient.PgClient
      const count = 5000
      const over = yield* Deferred.make<void>()
      yield* Harness.launch(
        Group,
        Group.toLayer({
          brief: ({ n }, { emit }) =>
            emit(delta("a")).pipe(
              // the last ones wait, so that the load does not end before the terminations
              Effect.andThen(n > count - 50 ? Deferred.await(over) : Effect.sleep(5)),
              Effect.as(n)
            )
        }),
        { concurrency: 10, lease: "8 seconds" }
      )
      yield* sql`insert into spindle.tasks (type, payload, max_attempts)
        select 'brief', jsonb_build_object('n', n), 1 from generate_series(1, ${count}::int) n`
      let terminated = 0
      while (terminated < 60) {
        const sessions = yield* sql<{ readonly pid: number }>`
          select pid from pg_stat_activity where datname = current_database() and application_name like 'spindle%'`
        for (const { pid } of sessions) {
          yield* sql`select pg_terminate_backend(${pid})`
          terminated++
          yield* Effect.sleep("10 millis")
        }
      }
      yield* Deferred.succeed(over, undefined)
      yield* Harness.assertAllOnce(count)
    }).pipe(Harness.onDatabase), 60_000)
})

/** The service as users run it: processes, signals, and the commands of other processes. */
import { PgClient } from "@effect/sql-pg"
import { assert, describe, it, layer } from "@effect/vitest"
import { Effect, Redacted, Schedule } from "effect"
import * as Net from "node:net"
import * as Path from "node:path"
import { vi } from "vitest"
import * as Cli from "../support/Cli.ts"
import * as Provider from "../support/Provider.ts"
import { TestDatabase } from "../support/TestDatabase.ts"

// Each starts processes, one after the other.
vi.setConfig({ testTimeout: 60_000 })

const fixtures = Path.join(import.meta.dirname, "fixtures/tasks.ts")

const environment = Effect.map(TestDatabase, ({ url }) => ({ DATABASE_URL: Redacted.value(url) }))

const start = Effect.fnUntraced(function*(env: Cli.Environment, ...args: ReadonlyArray<string>) {
  const service = yield* Cli.spawn({ ...yield* environment, ...env }, ["start", ...args])
  yield* service.says("worker started")
  return service
})

const enqueue = (...args: ReadonlyArray<string>) =>
  Effect.map(Cli.run("enqueue", ...args), ({ stdout }) => stdout.trim())

const row = Effect.fnUntraced(function*(id: string) {
  const sql = yield* PgClient.PgClient
  const [row] = yield* sql<{
    readonly status: string
    readonly attempts: number
    readonly locked_by: string | null
    readonly events: ReadonlyArray<string>
  }>`
    select status, attempts, locked_by,
           (select coalesce(jsonb_agg(concat_ws(' ', type, data ->> 'reason') order by epoch, seq), '[]')
              from spindle.task_events where task_id = t.id and type <> 'text_delta') as events
      from spindle.tasks t where id = ${id}::bigint`
  return row!
})

const released = { status: "queued", attempts: 0, locked_by: null, events: ["released shutdown"] }

layer(TestDatabase.layerSql(), { excludeTestServices: true })("a service", (it) => {
  it.effect("says which variables are not supported yet, once and without their values", () =>
    Effect.gen(function*() {
      const warnings = ({ output }: Cli.Running) =>
        output().stderr.split("\n").filter((line) => line.includes("not supported yet"))
      const asked = yield* start({
        WORKER_COUNT: "4",
        WORKER_RETENTION: "7d",
        WORKER_USER_TOKEN_SECRET: "a-secret-of-somebody"
      })
      const [warning = "", ...more] = warnings(asked)
      assert.include(warning, "WORKER_COUNT, WORKER_RETENTION, WORKER_USER_TOKEN_SECRET")
      assert.isEmpty(more)
      assert.notInclude(asked.output().stderr, "a-secret-of-somebody")
      assert.isEmpty(warnings(yield* start({ WORKER_COUNT: "1", WORKER_RETENTION: "" })))
    }))

  it.effect("answers by commands of other processes", () =>
    Effect.gen(function*() {
      const env = yield* environment
      const service = yield* start({})
      const enqueued = yield* Cli.spawn(env, ["enqueue", "demo:stream", "{\"tokens\":3,\"perSecond\":100}"])
      assert.strictEqual(yield* enqueued.ended, 0)
      assert.match(enqueued.output().stdout, /^\d+\n$/)
      const whole = yield* Cli.spawn(env, ["follow", enqueued.output().stdout.trim()])
      assert.strictEqual(yield* whole.ended, 0)
      assert.strictEqual(whole.output().stdout, "token 1 token 2 token 3 \n")

      const id = yield* enqueue("demo:stream", "{\"tokens\":100000,\"perSecond\":50}")
      const follower = yield* Cli.spawn(env, ["follow", id])
      yield* follower.says("token 5 ")
      assert.strictEqual((yield* Cli.run("cancel", id)).stdout, "cancelled\n")
      assert.strictEqual(yield* follower.ended, 1)
      assert.match(follower.output().stdout, /^token 1 .*token \d+ \n$/)
      assert.strictEqual(follower.output().stderr, "Cancelled\n")

      yield* service.signal("SIGTERM")
      assert.strictEqual(yield* service.ended, 0)
      assert.strictEqual(service.output().stdout, "")
    }))

  it.effect("runs the tasks of a module on its own database", () =>
    Effect.gen(function*() {
      yield* start({}, "--tasks", fixtures)
      const { code, stdout } = yield* Cli.run("follow", yield* enqueue("now"))
      assert.deepStrictEqual([code, JSON.parse(stdout)], [0, { one: 1 }])
    }))

  it.effect("lets short tasks finish at SIGTERM, and puts long ones back", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      const service = yield* start({ WORKER_SHUTDOWN_GRACE: "6000" }, "--tasks", fixtures)
      const [short, long] = yield* sql.withTransaction(Effect.gen(function*() {
        yield* sql`select pg_advisory_xact_lock(1)`
        const short = yield* enqueue("guarded")
        const long = yield* enqueue("patient")
        yield* service.says("a guarded task runs")
        yield* service.says("a patient task runs")
        yield* service.signal("SIGTERM")
        yield* service.says("waiting for running tasks")
        return [short, long] as const
      }))
      assert.strictEqual(yield* service.ended, 0)
      assert.strictEqual((yield* row(short)).status, "completed")
      assert.deepStrictEqual(yield* row(long), released)
      yield* Cli.run("cancel", long)
    }))

  it.effect("lets tasks finish when its terminal is closed: nobody reads, and the signal may come twice", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      const service = yield* start({ WORKER_SHUTDOWN_GRACE: "600000" }, "--tasks", fixtures)
      const id = yield* sql.withTransaction(Effect.gen(function*() {
        yield* sql`select pg_advisory_xact_lock(1)`
        const id = yield* enqueue("guarded")
        yield* service.says("a guarded task runs")
        yield* service.signal("SIGHUP")
        yield* service.says("waiting for running tasks")
        yield* service.turnAway
        yield* service.signal("SIGHUP")
        return id
      }))
      assert.strictEqual(yield* service.ended, 0)
      assert.deepInclude(yield* row(id), { status: "completed", attempts: 1, locked_by: null })
    }))

  it.effect("goes on when nobody reads what it says any more", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      const service = yield* start({}, "--tasks", fixtures)
      const first = yield* sql.withTransaction(Effect.gen(function*() {
        yield* sql`select pg_advisory_xact_lock(1)`
        const first = yield* enqueue("guarded")
        yield* service.says("a guarded task runs")
        yield* service.turnAway
        return first
      }))
      for (const id of [first, yield* enqueue("guarded"), yield* enqueue("now")]) {
        assert.strictEqual((yield* Cli.run("follow", id)).code, 0)
      }
      yield* service.signal("SIGTERM")
      assert.strictEqual(yield* service.ended, 0)
    }))

  it.effect.each([["SIGINT", "SIGTERM"], ["SIGHUP", "SIGINT"]] as const)(
    "does not wait any longer at the second signal: %s, %s",
    ([first, second]) =>
      Effect.gen(function*() {
        const service = yield* start({ WORKER_SHUTDOWN_GRACE: "600000" }, "--tasks", fixtures)
        const id = yield* enqueue("patient")
        yield* service.says("a patient task runs")
        yield* service.signal(first)
        yield* service.says("waiting for running tasks")
        yield* service.signal(second)
        assert.strictEqual(yield* service.ended, 0)
        assert.deepStrictEqual(yield* row(id), released)
        yield* Cli.run("cancel", id)
      })
  )

  it.effect("ends at once at the third signal", () =>
    Effect.gen(function*() {
      const service = yield* start({ WORKER_SHUTDOWN_GRACE: "600000", WORKER_LOG_LEVEL: "debug" }, "--tasks", fixtures)
      const id = yield* enqueue("stubborn")
      yield* service.says("a stubborn task runs")
      yield* service.signal("SIGTERM")
      yield* service.says("waiting for running tasks")
      yield* service.signal("SIGTERM")
      // The same signals while one is pending are one.
      yield* Effect.repeat(service.signal("SIGTERM"), { schedule: Schedule.spaced("100 millis") }).pipe(
        Effect.raceFirst(service.ended)
      )
      assert.strictEqual(yield* service.ended, 143)
      assert.strictEqual((yield* row(id)).status, "processing")
      yield* Cli.run("cancel", id)
    }))

  it.effect("names what it could not put back, and exits with 1", () =>
    Effect.gen(function*() {
      const service = yield* start({ WORKER_SHUTDOWN_GRACE: "0" }, "--tasks", fixtures)
      const id = yield* enqueue("stubborn")
      yield* service.says("a stubborn task runs")
      yield* service.signal("SIGTERM")
      assert.strictEqual(yield* service.ended, 1)
      const lines = service.output().stderr.split("\n").filter((line) => line.startsWith("spindle: "))
      assert.deepStrictEqual(lines, [`spindle: Shutdown ran out of time. Not written: stubborn ${id}`])
      yield* Cli.run("cancel", id)
    }))

  it.effect.each([["throw", "a stray callback"], ["reject", "a stray promise"]] as const)(
    "shuts down and exits with 1 after a stray %s",
    ([how, message]) =>
      Effect.gen(function*() {
        const service = yield* start({ WORKER_SHUTDOWN_GRACE: "600000" }, "--tasks", fixtures)
        const id = yield* enqueue("patient")
        yield* service.says("a patient task runs")
        yield* enqueue("stray", JSON.stringify({ how }))
        assert.strictEqual(yield* service.ended, 1)
        assert.match(service.output().stderr, new RegExp(`level=FATAL .*an error outside of every task[^]*${message}`))
        assert.deepStrictEqual(yield* row(id), released)
        yield* Cli.run("cancel", id)
      })
  )
})

describe("without a database", () => {
  it.live("a service waits for one, and a signal ends the wait", () =>
    Effect.gen(function*() {
      const service = yield* Cli.spawn({ DATABASE_URL: "postgres://u:secret@127.0.0.1:1/d" }, ["start"])
      yield* service.says("the database cannot be used yet")
      yield* service.signal("SIGTERM")
      assert.strictEqual(yield* service.ended, 0)
      assert.notInclude(service.output().stderr, "secret")
      assert.notInclude(service.output().stderr, "spindle: ")
    }))

  it.live.each([["SIGINT", 130], ["SIGHUP", 129]] as const)(
    "a command is ended by %s as any other program",
    ([signal, code]) =>
      Effect.gen(function*() {
        const silent = yield* Effect.acquireRelease(
          Effect.callback<Net.Server>((resume) => {
            const server = Net.createServer().listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
          }),
          (server) => Effect.sync(() => void server.close())
        )
        const connected = Effect.callback<void>((resume) => {
          silent.once("connection", (socket) => {
            socket.on("error", () => {})
            resume(Effect.void)
          })
        })
        const { port } = silent.address() as Net.AddressInfo
        const command = yield* Cli.spawn({ DATABASE_URL: `postgres://u@127.0.0.1:${port}/d?connect_timeout=0` }, [
          "stats"
        ])
        yield* connected
        yield* command.signal(signal)
        assert.strictEqual(yield* command.ended, code)
        assert.deepStrictEqual(command.output(), { stdout: "", stderr: "" })
      })
  )
})

it.live(
  "the embedded database outlives the tasks that finish at a shutdown",
  () =>
    Effect.gen(function*() {
      const cwd = yield* Provider.temporaryDirectory
      const command = Effect.fnUntraced(function*(...args: ReadonlyArray<string>) {
        const running = yield* Cli.spawn({}, args, { cwd })
        assert.strictEqual(yield* running.ended, 0, running.output().stderr)
        return running.output().stdout
      })
      // No other process uses the server when the service stops.
      const service = yield* Cli.spawn({ WORKER_LOG_LEVEL: "debug" }, ["start"], { cwd })
      yield* service.says("worker started")
      const id = (yield* command("enqueue", "demo:sleep", "{\"ms\":2000}")).trim()
      yield* service.says("task started")
      yield* service.signal("SIGTERM")
      assert.strictEqual(yield* service.ended, 0)
      assert.notInclude(service.output().stderr, "the database does not do what is asked of it")
      // A command that only reads would not start it.
      const cancel = yield* Cli.spawn({}, ["cancel", id], { cwd })
      assert.strictEqual(yield* cancel.ended, 1)
      assert.strictEqual(cancel.output().stdout, "already_completed\n")
    }),
  120_000
)

it.live(
  "in an empty directory, two services share the embedded database, and one takes over from the other",
  () =>
    Effect.gen(function*() {
      const cwd = yield* Provider.temporaryDirectory
      const worker = (id: string) =>
        Cli.spawn(
          {
            WORKER_ID: id,
            WORKER_LEASE: "5000",
            WORKER_STALE_CHECK_INTERVAL: "100",
            WORKER_SHUTDOWN_GRACE: "0"
          },
          ["start"],
          { cwd }
        )
      const command = Effect.fnUntraced(function*(...args: ReadonlyArray<string>) {
        const running = yield* Cli.spawn({}, args, { cwd })
        assert.strictEqual(yield* running.ended, 0, running.output().stderr)
        return running.output().stdout
      })

      const first = yield* worker("first")
      yield* first.says("worker started")
      assert.include(first.output().stderr, "using the embedded PostgreSQL")
      assert.include(first.output().stderr, Path.basename(cwd))
      const id = (yield* command("enqueue", "demo:stream", "{\"tokens\":100000,\"perSecond\":20}")).trim()
      const follower = yield* Cli.spawn({}, ["follow", id], { cwd })
      yield* follower.says("token 3 ")
      const second = yield* worker("second")
      yield* second.says("worker started")

      yield* first.signal("SIGKILL")
      yield* follower.says("It starts over.")
      const { attemptsEnded, lockedBy } = JSON.parse(yield* command("show", id, "--json"))
      assert.match(lockedBy, /^second-/)
      assert.deepStrictEqual(attemptsEnded.map(({ outcome, reason }: any) => [outcome, reason]), [[
        "released",
        "lease_expired"
      ]])

      yield* second.signal("SIGTERM")
      assert.strictEqual(yield* second.ended, 0)
      yield* follower.signal("SIGTERM")
      assert.strictEqual(yield* follower.ended, 143)
      assert.strictEqual(yield* command("cancel", id), "cancelled\n")
    }),
  120_000
)

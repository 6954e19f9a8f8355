import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Layer, Queue, Redacted, Schedule, Stream } from "effect"
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Net from "node:net"
import * as Os from "node:os"
import * as Path from "node:path"
import type * as Task from "../../src/Task.ts"
import * as TaskQueue from "../../src/TaskQueue.ts"
import { TestDatabase } from "../support/TestDatabase.ts"
import * as Harness from "../support/WorkerHarness.ts"

const pgbouncer = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer", "/usr/local/bin/pgbouncer"].find((path) =>
  Fs.existsSync(path)
)

const freePort = Effect.callback<number>((resume) => {
  const server = Net.createServer().listen(0, "127.0.0.1", () => {
    const { port } = server.address() as Net.AddressInfo
    server.close(() => resume(Effect.succeed(port)))
  })
})

/** PgBouncer in transaction mode in front of a database. It refuses to run as root. */
const pooler = Effect.fnUntraced(function*(database: Redacted.Redacted) {
  const { hostname, password, pathname, port, username } = new URL(Redacted.value(database))
  const listenPort = yield* freePort
  const directory = yield* Effect.acquireRelease(
    Effect.sync(() => Fs.mkdtempSync(Path.join(Os.tmpdir(), "spindle-pooler-"))),
    (path) => Effect.sync(() => Fs.rmSync(path, { recursive: true, force: true }))
  )
  const ids = process.getuid?.() === 0 ? { uid: 65534, gid: 65534 } : {}
  const config = Path.join(directory, "pgbouncer.ini")
  yield* Effect.sync(() => {
    Fs.chmodSync(directory, 0o755)
    Fs.writeFileSync(
      config,
      `[databases]
* = host=${hostname} port=${port || "5432"} user=${username} password=${decodeURIComponent(password)}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${listenPort}
auth_type = any
pool_mode = transaction
unix_socket_dir =
`
    )
  })
  yield* Effect.acquireRelease(
    Effect.sync(() => ChildProcess.spawn(pgbouncer!, ["-q", config], { ...ids, stdio: "ignore" })),
    (child) =>
      Effect.callback<void>((resume) => {
        child.once("exit", () => resume(Effect.void))
        child.kill("SIGKILL")
      })
  )
  const url = Redacted.make(`postgres://postgres@127.0.0.1:${listenPort}${pathname}`)
  yield* Effect.gen(function*() {
    const sql = yield* PgClient.PgClient
    yield* sql`select 1`
  }).pipe(
    Effect.provide(PgClient.layer({ url, prepare: false })),
    Effect.retry(Schedule.max([Schedule.spaced("50 millis"), Schedule.recurs(100)]))
  )
  return url
})

describe.skipIf(pgbouncer === undefined)(
  pgbouncer === undefined ? "behind PgBouncer (SKIPPED: it is not installed)" : "behind PgBouncer in transaction mode",
  () => {
    it.live("a worker notices, polls, and does everything all the same", () =>
      Effect.gen(function*() {
        const { url } = yield* TestDatabase
        const script = Harness.script()
        const lines: Array<Harness.LogLine> = []
        yield* Harness.launch(
          Harness.Tasks,
          script.handlers,
          { notifications: "auto" },
          { url: yield* pooler(url), references: Harness.keepLogs(lines) }
        )
        assert.isTrue(lines.some(({ message }) => message.startsWith("a pooler refuses settings")))
        assert.isTrue(lines.some(({ message }) => message.startsWith("notifications are not delivered here")))
        const ids = yield* Harness.insertMany("plain", 50)
        for (const id of ids) yield* Harness.awaitRow(id, ({ status }) => status === "completed")
        const cancelled = yield* Harness.insert("scripted")
        const { ended } = yield* script.next(cancelled)
        const sql = yield* PgClient.PgClient
        yield* sql`update spindle.tasks set status = 'cancelled' where id = ${cancelled}`
        assert.deepInclude(yield* Harness.awaitOver(cancelled), { status: "cancelled", locked_by: null })
        assert.isTrue((yield* Deferred.await(ended))._tag === "Failure")
      }).pipe(Harness.onDatabase))

    it.live("a follower finds its events by looking", () =>
      Effect.gen(function*() {
        const { url } = yield* TestDatabase
        const sql = yield* PgClient.PgClient
        const context = yield* Layer.build(
          Layer.fresh(TaskQueue.layer).pipe(
            Layer.provide(PgClient.layer({ url: yield* pooler(url), prepare: false }))
          )
        )
        const queue = yield* Effect.provideContext(TaskQueue.TaskQueue, context)
        const id = yield* Harness.insert("story", { status: "processing", epoch: 1, locked_by: "w" })
        const seen = yield* Queue.unbounded<string>()
        const following = yield* Effect.forkScoped(
          Stream.runForEach(queue.events(id as Task.TaskId), ({ type }) => Queue.offer(seen, type))
        )
        for (const [n, type] of ["a", "b"].entries()) {
          yield* sql`
            insert into spindle.task_events (task_id, epoch, seq, type, data) values (${id}, 1, ${
            n + 1
          }, ${type}, '{}')`
          yield* sql`select pg_notify('spindle_task_events', ${String(id)})`
          assert.strictEqual(yield* Queue.take(seen), type)
        }
        yield* sql`update spindle.tasks set status = 'completed', locked_by = null where id = ${id}`
        yield* Fiber.join(following)
        assert.strictEqual(yield* Queue.take(seen), "done")
      }).pipe(Harness.onDatabase))
  }
)

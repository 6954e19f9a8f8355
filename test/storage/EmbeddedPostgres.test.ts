import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Redacted, Schedule, Scope } from "effect"
import * as ChildProcess from "node:child_process"
import { once } from "node:events"
import * as Fs from "node:fs"
import * as Net from "node:net"
import * as Path from "node:path"
import * as ReadLine from "node:readline"
import * as DataDirectory from "../../src/storage/embedded/DataDirectory.ts"
import * as Installation from "../../src/storage/embedded/Installation.ts"
import * as EmbeddedPostgres from "../../src/storage/EmbeddedPostgres.ts"
import { temporaryDirectory } from "../support/Provider.ts"

const isRoot = process.getuid?.() === 0

/** Another process that uses the server. */
const user = Effect.fnUntraced(function*(dataDir: string) {
  const child = yield* spawnUser(dataDir)
  const lines = ReadLine.createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  const line = Effect.promise(() => lines.next()).pipe(
    Effect.map(({ done, value }) => done === true ? assert.fail("the process ended") : JSON.parse(value))
  )
  const exited = once(child, "exit")
  const server: { url: string; dataDir: string; owned: boolean; pid: number } = yield* line
  return {
    server,
    query: (sql: string): Effect.Effect<unknown> =>
      Effect.andThen(Effect.sync(() => child.stdin.write(`${sql}\n`)), line),
    /** Ends as it should, and waits for that. */
    leave: Effect.andThen(Effect.sync(() => child.stdin.end()), Effect.promise(() => exited)),
    kill: Effect.andThen(Effect.sync(() => child.kill("SIGKILL")), Effect.promise(() => exited)),
    pressCtrlC: Effect.sync(() => process.kill(-child.pid!, "SIGINT"))
  }
})

const spawnUser = (dataDir: string) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const program = Path.join(import.meta.dirname, "fixtures", "embeddedUser.ts")
      return ChildProcess.spawn(process.execPath, [program, dataDir], {
        // A process group, so that Ctrl-C can be pressed in it.
        detached: true,
        stdio: ["pipe", "pipe", "inherit"]
      })
    }),
    (child) => Effect.sync(() => child.kill("SIGKILL"))
  )

const running = (home: string) => DataDirectory.postmaster(Path.join(home, "data"))

const until = <A, E, R>(effect: Effect.Effect<A, E, R>, condition: (a: A) => boolean) =>
  Effect.repeat(effect, { until: condition, schedule: Schedule.spaced("10 millis") })

const open = (path: string, flags: number) =>
  Effect.acquireRelease(
    Effect.try({ try: () => Fs.openSync(path, flags | Fs.constants.O_NONBLOCK), catch: () => "refused" as const }),
    (descriptor) => Effect.sync(() => Fs.closeSync(descriptor))
  )

/** Whether a guard has the FIFO open. */
const isRead = (fifo: string) =>
  Effect.match(Effect.scoped(open(fifo, Fs.constants.O_WRONLY)), { onFailure: () => false, onSuccess: () => true })

/** Whether a user has the FIFO open. */
const isWritten = (fifo: string) =>
  open(fifo, Fs.constants.O_RDONLY).pipe(
    Effect.flatMap((descriptor) =>
      Effect.try({ try: () => Fs.readSync(descriptor, Buffer.alloc(1)), catch: () => "would wait" as const })
    ),
    Effect.scoped,
    Effect.match({ onFailure: () => true, onSuccess: (bytes) => bytes > 0 })
  )

const stopped = (home: string) => until(running(home), (postmaster) => postmaster === undefined)

const query = (server: EmbeddedPostgres.Server, statement: string) =>
  Effect.flatMap(PgClient.PgClient, (sql) => sql.unsafe(statement)).pipe(
    Effect.provide(PgClient.layer({ url: server.url(), maxConnections: 1 }))
  )

const port = (url: Redacted.Redacted | string) => new URL(Redacted.isRedacted(url) ? Redacted.value(url) : url).port

describe("EmbeddedPostgres", () => {
  it.live("keeps data, port and password across a restart", () =>
    Effect.gen(function*() {
      const dataDir = yield* temporaryDirectory
      const use = (statement: string) =>
        Effect.scoped(Effect.gen(function*() {
          const server = yield* EmbeddedPostgres.make({ dataDir })
          assert.isTrue(server.owned)
          return { rows: yield* query(server, statement), server }
        }))
      const first = yield* use("create table kept as select 42 as answer")
      assert.isUndefined(yield* running(first.server.dataDir))
      const second = yield* use("select answer from kept")
      assert.deepStrictEqual(second.rows, [{ answer: 42 }])
      assert.strictEqual(Redacted.value(second.server.url()), Redacted.value(first.server.url()))
      assert.notStrictEqual(second.server.pid, first.server.pid)
      const password = Path.join(first.server.dataDir, "data", "spindle.password")
      assert.strictEqual(Fs.statSync(password).mode & 0o777, 0o600)
    }))

  it.live("outlives the process that started it while another one uses it, and no longer", () =>
    Effect.gen(function*() {
      const dataDir = yield* temporaryDirectory
      const starter = yield* user(dataDir)
      const other = yield* user(dataDir)
      assert.isTrue(starter.server.owned)
      assert.deepStrictEqual(other.server, { ...starter.server, owned: false })
      const before = yield* other.query("select pg_backend_pid() as pid")
      yield* starter.kill
      const third = yield* user(dataDir)
      assert.deepStrictEqual(third.server, other.server)
      assert.deepStrictEqual(yield* other.query("select pg_backend_pid() as pid"), before)
      yield* third.kill
      assert.deepStrictEqual(yield* other.query("select pg_backend_pid() as pid"), before)
      yield* other.leave
      assert.isUndefined(yield* running(other.server.dataDir))
    }))

  it.live("stops by itself when its last user is killed", () =>
    Effect.gen(function*() {
      const starter = yield* user(yield* temporaryDirectory)
      yield* starter.kill
      yield* stopped(starter.server.dataDir)
      // said after the file with its process id is gone
      yield* until(
        Effect.sync(() => Fs.readFileSync(Path.join(starter.server.dataDir, "server.log"), "utf8")),
        (log) => log.includes("database system is shut down")
      )
    }))

  it.live("starts again at once after both the process and the server were killed", () =>
    Effect.gen(function*() {
      const dataDir = yield* temporaryDirectory
      const victim = yield* user(dataDir)
      yield* victim.query("create table kept as select 42 as answer")
      process.kill(victim.server.pid, "SIGKILL")
      yield* victim.kill
      const server = yield* EmbeddedPostgres.make({ dataDir })
      assert.deepStrictEqual(yield* query(server, "select answer from kept"), [{ answer: 42 }])
      assert.strictEqual(port(server.url()), port(victim.server.url))
    }))

  it.live("starts a server that was killed for the users it had, at the same address", () =>
    Effect.gen(function*() {
      const dataDir = yield* temporaryDirectory
      const old = yield* user(dataDir)
      process.kill(old.server.pid, "SIGKILL")
      yield* stopped(old.server.dataDir)
      const scope = yield* Scope.make()
      const { pid } = yield* Scope.provide(EmbeddedPostgres.make({ dataDir }), scope)
      assert.deepStrictEqual(yield* old.query("select 1 as one"), [{ one: 1 }])
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual((yield* running(old.server.dataDir))?.pid, pid)
    }))

  it.live("is started once by processes that come at the same moment", () =>
    Effect.gen(function*() {
      const dataDir = yield* temporaryDirectory
      const users = yield* Effect.all([user(dataDir), user(dataDir), user(dataDir)], { concurrency: "unbounded" })
      assert.strictEqual(new Set(users.map(({ server }) => server.url)).size, 1)
      assert.deepStrictEqual(users.map(({ server }) => server.owned).toSorted(), [false, false, true])
      yield* Effect.forEach(users, ({ leave }) => leave, { concurrency: "unbounded" })
      assert.isUndefined(yield* running(users[0].server.dataDir))
      const kept = ["answers", "data", "port", "server.log", "users"]
      assert.deepStrictEqual(Fs.readdirSync(users[0].server.dataDir).toSorted(), kept)
    }))

  it.live("never gives a server that is about to stop to somebody who comes just then", () =>
    Effect.gen(function*() {
      const dataDir = yield* temporaryDirectory
      const scope = yield* Scope.make()
      const old = yield* Scope.provide(EmbeddedPostgres.make({ dataDir }), scope)
      const fifo = Path.join(old.dataDir, "users")
      // A suspended server is told to stop, and for as long as it is suspended everything says that it is ready.
      process.kill(old.pid, "SIGSTOP")
      yield* Effect.addFinalizer(() => Effect.ignore(Effect.try(() => process.kill(old.pid, "SIGCONT"))))
      const leaving = yield* Effect.forkChild(Scope.close(scope, Exit.void))
      yield* until(isRead(fifo), (read) => !read)
      const coming = yield* Effect.forkChild(EmbeddedPostgres.make({ dataDir }))
      yield* until(isWritten(fifo), (written) => written)
      process.kill(old.pid, "SIGCONT")
      const server = yield* Fiber.join(coming)
      yield* Fiber.join(leaving)
      assert.notStrictEqual(server.pid, old.pid)
      assert.deepStrictEqual(yield* query(server, "select 1 as one"), [{ one: 1 }])
    }))

  it.live("leaves nothing of a first start that was killed in the middle", () =>
    Effect.gen(function*() {
      const dataDir = yield* temporaryDirectory
      const home = Path.join(dataDir, "postgres")
      const remains = Effect.sync(() =>
        Fs.existsSync(home) ? Fs.readdirSync(home).filter((name) => name.startsWith("initdb-")) : []
      )
      const child = yield* spawnUser(dataDir)
      const [workshop] = yield* until(remains, ([name]) =>
        name !== undefined && Fs.existsSync(Path.join(home, name, "data", "PG_VERSION")))
      child.kill("SIGKILL")
      yield* Effect.promise(() =>
        once(child, "exit")
      )
      assert.deepStrictEqual(yield* remains, [workshop])
      const server = yield* EmbeddedPostgres.make({ dataDir })
      assert.isTrue(server.owned)
      assert.deepStrictEqual(yield* remains, [])
    }))

  it.live("is not misled by a postmaster.pid that names a process of another program", () =>
    Effect.gen(function*() {
      const dataDir = yield* temporaryDirectory
      const { dataDir: home } = yield* Effect.scoped(EmbeddedPostgres.make({ dataDir }))
      const { account } = yield* Installation.home(dataDir)
      const stranger = yield* Effect.acquireRelease(
        Effect.sync(() => ChildProcess.spawn("/bin/sh", ["-c", "read line"], Installation.as(account))),
        (child) => Effect.sync(() => child.kill("SIGKILL"))
      )
      const file = Path.join(home, "data", "postmaster.pid")
      Fs.writeFileSync(file, `${stranger.pid}\n${home}/data\n1\n5432\n\n127.0.0.1\n0\nready   \n`)
      Installation.own(file, account)
      const server = yield* EmbeddedPostgres.make({ dataDir })
      assert.isTrue(server.owned)
      assert.isTrue(yield* DataDirectory.isAlive(stranger.pid ?? 0))
    }))

  it.live("is not reached by Ctrl-C, so that a worker keeps it while it drains", () =>
    Effect.gen(function*() {
      const worker = yield* user(yield* temporaryDirectory)
      const work = yield* Effect.forkChild(worker.query("select count(*)::int as n from pg_sleep(0.5)"))
      yield* worker.pressCtrlC
      assert.deepStrictEqual(yield* Fiber.join(work), [{ n: 1 }])
      yield* worker.leave
    }))

  it.live("takes another port when its own is taken", () =>
    Effect.gen(function*() {
      const dataDir = yield* temporaryDirectory
      const { dataDir: home, url } = yield* Effect.scoped(EmbeddedPostgres.make({ dataDir }))
      yield* stopped(home)
      yield* Effect.acquireRelease(
        Effect.callback<Net.Server, Error>((resume) => {
          const listener = Net.createServer().listen(Number(port(url())), "127.0.0.1", () =>
            resume(Effect.succeed(listener)))
          listener.once("error", (error) =>
            resume(Effect.fail(error)))
        }),
        (listener) =>
          Effect.sync(() => listener.close())
      )
      const server = yield* EmbeddedPostgres.make({ dataDir })
      assert.notStrictEqual(port(server.url()), port(url()))
      assert.deepStrictEqual(yield* query(server, "select 1 as one"), [{ one: 1 }])
    }))

  it.live("can do without TCP", () =>
    Effect.gen(function*() {
      const server = yield* EmbeddedPostgres.make({ dataDir: yield* temporaryDirectory, transport: "socket" })
      assert.deepStrictEqual(
        yield* query(server, "select current_setting('listen_addresses') as tcp, inet_client_addr() is null as local"),
        [{ tcp: "", local: true }]
      )
    }))

  it.live("says what the server said when it does not start", () =>
    Effect.gen(function*() {
      const dataDir = yield* temporaryDirectory
      const error = yield* Effect.flip(EmbeddedPostgres.make({ dataDir, settings: { shared_buffers: "much" } }))
      assert.strictEqual(error._tag, "EmbeddedPostgresError")
      assert.include(error.message, "invalid value for parameter \"shared_buffers\": \"much\"")
      assert.include(error.message, "Set DATABASE_URL")
    }))

  it.live.skipIf(!isRoot)(
    "works for root in a home that nobody else can enter (root only)",
    () =>
      Effect.gen(function*() {
        const parent = yield* temporaryDirectory
        Fs.chmodSync(parent, 0o700)
        const dataDir = Path.join(parent, "project", ".spindle")
        const first = yield* Effect.scoped(EmbeddedPostgres.make({ dataDir }))
        yield* Effect.addFinalizer(() => Effect.sync(() => Fs.rmSync(first.dataDir, { recursive: true })))
        assert.isFalse(first.dataDir.startsWith(parent))
        const second = yield* EmbeddedPostgres.make({ dataDir })
        assert.strictEqual(second.dataDir, first.dataDir)
        assert.strictEqual(Redacted.value(second.url()), Redacted.value(first.url()))
      })
  )

  it.live("completes binaries whose install script did not run", () =>
    Effect.gen(function*() {
      const root = Path.join(yield* temporaryDirectory, "native")
      Fs.mkdirSync(Path.join(root, "lib"), { recursive: true })
      Fs.writeFileSync(Path.join(root, "lib", "libpq.so.5.18"), "library")
      const links = [{ source: "native/lib/libpq.so.5.18", target: "native/lib/libpq.so.5" }]
      Fs.writeFileSync(Path.join(root, "pg-symlinks.json"), JSON.stringify(links))
      yield* Installation.link(root)
      assert.strictEqual(Fs.readlinkSync(Path.join(root, "lib", "libpq.so.5")), "libpq.so.5.18")
      assert.strictEqual(Fs.readFileSync(Path.join(root, "lib", "libpq.so.5"), "utf8"), "library")
      yield* Installation.link(root)
    }))
})

/**
 * The PostgreSQL server of a run, and what is read from it.
 *
 * `BENCH_DATABASE_URL` names a server to use; without it a throw-away cluster is started, with default durability, and removed
 * afterwards. Only databases that this run has created are ever written to.
 */
import { PgClient } from "@effect/sql-pg"
import { Context, Effect, Layer, Redacted, Schedule, type Scope } from "effect"
import type { SqlClient, SqlError } from "effect/sql"
import { rmSync } from "node:fs"
import * as EmbeddedPostgres from "../../src/storage/EmbeddedPostgres.ts"
import { BenchError } from "./errors.ts"
import { postmasterOf, treeSeconds } from "./proc.ts"
import { temporary } from "./program.ts"

/** What differs from the defaults of PostgreSQL: memory, and a log that statements can be counted in. */
const settings = {
  shared_buffers: "1GB",
  logging_collector: "on",
  log_directory: "log",
  log_filename: "bench.log",
  log_rotation_age: "0",
  log_rotation_size: "0",
  log_parameter_max_length: "0"
}

const prefix = `spindle_bench_${process.pid}`

/** One connection to a database of the server. */
export const connectTo = (url: Redacted.Redacted): Effect.Effect<SqlClient.SqlClient, SqlError.SqlError, Scope.Scope> =>
  Effect.map(
    Layer.build(PgClient.layer({ url, maxConnections: 1, maxMessageSize: 2 ** 28 })),
    Context.get(PgClient.PgClient)
  )

export class Server extends Context.Service<Server, {
  /** Whether the bench has started it. */
  readonly owned: boolean
  /** Its first process, if that is one of this machine. */
  readonly pid: number | undefined
  readonly admin: SqlClient.SqlClient
  readonly url: (database: string) => Redacted.Redacted
  /** A fresh database, dropped with the scope. */
  readonly database: (template?: string) => Effect.Effect<string, SqlError.SqlError, Scope.Scope>
  /** A database that `build` has filled, kept for the whole run: `database` copies it. */
  readonly template: <E, R>(
    key: string,
    build: (database: string) => Effect.Effect<void, E, R>
  ) => Effect.Effect<string, SqlError.SqlError | E, R>
  /** CPU seconds of the postmaster and all its descendants; `undefined` if it is not a process of this machine. */
  readonly cpuSeconds: Effect.Effect<number | undefined>
  /** Bytes of WAL written so far. */
  readonly walBytes: Effect.Effect<number, SqlError.SqlError>
  /** Transactions committed in a database by sessions that have ended, after waiting for all of them to end. */
  readonly commits: (database: string) => Effect.Effect<number, SqlError.SqlError>
  /** Has every statement of a database's new sessions logged. */
  readonly logStatements: (database: string) => Effect.Effect<void, SqlError.SqlError>
  /** How many statements were logged while an effect ran; `undefined` without a readable log. */
  readonly countStatements: <A, E, R>(
    effect: Effect.Effect<A, E, R>
  ) => Effect.Effect<readonly [A, number | undefined], BenchError | E | SqlError.SqlError, R>
}>()("bench/Server") {}

const withDatabase = (url: string) => (database: string) => {
  const changed = new URL(url)
  changed.pathname = `/${database}`
  return Redacted.make(changed.href)
}

const start = Effect.gen(function*() {
  const given = process.env["BENCH_DATABASE_URL"]
  if (given !== undefined && given !== "") {
    return { owned: false, url: withDatabase(given), adminUrl: Redacted.make(given) }
  }
  const dataDir = temporary("server")
  // Registered first, so that it runs last: when the server has stopped.
  const used = [dataDir]
  yield* Effect.addFinalizer(() =>
    Effect.forEach(used, (path) => Effect.sync(() => rmSync(path, { recursive: true, force: true })))
  )
  const server = yield* EmbeddedPostgres.make({ dataDir, settings })
  used.push(server.dataDir)
  return { owned: true, url: server.url, adminUrl: server.url("postgres") }
})

const statement = /^\S.* LOG: {2}(?:statement|execute [^:]*): /gm

const make = Effect.gen(function*() {
  const { adminUrl, owned, url } = yield* start
  const admin = yield* connectTo(adminUrl)
  const [session] = yield* admin<{ pid: number; database: string; log: string | null }>`
    select pg_backend_pid() as pid, current_database() as database, pg_current_logfile() as log`
  if (session === undefined) return yield* new BenchError({ message: "the server does not answer" })
  const postmaster = postmasterOf(session.pid, session.database)
  const { log } = session

  const drop = (database: string) => admin.unsafe(`drop database if exists ${database} with (force)`)
  let created = 0
  const create = (template: string) => {
    const database = `${prefix}_${created++}`
    return Effect.as(admin.unsafe(`create database ${database} template ${template}`), database)
  }
  // Whatever an interrupted run has left, half-made templates included.
  yield* Effect.addFinalizer(() =>
    Effect.forEach(Array.from({ length: created }, (_, index) => `${prefix}_${index}`), (_) => Effect.ignore(drop(_)))
  )
  const templates = new Map<string, string>()

  let marks = 0
  const mark = Effect.suspend(() => {
    const text = `${prefix} mark ${marks++}`
    return Effect.as(admin.unsafe(`do $$ begin raise log '${text}'; end $$`), text)
  })
  const logFrom = (offset: number) =>
    Effect.map(
      admin.unsafe<{ text: string }>("select pg_read_file($1, $2::bigint, 1000000000) as text", [log, offset]),
      ([row]) => row?.text ?? ""
    )

  return Server.of({
    owned,
    pid: postmaster,
    admin,
    url,
    database: (template = "template0") => Effect.acquireRelease(create(template), (_) => Effect.ignore(drop(_))),
    template: Effect.fnUntraced(function*(key, build) {
      const known = templates.get(key)
      if (known !== undefined) return known
      const database = yield* create("template0")
      templates.set(key, database)
      yield* build(database)
      return database
    }),
    cpuSeconds: Effect.sync(() => postmaster === undefined ? undefined : treeSeconds(postmaster)),
    walBytes: Effect.map(
      admin<{ bytes: number }>`select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8 as bytes`,
      ([row]) => row?.bytes ?? 0
    ),
    commits: (database) =>
      admin<{ sessions: number }>`
        select count(*)::int as sessions from pg_stat_activity
        where datname = ${database} and backend_type = 'client backend'`.pipe(
        Effect.repeat({ until: ([row]) => row?.sessions === 0, schedule: Schedule.spaced("20 millis") }),
        Effect.andThen(admin<{ commits: number }>`
          select xact_commit::float8 as commits from pg_stat_database where datname = ${database}`),
        Effect.map(([row]) => row?.commits ?? 0)
      ),
    logStatements: (database) =>
      admin.unsafe(`alter database ${database} set log_statement = 'all'`).pipe(Effect.asVoid),
    countStatements: Effect.fnUntraced(function*(effect) {
      if (log === null) return [yield* effect, undefined] as const
      const [file] = yield* admin<{ size: number }>`select (pg_stat_file(${log})).size::float8 as size`
      const from = yield* mark
      const value = yield* effect
      const to = yield* mark
      const text = yield* logFrom(file?.size ?? 0).pipe(
        Effect.repeat({ until: (text) => text.includes(to), schedule: Schedule.spaced("20 millis") }),
        Effect.timeoutOrElse({
          duration: "10 seconds",
          orElse: () => Effect.fail(new BenchError({ message: `what is logged does not appear in ${log}` }))
        })
      )
      const counted = text.slice(text.indexOf(from), text.indexOf(to)).match(statement)
      return [value, counted?.length ?? 0] as const
    })
  })
})

export const layer = Layer.effect(Server, make)

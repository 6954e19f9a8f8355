/**
 * A PostgreSQL cluster of a test's own, to be crashed, restarted and failed over. Its address does not change when it
 * restarts. Everything ends and is removed with the scope.
 */
import { Clock, Effect, Exit, Redacted, Schedule, Scope } from "effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as DataDirectory from "../../src/storage/embedded/DataDirectory.ts"
import * as Installation from "../../src/storage/embedded/Installation.ts"
import * as EmbeddedPostgres from "../../src/storage/EmbeddedPostgres.ts"
import * as Provider from "./Provider.ts"

export interface Cluster {
  readonly url: (database?: string) => Redacted.Redacted
  readonly host: string
  readonly port: number
  /** PostgreSQL's own data directory. */
  readonly dataDir: string
  /** The process id of the postmaster; dies while the cluster is stopped. */
  readonly pid: Effect.Effect<number>
  readonly start: Effect.Effect<void, EmbeddedPostgres.EmbeddedPostgresError>
  /** `fast` ends sessions and writes a checkpoint; `immediate` is a crash, from which the next start recovers. */
  readonly stop: (mode: "fast" | "immediate") => Effect.Effect<void>
  readonly restart: (mode: "fast" | "immediate") => Effect.Effect<void, EmbeddedPostgres.EmbeddedPostgresError>
}

export interface Options {
  /** Added to the settings of a throw-away cluster: `{ fsync: "on", synchronous_standby_names: "standby" }`. */
  readonly settings?: Readonly<Record<string, string>> | undefined
}

/** Makes and starts an empty cluster. */
export const make = Effect.fn("Cluster.make")(function*(options?: Options) {
  return yield* run(yield* Provider.temporaryDirectory, options)
})

/**
 * Makes and starts a streaming standby of `primary`, which is restarted for its files to be copied. In the primary's
 * `synchronous_standby_names` it is called `standby`. `select pg_promote()` on it makes it a primary.
 */
export const standbyOf = Effect.fn("Cluster.standbyOf")(function*(primary: Cluster, options?: Options) {
  const directory = yield* Provider.temporaryDirectory
  const home = yield* Installation.home(directory)
  const dataDir = Path.join(home.path, "data")
  yield* primary.stop("fast")
  const { code, stderr } = yield* Installation.run("cp", ["-a", primary.dataDir, dataDir], {})
  if (code !== 0) return yield* Effect.die(`The primary could not be copied: ${stderr}`)
  yield* primary.start
  const address = new URL(Redacted.value(primary.url()))
  yield* Effect.sync(() => {
    Fs.writeFileSync(Path.join(dataDir, "standby.signal"), "")
    Fs.appendFileSync(
      Path.join(dataDir, "postgresql.auto.conf"),
      `primary_conninfo = 'host=${address.hostname} port=${address.port} user=${address.username} ` +
        `password=${address.password} application_name=standby'\nwal_retrieve_retry_interval = '100ms'\n`
    )
    Installation.own(Path.join(dataDir, "standby.signal"), home.account)
  })
  return yield* run(directory, options)
})

const ended = (server: EmbeddedPostgres.Server) =>
  Effect.repeat(DataDirectory.postmaster(Path.join(server.dataDir, "data")), {
    until: (postmaster) => postmaster === undefined,
    schedule: Schedule.spaced("10 millis")
  }).pipe(Effect.orDie, Effect.provideService(Clock.Clock, Clock.Clock.defaultValue()))

const run = Effect.fnUntraced(function*(directory: string, options: Options | undefined) {
  const scope = yield* Effect.scope
  let running: { readonly server: EmbeddedPostgres.Server; readonly scope: Scope.Closeable } | undefined

  const launch = Effect.gen(function*() {
    const child = yield* Scope.fork(scope)
    const server = yield* Scope.provide(
      EmbeddedPostgres.make({ dataDir: directory, settings: { ...Provider.throwAway, ...options?.settings } }),
      child
    )
    running = { server, scope: child }
    return server
  })
  const start = Effect.suspend(() => running === undefined ? Effect.asVoid(launch) : Effect.void)
  const stop = (mode: "fast" | "immediate") =>
    Effect.suspend(() => {
      if (running === undefined) return Effect.void
      const { scope, server } = running
      running = undefined
      process.kill(server.pid, mode === "fast" ? "SIGINT" : "SIGQUIT")
      return Effect.andThen(ended(server), Scope.close(scope, Exit.void))
    })

  const { dataDir, url } = yield* launch
  const address = new URL(Redacted.value(url()))
  return {
    url,
    host: address.hostname,
    port: Number(address.port),
    dataDir: Path.join(dataDir, "data"),
    pid: Effect.suspend(() =>
      running === undefined ? Effect.die("The cluster is stopped") : Effect.succeed(running.server.pid)
    ),
    start,
    stop,
    restart: (mode) => Effect.andThen(stop(mode), start)
  } satisfies Cluster
})

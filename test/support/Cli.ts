/**
 * The command `spindle`: run in the test's own process, or as a process of its own that takes signals.
 */
import { ConfigProvider, Effect, Exit, Redacted } from "effect"
import * as ChildProcess from "node:child_process"
import * as Path from "node:path"
import * as Failure from "../../src/cli/Failure.ts"
import { Process } from "../../src/cli/Process.ts"
import * as Spindle from "../../src/cli/Spindle.ts"
import { TestDatabase } from "./TestDatabase.ts"

export type Environment = Readonly<Record<string, string>>

export interface Answer {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
  /** Both as somebody at a terminal sees them. */
  readonly screen: string
}

/** Runs a command in this process, with nothing in its environment but what is given. */
export const runIn = Effect.fnUntraced(function*(
  env: Environment,
  args: ReadonlyArray<string>,
  options?: { readonly terminal?: boolean | undefined; readonly stdin?: string | undefined }
) {
  const written = { stdout: "", stderr: "", screen: "" }
  const write = (stream: "stdout" | "stderr") => (text: string) =>
    Effect.sync(() => {
      written[stream] += text
      written.screen += text
    })
  const terminal = options?.terminal ?? false
  const exit = yield* Spindle.run("0.0.0", args).pipe(
    Effect.provideService(
      Process,
      Process.make({
        stdout: write("stdout"),
        stderr: write("stderr"),
        stdin: Effect.succeed(options?.stdin ?? ""),
        isTerminal: { stdin: false, stdout: terminal, stderr: terminal },
        colors: false,
        serve: () => Effect.void
      })
    ),
    Effect.provide(
      ConfigProvider.layer(ConfigProvider.fromEnvRecord({ WORKER_LOG_LEVEL: "none", WORKER_HTTP_PORT: "0", ...env }))
    ),
    Effect.exit
  )
  const report = Exit.isSuccess(exit) ? { exitCode: 0, message: "" } : Failure.report(exit.cause)
  return { ...written, stderr: written.stderr + report.message, code: report.exitCode } satisfies Answer
})

/** The same on the test's database. */
export const run = (...args: ReadonlyArray<string>) =>
  Effect.flatMap(TestDatabase, ({ url }) => runIn({ DATABASE_URL: Redacted.value(url) }, args))

export interface Running {
  readonly output: () => { readonly stdout: string; readonly stderr: string }
  /** Waits until standard output or standard error has it. */
  readonly says: (text: string) => Effect.Effect<void>
  readonly signal: (signal: NodeJS.Signals) => Effect.Effect<void>
  /** Stops reading what it says, as a terminal that is closed. */
  readonly turnAway: Effect.Effect<void>
  /** Waits for its end: the exit code, or the signal that killed it. */
  readonly ended: Effect.Effect<number | NodeJS.Signals>
}

const bin = Path.join(import.meta.dirname, "../../src/bin.ts")

/** Starts a process that dies with the test. */
export const spawn = Effect.fnUntraced(function*(
  env: Environment,
  args: ReadonlyArray<string>,
  options?: {
    readonly cwd?: string | undefined
    /** What a shell runs instead, with the command as its arguments. */
    readonly shell?: string | undefined
  }
) {
  const command = [process.execPath, bin, ...args] as const
  const [program, ...given] = options?.shell === undefined ? command : ["sh", "-c", options.shell, "sh", ...command]
  const child = yield* Effect.acquireRelease(
    Effect.sync(() =>
      ChildProcess.spawn(program!, given, {
        cwd: options?.cwd,
        env: {
          PATH: process.env.PATH,
          HOME: process.env.HOME,
          NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE,
          WORKER_LOG_FORMAT: "logfmt",
          WORKER_HTTP_PORT: "0",
          ...env
        },
        stdio: ["ignore", "pipe", "pipe"]
      })
    ),
    (child) => Effect.sync(() => void child.kill("SIGKILL"))
  )
  const written = { stdout: "", stderr: "" }
  const waiting = new Set<() => void>()
  for (const stream of ["stdout", "stderr"] as const) {
    child[stream].setEncoding("utf8").on("data", (text: string) => {
      written[stream] += text
      for (const look of waiting) look()
    })
  }
  let end: number | NodeJS.Signals | undefined
  child.once("close", (code, signal) => {
    end = code ?? signal ?? 0
    for (const look of waiting) look()
  })
  const until = <A>(look: () => A | undefined) =>
    Effect.callback<A>((resume) => {
      const check = () => {
        const found = look()
        if (found === undefined) return
        waiting.delete(check)
        resume(Effect.succeed(found))
      }
      waiting.add(check)
      check()
      return Effect.sync(() => void waiting.delete(check))
    })
  const said = (text: string) => written.stdout.includes(text) || written.stderr.includes(text)
  return {
    output: () => ({ ...written }),
    says: (text) =>
      Effect.flatMap(until(() => said(text) || end !== undefined ? true : undefined), () =>
        said(text)
          ? Effect.void
          : Effect.die(new Error(`It ended with ${end} without saying ${text}:\n${written.stdout}${written.stderr}`))),
    signal: (signal) => Effect.sync(() => void child.kill(signal)),
    turnAway: Effect.sync(() => {
      child.stdout.destroy()
      child.stderr.destroy()
    }),
    ended: until(() => end)
  } satisfies Running
})

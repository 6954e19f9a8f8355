/**
 * Processes of the bench, as it calls them.
 */
import { Effect, Exit, type Scope } from "effect"
import { type ChildProcess, fork } from "node:child_process"
import { BenchError } from "./errors.ts"
import { Program } from "./program.ts"
import type { Reply, Request } from "./serve.ts"

/** The bench's end of a process. */
export interface Process<C> {
  readonly pid: number
  readonly call: <Call extends keyof C>(
    call: Call,
    ...argument: C[Call] extends (...argument: infer Argument) => Promise<any> ? Argument : never
  ) => Effect.Effect<C[Call] extends (...argument: any) => Promise<infer Answer> ? Answer : never, BenchError>
}

const start = <C>(name: string, path: string, args: ReadonlyArray<string>) => {
  // Nothing but the report may reach stdout: what the process logs goes to stderr.
  const child: ChildProcess = fork(path, args, { stdio: ["ignore", 2, 2, "ipc"] })
  const pending = new Map<number, (exit: Exit.Exit<unknown, BenchError>) => void>()
  const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()).once("error", () => resolve()))
  let lost: string | undefined
  let calls = 0

  const lose = (why: string) => {
    lost ??= `the process of ${name} ${why}`
    for (const resume of pending.values()) resume(Exit.fail(new BenchError({ message: lost })))
    pending.clear()
  }
  child.on("exit", (code, signal) => lose(`ended with ${signal ?? code}`))
  child.on("error", (error) => lose(`failed: ${error.message}`))
  child.on("message", ({ error, id, value }: Reply) => {
    pending.get(id)?.(error === undefined ? Exit.succeed(value) : Exit.fail(new BenchError({ message: error })))
    pending.delete(id)
  })

  const process: Process<C> = {
    pid: child.pid ?? 0,
    call: (call, ...[argument]) =>
      Effect.callback<unknown, BenchError>((resume) => {
        if (lost !== undefined) return resume(Effect.fail(new BenchError({ message: lost })))
        const id = calls++
        pending.set(id, resume)
        child.send({ id, call: String(call), argument } satisfies Request)
        return Effect.sync(() => pending.delete(id))
      }) as Effect.Effect<never, BenchError>
  }
  const end = Effect.promise(async () => {
    child.kill("SIGKILL")
    await exited
  })
  return { process, end }
}

/** Starts a compiled program of the bench. The process ends with the scope, whatever happens in it. */
export const spawn = <C>(
  name: string,
  file: string,
  ...args: ReadonlyArray<string>
): Effect.Effect<Process<C>, never, Program | Scope.Scope> =>
  Effect.acquireRelease(
    Effect.map(Program, (program) => start<C>(name, program(file), args)),
    ({ end }) => end
  ).pipe(Effect.map(({ process }) => process))

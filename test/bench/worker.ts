/**
 * The bench's end of a worker process. The process ends with the scope, whatever happens in it.
 */
import { Effect, Exit, type Scope } from "effect"
import { type ChildProcess, fork } from "node:child_process"
import { BenchError } from "./errors.ts"
import { Program } from "./program.ts"
import type { Calls, Reply, Request } from "./protocol.ts"
import type { System } from "./systems.ts"

type Argument<Call extends keyof Calls> = Parameters<Calls[Call]>
type Answer<Call extends keyof Calls> = Awaited<ReturnType<Calls[Call]>>

export interface Worker {
  readonly pid: number
  readonly call: <Call extends keyof Calls>(
    call: Call,
    ...argument: Argument<Call>
  ) => Effect.Effect<Answer<Call>, BenchError>
}

interface Handle extends Worker {
  readonly end: Effect.Effect<void>
}

const start = (program: string, system: System): Handle => {
  // Nothing but the report may reach stdout: what the worker logs goes to stderr.
  const child: ChildProcess = fork(program, [system.name], {
    stdio: ["ignore", 2, 2, "ipc"]
  })
  const pending = new Map<number, (exit: Exit.Exit<unknown, BenchError>) => void>()
  const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()).once("error", () => resolve()))
  let lost: string | undefined
  let calls = 0

  const lose = (why: string) => {
    lost ??= `the worker process of ${system.name} ${why}`
    for (const resume of pending.values()) resume(Exit.fail(new BenchError({ message: lost })))
    pending.clear()
  }
  child.on("exit", (code, signal) => lose(`ended with ${signal ?? code}`))
  child.on("error", (error) => lose(`failed: ${error.message}`))
  child.on("message", ({ error, id, value }: Reply) => {
    pending.get(id)?.(error === undefined ? Exit.succeed(value) : Exit.fail(new BenchError({ message: error })))
    pending.delete(id)
  })

  return {
    pid: child.pid ?? 0,
    call: (call, ...[argument]) =>
      Effect.callback<unknown, BenchError>((resume) => {
        if (lost !== undefined) return resume(Effect.fail(new BenchError({ message: lost })))
        const id = calls++
        pending.set(id, resume)
        child.send({ id, call, argument } satisfies Request)
        return Effect.sync(() => pending.delete(id))
      }) as Effect.Effect<never, BenchError>,
    end: Effect.promise(async () => {
      child.kill("SIGKILL")
      await exited
    })
  }
}

/** Starts a process for one run of a system. */
export const spawn = (system: System): Effect.Effect<Worker, never, Program | Scope.Scope> =>
  Effect.acquireRelease(Effect.map(Program, (program) => start(program, system)), ({ end }) => end)

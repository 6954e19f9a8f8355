/**
 * Worker processes of a test's own, to be killed and suspended.
 */
import { PgClient } from "@effect/sql-pg"
import { Deferred, Effect, Redacted } from "effect"
import * as ChildProcess from "node:child_process"
import * as Path from "node:path"
import * as Readline from "node:readline"
import type * as Worker from "../../src/Worker.ts"
import { TestDatabase } from "./TestDatabase.ts"

const program = Path.join(import.meta.dirname, "programs/worker.ts")

export interface WorkerProcess {
  /** As in `locked_by`. */
  readonly workerId: string
  /** The tasks of the type `count` that it has run, in order. */
  readonly ran: ReadonlyArray<bigint>
  readonly signal: (signal: NodeJS.Signals) => Effect.Effect<void>
  /** Its exit code, or the signal that ended it. */
  readonly exited: Effect.Effect<number | NodeJS.Signals>
}

/** Where the handlers of worker processes record that they ran. */
export const createExecutions = Effect.gen(function*() {
  const sql = yield* PgClient.PgClient
  yield* sql`create table executions (task_id bigint, attempt int, worker text, at timestamptz default clock_timestamp())`
})

/** Starts a worker process that dies with the test. */
export const start = Effect.fn("WorkerProcess.start")(
  function*(options: Partial<Worker.Options>, given?: Redacted.Redacted) {
    const url = given ?? (yield* TestDatabase).url
    const child = yield* Effect.acquireRelease(
      Effect.sync(() =>
        ChildProcess.spawn(process.execPath, [program, Redacted.value(url), JSON.stringify(options)], {
          stdio: ["ignore", "pipe", "inherit"]
        })
      ),
      (child) =>
        Effect.sync(() => {
          child.kill("SIGKILL")
        })
    )
    const ran: Array<bigint> = []
    const ready = Deferred.makeUnsafe<string>()
    const exited = Deferred.makeUnsafe<number | NodeJS.Signals>()
    child.once("close", () => Deferred.doneUnsafe(exited, Effect.succeed(child.exitCode ?? child.signalCode!)))
    Readline.createInterface(child.stdout).on("line", (line) => {
      const [word, id = ""] = line.split(" ")
      if (word === "ready") Deferred.doneUnsafe(ready, Effect.succeed(id))
      if (word === "ran") ran.push(BigInt(id))
    })
    const workerId = yield* Effect.raceFirst(
      Deferred.await(ready),
      Effect.flatMap(
        Deferred.await(exited),
        (code) => Effect.die(new Error(`The worker process ended at once: ${code}`))
      )
    )
    return {
      workerId,
      ran,
      signal: (signal) =>
        Effect.sync(() => {
          child.kill(signal)
        }),
      exited: Deferred.await(exited)
    } satisfies WorkerProcess
  }
)

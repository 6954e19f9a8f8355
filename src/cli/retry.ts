/**
 * `spindle retry`: queues a finished task again.
 *
 * @since 0.1.0
 */
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Prompt from "effect/cli/Prompt"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as TaskQueue from "../TaskQueue.ts"
import * as Connection from "./Connection.ts"
import { CliFailure } from "./Failure.ts"
import * as Parameters from "./Parameters.ts"
import { Process } from "./Process.ts"

/**
 * Prints what came of it, and on standard error what became of the attempts. A task that has completed is run again only
 * if the user agrees. Fails unless the task is queued by this call.
 *
 * @category commands
 * @since 0.1.0
 */
export const command = Command.make("retry", {
  id: Parameters.id,
  resetAttempts: Flag.Boolean("reset-attempts").pipe(
    Flag.withDescription("Forget the attempts it had"),
    Flag.withDefault(false)
  ),
  yes: Flag.Boolean("yes").pipe(
    Flag.withDescription("Do not ask before a task that has completed runs again"),
    Flag.withDefault(false)
  ),
  json: Parameters.json
}, ({ id, json, resetAttempts, yes }) =>
  Effect.gen(function*() {
    const { isTerminal, note, stdout } = yield* Process
    const queue = yield* TaskQueue.TaskQueue
    const before = Option.getOrUndefined(yield* queue.get(id))
    if (before?.status === "completed" && !yes) {
      const question = `Task ${id} has completed. Run it again?`
      if (!isTerminal.stdin || !isTerminal.stderr) {
        return yield* new CliFailure({ message: `Task ${id} has completed: --yes runs it again`, exitCode: 64 })
      }
      if (!(yield* Prompt.Confirm({ message: question }))) {
        return yield* new CliFailure({ message: "Nothing was done", exitCode: 1 })
      }
    }
    const outcome = yield* queue.retry(id, { resetAttempts })
    yield* stdout(json ? `${JSON.stringify({ id: String(id), outcome })}\n` : `${outcome}\n`)
    if (outcome !== "queued") return yield* new CliFailure({ message: "", exitCode: 1 })
    const after = Option.getOrUndefined(yield* queue.get(id))
    if (after !== undefined && after.status === "queued") {
      yield* note(`${after.attempts} of ${after.maxAttempts} attempts are charged`)
    }
  }).pipe(Effect.provide(Connection.queue))).pipe(
    Command.withDescription("Queue a finished task again and print what came of it")
  )

/**
 * `spindle cancel`: cancels a task, queued or running.
 *
 * @since 0.1.0
 */
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import * as TaskQueue from "../TaskQueue.ts"
import * as Connection from "./Connection.ts"
import { CliFailure } from "./Failure.ts"
import * as Parameters from "./Parameters.ts"
import { Process } from "./Process.ts"

/**
 * Prints what the task was found to be. Fails unless it is cancelled now, by this call or an earlier one.
 *
 * @category commands
 * @since 0.1.0
 */
export const command = Command.make(
  "cancel",
  { id: Parameters.id, json: Parameters.json },
  ({ id, json }) =>
    Effect.gen(function*() {
      const { stdout } = yield* Process
      const outcome = yield* (yield* TaskQueue.TaskQueue).cancel(id)
      yield* stdout(json ? `${JSON.stringify({ id: String(id), outcome })}\n` : `${outcome}\n`)
      if (outcome !== "cancelled" && outcome !== "already_cancelled") {
        return yield* new CliFailure({ message: "", exitCode: 1 })
      }
    }).pipe(Effect.provide(Connection.queue))
).pipe(
  Command.withDescription("Cancel a task, queued or running, and print what it was found to be")
)

/**
 * `spindle retry`: queues a finished task again.
 *
 * @since 0.1.0
 */
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as TaskQueue from "../TaskQueue.ts"
import * as Connection from "./Connection.ts"
import { CliFailure } from "./Failure.ts"
import * as Parameters from "./Parameters.ts"
import { Process } from "./Process.ts"

/**
 * Prints what came of it. Fails unless the task is queued by this call.
 *
 * @category commands
 * @since 0.1.0
 */
export const command = Command.make("retry", {
  id: Parameters.id,
  resetAttempts: Flag.Boolean("reset-attempts").pipe(
    Flag.withDescription("Forget the attempts it had"),
    Flag.withDefault(false)
  )
}, ({ id, resetAttempts }) =>
  Effect.gen(function*() {
    const { stdout } = yield* Process
    const outcome = yield* (yield* TaskQueue.TaskQueue).retry(id, { resetAttempts })
    yield* stdout(`${outcome}\n`)
    if (outcome !== "queued") return yield* new CliFailure({ message: "", exitCode: 1 })
  }).pipe(Effect.provide(Connection.queue))).pipe(
    Command.withDescription("Queue a finished task again and print what came of it")
  )

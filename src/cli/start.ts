/**
 * `spindle start`: the worker as a service.
 *
 * @since 0.1.0
 */
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"

/**
 * Runs until a signal comes. The worker is loaded only here, which keeps the other commands quick.
 *
 * @category commands
 * @since 0.1.0
 */
export const command = Command.make("start", {
  tasks: Flag.String("tasks").pipe(
    Flag.withMetavar("module"),
    Flag.withDescription(
      "A file or package that exports `group`, a TaskGroup, and `layer`, its handlers. Default: AI and demo tasks"
    ),
    Flag.optional
  )
}, ({ tasks }) =>
  Effect.promise(() => import("./Service.ts")).pipe(
    Effect.flatMap(({ run }) => run(tasks))
  )).pipe(Command.withDescription("Run a worker until a signal comes"))

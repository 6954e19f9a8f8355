/**
 * The command `spindle`, with everything below it.
 *
 * @since 0.1.0
 */
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as CliConfig from "effect/cli/CliConfig"
import * as CliOutput from "effect/cli/CliOutput"
import * as Command from "effect/cli/Command"
import * as GlobalFlag from "effect/cli/GlobalFlag"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Cancel from "./cancel.ts"
import * as Check from "./check.ts"
import * as Enqueue from "./enqueue.ts"
import * as Follow from "./follow.ts"
import * as List from "./list.ts"
import * as Migrate from "./migrate.ts"
import { Process } from "./Process.ts"
import * as Retry from "./retry.ts"
import * as Show from "./show.ts"
import * as Start from "./start.ts"
import * as Stats from "./stats.ts"

const command = Command.make("spindle").pipe(
  Command.withDescription(
    "A background task worker for PostgreSQL. Where no variable names a database, every command uses the embedded one " +
      "in the current directory."
  ),
  Command.withSubcommands([
    Start.command,
    Enqueue.command,
    Follow.command,
    List.command,
    Show.command,
    Cancel.command,
    Retry.command,
    Stats.command,
    Migrate.command,
    Check.command
  ])
)

const builtIns = CliConfig.layer({ builtIns: [GlobalFlag.Help, GlobalFlag.Version, GlobalFlag.Completions] })

// Help that was asked for is an answer. A wrong call is not, and is told in a line, not on a page.
const presenter = Layer.unwrap(Effect.map(Process, ({ stderr }) =>
  CliOutput.layerPresenter({
    present: (event) =>
      event._tag === "InvalidInvocation"
        ? stderr([
          ...event.errors.map(({ message }) => `${message.replaceAll(/\s+/g, " ")}\n`),
          `See: ${event.commandPath.join(" ")} --help\n`
        ].join(""))
        : CliOutput.defaultPresenter.present(event)
  })))

/**
 * Runs the command line.
 *
 * @category running
 * @since 0.1.0
 */
export const run = (
  version: string,
  args: ReadonlyArray<string>
): Effect.Effect<void, unknown, Process> =>
  Command.runWith(command, { version })(args).pipe(
    Effect.provide(Layer.mergeAll(builtIns, presenter, NodeServices.layer))
  )

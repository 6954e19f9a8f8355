/**
 * `spindle stats`: how many tasks there are of each status.
 *
 * @since 0.1.0
 */
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import * as TaskQueue from "../TaskQueue.ts"
import * as Connection from "./Connection.ts"
import * as Parameters from "./Parameters.ts"
import { Process } from "./Process.ts"

/**
 * @category commands
 * @since 0.1.0
 */
export const command = Command.make("stats", { json: Parameters.json }, ({ json }) =>
  Effect.gen(function*() {
    const { stdout } = yield* Process
    const stats = yield* (yield* TaskQueue.TaskQueue).stats
    const width = String(stats.total).length
    yield* stdout(
      json
        ? `${JSON.stringify(stats)}\n`
        : Object.entries(stats).map(([name, count]) => `${name.padEnd(10)}  ${String(count).padStart(width)}\n`).join(
          ""
        )
    )
  }).pipe(Effect.provide(Connection.reading))).pipe(Command.withDescription("Count the tasks of each status"))

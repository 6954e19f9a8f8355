/**
 * `spindle migrate`: creates or updates the tables, or prints the statements that do.
 *
 * @since 0.1.0
 */
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import * as Database from "../config/Database.ts"
import * as Db from "../Db.ts"
import * as Migrations from "../storage/Migrations.ts"
import * as Connection from "./Connection.ts"
import * as Parameters from "./Parameters.ts"
import { Process } from "./Process.ts"

const print = Effect.gen(function*() {
  const { stdout } = yield* Process
  yield* stdout(Migrations.print(yield* Database.schema))
})

const run = Effect.fnUntraced(function*(json: boolean) {
  const { stdout } = yield* Process
  const applied = yield* Migrations.run
  const schema = yield* Db.Schema
  if (json) return yield* stdout(`${JSON.stringify({ schema, applied })}\n`)
  yield* stdout(
    applied.length === 0
      ? `The schema ${schema} is up to date.\n`
      : applied.map((name) => `Applied to the schema ${schema}: ${name}.\n`).join("")
  )
}, Effect.provide(Connection.database))

/**
 * Printing needs no database.
 *
 * @category commands
 * @since 0.1.0
 */
export const command = Command.make("migrate", {
  print: Flag.Boolean("print").pipe(
    Flag.withDescription("Print every statement instead, for a migration tool of your own"),
    Flag.withDefault(false)
  ),
  json: Parameters.json
}, (flags) => flags.print ? print : run(flags.json)).pipe(
  Command.withDescription("Create or update the tables")
)

/**
 * `spindle check`: whether a worker could start on the tables as they are.
 *
 * @since 0.1.0
 */
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import * as SqlClient from "effect/sql/SqlClient"
import * as Database from "../config/Database.ts"
import * as Db from "../Db.ts"
import * as Contract from "../storage/Contract.ts"
import * as Ddl from "../storage/Ddl.ts"
import * as Connection from "./Connection.ts"
import { CliFailure } from "./Failure.ts"
import * as Parameters from "./Parameters.ts"
import { Process } from "./Process.ts"

const roles = ["worker", "producer"] as const

/**
 * Prints, as SQL, what is missing or else what an owner may add, and what each role needs. Fails if a worker could not
 * start.
 *
 * @category commands
 * @since 0.1.0
 */
export const command = Command.make("check", { json: Parameters.json }, ({ json }) =>
  Effect.gen(function*() {
    const { stdout } = yield* Process
    const { address } = yield* Database.Database
    const schema = yield* Db.Schema
    const { advice, doubts, migrated, missing } = yield* Contract.check(yield* SqlClient.SqlClient, schema)
    if (json) {
      yield* stdout(`${JSON.stringify({ address, schema, missing, doubts, advice })}\n`)
      return missing.length === 0 ? undefined : yield* new CliFailure({ message: "", exitCode: 1 })
    }
    const statements = (ddl: ReadonlyArray<string>) => ddl.map((statement) => `${statement};\n`).join("")
    if (missing.length === 0) {
      yield* stdout(`-- A worker can start on the schema ${schema} of ${address}.\n`)
      for (const { buys, ddl } of advice) {
        yield* stdout(`\n-- The owner of the tables may add this, which buys ${buys}.\n${statements(ddl)}`)
      }
    } else {
      yield* stdout(
        `-- A worker cannot start on the schema ${schema} of ${address}. Missing:\n${
          missing.map((line) => `--   ${line}\n`).join("")
        }-- \`spindle migrate\` creates the tables where there are none.\n`
      )
    }
    if (doubts.length > 0) {
      yield* stdout(`\n-- What a worker writes may be refused:\n${doubts.map((line) => `--   ${line}\n`).join("")}`)
    }
    for (const role of roles) {
      yield* stdout(
        `\n-- What a ${role} needs, here for a role spindle_${role}:\n${
          statements(Ddl.grants(schema, role, `spindle_${role}`, migrated || missing.length > 0))
        }`
      )
    }
    if (missing.length > 0) return yield* new CliFailure({ message: "", exitCode: 1 })
  }).pipe(Effect.provide(Connection.database))).pipe(
    Command.withDescription("Check that a worker can start on the tables, and print what could be added")
  )

/**
 * A worker's database: reached, migrated or checked, and with its own pool.
 *
 * @since 0.1.0
 */
import type * as PgClient from "@effect/sql-pg/PgClient"
import * as PgConnection from "@effect/sql-pg/PgConnection"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import * as SqlClient from "effect/sql/SqlClient"
import * as Db from "../Db.ts"
import * as Contract from "../storage/Contract.ts"
import * as Migrations from "../storage/Migrations.ts"
import * as StorageError from "../storage/StorageError.ts"
import { Settings } from "./Settings.ts"

/**
 * @category services
 * @since 0.1.0
 */
export class Connection extends Context.Service<Connection, {
  readonly sql: SqlClient.SqlClient
  readonly config: PgClient.PgClientConfig
  readonly report: Contract.Report
  /** Whether notifications arrive. */
  readonly listening: boolean
}>()("spindle/Connection") {}

const patience = Schedule.min([Schedule.exponential("250 millis"), Schedule.spaced("5 seconds")]).pipe(
  Schedule.upTo({ times: 9 })
)

// Tries for about half a minute.
const reaching = <A, R>(step: Effect.Effect<A, StorageError.StorageError, R>) =>
  step.pipe(
    Effect.tapError((error) =>
      error.transient ? Effect.logWarning("the database cannot be used yet", error.message) : Effect.void
    ),
    Effect.retry({ schedule: patience, while: (error) => error.transient })
  )

/**
 * Reaches the database and creates or updates the tables, unless they are somebody else's. `report.missing` is for the
 * caller to judge.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.gen(function*() {
  const client = yield* SqlClient.SqlClient
  const { migrations, notifications, schema } = yield* Settings
  const config = Db.connection(client)
  if (migrations === "run" && (yield* reaching(Migrations.run)).length > 0) {
    yield* Effect.logInfo("database migrated").pipe(Effect.annotateLogs({ schema }))
  }
  const sql = yield* reaching(StorageError.refine("connect to the database")(Db.controlPool(client)))
  const report = yield* reaching(Contract.check(sql, schema))
  yield* Effect.forEach(
    report.doubts,
    (reason) => Effect.logWarning("the database may refuse what a worker writes").pipe(Effect.annotateLogs({ reason })),
    { discard: true }
  )
  const listening = notifications === "on" || (notifications === "auto" && (yield* reaching(delivers(config, sql))))
  return Connection.of({ sql, config, report, listening })
})

// `listen` succeeds behind a pooler in transaction mode, and nothing ever arrives.
const delivers = (config: PgClient.PgClientConfig, sql: SqlClient.SqlClient) =>
  Effect.gen(function*() {
    const channel = `spindle_probe_${yield* Random.nextIntBetween(0, 2 ** 31)}`
    const connection = yield* PgConnection.make({ ...config, multiplex: false, applicationName: "spindle probe" })
    const queue = yield* connection.listen(channel)
    yield* sql`select pg_notify(${channel}, '')`
    const delivered = Option.isSome(yield* Effect.timeoutOption(Queue.take(queue), "2 seconds"))
    if (!delivered) {
      yield* Effect.logWarning(
        "notifications are not delivered here, as behind a pooler in transaction mode: polling instead"
      )
    }
    return delivered
  }).pipe(Effect.scoped, StorageError.refine("listen for notifications"))

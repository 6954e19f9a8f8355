/**
 * What the small commands work on: the database that a worker in the same environment would use.
 *
 * They log warnings only, unless `WORKER_LOG_LEVEL` says otherwise.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Database from "../config/Database.ts"
import * as Migrations from "../storage/Migrations.ts"
import * as TaskQueue from "../TaskQueue.ts"
import * as Logging from "./Logging.ts"

/**
 * The database as it is.
 *
 * @category layers
 * @since 0.1.0
 */
export const database = Layer.provideMerge(Database.layer, Logging.layer("Warn"))

// Nobody but us owns the embedded database, so nobody is asked before its tables are made.
const tables = Layer.effectDiscard(
  Effect.flatMap(Database.Database, ({ embedded }) => embedded ? Migrations.run : Effect.void)
)

/**
 * The queue on it.
 *
 * @category layers
 * @since 0.1.0
 */
export const queue = Layer.merge(TaskQueue.layer, tables).pipe(Layer.provideMerge(database))

/** The same for commands that only read: they start no server. */
export const reading = Layer.provide(queue, Layer.succeed(Database.StartsEmbedded, false))

/**
 * How Spindle speaks to PostgreSQL: which schema, which errors pass by themselves, what a lost connection looks like,
 * and the small pool that a worker's own statements run on.
 *
 * @since 0.1.0
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as RcRef from "effect/RcRef"
import * as Reactivity from "effect/reactivity/Reactivity"
import * as Scope from "effect/Scope"
import * as SqlClient from "effect/sql/SqlClient"
import type { Connection } from "effect/sql/SqlConnection"
import * as SqlError from "effect/sql/SqlError"
import * as Stream from "effect/Stream"

/**
 * The schema of the tables. `WORKER_SCHEMA` for the service; an embedding application overrides it with
 * `Layer.succeed(Db.Schema, "public")` around both its workers and its queues.
 *
 * @category references
 * @since 0.1.0
 */
export const Schema: Context.Reference<string> = Context.Reference<string>("spindle/Db/Schema", {
  defaultValue: () => "spindle"
})

/**
 * The SQLSTATE of a server's error, absent when the connection itself failed.
 *
 * @category errors
 * @since 0.1.0
 */
export const sqlState = (error: SqlError.SqlError): string | undefined => {
  const cause = error.reason.cause
  return typeof cause === "object" && cause !== null && "code" in cause && typeof cause.code === "string" &&
      /^[0-9A-Z]{5}$/.test(cause.code)
    ? cause.code
    : undefined
}

// A server that was the primary and is none any more, or a session of it that may only read.
const readOnly = "25006"

// Errors that the driver calls permanent although they pass: a server that stops, starts, recovers, is full or only read.
const transientStates = new Set([
  "57P01",
  "57P02",
  "57P03",
  "57P05",
  "53000",
  "53100",
  "53200",
  "53300",
  readOnly,
  "72000"
])

/**
 * Whether the same statement can succeed later, on a new connection.
 *
 * @category errors
 * @since 0.1.0
 */
export const isTransient = (error: SqlError.SqlError): boolean =>
  (error.isRetryable && !isTooLarge(error)) || transientStates.has(sqlState(error) ?? "") ||
  isFullNotificationQueue(error)

/**
 * Whether a row is larger than the client's `maxMessageSize`. The driver gives its connection up for it, but the next one
 * would meet the same row.
 *
 * @category errors
 * @since 0.1.0
 */
export const isTooLarge = ({ reason: { cause } }: SqlError.SqlError): boolean =>
  Predicate.hasProperty(cause, "_tag") && cause._tag === "PgProtocolParseError" &&
  String(cause).includes("maxMessageSize")

// It shares a SQLSTATE with what no later attempt can store, and its words are translated.
const isFullNotificationQueue = (error: SqlError.SqlError): boolean =>
  sqlState(error) === "54000" && Predicate.hasProperty(error.reason.cause, "file") &&
  error.reason.cause.file === "async.c"

/**
 * Runs a transaction. A connection lost on the way is a failure here, not the defect that the driver makes of it.
 *
 * @category combinators
 * @since 0.1.0
 */
export const transaction = <A, E, R>(
  sql: SqlClient.SqlClient,
  effect: Effect.Effect<A, E, R>
): Effect.Effect<A, E | SqlError.SqlError, R> =>
  Effect.catchCause(sql.withTransaction(effect), (cause): Effect.Effect<never, E | SqlError.SqlError> => {
    if (Cause.hasInterrupts(cause)) return Effect.failCause(cause)
    const defects = cause.reasons.filter(Cause.isDieReason).map(({ defect }) => defect)
    const lost = defects.find(SqlError.isSqlError)
    return lost !== undefined && defects.every(SqlError.isSqlError) ? Effect.fail(lost) : Effect.failCause(cause)
  })

/**
 * Waits for an effect no longer than `patience`, and leaves it running when that is over: interrupting a statement on a
 * half-open connection can take seconds. `None` says that the result is unknown, not that nothing happened.
 *
 * @category combinators
 * @since 0.1.0
 */
export const patiently = <A, E, R>(
  effect: Effect.Effect<A, E, R>,
  patience: Duration.Input
): Effect.Effect<Option.Option<A>, E, R> =>
  Effect.uninterruptibleMask((restore) =>
    Effect.flatMap(Effect.forkDetach(restore(effect), { startImmediately: true }), (fiber) => {
      const abandon = Effect.forkDetach(Fiber.interrupt(fiber))
      return restore(Effect.timeoutOption(Fiber.join(fiber), patience)).pipe(
        Effect.tap((result) => Option.isNone(result) ? abandon : Effect.void),
        Effect.onInterrupt(() => abandon)
      )
    })
  )

// Each of a worker's statements is written for one plan. Statistics of a young table, or of one that was all queued a
// moment ago, would choose others.
const planSettings = {
  plan_cache_mode: "force_generic_plan",
  enable_seqscan: "off",
  enable_bitmapscan: "off",
  enable_hashjoin: "off",
  enable_mergejoin: "off",
  jit: "off"
}

/**
 * A worker's own few connections, to the same server and with the same credentials as the application's client, so that
 * busy handlers cannot hold up its heartbeats and outcomes.
 *
 * When a statement finds that its server cannot write, all of them are given up: after a failover the address may lead
 * elsewhere. A pooler that refuses settings of a session gets none, and no prepared statements either.
 *
 * @category constructors
 * @since 0.1.0
 */
export const controlPool = (
  client: SqlClient.SqlClient,
  maxConnections = 5
): Effect.Effect<SqlClient.SqlClient, SqlError.SqlError, Scope.Scope> =>
  Effect.catchIf(
    reached(makeReplaceable(client, { maxConnections, startupParameters: { ...planSettings, ...limits } })),
    (error) => sqlState(error) === "08P01",
    () =>
      Effect.andThen(
        Effect.logWarning("a pooler refuses settings of a session: statements are planned anew each time"),
        reached(makeReplaceable(client, { maxConnections, startupParameters: {}, prepare: false }))
      )
  )

const limits = { statement_timeout: "10s", idle_in_transaction_session_timeout: "30s" }

const reached = <E, R>(pool: Effect.Effect<SqlClient.SqlClient, E, R>) => Effect.tap(pool, (sql) => sql`select 1`)

const makeReplaceable = Effect.fnUntraced(function*(
  client: SqlClient.SqlClient,
  options: Partial<PgClient.PgPoolConfig>
): Effect.fn.Return<SqlClient.SqlClient, SqlError.SqlError, Scope.Scope> {
  let current: PgClient.PgClient | undefined
  const pool = yield* RcRef.make({
    acquire: Effect.tap(makePool(client, options), (made) =>
      Effect.sync(() => {
        current = made
      })),
    idleTimeToLive: "Infinity"
  })
  const acquirer = Effect.gen(function*() {
    const lender = yield* RcRef.get(pool)
    // Whoever comes late must not give up the next one.
    const giveUp = Effect.suspend(() => lender === current ? RcRef.invalidate(pool) : Effect.void)
    return watched(yield* lender.reserve, giveUp)
  })
  return yield* SqlClient.make({
    acquirer,
    compiler: PgClient.makeCompiler(),
    driver: "pg",
    spanAttributes: [],
    prepareTransactionControls: options.prepare !== false
  }).pipe(Effect.provide(Reactivity.layer))
})

// What a server that only reads refuses with is not always 25006: it cancels what conflicts with its recovery, too.
const watched = (connection: Connection, giveUp: Effect.Effect<void>): Connection => {
  const isReadOnly = Effect.map(
    connection.executeUnprepared("show transaction_read_only", [], undefined),
    (rows) => rows[0]?.transaction_read_only === "on"
  )
  const judge = (error: SqlError.SqlError) => {
    const state = sqlState(error)
    if (state === undefined) return Effect.void
    return Effect.ignore(Effect.when(giveUp, state === readOnly ? Effect.succeed(true) : isReadOnly))
  }
  return {
    execute: (...args) => Effect.tapError(connection.execute(...args), judge),
    executeRaw: (...args) => Effect.tapError(connection.executeRaw(...args), judge),
    executeStream: (...args) => Stream.tapError(connection.executeStream(...args), judge),
    executeValues: (...args) => Effect.tapError(connection.executeValues(...args), judge),
    executeValuesUnprepared: (...args) => Effect.tapError(connection.executeValuesUnprepared(...args), judge),
    executeUnprepared: (...args) => Effect.tapError(connection.executeUnprepared(...args), judge)
  }
}

/**
 * Two connections to the same server for those who look on, so that no question of theirs can take one from a handler or
 * a worker. They are opened when they are needed: making it does not fail while the server is away.
 *
 * @category constructors
 * @since 0.1.0
 */
export const pagePool = (
  client: SqlClient.SqlClient
): Effect.Effect<PgClient.PgClient, SqlError.SqlError, Scope.Scope> =>
  makePool(client, { maxConnections: 2, minConnections: 0, applicationName: "spindle page" })

const makePool = (client: SqlClient.SqlClient, options: Partial<PgClient.PgPoolConfig>) =>
  closingPatiently(
    PgClient.make({
      ...connection(client),
      minConnections: 1,
      idleTimeout: "60 seconds",
      // Who only reads is never told that the address leads elsewhere by now.
      connectionTTL: "1 minute",
      multiplex: false,
      maxMessageSize: 64 * 1024 * 1024,
      applicationName: "spindle",
      ...options
    }).pipe(Effect.provide(Reactivity.layer))
  )

// A pool waits for its statements. One on a connection that died in silence was given up long before the driver gives it
// up: its connection closes in the background.
const closingPatiently = <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E, R | Scope.Scope> =>
  Effect.flatMap(
    Effect.acquireRelease(Scope.make(), (scope, exit) => patiently(Scope.close(scope, exit), "500 millis")),
    (scope) => Scope.provide(self, scope)
  )

/**
 * How a client reaches its server.
 *
 * @category getters
 * @since 0.1.0
 */
export const connection = (client: SqlClient.SqlClient): PgClient.PgClientConfig => {
  const { config } = client as unknown as Partial<PgClient.PgClient>
  if (config === undefined) {
    throw new Error("Spindle needs the SqlClient of @effect/sql-pg (PgClient.layer or PgClient.layerConfig)")
  }
  const { transformJson: _json, transformQueryNames: _query, transformResultNames: _result, ...rest } = config
  return rest
}

/**
 * Notifications on a connection of their own, which heals itself.
 *
 * A notification is a hint that makes somebody read rows. Whatever may have been missed — before the first
 * subscription, while the connection was lost, or because the reader fell far behind — is announced by `Subscribed`:
 * read everything once.
 *
 * @since 0.1.0
 */
import * as PgConnection from "@effect/sql-pg/PgConnection"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as Random from "effect/Random"
import * as Scope from "effect/Scope"
import * as SqlError from "effect/sql/SqlError"
import * as Db from "../Db.ts"
import * as StorageError from "./StorageError.ts"

/**
 * - `Subscribed`: from now on notifications arrive; any before may have been missed
 * - `Notification`: somebody called `notify`
 *
 * @category models
 * @since 0.1.0
 */
export type Signal =
  | { readonly _tag: "Subscribed" }
  | { readonly _tag: "Notification"; readonly channel: string; readonly payload: string }

const capacity = 1024
const probeInterval = "5 seconds"
const patience = "5 seconds"
const maxDelayMillis = 5000

/**
 * Listens on the channels until the scope closes.
 *
 * It never fails: while the server cannot be reached it keeps trying, after 100 ms at first and every 5 s in the end,
 * and says so once in the log. A socket that died in silence is found by a probe within 10 seconds. The connection is
 * always drained; of a reader that is more than 1024 signals behind the queue is emptied and begins with `Subscribed`.
 * `lost` is told at once when notifications no longer arrive. For who `writes`, a server that only reads is the wrong one,
 * such as the primary before a failover, although it may be listened to: the address may lead to another by now.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function*(
  config: PgConnection.Config,
  channels: ReadonlyArray<string>,
  lost: () => void = () => {},
  writes = false
): Effect.fn.Return<Queue.Dequeue<Signal>, never, Scope.Scope> {
  const signals = yield* Effect.acquireRelease(Queue.dropping<Signal>(capacity), Queue.shutdown)
  let failures = 0

  const forward = (signal: Signal) =>
    Effect.suspend(() =>
      Queue.offerUnsafe(signals, signal)
        ? Effect.void
        : Effect.andThen(Queue.clear(signals), Queue.offer(signals, { _tag: "Subscribed" }))
    )

  // The reader hears of a batch there and then, not in another turn of the event loop.
  const drain = (notifications: Queue.Dequeue<PgConnection.Notification, SqlError.SqlError>) =>
    Effect.forever(
      Effect.flatMap(Queue.takeAll(notifications), (batch) =>
        Effect.map(
          Effect.forEach(
            batch,
            ({ channel, payload }) => forward({ _tag: "Notification", channel, payload }),
            { discard: true }
          ),
          () => Queue.flushUnsafe(signals)
        )),
      { disableYield: true }
    )

  const probe = Effect.fnUntraced(function*(connection: PgConnection.PgConnection) {
    yield* Effect.sleep(probeInterval)
    const result = yield* Db.patiently(connection.query(probeText), patience)
    if (Option.isNone(result)) return yield* broken("the connection does not answer")
    if (result.value.rowCount < channels.length) {
      return yield* broken("the session has lost its subscriptions")
    }
    if (writes && result.value.rows[0]!.read_only === "on") return yield* broken("the server only reads")
    failures = 0
  })

  const session = Effect.scoped(Effect.gen(function*() {
    // The connection is acquired last and closes first: `unlisten` over a dead socket would never return.
    const subscriptions = yield* Effect.scope
    return yield* Effect.scoped(Effect.gen(function*() {
      const connection = yield* PgConnection.make({ ...config, multiplex: false, applicationName: "spindle listener" })
      const pinned = yield* Scope.provide(connection.pin, subscriptions)
      const queues = yield* Effect.forEach(channels, (channel) => pinned.listen(channel)).pipe(
        Scope.provide(subscriptions),
        Effect.timeout(patience)
      )
      yield* forward({ _tag: "Subscribed" })
      return yield* Effect.raceAllFirst([Effect.forever(probe(pinned)), ...queues.map(drain)])
    }))
  }))

  const wait = Effect.gen(function*() {
    const jitter = yield* Random.nextBetween(0.5, 1)
    yield* Effect.sleep(jitter * Math.min(100 * 2 ** failures++, maxDelayMillis))
  })

  yield* session.pipe(
    Effect.mapError((error) => SqlError.isSqlError(error) ? StorageError.fromSqlError("listen", error) : error),
    Effect.catchCause((cause) => {
      lost()
      const { message } = Cause.prettyErrors(cause)[0]!
      return failures === 0
        ? Effect.logWarning("Notifications do not arrive: polling until they do").pipe(
          Effect.annotateLogs({ reason: message })
        )
        : Effect.logDebug("Notifications still do not arrive").pipe(Effect.annotateLogs({ reason: message }))
    }),
    Effect.andThen(wait),
    Effect.forever,
    Effect.forkScoped
  )
  return signals
})

const probeText = "select current_setting('transaction_read_only') as read_only from pg_listening_channels()"

const broken = (why: string) =>
  new StorageError.StorageError({ operation: "listen", transient: true, cause: new Error(why) })

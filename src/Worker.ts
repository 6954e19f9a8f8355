/**
 * Consumer side: claims tasks and runs each in its own supervised fiber.
 *
 * @since 0.1.0
 */
import type * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as LogLevel from "effect/LogLevel"
import * as Option from "effect/Option"
import * as PubSub from "effect/PubSub"
import * as References from "effect/References"
import * as Schema from "effect/Schema"
import type * as SqlClient from "effect/sql/SqlClient"
import * as Stream from "effect/Stream"
import * as Db from "./Db.ts"
import { HandlerRegistry } from "./HandlerRegistry.ts"
import * as Lifecycle from "./Lifecycle.ts"
import { Stats } from "./Stats.ts"
import { TaskStore } from "./storage/TaskStore.ts"
import { CancelWatcher } from "./worker/CancelWatcher.ts"
import { Claimer } from "./worker/Claimer.ts"
import * as Connection from "./worker/Connection.ts"
import * as WorkerHealth from "./worker/Health.ts"
import { Journal } from "./worker/Journal.ts"
import { LeaseKeeper } from "./worker/LeaseKeeper.ts"
import * as Loop from "./worker/Loop.ts"
import { Measures } from "./worker/Measures.ts"
import * as Metrics from "./worker/Metrics.ts"
import { Problems } from "./worker/Problems.ts"
import { Pulses } from "./worker/Pulse.ts"
import * as Settings from "./worker/Settings.ts"
import { Supervisor } from "./worker/Supervisor.ts"
import { Sweeper } from "./worker/Sweeper.ts"
import { WakeUps } from "./worker/WakeUps.ts"

/**
 * Each is also a variable, in milliseconds where it is a duration; see `defaults`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** A label; a fresh id per process start is always appended. `WORKER_ID`, default the host's name. */
  readonly id?: string | undefined
  /** Running tasks at a time. `JOB_CONCURRENCY` */
  readonly concurrency: number
  /** The wait between two looks for work when no notification comes. `WORKER_POLL_INTERVAL` */
  readonly pollInterval: Duration.Input
  /** How long a dead worker's tasks stay its own; renewed every quarter of it. `WORKER_LEASE` */
  readonly lease: Duration.Input
  /** The wait between two sweeps for expired leases. `WORKER_STALE_CHECK_INTERVAL` */
  readonly staleCheckInterval: Duration.Input
  /** How long running tasks may finish on shutdown before they are interrupted and put back. `WORKER_SHUTDOWN_GRACE` */
  readonly shutdownGrace: Duration.Input
  /** For tasks that neither their type nor `enqueue` gives one. `JOB_TIMEOUT` */
  readonly taskTimeout: Duration.Input
  /** Globs such as `email:*` that narrow the handled types. `WORKER_TASK_TYPES` */
  readonly taskTypes: ReadonlyArray<string>
  /** The queues to serve, each with a bound of its own if it has one. `WORKER_QUEUES`, default all. */
  readonly queues?: { readonly [queue: string]: { readonly concurrency?: number | undefined } } | undefined
  /** Leave tasks that nobody handles queued, or fail them with "Unknown task type". `WORKER_UNKNOWN_TYPES` */
  readonly unknownTypes: "leave" | "fail"
  /** Whether LISTEN wakes the worker; `auto` tests at start that it delivers. `WORKER_NOTIFICATIONS` */
  readonly notifications: "auto" | "on" | "off"
  /** Create and update the tables at start, or only check them, without any DDL. `WORKER_MIGRATIONS` */
  readonly migrations: "run" | "verify"
}

/**
 * What an option is when it is left out.
 *
 * @category constants
 * @since 0.1.0
 */
export const defaults: Options = {
  concurrency: 5,
  pollInterval: "1 second",
  lease: "30 seconds",
  staleCheckInterval: "5 seconds",
  shutdownGrace: "25 seconds",
  taskTimeout: "5 minutes",
  taskTypes: ["*"],
  unknownTypes: "leave",
  notifications: "auto",
  migrations: "run"
}

/**
 * - `InvalidOptions`: `issue` names the option, what was given and what is allowed
 * - `Contract`: the database lacks what is listed, hence the worker does not start
 * - `Unavailable`: the database could not be reached at start
 * - `LoopDied`: a background loop ended with a defect, which is a bug of ours
 * - `Unfinished`: shutdown ran into its deadline; what is listed was not written
 *
 * @category errors
 * @since 0.1.0
 */
export const Reason = Schema.TaggedUnion({
  InvalidOptions: { issue: Schema.String },
  Contract: { missing: Schema.Array(Schema.String) },
  Unavailable: { cause: Schema.Defect() },
  LoopDied: { loop: Schema.String, cause: Schema.Defect() },
  Unfinished: { unwritten: Schema.Array(Schema.String) }
})
/**
 * @category errors
 * @since 0.1.0
 */
export type Reason = typeof Reason.Type

/**
 * Why a worker does not start, or cannot go on.
 *
 * @category errors
 * @since 0.1.0
 */
export class WorkerError extends Schema.TaggedError<WorkerError>("spindle/WorkerError")("WorkerError", {
  reason: Reason
}) {
  override get message() {
    return Reason.match(this.reason, {
      InvalidOptions: ({ issue }) => issue,
      Contract: ({ missing }) => `The database lacks what a worker needs: ${missing.join("; ")}`,
      Unavailable: ({ cause }) =>
        `The database cannot be used: ${cause instanceof Error ? cause.message : String(cause)}`,
      LoopDied: ({ cause, loop }) => `The loop "${loop}" died, which is a bug in Spindle: ${String(cause)}`,
      Unfinished: ({ unwritten }) => `Shutdown ran out of time. Not written: ${unwritten.join(", ")}`
    })
  }
}

/**
 * How a worker is: whether to restart it, whether it works, and what is wrong in words.
 *
 * @category models
 * @since 0.1.0
 */
export interface Health extends WorkerHealth.Health {}

/**
 * A running worker.
 *
 * @category services
 * @since 0.1.0
 */
export class Worker extends Context.Service<Worker, {
  /** The label and a fresh id per process start, as in `locked_by`. */
  readonly id: string
  /** How many tasks run now. */
  readonly running: Effect.Effect<number>
  /** How many it runs at a time. */
  readonly concurrency: number
  /** Whether `taskTypes` lets it take tasks of a type. */
  readonly takes: (type: string) => boolean
  /** The queues it serves; undefined for all. */
  readonly queues: ReadonlyMap<string, number> | undefined
  /** What happens from now on. A slow reader loses the oldest, never holds the worker up. */
  readonly lifecycle: Stream.Stream<Lifecycle.Event>
  /** Counters since the start, what runs, and what ended last. */
  readonly stats: Stats["Service"]
  /** How it is. Costs no statement, and answers while the database is away. */
  readonly health: Effect.Effect<Health>
  /**
   * Fails when a background loop has died, and otherwise never ends. An embedded
   * worker does not exit its host: the host awaits this and decides.
   */
  readonly failed: Effect.Effect<never, WorkerError>
}>()("spindle/Worker") {}

/**
 * Opened to make workers of this process skip the grace period of their shutdown, as a second signal does.
 *
 * @category references
 * @since 0.1.0
 */
export const Hurry: Context.Reference<Latch.Latch> = Context.Reference<Latch.Latch>("spindle/Worker/Hurry", {
  defaultValue: () => Latch.makeUnsafe()
})

const settingsLayer = (given: Partial<Options>) =>
  Layer.effect(
    Settings.Settings,
    Effect.gen(function*() {
      const resolved = yield* Settings.resolve({ ...defaults, ...given }).pipe(
        Effect.mapError((issue) => new WorkerError({ reason: { _tag: "InvalidOptions", issue } }))
      )
      const bus = yield* Lifecycle.Bus
      const stats = yield* Stats
      // Asked once: a task that nobody logs costs nothing here.
      const log = (yield* LogLevel.isEnabled("Debug")) ? Effect.runForkWith(yield* Effect.context<never>()) : undefined
      return Settings.Settings.of({
        ...resolved,
        workerId: yield* Settings.workerId(given.id),
        schema: yield* Db.Schema,
        publish: (event, millis) => {
          stats.record(event, millis)
          PubSub.publishUnsafe(bus, event)
          if (log !== undefined) log(logged(event, millis))
        }
      })
    })
  )

// A failure is logged where it is judged, as a warning.
const logged = (event: Lifecycle.Event, millis: number): Effect.Effect<void> => {
  const { id, tag, type } = event.task
  const annotated = (effect: Effect.Effect<void>, more: Readonly<Record<string, number>>) =>
    Effect.annotateLogs(effect, {
      taskId: String(id),
      taskType: type,
      ...(tag === null ? undefined : { tag }),
      ...more
    })
  switch (event._tag) {
    case "Started":
      return annotated(Effect.logDebug("task started"), { attempt: event.attempt, waitedMillis: millis })
    case "Completed":
      return annotated(Effect.logDebug("task completed"), { ranMillis: millis })
    case "Cancelled":
      return annotated(Effect.logDebug("task cancelled"), { ranMillis: millis })
    case "Released":
      return annotated(Effect.logDebug("task put back"), { ranMillis: millis })
    case "Created":
    case "Failed":
      return Effect.void
  }
}

const connectionLayer = Layer.effect(
  Connection.Connection,
  Connection.make.pipe(
    Effect.mapError((cause) => new WorkerError({ reason: { _tag: "Unavailable", cause } })),
    Effect.tap(({ report: { missing } }) =>
      missing.length === 0 ? Effect.void : Effect.fail(new WorkerError({ reason: { _tag: "Contract", missing } }))
    )
  )
)

const storeLayer = Layer.effect(
  TaskStore,
  Effect.gen(function*() {
    const { report, sql } = yield* Connection.Connection
    const { schema } = yield* Settings.Settings
    return TaskStore.make({ sql, schema, ...report })
  })
)

const make = Effect.gen(function*() {
  const { concurrency, queues, taskTypes, workerId } = yield* Settings.Settings
  const { listening } = yield* Connection.Connection
  const stats = yield* Stats
  const bus = yield* Lifecycle.Bus
  const supervisor = yield* Supervisor
  const claimer = yield* Claimer
  const died = yield* Deferred.make<never, WorkerError>()
  let shuttingDown = false
  const health = yield* WorkerHealth.make(() => shuttingDown)

  const fork = (loop: string, loops: ReadonlyArray<Effect.Effect<never>>) =>
    Loop.fork(
      loop,
      loops,
      (cause) => Effect.asVoid(Deferred.fail(died, new WorkerError({ reason: { _tag: "LoopDied", loop, cause } })))
    )
  yield* Metrics.register
  yield* Effect.forkScoped((yield* Measures).lag.run)
  yield* fork("wake-ups", [(yield* WakeUps).run])
  yield* fork("journal", [(yield* Journal).run])
  yield* fork("cancel watcher", (yield* CancelWatcher).run)
  yield* fork("lease keeper", (yield* LeaseKeeper).run)
  yield* fork("supervisor", [supervisor.run])
  yield* fork("claimer", [claimer.run])
  const shutdownContext = yield* Effect.context<Supervisor | Claimer | LeaseKeeper | Journal | Settings.Settings>()
  yield* Effect.addFinalizer(() => {
    shuttingDown = true
    return Effect.provideContext(shutdown, shutdownContext)
  })
  yield* fork("sweeper", (yield* Sweeper).run)

  yield* Effect.logInfo("worker started").pipe(Effect.annotateLogs({
    worker: workerId,
    concurrency,
    types: (yield* HandlerRegistry).types.filter(Settings.globs(taskTypes)).join(","),
    notifications: listening ? "on" : "off"
  }))
  return Worker.of({
    id: workerId,
    running: Effect.sync(supervisor.running),
    concurrency,
    takes: Settings.globs(taskTypes),
    queues,
    lifecycle: Stream.fromPubSub(bus),
    stats,
    health: health.current,
    failed: Deferred.await(died)
  })
})

const deadline = "4 seconds"

/**
 * Top to bottom: nothing more is claimed, what has not started is put back, what runs may finish for the grace period,
 * the rest is interrupted and put back uncharged, and everything that was said is written. So is what a claim took whose
 * reply never came. Heartbeats and cancels go on
 * until then: their loops, and the pools, close after this.
 */
const shutdown = Effect.gen(function*() {
  const supervisor = yield* Supervisor
  const claimer = yield* Claimer
  const leaseKeeper = yield* LeaseKeeper
  const journal = yield* Journal
  const hurry = yield* Hurry
  const { graceMillis } = yield* Settings.Settings
  supervisor.stop()
  // A claim on its way is waited for beside what runs: what it brings is put back.
  const quiet = Effect.all([claimer.stop, supervisor.idle], { concurrency: "unbounded", discard: true })
  const running = supervisor.running()
  if (running > 0) {
    yield* Effect.logInfo("waiting for running tasks").pipe(Effect.annotateLogs({ running, graceMillis }))
  }
  yield* quiet.pipe(Effect.raceFirst(hurry.await), Effect.timeoutOption(graceMillis))
  supervisor.interruptAll("shutdown")
  const reconciled = Effect.suspend(() =>
    claimer.doubt.value === "none" ? Effect.void : Effect.ignore(leaseKeeper.reconcile)
  )
  yield* quiet.pipe(Effect.andThen(reconciled), Effect.andThen(journal.flush), Effect.timeoutOption(deadline))
  const unanswered = claimer.doubt.value === "unanswered" ||
    Option.isNone(yield* Effect.timeoutOption(claimer.settled, 0))
  const events = journal.unwritten()?.events ?? 0
  const unwritten = [
    ...[...supervisor.held()].map(({ row }) => `${row.type} ${row.id}`),
    ...events > 0 ? [`${events} events`] : [],
    ...unanswered ? ["a claim that was not answered"] : []
  ]
  if (unwritten.length > 0) {
    yield* Effect.logError("shutdown ran out of time").pipe(Effect.annotateLogs({ unwritten: unwritten.join(", ") }))
    return yield* Effect.die(new WorkerError({ reason: { _tag: "Unfinished", unwritten } }))
  }
  yield* Effect.logInfo("worker stopped")
})

/**
 * A worker that runs until its scope closes: it then stops claiming, lets running
 * tasks finish for `shutdownGrace`, and puts the rest back uncharged.
 *
 * The schema of the tables is `Db.Schema`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (
  options: Partial<Options> = {}
): Layer.Layer<Worker, WorkerError, HandlerRegistry | SqlClient.SqlClient> =>
  Layer.effect(Worker, make).pipe(
    Layer.provide([LeaseKeeper.layer, Sweeper.layer]),
    Layer.provide(Claimer.layer),
    Layer.provide(CancelWatcher.layer),
    Layer.provide(Supervisor.layer),
    Layer.provide([Journal.layer, WakeUps.layer]),
    Layer.provide(storeLayer),
    Layer.provide(connectionLayer),
    Layer.provide(settingsLayer(options)),
    Layer.provide([Stats.layer, Measures.layer, Pulses.layer, Problems.layer]),
    // Each statement of a loop that polls would be a trace of its own.
    Layer.provide(Layer.succeed(References.TracerEnabled)(false)),
    // Several workers in one application share nothing.
    Layer.fresh
  )

/**
 * The options as variables; one that is malformed is named, with what was given and what is allowed.
 *
 * @category constants
 * @since 0.1.0
 */
export const config: Config.Config<Options> = Settings.config(defaults)

/**
 * A worker that takes its options from `config`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig: Layer.Layer<
  Worker,
  WorkerError | Config.ConfigError,
  HandlerRegistry | SqlClient.SqlClient
> = Layer.unwrap(Effect.map(config, layer))

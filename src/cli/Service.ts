/**
 * The worker as a service: until a signal comes, a loop dies or an error escapes.
 *
 * Its shutdown is that of `Worker`. The process around it turns the first signal into an interruption, the second into
 * the end of the grace period, and the third into its own end.
 *
 * @since 0.1.0
 */
import type * as PgClient from "@effect/sql-pg/PgClient"
import * as Cause from "effect/Cause"
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import type * as Scope from "effect/Scope"
import type * as SqlClient from "effect/sql/SqlClient"
import type * as SqlError from "effect/sql/SqlError"
import * as Database from "../config/Database.ts"
import * as Http from "../config/Http.ts"
import * as Db from "../Db.ts"
import { HandlerRegistry } from "../HandlerRegistry.ts"
import type { ServerError } from "../server/Server.ts"
import * as TaskQueue from "../TaskQueue.ts"
import * as Worker from "../Worker.ts"
import * as Settings from "../worker/Settings.ts"
import { CliFailure } from "./Failure.ts"
import * as Logging from "./Logging.ts"
import { Process } from "./Process.ts"
import * as TasksModule from "./TasksModule.ts"
import * as Telemetry from "./Telemetry.ts"

/**
 * Runs a worker on the tasks of a module, or on those that Spindle brings along.
 *
 * @category constructors
 * @since 0.1.0
 */
export const run = Effect.fnUntraced(function*(tasks: Option.Option<string>) {
  const process = yield* Process
  const options = yield* Worker.config
  const http = yield* Http.config
  yield* warnOfUnsupported
  const fork = Effect.runForkWith(yield* Effect.context<never>())
  yield* process.serve({
    graceMillis: Option.match(Duration.fromInput(options.shutdownGrace), {
      onNone: () => 0,
      onSome: Duration.toMillis
    }),
    hurry: yield* Worker.Hurry,
    crashed: (error) => {
      fork(Effect.logFatal("an error outside of every task: the worker shuts down", Cause.die(error)))
    }
  })
  const handlers = Option.isSome(tasks) ? yield* TasksModule.load(tasks.value) : TasksModule.builtIn
  return yield* Effect.gen(function*() {
    // A port that is taken stops the start before anything else has begun.
    const server = Option.isSome(http) ? yield* listen(http.value) : undefined
    return yield* serve(options, handlers, Option.getOrElse(tasks, () => "built in"), server).pipe(
      // The worker ends before the database that it and its handlers use.
      Effect.scoped,
      Effect.provide(Database.layer)
    )
  }).pipe(Effect.scoped)
}, (effect) => Effect.provide(effect, Layer.provideMerge(Telemetry.layer, Logging.layer("Info"))))

const unsupported = Config.all({
  WORKER_COUNT: Config.map(Config.option(Config.String("WORKER_COUNT")), Option.filter((text) => text !== "1")),
  WORKER_RETENTION: Config.option(Config.String("WORKER_RETENTION")),
  WORKER_USER_TOKEN_SECRET: Config.option(Config.String("WORKER_USER_TOKEN_SECRET"))
})

// Whoever sets them expects more than there is.
const warnOfUnsupported = Effect.flatMap(unsupported, (given) => {
  const variables = Object.entries(given).flatMap(([name, text]) => Option.exists(text, (_) => _ !== "") ? [name] : [])
  return variables.length === 0 ? Effect.void : Effect.logWarning("variables are set that are not supported yet").pipe(
    Effect.annotateLogs({ variables: variables.join(", ") })
  )
})

interface Dashboard {
  readonly url: string
  /** Requires what it shows, and stops before that does. */
  readonly mount: Effect.Effect<
    void,
    SqlError.SqlError,
    SqlClient.SqlClient | Worker.Worker | HandlerRegistry | Scope.Scope
  >
}

// Loaded only where it is wanted. What answers requests is loaded when the worker runs, which it does not keep waiting.
const listen = Effect.fnUntraced(function*(http: Http.Http): Effect.fn.Return<Dashboard, ServerError, Scope.Scope> {
  const server = yield* Effect.flatMap(
    Effect.promise(() => import("../server/Server.ts")),
    ({ listen }) => listen(http)
  )
  return {
    url: server.url,
    mount: Effect.gen(function*() {
      const Mount = yield* Effect.promise(() => import("../server/Mount.ts"))
      const app = yield* Mount.make({ ...http, prefix: "" }).pipe(
        Effect.provideContext(yield* Layer.build(Layer.merge(TaskQueue.layer, server.services)))
      )
      yield* server.mount(app)
      yield* Effect.logInfo("dashboard").pipe(Effect.annotateLogs({ address: server.url }))
    })
  }
})

const serve = Effect.fnUntraced(function*(
  options: Worker.Options,
  handlers: TasksModule.Handlers,
  source: string,
  dashboard: Dashboard | undefined
) {
  const { address } = yield* Database.Database
  yield* Effect.logInfo("using the database").pipe(
    Effect.annotateLogs({ address, schema: yield* Db.Schema, migrations: options.migrations })
  )
  const registry = yield* build(handlers, source)
  return yield* Effect.gen(function*() {
    const context = yield* Layer.build(Worker.layer(options))
    const worker = Context.get(context, Worker.Worker)
    if (dashboard !== undefined) yield* Effect.provideContext(dashboard.mount, context)
    yield* welcome(options, worker.id, (yield* HandlerRegistry).types, address, dashboard?.url)
    return yield* worker.failed
  }).pipe(Effect.provideContext(registry))
})

// Their own code, hence their own errors: a service that is missing, a variable that is malformed.
const build = (
  handlers: TasksModule.Handlers,
  source: string
): Effect.Effect<
  Context.Context<HandlerRegistry>,
  CliFailure | Config.ConfigError,
  PgClient.PgClient | SqlClient.SqlClient | Scope.Scope
> =>
  Effect.catchCause(Layer.build(handlers), (cause): Effect.Effect<never, CliFailure | Config.ConfigError> => {
    if (Cause.hasInterrupts(cause)) return Effect.interrupt
    const error = Cause.squash(cause)
    if (Predicate.isTagged(error, "ConfigError")) return Effect.fail(error as Config.ConfigError)
    const message = error instanceof Error ? error.message : String(error)
    const missing = message.startsWith("Service not found")
    return Effect.fail(
      new CliFailure({
        message: `The layer of ${source} cannot be built: ${message}${
          missing ? " (it may require SqlClient and PgClient, and must bring along the rest)" : ""
        }`,
        exitCode: missing ? 78 : 1
      })
    )
  })

const welcome = Effect.fnUntraced(function*(
  { queues, taskTypes }: Worker.Options,
  workerId: string,
  handled: ReadonlyArray<string>,
  address: string,
  dashboard: string | undefined
) {
  const { isTerminal, stderr } = yield* Process
  if (!isTerminal.stderr) return
  const types = handled.filter(Settings.globs(taskTypes))
  const example = types.includes("ai_response")
    ? `ai_response '{"prompt": "Tell me about PostgreSQL"}'`
    : `${types[0] ?? "<type>"} '{}'`
  yield* stderr(`
  Worker     ${workerId}
  Database   ${address}
  Queues     ${queues === undefined ? "all" : Object.keys(queues).join(", ")}
  Types      ${types.join(", ")}${dashboard === undefined ? "" : `\n  Dashboard  ${dashboard}`}

  In another terminal, in this directory:

    npx spindle enqueue ${example}
    npx spindle follow <the number it prints>

  Ctrl-C ends it: once gracefully, twice without waiting for what runs.

`)
})

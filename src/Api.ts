/**
 * The HTTP API, defined once: the server, the OpenAPI document and the typed client (the page's own) all come from it.
 *
 * ```ts
 * import { Effect } from "effect"
 * import { FetchHttpClient } from "effect/http"
 * import { HttpApiClient } from "effect/http-api"
 * import { Api } from "effect-spindle/Api"
 *
 * const depth = Effect.gen(function*() {
 *   const spindle = yield* HttpApiClient.make(Api, { baseUrl: "http://127.0.0.1:5000" })
 *   return (yield* spindle.overview.get()).depth
 * }).pipe(Effect.provide(FetchHttpClient.layer))
 * ```
 *
 * Errors are problem details (RFC 9457). Every change must have `content-type: application/json`, also one without a body, of
 * which the client does not say it by itself; a token goes the same way:
 *
 * ```ts
 * HttpApiClient.make(Api, {
 *   baseUrl,
 *   transformClient: HttpClient.mapRequest(
 *     HttpClientRequest.setHeaders({ "content-type": "application/json", authorization: `Bearer ${token}` })
 *   )
 * })
 * ```
 *
 * @since 0.1.0
 */
import * as HttpApi from "effect/http-api/HttpApi"
import * as HttpApiEndpoint from "effect/http-api/HttpApiEndpoint"
import * as HttpApiError from "effect/http-api/HttpApiError"
import * as HttpApiGroup from "effect/http-api/HttpApiGroup"
import * as HttpApiMiddleware from "effect/http-api/HttpApiMiddleware"
import * as HttpApiSchema from "effect/http-api/HttpApiSchema"
import * as OpenApi from "effect/http-api/OpenApi"
import * as Layer from "effect/Layer"
import * as Schema from "effect/Schema"
import * as Json from "./internal/Json.ts"
import * as Views from "./server/Views.ts"
import * as TaskEvent from "./TaskEvent.ts"

const blank = "about:blank"

/**
 * There is no such task.
 *
 * @category problems
 * @since 0.1.0
 */
export class NotFound
  extends HttpApiError.Problem<NotFound>()("NotFound", { type: blank, status: 404, title: "Not Found" })
{}

/**
 * The task is not in a state that allows it. `outcome` says why:
 *
 * - `still_stopping`: it is cancelled and its finalizers are running
 * - `duplicate`: another task holds its unique key by now
 * - `not_finished`: it is queued or processing, and cannot be run again yet
 * - `not_queued`: it is not waiting, and cannot be run now
 *
 * @category problems
 * @since 0.1.0
 */
export class Conflict extends HttpApiError.Problem<Conflict>()("Conflict", {
  type: blank,
  status: 409,
  title: "Conflict"
}, { outcome: Schema.Literals(["still_stopping", "duplicate", "not_finished", "not_queued"]) }) {}

/**
 * The request is understood and does not fit: a payload against its schema, an option out of range.
 *
 * @category problems
 * @since 0.1.0
 */
export class Unprocessable extends HttpApiError.Problem<Unprocessable>()("Unprocessable", {
  type: blank,
  status: 422,
  title: "Unprocessable Content"
}, {
  /** Where it does not fit, if that can be said of each by itself. */
  errors: Schema.optionalKey(Schema.Array(HttpApiError.ProblemIssue))
}) {}

/**
 * A token is needed, and this is not it.
 *
 * @category problems
 * @since 0.1.0
 */
export class Unauthorized extends HttpApiError.Problem<Unauthorized>()("Unauthorized", {
  type: blank,
  status: 401,
  title: "Unauthorized"
}) {}

/**
 * Not from here, or not at all: another host or origin, or a server that only shows.
 *
 * @category problems
 * @since 0.1.0
 */
export class Forbidden extends HttpApiError.Problem<Forbidden>()("Forbidden", {
  type: blank,
  status: 403,
  title: "Forbidden"
}) {}

/**
 * Too many wrong tokens came from this address; `retry-after` says how many seconds to wait.
 *
 * @category problems
 * @since 0.1.0
 */
export class TooManyRequests extends HttpApiError.Problem<TooManyRequests>()("TooManyRequests", {
  type: blank,
  status: 429,
  title: "Too Many Requests"
}) {}

/**
 * The body has more than 1 MiB.
 *
 * @category problems
 * @since 0.1.0
 */
export class ContentTooLarge extends HttpApiError.Problem<ContentTooLarge>()("ContentTooLarge", {
  type: blank,
  status: 413,
  title: "Content Too Large"
}) {}

/**
 * A change came without `content-type: application/json`.
 *
 * @category problems
 * @since 0.1.0
 */
export class UnsupportedMediaType extends HttpApiError.Problem<UnsupportedMediaType>()("UnsupportedMediaType", {
  type: blank,
  status: 415,
  title: "Unsupported Media Type"
}) {}

/**
 * The database is away, or the question took longer than the server allows. The same call can succeed later, or with a
 * narrower filter.
 *
 * @category problems
 * @since 0.1.0
 */
export class Unavailable extends HttpApiError.Problem<Unavailable>()("Unavailable", {
  type: blank,
  status: 503,
  title: "Service Unavailable"
}) {}

/**
 * What any request can be answered with before it gets to its handler.
 *
 * @category middleware
 * @since 0.1.0
 */
export class Refusals extends HttpApiMiddleware.Service<Refusals>()("spindle/Api/Refusals", {
  error: [Unauthorized, Forbidden, TooManyRequests, ContentTooLarge, UnsupportedMediaType, Unprocessable, Unavailable]
}) {
  /** Does nothing: they are answered before the router. */
  static readonly layer = Layer.succeed(Refusals, (handler) => handler)
}

const id = { id: Views.TaskId }

/**
 * An event of a task on the wire: `id` is its position `<epoch>-<seq>`, `event` its type, `data` its JSON.
 *
 * @category models
 * @since 0.1.0
 */
export const TaskStreamEvent = Schema.Struct({
  id: TaskEvent.PositionFromString,
  event: Schema.String,
  data: Json.fromString(Schema.Json)
})

/**
 * What happened in the worker of this process; `event` is `created`, `started`, `completed`, `failed`, `cancelled` or
 * `released`.
 *
 * @category models
 * @since 0.1.0
 */
export const LifecycleStreamEvent = Schema.Struct({
  event: Schema.Literals(["created", "started", "completed", "failed", "cancelled", "released"]),
  data: Schema.fromJsonString(Schema.Struct({
    id: Views.TaskId,
    type: Schema.String,
    queue: Schema.String
  }))
})

/**
 * Who is asking, and what they may.
 *
 * @category groups
 * @since 0.1.0
 */
export class Sessions extends HttpApiGroup.make("sessions").add(
  HttpApiEndpoint.get("get", "/session", {
    success: Schema.Struct({
      version: Schema.String,
      readOnly: Schema.Boolean,
      /** Whether a token is needed at all. */
      tokenRequired: Schema.Boolean
    })
  }).annotateMerge(OpenApi.annotations({ summary: "Who is asking, and what they may" })),
  HttpApiEndpoint.post("login", "/login", {
    payload: Schema.Struct({ token: Schema.String }),
    success: HttpApiSchema.NoContent,
    error: Unauthorized
  }).annotateMerge(
    OpenApi.annotations({
      summary: "Trade the token for a session",
      description: "The answer sets a cookie; ten wrong tokens from an address make it wait"
    })
  ),
  HttpApiEndpoint.post("logout", "/logout", { success: HttpApiSchema.NoContent }).annotateMerge(
    OpenApi.annotations({ summary: "End the session of this browser" })
  )
).prefix("/api").annotateMerge(OpenApi.annotations({ title: "Session" })) {}

/**
 * This process and the tables at a glance.
 *
 * @category groups
 * @since 0.1.0
 */
export class OverviewGroup extends HttpApiGroup.make("overview").add(
  HttpApiEndpoint.get("get", "/overview", { success: Views.Overview, error: Unavailable }).annotateMerge(
    OpenApi.annotations({ summary: "This process, and the queues over all workers" })
  ),
  HttpApiEndpoint.get("series", "/series", { success: Views.Series }).annotateMerge(
    OpenApi.annotations({ summary: "The last hour of this process" })
  ),
  HttpApiEndpoint.get("queues", "/queues", { success: Schema.Array(Views.QueueState), error: Unavailable })
    .annotateMerge(OpenApi.annotations({ summary: "All queues, over all workers" })),
  HttpApiEndpoint.get("types", "/types", { success: Schema.Array(Views.TypeDefinition) }).annotateMerge(
    OpenApi.annotations({ summary: "The types that this process handles" })
  ),
  HttpApiEndpoint.get("stream", "/stream", {
    success: HttpApiSchema.StreamSse({ events: LifecycleStreamEvent })
  }).annotateMerge(
    OpenApi.annotations({
      summary: "Follow what the worker of this process does",
      description: "Server-sent events without ids: what was missed is not sent again"
    })
  )
).prefix("/api").annotateMerge(OpenApi.annotations({ title: "Overview" })) {}

const limit = Schema.FiniteFromString.check(Schema.isInt(), Schema.isBetween({ minimum: 1, maximum: 200 }))

// Read as a text, as the client's own `JSON.parse` would change numbers of payloads and results.
const taskDetail = Json.fromString(Views.TaskDetail).pipe(HttpApiSchema.asText({ contentType: "application/json" }))

/**
 * Find, enqueue, cancel, run again and follow tasks.
 *
 * @category groups
 * @since 0.1.0
 */
export class Tasks extends HttpApiGroup.make("tasks").add(
  HttpApiEndpoint.get("list", "/", {
    query: { ...Views.filterFields, before: Schema.optionalKey(Views.TaskId), limit: Schema.optionalKey(limit) },
    success: Views.TaskPage,
    error: [Unprocessable, Unavailable]
  }).annotateMerge(
    OpenApi.annotations({
      summary: "Find tasks",
      description: "Newest first. A page can be empty and have a `next`: pass that as `before` and go on"
    })
  ),
  HttpApiEndpoint.get("failures", "/failures", {
    query: Views.filterFields,
    success: Views.FailureGroups,
    error: [Unprocessable, Unavailable]
  }).annotateMerge(
    OpenApi.annotations({ summary: "What fails alike", description: "Among the newest failed tasks that match" })
  ),
  HttpApiEndpoint.get("get", "/:id", { params: id, success: taskDetail, error: [NotFound, Unavailable] })
    .annotateMerge(OpenApi.annotations({ summary: "Everything that is known of a task" })),
  HttpApiEndpoint.post("enqueue", "/", {
    payload: Views.NewTask,
    success: [
      Schema.Struct({ id: Views.TaskId, duplicate: Schema.Literal(false) }).pipe(HttpApiSchema.status(201)),
      /** Nothing was stored: the task with this id holds the unique key. */
      Schema.Struct({ id: Views.TaskId, duplicate: Schema.Literal(true) })
    ],
    error: [Unprocessable, Unavailable]
  }).annotateMerge(
    OpenApi.annotations({
      summary: "Enqueue a task",
      description: "201 where it is stored; 200 where another task has its unique key"
    })
  ),
  HttpApiEndpoint.post("cancel", "/:id/cancel", {
    params: id,
    success: Schema.Struct({
      outcome: Schema.Literals(["cancelled", "already_completed", "already_failed", "already_cancelled"])
    }),
    error: [NotFound, Unavailable]
  }).annotateMerge(
    OpenApi.annotations({ summary: "Cancel a task", description: "Its handler is interrupted wherever it runs" })
  ),
  HttpApiEndpoint.post("retry", "/:id/retry", {
    params: id,
    /** None is as good as an empty one. */
    payload: [Schema.Struct({ resetAttempts: Schema.optionalKey(Schema.Boolean) }), Schema.Undefined],
    success: Schema.Struct({ outcome: Schema.Literal("queued") }),
    error: [NotFound, Conflict, Unavailable]
  }).annotateMerge(OpenApi.annotations({ summary: "Run a finished task again" })),
  HttpApiEndpoint.post("runNow", "/:id/run-now", {
    params: id,
    success: Schema.Struct({ outcome: Schema.Literal("queued") }),
    error: [NotFound, Conflict, Unavailable]
  }).annotateMerge(OpenApi.annotations({ summary: "Run a task now that waits for later" })),
  HttpApiEndpoint.post("bulk", "/bulk", {
    payload: Schema.Struct({
      action: Schema.Literals(["cancel", "retry"]),
      filter: Schema.Struct({
        ...Views.filterFields,
        ids: Schema.optionalKey(Schema.Array(Views.TaskId).check(Schema.isMaxLength(1000)))
      }),
      before: Schema.optionalKey(Views.TaskId)
    }),
    success: Views.BulkOutcome,
    error: [Unprocessable, Unavailable]
  }).annotateMerge(
    OpenApi.annotations({
      summary: "Cancel all tasks that match, or run them again",
      description: "Up to 5,000 or about two seconds a call: pass `next` as `before` until it is null"
    })
  ),
  // Substitutes of `EventSource` add parameters of their own.
  HttpApiEndpoint.get("events", "/:id/events", {
    params: id,
    query: { after: Schema.optionalKey(TaskEvent.PositionFromString) },
    headers: { "last-event-id": Schema.optionalKey(TaskEvent.PositionFromString) },
    // The task has ended, and there is nothing after the position.
    success: [HttpApiSchema.StreamSse({ events: TaskStreamEvent }), HttpApiSchema.NoContent],
    error: [NotFound, Unavailable]
  }).annotateMerge(
    OpenApi.annotations({
      summary: "Follow the events of a task",
      description:
        "Server-sent events with the id `<epoch>-<seq>`. `Last-Event-ID` wins over `after`; 204 where the task has ended and nothing follows"
    })
  ).annotate(HttpApi.QueryParseOptions, {})
).prefix("/api/tasks")
  // A filter that is misspelled would match everything.
  .annotate(HttpApi.QueryParseOptions, { onExcessProperty: "error" })
  .annotate(HttpApi.PayloadParseOptions, { onExcessProperty: "error" })
  .annotateMerge(OpenApi.annotations({ title: "Tasks" }))
{}

/**
 * For orchestrators and monitoring. The first two need no token.
 *
 * @category groups
 * @since 0.1.0
 */
export class Probes extends HttpApiGroup.make("probes").add(
  HttpApiEndpoint.get("livez", "/livez", {
    success: [Views.Health, Views.Health.pipe(HttpApiSchema.status(503))]
  }).annotateMerge(
    OpenApi.annotations({ summary: "Whether the process lives", description: "Without a token: the status alone" })
  ),
  HttpApiEndpoint.get("readyz", "/readyz", {
    success: [Views.Health, Views.Health.pipe(HttpApiSchema.status(503))]
  }).annotateMerge(
    OpenApi.annotations({ summary: "Whether the worker works", description: "Without a token: the status alone" })
  ),
  HttpApiEndpoint.get("metrics", "/metrics", {
    success: Schema.String.pipe(HttpApiSchema.asText({ contentType: "text/plain; version=0.0.4; charset=utf-8" }))
  }).annotateMerge(OpenApi.annotations({ summary: "Metrics in the text format of Prometheus" }))
).annotateMerge(OpenApi.annotations({ title: "Probes" })) {}

const openOperations = new Set(["sessions.login", "probes.livez", "probes.readyz"])

// The token is looked at before the router: no middleware of an endpoint has it.
const asServed = (document: Record<string, any>) => {
  document.components.securitySchemes.token = {
    type: "http",
    scheme: "bearer",
    description: "Where a token is set. A browser has a session instead, which `/api/login` gives it"
  }
  for (const path of Object.values<Record<string, any>>(document.paths)) {
    for (const operation of Object.values(path)) {
      if (!openOperations.has(operation.operationId)) operation.security = [{ token: [] }]
      const answer = operation.responses["200"]?.content?.["application/json"]
      // what is read as a text is JSON all the same
      if (answer?.schema.contentSchema !== undefined) answer.schema = answer.schema.contentSchema
    }
  }
  return document
}

/**
 * The whole API.
 *
 * @category api
 * @since 0.1.0
 */
export class Api extends HttpApi.make("spindle")
  .add(Sessions)
  .add(OverviewGroup)
  .add(Tasks)
  .add(Probes)
  .middleware(HttpApiMiddleware.ProblemDetails)
  .middleware(Refusals)
  .annotateMerge(OpenApi.annotations({
    title: "Spindle",
    version: "1",
    description: "See and steer background tasks in PostgreSQL",
    transform: asServed
  }))
{}

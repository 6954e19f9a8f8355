/**
 * The dashboard within an application of one's own: page, API and probes as routes of its router.
 *
 * ```ts
 * import { NodeHttpServer, NodeRuntime } from "@effect/platform-node"
 * import { Layer } from "effect"
 * import { HttpRouter } from "effect/http"
 * import { TaskQueue } from "effect-spindle"
 * import * as Dashboard from "effect-spindle/Dashboard"
 * import { createServer } from "node:http"
 * import { database } from "./database.ts"
 *
 * const server = HttpRouter.serve(Dashboard.layer({ prefix: "/spindle", allowedHosts: ["app.example.com"] })).pipe(
 *   Layer.provide(TaskQueue.layer),
 *   Layer.provide(database),
 *   Layer.provide(NodeHttpServer.layer(createServer, { port: 3000 }))
 * )
 *
 * NodeRuntime.runMain(Layer.launch(Dashboard.endStreamsBefore(server)))
 * ```
 *
 * `token` is a way in of its own. An application that knows its users leaves it out, and provides a middleware that lets
 * nobody else through: `Dashboard.layer(…).pipe(Layer.provide(onlyOperators))`; the README has a whole one.
 *
 * A worker is shown if one is in the context, too: provide `Worker.layer` and `HandlerRegistry.layer` to `Dashboard.layer`.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type * as FileSystem from "effect/FileSystem"
import type * as Etag from "effect/http/Etag"
import type * as HttpPlatform from "effect/http/HttpPlatform"
import * as HttpRouter from "effect/http/HttpRouter"
import type * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Path from "effect/Path"
import type * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type * as SqlClient from "effect/sql/SqlClient"
import type * as SqlError from "effect/sql/SqlError"
import * as Http from "./config/Http.ts"
import * as Mount from "./server/Mount.ts"
import * as Streams from "./server/Streams.ts"
import type { TaskQueue } from "./TaskQueue.ts"

/**
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** Where it is mounted, such as `/spindle`. Default: at the root. */
  readonly prefix?: `/${string}` | undefined
  /**
   * Needed by everything but `/livez` and `/readyz`, as a bearer token or typed into the login page; 32 characters at least.
   * Without one whoever reaches the routes may use them: give none only where a middleware of the application lets no
   * stranger through.
   */
  readonly token?: Redacted.Redacted | undefined
  /** Whether it only shows, and changes nothing. Default: false. */
  readonly readOnly?: boolean | undefined
  /** The names that the application is called by, without ports, beside `localhost` and the addresses it listens on. */
  readonly allowedHosts?: ReadonlyArray<string> | undefined
}

/**
 * An option is not what it may be; `message` names it, what was given (never a token) and what is allowed.
 *
 * @category errors
 * @since 0.1.0
 */
export class DashboardError extends Schema.TaggedError<DashboardError>("spindle/DashboardError")("DashboardError", {
  message: Schema.String
}) {}

/**
 * Mounts the dashboard into the router. Middleware of the application that is provided to this layer runs before it, and
 * can refuse whom it does not know.
 *
 * Answers come with this package's own security headers; requests must come by an allowed name, and changes from the
 * same origin, whatever lets them through.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (options: Options = {}): Layer.Layer<
  never,
  DashboardError | SqlError.SqlError,
  | HttpRouter.HttpRouter
  | TaskQueue
  | SqlClient.SqlClient
  | Etag.Generator
  | FileSystem.FileSystem
  | HttpPlatform.HttpPlatform
  | Path.Path
> =>
  HttpRouter.use(Effect.fnUntraced(function*(router) {
    const settings = yield* Effect.fromResult(resolve(options))
    const { handle } = yield* Mount.make(settings)
    yield* (settings.prefix === "" ? router : router.prefixed(settings.prefix)).add("*", "/*", handle)
  }))

/**
 * Ends the streams of the dashboards in a server before the server itself stops, which would wait for them.
 *
 * @category shutdown
 * @since 0.1.0
 */
export const endStreamsBefore: <A, E, R>(server: Layer.Layer<A, E, R>) => Layer.Layer<A, E, R> = Streams.endBefore

const resolve = ({ allowedHosts = [], prefix = "/", readOnly = false, token }: Options) =>
  Result.gen(function*() {
    const root = prefix.replace(/\/$/, "")
    if (!/^(\/[a-z0-9._~-]+)*$/i.test(root)) {
      return yield* invalid(`prefix is ${JSON.stringify(prefix)}, but must be a path such as /spindle`)
    }
    const hosts = Http.hostNames(allowedHosts)
    if (Option.isNone(hosts)) {
      return yield* invalid(
        `allowedHosts is ${JSON.stringify(allowedHosts)}, but must be names without ports such as spindle.example.com`
      )
    }
    const issue = token === undefined ? undefined : Http.tokenIssue(token)
    if (issue !== undefined) return yield* invalid(`token is ${issue}`)
    return { prefix: root, token, readOnly, allowedHosts: hosts.value } satisfies Mount.Options
  })

const invalid = (message: string) => Result.fail(new DashboardError({ message }))

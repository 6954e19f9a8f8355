/**
 * Page, API and probes as one application, behind the way in. It knows nothing of where it is mounted but the prefix.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import * as HttpApiMiddleware from "effect/http-api/HttpApiMiddleware"
import * as OpenApi from "effect/http-api/OpenApi"
import * as FindMyWay from "effect/http/FindMyWay"
import * as HttpRouter from "effect/http/HttpRouter"
import type * as HttpServerRequest from "effect/http/HttpServerRequest"
import type * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import type * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import { Api, Refusals } from "../Api.ts"
import { Browse } from "../storage/Browse.ts"
import * as Access from "./Access.ts"
import * as OverviewGroup from "./OverviewGroup.ts"
import * as Page from "./Page.ts"
import * as ProbesGroup from "./ProbesGroup.ts"
import * as Session from "./Session.ts"
import * as SessionsGroup from "./SessionsGroup.ts"
import * as TasksGroup from "./TasksGroup.ts"

/**
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** Where it is mounted, without a slash at the end. */
  readonly prefix: string
  readonly token: Redacted.Redacted | undefined
  readonly readOnly: boolean
  readonly allowedHosts: ReadonlyArray<string>
}

/**
 * @category models
 * @since 0.1.0
 */
export interface App {
  /** Answers a request. */
  readonly handle: Effect.Effect<
    HttpServerResponse.HttpServerResponse,
    never,
    HttpServerRequest.HttpServerRequest | Scope.Scope
  >
  /** Opened when the server stops, at the latest when the scope of the application closes: its streams end. */
  readonly closing: Latch.Latch
}

const openapiPath = "/openapi.json"

/**
 * The application, for requests whose prefix is removed. When its scope closes, its streams end and it is not ready any more.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function*(options: Options) {
  const session = Session.make(options)
  const page = yield* Page.make(options.prefix)
  const described = options.prefix === "" ? Api : Api.annotate(OpenApi.Servers, [{ url: options.prefix }])
  const api = HttpApiBuilder.layer(described, { openapiPath }).pipe(
    Layer.provide(groups),
    Layer.provide([
      Browse.layer,
      Layer.succeed(Session.Session, session),
      HttpApiMiddleware.layerProblemDetails({ includeDetails: true }),
      Refusals.layer
    ])
  )
  const context = yield* Layer.merge(api, Page.layer(page)).pipe(
    Layer.provideMerge(HttpRouter.layer),
    // The router of the application it joins is another one, and so are those of other mounts.
    Layer.fresh,
    Layer.build
  )
  const closing = yield* Effect.acquireRelease(Latch.make(), (latch) => latch.open)
  const handle = Access.guard(Context.get(context, HttpRouter.HttpRouter).asHttpEffect(), {
    session,
    closing,
    allowedHosts: options.allowedHosts,
    loginPage: page.login,
    isPublic: page.isPublic,
    methodsOf: yield* methodsOf
  })
  return { handle, closing } satisfies App
})

const groups = Layer.mergeAll(SessionsGroup.layer, OverviewGroup.layer, TasksGroup.layer, ProbesGroup.layer)

const methodsOf = Effect.sync(() => {
  const paths = FindMyWay.make<void>()
  for (const path of [...Page.routes, "/login", openapiPath] as const) paths.on("GET", path, undefined)
  for (const group of Object.values(Api.groups)) {
    for (const { method, path } of Object.values(group.endpoints)) paths.on(method, path, undefined)
  }
  return (path: string) => [
    ...paths.find("GET", path) === undefined ? [] : ["GET", "HEAD"],
    ...paths.find("POST", path) === undefined ? [] : ["POST"]
  ]
})

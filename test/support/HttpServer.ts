/**
 * The handlers behind a real HTTP server on a port of its own: a typed client, and plain requests for what a typed
 * client would not send.
 */
import { NodeHttpServer } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { assert } from "@effect/vitest"
import { Context, Effect, Layer } from "effect"
import { HttpBody, HttpClient, type HttpClientError, HttpRouter } from "effect/http"
import { HttpApi, HttpApiBuilder, HttpApiClient, HttpApiMiddleware } from "effect/http-api"
import { SqlClient } from "effect/sql"
import * as Api from "../../src/Api.ts"
import { HandlerRegistry } from "../../src/HandlerRegistry.ts"
import * as OverviewGroup from "../../src/server/OverviewGroup.ts"
import * as TasksGroup from "../../src/server/TasksGroup.ts"
import { Browse } from "../../src/storage/Browse.ts"
import * as TaskQueue from "../../src/TaskQueue.ts"
import { Worker } from "../../src/Worker.ts"

class Tested extends HttpApi.make("spindle").add(Api.OverviewGroup).add(Api.Tasks).middleware(
  HttpApiMiddleware.ProblemDetails
) {}

const routes = HttpApiBuilder.layer(Tested).pipe(
  Layer.provide([OverviewGroup.layer, TasksGroup.layer]),
  Layer.provide([
    Browse.layer,
    TaskQueue.layer,
    HttpApiMiddleware.layerProblemDetails({ includeDetails: true }),
    Api.Refusals.layer
  ])
)

/** What a server may know of a worker in its process. */
export interface Process {
  readonly worker?: Context.Service.Shape<typeof Worker>
  readonly registry?: Context.Service.Shape<typeof HandlerRegistry>
}

/** Serves until the scope closes, on the client in the context. */
export const serve = Effect.fnUntraced(function*({ registry, worker }: Process = {}) {
  let known = Context.make(SqlClient.SqlClient, yield* PgClient.PgClient)
  if (worker !== undefined) known = Context.add(known, Worker, worker)
  if (registry !== undefined) known = Context.add(known, HandlerRegistry, registry)
  const context = yield* Layer.build(
    HttpRouter.serve(routes.pipe(Layer.provide(Layer.succeedContext(known))), {
      disableLogger: true,
      disableListenLog: true
    }).pipe(Layer.provideMerge(NodeHttpServer.layerTest))
  )
  const http = Context.get(context, HttpClient.HttpClient)
  const client = yield* HttpApiClient.make(Tested).pipe(Effect.provideContext(context))
  return {
    ...client,
    http,
    get: (path: string) => http.get(path),
    post: (path: string, body: unknown) => http.post(path, { body: HttpBody.jsonUnsafe(body) })
  }
})

/** Checks that a response is a problem of this status, and returns it. */
export const problem = Effect.fnUntraced(function*(
  response: {
    readonly status: number
    readonly headers: Readonly<Record<string, string | undefined>>
    readonly json: Effect.Effect<any, HttpClientError.HttpClientError>
  },
  status: number
) {
  const body = yield* response.json
  assert.strictEqual(response.status, status, JSON.stringify(body))
  assert.strictEqual(response.headers["content-type"], "application/problem+json")
  assert.strictEqual(body.status, status)
  assert.strictEqual(body.type, "about:blank")
  return body as {
    readonly title: string
    readonly detail?: string
    readonly outcome?: string
    readonly errors?: ReadonlyArray<any>
  }
})

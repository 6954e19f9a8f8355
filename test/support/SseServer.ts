/**
 * Spindle's streams behind a real HTTP server, and nothing else of the API.
 */
import { NodeHttpServer } from "@effect/platform-node"
import { Context, Effect, Exit, Layer, Scope } from "effect"
import { HttpRouter, HttpServer } from "effect/http"
import { HttpApi, HttpApiBuilder, HttpApiGroup, HttpApiMiddleware } from "effect/http-api"
import { createServer } from "node:http"
import type * as Net from "node:net"
import * as Api from "../../src/Api.ts"
import * as Streams from "../../src/server/Streams.ts"
import type { TaskQueue } from "../../src/TaskQueue.ts"

const StreamsApi = HttpApi.make("streams").add(
  HttpApiGroup.make("tasks").add(Api.Tasks.endpoints.events),
  HttpApiGroup.make("overview").add(Api.OverviewGroup.endpoints.stream)
).middleware(HttpApiMiddleware.ProblemDetails)

const handlers = (options: Streams.Options) =>
  Layer.merge(
    HttpApiBuilder.group(StreamsApi, "tasks", (group) =>
      group.handle(
        "events",
        ({ headers, params, query }) => Streams.taskEvents(params.id, headers["last-event-id"] ?? query.after, options)
      )),
    HttpApiBuilder.group(StreamsApi, "overview", (group) => group.handle("stream", () => Streams.lifecycle))
  )

/** Serves until the scope closes, or `stop`. */
export const start = Effect.fn("SseServer.start")(
  function*(given: { readonly port?: number; readonly transform?: Streams.Options["transform"] } = {}) {
    const queue = yield* Effect.context<TaskQueue>()
    const scope = yield* Scope.fork(yield* Effect.scope)
    const node = createServer()
    const sockets = new Set<Net.Socket>()
    node.on("connection", (socket) => {
      sockets.add(socket)
      socket.once("close", () => sockets.delete(socket))
    })
    const context = yield* Streams.endBefore(
      HttpRouter.serve(
        HttpApiBuilder.layer(StreamsApi).pipe(
          Layer.provide(handlers(given)),
          Layer.provide(HttpApiMiddleware.layerProblemDetails())
        ),
        { disableListenLog: true, disableLogger: true }
      )
    ).pipe(
      Layer.provideMerge(NodeHttpServer.layer(() => node, { port: given.port ?? 0, host: "127.0.0.1" })),
      Layer.provide(Layer.succeedContext(queue)),
      Layer.buildWithScope(scope)
    )
    const { address } = Context.get(context, HttpServer.HttpServer)
    const port = address._tag === "UnixPathAddress" ? 0 : address.port
    return {
      port,
      sockets,
      stop: Scope.close(scope, Exit.void)
    }
  }
)

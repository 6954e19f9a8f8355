/**
 * A process that serves the events of a database's tasks.
 */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Redacted from "effect/Redacted"
import * as References from "effect/References"
import * as Schema from "effect/Schema"
import * as Http from "node:http"
import * as Streams from "../../../src/server/Streams.ts"
import * as Views from "../../../src/server/Views.ts"
import * as TaskQueue from "../../../src/TaskQueue.ts"
import { usage } from "../protocol.ts"
import { serve } from "../serve.ts"

const events = HttpRouter.route(
  "GET",
  "/api/tasks/:id/events",
  Effect.gen(function*() {
    const { id } = yield* HttpRouter.schemaPathParams(Schema.Struct({ id: Views.TaskId }))
    return yield* Streams.taskEvents(id, undefined)
  })
)

const layer = (url: string) =>
  HttpRouter.serve(HttpRouter.addAll([events]), { disableListenLog: true, disableLogger: true }).pipe(
    Layer.provideMerge(NodeHttpServer.layer(() => Http.createServer(), { port: 0, host: "127.0.0.1" })),
    Layer.provide(TaskQueue.layer),
    Layer.provide(PgClient.layer({ url: Redacted.make(url), maxConnections: 10 })),
    Layer.provide(Layer.succeed(References.MinimumLogLevel, "Warn"))
  )

const calls = {
  /** Starts to serve a database, and gives the port. */
  listen: async (url: string) => {
    const { address } = await ManagedRuntime.make(layer(url)).runPromise(HttpServer.HttpServer)
    return address._tag === "UnixPathAddress" ? 0 : address.port
  },
  usage: async () => usage()
}

export type ServerCalls = typeof calls

serve(calls)

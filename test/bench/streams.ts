/**
 * The processes of the followers' workload: `server <url>` serves the streams of a database, `client` reads them.
 */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServer from "effect/http/HttpServer"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as References from "effect/References"
import * as Schema from "effect/Schema"
import * as Http from "node:http"
import * as Streams from "../../src/server/Streams.ts"
import * as Views from "../../src/server/Views.ts"
import * as TaskQueue from "../../src/TaskQueue.ts"
import { type Mark, now } from "./protocol.ts"

export type StreamsRequest =
  | { readonly call: "usage" }
  | { readonly call: "open"; readonly port: number; readonly ids: ReadonlyArray<string> }
  | { readonly call: "marks" }

const answer = (value: unknown) => process.send?.({ value })

const events = HttpRouter.route(
  "GET",
  "/api/tasks/:id/events",
  Effect.gen(function*() {
    const { id } = yield* HttpRouter.schemaPathParams(Schema.Struct({ id: Views.TaskId }))
    return yield* Streams.taskEvents(id, undefined)
  })
)

const serve = (url: string) =>
  Effect.gen(function*() {
    const { address } = yield* HttpServer.HttpServer
    answer(address._tag === "UnixPathAddress" ? 0 : address.port)
    return yield* Effect.never
  }).pipe(Effect.provide(
    HttpRouter.serve(HttpRouter.addAll([events]), { disableListenLog: true, disableLogger: true }).pipe(
      Layer.provideMerge(NodeHttpServer.layer(() => Http.createServer(), { port: 0, host: "127.0.0.1" })),
      Layer.provide(TaskQueue.layer),
      Layer.provide(PgClient.layer({ url: Redacted.make(url), maxConnections: 10 })),
      Layer.provide(Layer.succeed(References.MinimumLogLevel, "Warn"))
    )
  ))

const marks: Array<Mark> = []

/** Resolves when the stream has begun. */
const read = (port: number, id: string) =>
  new Promise<void>((resolve, reject) => {
    const request = Http.get({ port, host: "127.0.0.1", path: `/api/tasks/${id}/events`, agent: false }, (response) => {
      let rest = ""
      response.setEncoding("utf8")
      response.on("data", (text: string) => {
        resolve()
        const at = now()
        const blocks = (rest + text).split("\n\n")
        rest = blocks.pop()!
        for (const block of blocks) {
          if (block.startsWith("id: ")) marks.push([`${id} ${block.slice(4, block.indexOf("\n"))}`, at])
        }
      })
    })
    request.on("error", reject)
  })

const open = async (port: number, ids: ReadonlyArray<string>) => {
  for (let from = 0; from < ids.length; from += 50) {
    await Promise.all(ids.slice(from, from + 50).map((id) => read(port, id)))
  }
}

process.on("message", (request: StreamsRequest) => {
  switch (request.call) {
    case "usage": {
      const { system, user } = process.cpuUsage()
      return answer({ cpuMicros: user + system, rssBytes: process.memoryUsage.rss() })
    }
    case "open":
      return open(request.port, request.ids).then(() => answer(null), (error: unknown) => {
        process.stderr.write(`${String(error)}\n`)
        process.exit(1)
      })
    case "marks":
      return answer(marks.splice(0))
  }
})
// A terminal sends Ctrl-C to the whole group; when to end is the parent's to say, or its death's.
process.on("SIGINT", () => undefined)
process.on("disconnect", () => process.exit(1))

if (process.argv[2] === "server") Effect.runFork(serve(process.argv[3]!))

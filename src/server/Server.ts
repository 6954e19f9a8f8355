/**
 * The server of a worker service: it listens before the worker starts, so that a port that is taken stops the start, and
 * ends its connections before the worker drains.
 *
 * @since 0.1.0
 */
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as Effect from "effect/Effect"
import type * as HttpServerError from "effect/http/HttpServerError"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Latch from "effect/Latch"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Http from "node:http"
import type * as Net from "node:net"
import type { Duplex } from "node:stream"
import type * as Config from "../config/Http.ts"
import * as Access from "./Access.ts"
import type * as Mount from "./Mount.ts"
import * as Problem from "./Problem.ts"
import * as Session from "./Session.ts"

/**
 * The server cannot listen where it should.
 *
 * @category errors
 * @since 0.1.0
 */
export class ServerError extends Schema.TaggedError<ServerError>("spindle/ServerError")("ServerError", {
  message: Schema.String,
  /** Whether another choice of port or host would help, and nothing else. */
  misconfigured: Schema.Boolean
}) {}

/**
 * A server that listens, and says that the worker starts until something is mounted.
 *
 * @category models
 * @since 0.1.0
 */
export interface Server {
  readonly url: string
  /** What an application may need of the platform. */
  readonly services: typeof NodeHttpServer.layerHttpServices
  /** Answers by an application until the scope closes: then its streams end, and within half a second all connections. */
  readonly mount: (app: Mount.App) => Effect.Effect<void, never, Scope.Scope>
}

const limits: Http.ServerOptions = {
  maxHeaderSize: 16 * 1024,
  // A request comes within these times, or its connection is closed. Neither limits how long an answer takes.
  headersTimeout: 10_000,
  requestTimeout: 30_000,
  connectionsCheckingInterval: 5000,
  // More than the 60 seconds after which the usual proxies give up an idle connection. Strangers keep none: see `Access`.
  keepAliveTimeout: 65_000,
  // Such requests are answered like all others, with our own headers.
  requireHostHeader: false
}

// A thousand followers, and everybody else.
const maxConnections = 2000
// What one address has of them, so that the others, probes among them, find the server open.
const maxOfAddress = 1500

const closeWithin = "500 millis"

/**
 * @category constructors
 * @since 0.1.0
 */
export const listen = Effect.fnUntraced(function*(options: Config.Http): Effect.fn.Return<
  Server,
  ServerError,
  Scope.Scope
> {
  const node = Http.createServer(limits)
  node.maxConnections = maxConnections
  node.on("connection", share())
  node.on("clientError", answerUnreadable)
  node.on("checkExpectation", (_, response: Http.ServerResponse) => {
    const { headers, json } = bare(417)
    response.writeHead(417, headers).end(json)
  })
  const server = yield* NodeHttpServer.make(() => node, {
    host: options.host,
    port: options.port,
    disablePreemptiveShutdown: true
  }).pipe(Effect.mapError((error) => toServerError(error, options)))
  const close = Effect.callback<void>((resume) => {
    node.close(() => resume(Effect.void))
  }).pipe(
    Effect.timeoutOption(closeWithin),
    Effect.andThen(Effect.sync(() => node.closeAllConnections()))
  )
  // Before the server's own end, which waits for connections without a limit.
  yield* Effect.addFinalizer(() => close)
  let app = starting(options)
  yield* server.serve(Effect.suspend(() => app))
  const { address, family, port } = node.address() as Net.AddressInfo
  return {
    services: NodeHttpServer.layerHttpServices,
    url: `http://${family === "IPv6" ? `[${address}]` : address}:${port}/`,
    mount: ({ closing, handle }) =>
      Effect.acquireRelease(
        Effect.sync(() => {
          app = handle
        }),
        () => Effect.andThen(closing.open, close)
      )
  }
})

const starting = (options: Config.Http): Mount.App["handle"] =>
  Access.guard(
    Effect.map(HttpServerRequest.HttpServerRequest, ({ url }) =>
      url.split("?", 1)[0] === "/livez"
        ? HttpServerResponse.jsonUnsafe({ status: "ok", problems: [], loops: [] })
        : Problem.make(503, "The worker is starting", { "retry-after": "1" })),
    {
      session: Session.make({ ...options, prefix: "" }),
      closing: Latch.makeUnsafe(),
      allowedHosts: options.allowedHosts,
      loginPage: Effect.succeedNone,
      isPublic: () => Effect.succeed(false),
      methodsOf: () => ["GET", "HEAD", "POST"]
    }
  )

const bare = (status: number) => {
  const { body, headers } = Problem.secure(Problem.make(status))
  const json = body._tag === "Uint8Array" ? Buffer.from(body.body).toString() : ""
  return { headers: { ...headers, connection: "close" }, json }
}

const share = () => {
  const counts = new Map<string, number>()
  return (socket: Net.Socket) => {
    const address = socket.remoteAddress ?? ""
    const count = (counts.get(address) ?? 0) + 1
    if (count > maxOfAddress) return void socket.destroy()
    counts.set(address, count)
    socket.once("close", () => {
      const left = counts.get(address)! - 1
      if (left === 0) counts.delete(address)
      else counts.set(address, left)
    })
  }
}

const statuses: Readonly<Record<string, number>> = { HPE_HEADER_OVERFLOW: 431, ERR_HTTP_REQUEST_TIMEOUT: 408 }

// What is no request at all never gets to the application.
const answerUnreadable = (error: NodeJS.ErrnoException, socket: Duplex) => {
  if (!socket.writable || error.code === "ECONNRESET") return void socket.destroy()
  const status = statuses[error.code ?? ""] ?? 400
  const { headers, json } = bare(status)
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`)
  socket.end(`HTTP/1.1 ${status} ${Http.STATUS_CODES[status]}\r\n${lines.join("")}\r\n${json}`, () => socket.destroy())
}

const toServerError = ({ cause }: HttpServerError.ServeError, { host, port }: Config.Http) => {
  const code = Predicate.hasProperty(cause, "code") ? cause.code : undefined
  switch (code) {
    case "EADDRINUSE":
      return new ServerError({
        message:
          `The port ${port} of ${host} is taken by another process: WORKER_HTTP_PORT chooses another, 0 a free one, and off goes without`,
        misconfigured: false
      })
    case "EACCES":
      return new ServerError({
        message: `This account may not listen on the port ${port}: choose another by WORKER_HTTP_PORT`,
        misconfigured: true
      })
    case "EADDRNOTAVAIL":
      return new ServerError({
        message: `WORKER_HTTP_HOST is "${host}", but must be an address of this machine`,
        misconfigured: true
      })
    default:
      return new ServerError({ message: `The HTTP server cannot listen: ${String(cause)}`, misconfigured: false })
  }
}

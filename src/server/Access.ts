/**
 * The way in: everything under the mount goes through here, and nothing that is refused here reaches a handler.
 *
 * | what | who is refused |
 * |---|---|
 * | the name it was called by, but for probes | a page that got its own name to resolve to this machine (DNS rebinding) |
 * | method, content type and encoding, origin | a page of another origin that sends requests in its visitor's name (CSRF) |
 * | token or session | whoever has none |
 * | size | what does not fit into 1 MiB, is nested too deep, or has integers that JavaScript would round |
 *
 * @since 0.1.0
 */
import * as ByteSize from "effect/ByteSize"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as HttpEffect from "effect/http/HttpEffect"
import type * as HttpServerError from "effect/http/HttpServerError"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerRespondable from "effect/http/HttpServerRespondable"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import type * as Latch from "effect/Latch"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import type * as Scope from "effect/Scope"
import * as Json from "../internal/Json.ts"
import * as Problem from "./Problem.ts"
import * as Session from "./Session.ts"
import * as Streams from "./Streams.ts"

/**
 * @category models
 * @since 0.1.0
 */
export interface Options {
  readonly session: Session.Session["Service"]
  /** Opened when the server stops: it is not ready from then on, and its streams end. */
  readonly closing: Latch.Latch
  /** Names it may be called by, beside those of this machine to itself. */
  readonly allowedHosts: ReadonlyArray<string>
  /** What a browser gets that has no session, if the page is built. */
  readonly loginPage: Effect.Effect<Option.Option<HttpServerResponse.HttpServerResponse>>
  /** Files that the login page needs before there is a session. */
  readonly isPublic: (path: string) => Effect.Effect<boolean>
  /** The methods that the path has, so that a wrong one is told from a wrong path. */
  readonly methodsOf: (path: string) => ReadonlyArray<string>
}

/**
 * No request has a larger body.
 *
 * @category constants
 * @since 0.1.0
 */
export const maxBodySize = ByteSize.mebibytes(1)

type Request = HttpServerRequest.HttpServerRequest
type Response = HttpServerResponse.HttpServerResponse

/**
 * An application behind the way in.
 *
 * @category constructors
 * @since 0.1.0
 */
export const guard = <R>(
  app: Effect.Effect<Response, unknown, R>,
  options: Options
): Effect.Effect<Response, never, R | HttpServerRequest.HttpServerRequest | Scope.Scope> =>
  Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) => {
    let admitted = false
    // Also of answers that nobody here makes, as when the server stops in the middle.
    const secured = HttpEffect.appendPreResponseHandler((_, response) => {
      const safe = Problem.secure(Problem.fromResponse(response))
      // A stranger keeps no connection.
      return Effect.succeed(admitted ? safe : HttpServerResponse.setHeader(safe, "connection", "close"))
    })
    return Effect.andThen(secured, admit(request, options)).pipe(
      Effect.flatMap((known) => {
        admitted = known
        return app.pipe(
          Effect.provideService(Streams.Closing, options.closing),
          Effect.provideService(Session.Admitted, known)
        )
      }),
      Effect.catchCause((cause) => failed(request, cause, options)),
      Effect.provideService(HttpServerRequest.MaxBodySize, maxBodySize)
    )
  })

const admit = Effect.fnUntraced(function*(request: Request, options: Options) {
  const path = pathOf(request)
  const probe = probes.has(`${request.method} ${path}`)
  const named = isAllowedHost(request, options.allowedHosts)
  if (!named && !probe) {
    return yield* refuse(
      403,
      `This server does not answer to the name ${
        JSON.stringify(request.headers.host ?? "")
      }: WORKER_HTTP_ALLOWED_HOSTS, or \`allowedHosts\` of an embedded dashboard, lists those it does`
    )
  }
  if (!methods.has(request.method)) {
    return yield* refuse(405, `${request.method} is not used here`, { allow: allowed(path, options) })
  }
  if (isCrossOrigin(request)) return yield* refuse(403, "Only this server's own pages may do that")
  const open = probe || `${request.method} ${path}` === "POST /api/login" ||
    (isRead(request) && (yield* options.isPublic(path)))
  const known = yield* authorize(request, path, open, options)
  if (request.method === "OPTIONS") {
    return yield* Effect.fail(
      HttpServerResponse.empty({ headers: { allow: allowed(path, options) } })
    )
  }
  if (path === "/readyz" && options.closing.isOpen()) return yield* refuse(503, "This server is stopping")
  if (request.method === "POST") yield* admitChange(request, path, options)
  // Whoever calls by another name gets no more of a probe than its status.
  return named && known
})

const admitChange = Effect.fnUntraced(function*(request: Request, path: string, { session }: Options) {
  if (request.headers["content-type"]?.split(";")[0]!.trim().toLowerCase() !== "application/json") {
    return yield* refuse(415, "Send content-type: application/json")
  }
  const encoding = request.headers["content-encoding"]?.trim().toLowerCase() ?? ""
  if (encoding !== "" && encoding !== "identity") {
    const detail = `Send the body as it is, without content-encoding: ${JSON.stringify(encoding)} is not read here`
    return yield* refuse(415, detail, { "accept-encoding": "identity" })
  }
  if (session.readOnly && !sessionPaths.has(path)) {
    return yield* refuse(
      403,
      "This server only shows, and changes nothing (WORKER_HTTP_READONLY, or `readOnly` of an embedded dashboard)"
    )
  }
  if (BigInt(request.headers["content-length"] ?? 0) > ByteSize.toBigInt(maxBodySize)) return yield* tooLarge
  // The request keeps what it has read, for the handler.
  // The body holds the payload.
  const issue = Json.issue(yield* request.text, "", Json.maxDepth + 1)
  if (issue !== undefined) return yield* refuse(422, issue)
})

const authorize = Effect.fnUntraced(function*(
  request: Request,
  path: string,
  open: boolean,
  { loginPage, session }: Options
) {
  const verdict = yield* session.check(request)
  if (open || verdict._tag === "admitted") return verdict._tag === "admitted"
  switch (verdict._tag) {
    case "limited":
      return yield* Effect.fail(Problem.limited(verdict.retryAfterSeconds))
    case "refused": {
      const page = isNavigation(request, path) ? yield* loginPage : Option.none()
      return yield* Option.match(page, {
        onNone: () => refuse(401, "Send the token as Authorization: Bearer <token>", challenge),
        onSome: (page) => Effect.fail(HttpServerResponse.setHeaders(HttpServerResponse.setStatus(page, 401), challenge))
      })
    }
  }
})

const methods = new Set(["GET", "HEAD", "POST", "OPTIONS"])
const challenge = { "www-authenticate": "Bearer realm=\"spindle\"" }

// As the router sees them: another spelling is not open. They are called by addresses that nobody has listed, or by none.
const probes = new Set(["GET /livez", "HEAD /livez", "GET /readyz", "HEAD /readyz"])
const sessionPaths = new Set(["/api/login", "/api/logout"])

const refuse = (status: number, detail: string, headers?: Readonly<Record<string, string>>) =>
  Effect.fail(Problem.make(status, detail, headers))

// The rest of the body is not waited for.
const tooLarge = refuse(413, "A body has at most 1 MiB", { connection: "close" })

const pathOf = ({ url }: Request) => url.split(/[?#]/, 1)[0]!

const allowed = (path: string, { methodsOf }: Options) => [...methodsOf(path), "OPTIONS"].join(", ")

const isRead = ({ method }: Request) => method === "GET" || method === "HEAD"

const isNavigation = (request: Request, path: string) =>
  isRead(request) && !path.startsWith("/api/") && request.headers.accept?.includes("text/html") === true

/**
 * Whether the server may be called by the name in `Host`: it is this machine's name for itself, the address that the connection
 * came in on, or listed. A name that a stranger made up to get here is neither.
 */
const isAllowedHost = (request: Request, allowedHosts: ReadonlyArray<string>) => {
  const name = hostname(request.headers.host ?? "")
  return name !== undefined && (
    name === "localhost" || name === "127.0.0.1" || name === "[::1]" || name === boundAddress(request) ||
    allowedHosts.includes(name)
  )
}

const hostname = (host: string): string | undefined =>
  /^([a-z0-9._-]+|\[[0-9a-f:.]+\])(?::\d{0,5})?$/.exec(host.toLowerCase())?.[1]

const boundAddress = (request: Request) => {
  const { socket } = request.source as { readonly socket?: { readonly localAddress?: string } }
  const address = socket?.localAddress?.replace(/^::ffff:(?=\d+\.)/, "")
  return address?.includes(":") === true ? `[${address}]` : address
}

/**
 * Whether a page of another origin has sent it. Browsers tell by `Origin` who changes something, and by `Sec-Fetch-Site` who asks for
 * anything at all; following a link to the page is no asking.
 */
const isCrossOrigin = (request: Request) => {
  const { headers } = request
  const site = headers["sec-fetch-site"]
  const foreign = site === "cross-site" || site === "same-site"
  if (isRead(request)) return foreign && headers["sec-fetch-mode"] !== "navigate"
  if (headers.origin === undefined) return foreign
  const origin = URL.parse(headers.origin)
  const scheme = origin?.protocol
  if (scheme !== "https:" && (scheme !== "http:" || Session.isHttps(request))) return true
  return foreign || URL.parse(`${scheme}//${headers.host}`)?.origin !== headers.origin.toLowerCase()
}

const failed = (request: Request, cause: Cause.Cause<unknown>, options: Options): Effect.Effect<Response> => {
  if (Cause.hasInterrupts(cause)) return Effect.interrupt
  const error = Cause.squash(cause)
  if (HttpServerResponse.isHttpServerResponse(error)) return Effect.succeed(error)
  if (isHttpServerError(error)) {
    const { reason } = error
    if (reason._tag === "RouteNotFound") return Effect.succeed(notFound(request, options))
    if (reason._tag === "RequestParseError") {
      return reason.reason === "BodyTooLarge"
        ? Effect.flip(tooLarge)
        : Effect.succeed(Problem.make(400, "The request cannot be read"))
    }
  }
  if (HttpServerRespondable.isRespondable(error)) return respond(error)
  return Effect.logError("a request failed", cause).pipe(
    Effect.annotateLogs({ method: request.method, path: pathOf(request) }),
    Effect.as(Problem.make(500, "This is a bug, and in the server's log"))
  )
}

const respond = (error: HttpServerRespondable.Respondable) =>
  Effect.orElseSucceed(HttpServerRespondable.toResponse(error), () => Problem.make(500))

const isHttpServerError = (error: unknown): error is HttpServerError.HttpServerError =>
  Predicate.isTagged(error, "HttpServerError")

const notFound = (request: Request, { methodsOf }: Options) => {
  const path = pathOf(request)
  const allowed = methodsOf(path)
  return allowed.length === 0
    ? Problem.make(404, `There is nothing at ${path}`)
    : Problem.make(405, `${path} has no ${request.method}`, { allow: allowed.join(", ") })
}

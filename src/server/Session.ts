/**
 * Who may come in once a token is set: whoever shows it, or a session that was given for it.
 *
 * A session is a cookie and nothing else: `v1.<when it ends>.<HMAC of that, keyed by the token>`. It survives a restart, says nothing
 * of the token, and is void when the token changes. Its name depends on the token, as browsers give the cookies of one port
 * to all others of the host.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Cookies from "effect/http/Cookies"
import type * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Crypto from "node:crypto"
import * as Monotonic from "../internal/Monotonic.ts"

/**
 * What came of a look at a request's credentials. `limited`: there have been too many wrong ones, and these were not
 * looked at; `retryAfterSeconds` later they would be.
 *
 * @category models
 * @since 0.1.0
 */
export type Verdict =
  | { readonly _tag: "admitted" }
  | { readonly _tag: "refused" }
  | { readonly _tag: "limited"; readonly retryAfterSeconds: number }

const admitted: Verdict = { _tag: "admitted" }
const refused: Verdict = { _tag: "refused" }

/**
 * @category services
 * @since 0.1.0
 */
export class Session extends Context.Service<Session, {
  /** Whether a token is needed at all. */
  readonly tokenRequired: boolean
  readonly readOnly: boolean
  /** Looks at the bearer token or the session of a request. */
  readonly check: (request: HttpServerRequest.HttpServerRequest) => Effect.Effect<Verdict>
  /** Looks at a token that somebody types. */
  readonly login: (request: HttpServerRequest.HttpServerRequest, token: string) => Effect.Effect<Verdict>
  /** The cookie of a new session. */
  readonly start: (request: HttpServerRequest.HttpServerRequest) => Effect.Effect<Cookies.Cookies>
  /** The cookie that ends a session in the browser. */
  readonly end: (request: HttpServerRequest.HttpServerRequest) => Cookies.Cookies
}>()("spindle/server/Session") {}

/**
 * Whether the request at hand showed what is needed, where anything is. What is open to everybody asks it before it tells more.
 *
 * @category references
 * @since 0.1.0
 */
export const Admitted: Context.Reference<boolean> = Context.Reference<boolean>("spindle/server/Session/Admitted", {
  defaultValue: () => true
})

const lifetime = Duration.days(7)

// Wrong tokens for each address: ten at once, then one every six seconds.
const burst = 10
const refillMillis = 6000
const maxAddresses = 10_000

const sha256 = (text: string) => Crypto.createHash("sha256").update(text).digest()

// Of digests, which have the same length: neither the length nor a common beginning shows in the time it takes.
const equals = (given: string, digest: Uint8Array) => Crypto.timingSafeEqual(sha256(given), digest)

/**
 * Whether the browser reached the server by https, as far as it can be known. The header can be made up, and that would
 * only make one's own cookie stricter, or one's own request refused.
 *
 * @category accessors
 * @since 0.1.0
 */
export const isHttps = (request: HttpServerRequest.HttpServerRequest): boolean => {
  const { socket } = request.source as { readonly socket?: { readonly encrypted?: boolean } }
  return socket?.encrypted === true || request.headers["x-forwarded-proto"]?.split(",")[0]!.trim() === "https"
}

/**
 * @category constructors
 * @since 0.1.0
 */
export const make = (options: {
  readonly token: Redacted.Redacted | undefined
  readonly prefix: string
  readonly readOnly: boolean
}): Session["Service"] => {
  const { readOnly, token } = options
  if (token === undefined) {
    return {
      tokenRequired: false,
      readOnly,
      check: () => Effect.succeed(admitted),
      login: () => Effect.succeed(admitted),
      start: () => Effect.succeed(Cookies.empty),
      end: () => Cookies.empty
    }
  }
  const hmac = (text: string) =>
    Crypto.createHmac("sha256", Redacted.value(token)).update(`spindle ${text}`).digest("base64url")
  const digest = sha256(Redacted.value(token))
  const cookieName = `spindle_${hmac("cookie").slice(0, 8)}`
  const signed = (expires: string) => `v1.${expires}.${hmac(`session v1.${expires}`)}`
  const cookie = (request: HttpServerRequest.HttpServerRequest, value: string, maxAge: Duration.Duration) =>
    Cookies.setUnsafe(Cookies.empty, cookieName, value, {
      path: options.prefix === "" ? "/" : options.prefix,
      httpOnly: true,
      sameSite: "strict",
      secure: isHttps(request),
      maxAge
    })

  const hasSession = (request: HttpServerRequest.HttpServerRequest, now: number) => {
    const value = request.cookies[cookieName]
    const expires = /^v1\.(\d{1,12})\./.exec(value ?? "")?.[1]
    return value !== undefined && expires !== undefined && equals(value, sha256(signed(expires))) &&
      Number(expires) * 1000 > now
  }

  const wrong = new Map<string, { readonly count: number; readonly at: number }>()

  const countOf = (address: string, now: number) => {
    const { at, count } = wrong.get(address) ?? { count: 0, at: now }
    return Math.max(0, count - (now - at) / refillMillis)
  }

  const compare = Effect.fnUntraced(function*(request: HttpServerRequest.HttpServerRequest, given: string) {
    const now = yield* Monotonic.millis
    const address = Option.getOrElse(request.remoteAddress, () => "unknown")
    const count = countOf(address, now)
    if (count > burst - 1) {
      return { _tag: "limited", retryAfterSeconds: Math.ceil((count - burst + 1) * refillMillis / 1000) } as const
    }
    if (equals(given, digest)) return admitted
    wrong.delete(address)
    wrong.set(address, { count: count + 1, at: now })
    if (wrong.size > maxAddresses) wrong.delete(wrong.keys().next().value!)
    yield* Effect.logWarning("a wrong token was given").pipe(Effect.annotateLogs({ address }))
    return refused
  })

  return {
    tokenRequired: true,
    readOnly,
    check: Effect.fnUntraced(function*(request) {
      if (hasSession(request, yield* Clock.currentTimeMillis)) return admitted
      const bearer = /^bearer +(\S+) *$/i.exec(request.headers.authorization ?? "")?.[1]
      return bearer === undefined ? refused : yield* compare(request, bearer)
    }),
    login: compare,
    start: (request) =>
      Effect.map(
        Clock.currentTimeMillis,
        (now) => cookie(request, signed(String(Math.floor((now + Duration.toMillis(lifetime)) / 1000))), lifetime)
      ),
    end: (request) => cookie(request, "", Duration.zero)
  }
}

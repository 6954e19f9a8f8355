import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Latch, Layer, Redacted } from "effect"
import { HttpRouter, HttpServerRequest, HttpServerResponse } from "effect/http"
import { HttpApi, HttpApiBuilder, HttpApiMiddleware } from "effect/http-api"
import { TestClock } from "effect/testing"
import type * as Http from "node:http"
import { Refusals, Sessions } from "../../src/Api.ts"
import * as Access from "../../src/server/Access.ts"
import * as Server from "../../src/server/Server.ts"
import * as Session from "../../src/server/Session.ts"
import * as SessionsGroup from "../../src/server/SessionsGroup.ts"
import * as Raw from "../support/Raw.ts"
import { keepLogs, type LogLine } from "../support/WorkerHarness.ts"

const token = "a-token-that-nobody-guesses-0123456789"
const authorization = `Bearer ${token}`

const routes = HttpRouter.use(Effect.fnUntraced(function*(router) {
  const probe = Effect.map(Session.Admitted, (admitted) => HttpServerResponse.text(`admitted: ${admitted}`))
  yield* router.add("GET", "/livez", probe)
  yield* router.add("GET", "/readyz", probe)
  yield* router.add("GET", "/thing", HttpServerResponse.jsonUnsafe({ secret: true }))
  yield* router.add(
    "POST",
    "/thing",
    (request) =>
      Effect.map(Effect.orDie(request.text), (text) => HttpServerResponse.jsonUnsafe({ length: text.length }))
  )
  yield* router.add("GET", "/login.css", HttpServerResponse.text("css"))
  yield* router.add("GET", "/die", Effect.die(new Error("a secret of the inside")))
  yield* router.add("GET", "/empty", HttpServerResponse.empty({ status: 404 }))
}))

const api = HttpApiBuilder.layer(
  HttpApi.make("spindle").add(Sessions).middleware(HttpApiMiddleware.ProblemDetails)
).pipe(Layer.provide(SessionsGroup.layer), Layer.provide([HttpApiMiddleware.layerProblemDetails(), Refusals.layer]))

/** A server with a few routes behind the way in. */
const serve = Effect.fnUntraced(function*(options: {
  readonly token?: string
  readonly readOnly?: boolean
  readonly allowedHosts?: ReadonlyArray<string>
  readonly host?: string
} = {}) {
  const secret = options.token === undefined ? undefined : Redacted.make(options.token)
  const settings = { token: secret, readOnly: options.readOnly ?? false, allowedHosts: options.allowedHosts ?? [] }
  const server = yield* Server.listen({ ...settings, host: options.host ?? "127.0.0.1", port: 0 })
  const session = Session.make({ ...settings, prefix: "" })
  const context = yield* Layer.mergeAll(routes, api).pipe(
    Layer.provideMerge(HttpRouter.layer),
    Layer.provide([Layer.succeed(Session.Session, session), server.services]),
    Layer.fresh,
    Layer.build
  )
  const closing = yield* Latch.make()
  const handle = Access.guard(Context.get(context, HttpRouter.HttpRouter).asHttpEffect(), {
    ...settings,
    session,
    closing,
    loginPage: Effect.succeedSome(HttpServerResponse.html("<p>the login page</p>")),
    isPublic: (path) => Effect.succeed(path === "/login.css"),
    methodsOf: (path) => path === "/thing" ? ["GET", "HEAD", "POST"] : path === "/livez" ? ["GET", "HEAD"] : []
  })
  yield* server.mount({ handle, closing })
  return {
    url: server.url,
    port: new URL(server.url).port,
    closing,
    send: (request: Raw.Request) => Raw.send(server.url, request)
  }
})

const post = (headers: Http.OutgoingHttpHeaders = {}, body: Raw.Request["body"] = "{}"): Raw.Request => ({
  method: "POST",
  path: "/thing",
  headers: { ...Raw.json, ...headers },
  body
})

describe("the name it is called by", () => {
  it.live("is this machine's own, any port", () =>
    Effect.gen(function*() {
      const { port, send } = yield* serve()
      for (const host of [`127.0.0.1:${port}`, "127.0.0.1", "localhost", "LOCALHOST:1", "[::1]:5000", "[::1]"]) {
        assert.strictEqual((yield* send({ path: "/thing", headers: { host } })).status, 200, host)
      }
    }))

  it.live.each(
    [
      "evil.example",
      "127.0.0.1.evil.example",
      "localhost.evil.example:5000",
      "evil.example#localhost",
      "user@localhost",
      "localhost, evil.example",
      "127.0.0.2",
      "0.0.0.0:5000",
      "",
      "[::1",
      "localhost:80a"
    ]
  )("is not %j, but for probes", (host) =>
    Effect.gen(function*() {
      const { send } = yield* serve()
      for (const path of ["/livez", "/readyz", "/livez?from=lb"]) {
        // Nobody knows who asks: nothing but the status.
        assert.deepInclude(yield* send({ path, headers: { host } }), { status: 200, body: "admitted: false" }, path)
        assert.strictEqual((yield* send({ method: "HEAD", path, headers: { host } })).status, 200, path)
      }
      for (const path of ["/thing", "/livez/", "/metrics", "/", "/api/session"]) {
        const answer = yield* send({ path, headers: { host } })
        assert.strictEqual(answer.status, 403)
        assert.include(Raw.detail(answer), "WORKER_HTTP_ALLOWED_HOSTS")
      }
      assert.strictEqual((yield* send(post({ host }))).status, 403)
      assert.strictEqual((yield* send({ ...post({ host }), path: "/livez" })).status, 403)
    }))

  it.live("is none at all where a probe sends none, in either version of HTTP", () =>
    Effect.gen(function*() {
      const { closing, send, url } = yield* serve({ token })
      const probe = (path: string, version: string) =>
        Effect.map(
          Raw.bytes(url, `GET ${path} HTTP/${version}\r\nConnection: close\r\n\r\n`),
          ({ status }) => status
        )
      for (const version of ["1.0", "1.1"]) {
        assert.strictEqual(yield* probe("/livez", version), 200)
        assert.strictEqual(yield* probe("/readyz", version), 200)
        assert.strictEqual(yield* probe("/thing", version), 403)
      }
      yield* closing.open
      assert.strictEqual(yield* probe("/livez", "1.0"), 200)
      assert.strictEqual((yield* send({ path: "/readyz", headers: { host: "10.0.0.7" } })).status, 503)
    }))

  it.live("is not missing, and not another in the request line", () =>
    Effect.gen(function*() {
      const { url } = yield* serve()
      const without = yield* Raw.bytes(url, "GET /thing HTTP/1.1\r\nConnection: close\r\n\r\n")
      assert.strictEqual(without.status, 403)
      const other = yield* Raw.bytes(
        url,
        "GET http://evil.example/thing HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
      )
      assert.strictEqual(other.status, 403)
    }))

  it.live("is one that is listed", () =>
    Effect.gen(function*() {
      const { send } = yield* serve({ allowedHosts: ["spindle.example.com"] })
      assert.strictEqual((yield* send({ path: "/thing", headers: { host: "Spindle.Example.com:8443" } })).status, 200)
      assert.strictEqual((yield* send({ path: "/thing", headers: { host: "example.com" } })).status, 403)
      assert.strictEqual((yield* send({ path: "/thing", headers: { host: "a.spindle.example.com" } })).status, 403)
    }))

  it.live("is the address that the connection came in on", () =>
    Effect.gen(function*() {
      const { port, send } = yield* serve({ host: "127.0.0.3", token })
      const headers = { authorization }
      assert.strictEqual((yield* send({ path: "/thing", headers })).status, 200)
      assert.strictEqual(
        (yield* send({ path: "/thing", headers: { ...headers, host: `127.0.0.4:${port}` } })).status,
        403
      )
    }))
})

describe("a page of another origin", () => {
  it.live("cannot read: there is no CORS", () =>
    Effect.gen(function*() {
      const { send } = yield* serve()
      // `Raw.send` looks for the headers of CORS.
      assert.strictEqual((yield* send({ path: "/thing", headers: { origin: "https://evil.example" } })).status, 200)
      const preflight = yield* send({
        method: "OPTIONS",
        path: "/thing",
        headers: { origin: "https://evil.example", "access-control-request-method": "POST" }
      })
      assert.strictEqual(preflight.status, 403)
    }))

  it.live.each([
    undefined,
    "text/plain",
    "application/x-www-form-urlencoded",
    "multipart/form-data",
    "application/jsonp"
  ])(
    "cannot change anything by a form: content-type %s",
    (type) =>
      Effect.gen(function*() {
        const { send } = yield* serve()
        const answer = yield* send(post({ "content-type": type }))
        assert.strictEqual(answer.status, 415)
        assert.include(Raw.detail(answer), "application/json")
      })
  )

  it.live("changes nothing by its origin", () =>
    Effect.gen(function*() {
      const { port, send } = yield* serve({ allowedHosts: ["spindle.example.com"] })
      const ok: Array<Http.OutgoingHttpHeaders> = [
        {},
        { "content-type": "Application/JSON; charset=utf-8" },
        { origin: `http://127.0.0.1:${port}` },
        { origin: `http://127.0.0.1:${port}`, "sec-fetch-site": "same-origin" },
        { "sec-fetch-site": "none" },
        { host: "localhost:80", origin: "http://localhost" },
        { host: "spindle.example.com", origin: "https://spindle.example.com" },
        { host: "spindle.example.com", origin: "https://spindle.example.com", "x-forwarded-proto": "https" }
      ]
      for (const headers of ok) assert.strictEqual((yield* send(post(headers))).status, 200, JSON.stringify(headers))
      const bad: Array<Http.OutgoingHttpHeaders> = [
        { origin: "https://evil.example" },
        { origin: "null" },
        { origin: "" },
        { origin: "http://127.0.0.1" },
        { origin: `http://localhost:${port}` },
        { origin: `http://127.0.0.1:${port}.evil.example` },
        { origin: `http://127.0.0.1:${port}/` },
        { origin: `http://127.0.0.1:${port} https://evil.example` },
        { origin: "file://" },
        { "sec-fetch-site": "cross-site" },
        { "sec-fetch-site": "same-site" },
        { origin: `http://127.0.0.1:${port}`, "sec-fetch-site": "cross-site" },
        { host: "spindle.example.com", origin: "http://spindle.example.com", "x-forwarded-proto": "https" },
        { host: "spindle.example.com", origin: "https://evil.example" }
      ]
      for (const headers of bad) assert.strictEqual((yield* send(post(headers))).status, 403, JSON.stringify(headers))
    }))

  it.live("asks for nothing in its visitor's name, and may link to the page", () =>
    Effect.gen(function*() {
      const { send } = yield* serve()
      const get = (headers: Http.OutgoingHttpHeaders) =>
        Effect.map(send({ path: "/thing", headers }), ({ status }) => status)
      assert.strictEqual(yield* get({ "sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors" }), 403)
      assert.strictEqual(yield* get({ "sec-fetch-site": "same-site", "sec-fetch-mode": "cors" }), 403)
      assert.strictEqual(yield* get({ "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate" }), 200)
      assert.strictEqual(yield* get({ "sec-fetch-site": "same-origin", "sec-fetch-mode": "cors" }), 200)
    }))
})

describe("methods", () => {
  it.live.each(["PUT", "PATCH", "DELETE", "TRACE", "QUERY", "PROPFIND"])(
    "%s is not one",
    (method) =>
      Effect.gen(function*() {
        const { send } = yield* serve()
        const answer = yield* send({ method, path: "/thing", headers: Raw.json })
        assert.strictEqual(answer.status, 405)
        assert.strictEqual(answer.headers.allow, "GET, HEAD, POST, OPTIONS")
        const shown = yield* send({ method, path: "/livez", headers: Raw.json })
        assert.deepStrictEqual([shown.status, shown.headers.allow], [405, "GET, HEAD, OPTIONS"])
      })
  )

  it.live("a wrong one is told from a wrong path", () =>
    Effect.gen(function*() {
      const { send } = yield* serve()
      const wrong = yield* send({ method: "POST", path: "/livez", headers: Raw.json })
      assert.deepStrictEqual([wrong.status, wrong.headers.allow], [405, "GET, HEAD"])
      const nothing = yield* send({ path: "/nothing?q=<script>" })
      assert.deepStrictEqual([nothing.status, Raw.detail(nothing)], [404, "There is nothing at /nothing"])
    }))

  it.live("HEAD has no body, and OPTIONS tells the methods", () =>
    Effect.gen(function*() {
      const { send } = yield* serve({ token })
      const head = yield* send({ method: "HEAD", path: "/thing", headers: { authorization } })
      assert.deepStrictEqual([head.status, head.body, head.headers["content-type"]], [200, "", "application/json"])
      const options = yield* send({ method: "OPTIONS", path: "/thing", headers: { authorization } })
      assert.deepStrictEqual([options.status, options.body, options.headers.allow], [
        204,
        "",
        "GET, HEAD, POST, OPTIONS"
      ])
      assert.strictEqual((yield* send({ method: "OPTIONS", path: "/thing" })).status, 401)
      assert.strictEqual((yield* send({ method: "HEAD", path: "/thing" })).status, 401)
    }))
})

describe("a body", () => {
  const mebibyte = "x".repeat(1024 * 1024)

  it.live("has at most 1 MiB, with a content-length and without", () =>
    Effect.gen(function*() {
      const { send } = yield* serve()
      assert.deepInclude(yield* send(post({}, mebibyte)), { status: 200, body: "{\"length\":1048576}" })
      assert.strictEqual((yield* send(post({}, [mebibyte]))).status, 200)
      assert.strictEqual((yield* send(post({}, [mebibyte, "x"]))).status, 413)
      // It is refused by what it announces: the server does not wait for it.
      const announced = yield* send({ ...post({ "content-length": 1048577, expect: "100-continue" }), body: [] }).pipe(
        Effect.timeout("10 seconds")
      )
      assert.strictEqual(announced.status, 413)
      assert.include(Raw.detail(announced), "1 MiB")
    }))

  it.live.each(["gzip", "br", "deflate", "GZIP", "identity, gzip", "x"])(
    "is not encoded as %j",
    (encoding) =>
      Effect.gen(function*() {
        const { send } = yield* serve()
        const answer = yield* send(post({ "content-encoding": encoding }))
        assert.strictEqual(answer.status, 415)
        assert.strictEqual(answer.headers["accept-encoding"], "identity")
        assert.include(Raw.detail(answer), encoding.toLowerCase())
      })
  )

  it.live("may say that it is not encoded", () =>
    Effect.gen(function*() {
      const { send } = yield* serve()
      assert.strictEqual((yield* send(post({ "content-encoding": "identity" }))).status, 200)
    }))
})

describe("the JSON of a body", () => {
  it.live("has nothing that would be stored as something else", () =>
    Effect.gen(function*() {
      const { send } = yield* serve()
      const rounded = yield* send(post({}, "{\"payload\":9007199254740993}"))
      assert.strictEqual(rounded.status, 422)
      assert.include(Raw.detail(rounded), "9007199254740993")
      const deep = yield* send(post({}, "[".repeat(2 ** 19) + "]".repeat(2 ** 19)))
      assert.strictEqual(deep.status, 422)
      assert.include(Raw.detail(deep), "deeper than 200")
    }))
})

describe("what is no request", () => {
  it.live("is answered with a problem, and the same headers", () =>
    Effect.gen(function*() {
      const { url } = yield* serve()
      const host = "Host: localhost\r\nConnection: close"
      const cases: ReadonlyArray<readonly [string, number, string]> = [
        ["what is this", 400, "Bad Request"],
        [`GET / HTTP/1.1\r\n${host}\r\nX: ${"x".repeat(20_000)}`, 431, "Request Header Fields Too Large"],
        [`GET / HTTP/1.1\r\n${host}\r\nExpect: a-cake`, 417, "Expectation Failed"],
        [`GET * HTTP/1.1\r\n${host}`, 404, "Not Found"]
      ]
      for (const [request, status, title] of cases) {
        const answer = yield* Raw.bytes(url, `${request}\r\n\r\n`)
        assert.strictEqual(answer.status, status)
        assert.deepInclude(JSON.parse(answer.body), { type: "about:blank", title, status })
      }
    }))
})

describe("an upgrade", () => {
  it.live("comes in as any other request", () =>
    Effect.gen(function*() {
      const { url } = yield* serve({ token })
      const upgrade = (host: string, headers = "") =>
        Effect.map(
          Raw.bytes(
            url,
            `GET /ws HTTP/1.1\r\nHost: ${host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n` +
              `Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n${headers}\r\n`
          ),
          ({ status }) => status
        )
      assert.strictEqual(yield* upgrade("evil.example"), 403)
      assert.strictEqual(yield* upgrade("localhost"), 401)
      assert.strictEqual(yield* upgrade("localhost", `Authorization: ${authorization}\r\n`), 404)
    }))
})

describe("errors", () => {
  it.live("are problems, and say nothing of the inside", () =>
    Effect.gen(function*() {
      const lines: Array<LogLine> = []
      const { send } = yield* serve().pipe(Effect.provide(keepLogs(lines)))
      const died = yield* send({ path: "/die?secret" })
      assert.strictEqual(died.status, 500)
      assert.strictEqual(died.headers["content-type"], "application/problem+json")
      assert.notInclude(died.body, "inside")
      const line = lines.find(({ message }) => message === "a request failed")
      assert.deepStrictEqual(line?.annotations, { method: "GET", path: "/die" })
      assert.deepStrictEqual(JSON.parse((yield* send({ path: "/empty" })).body), {
        type: "about:blank",
        title: "Not Found",
        status: 404
      })
      for (const body of ["{", "", "null", "{\"token\":1}", "[]"]) {
        const malformed = yield* send({ method: "POST", path: "/api/login", headers: Raw.json, body })
        assert.strictEqual(malformed.status, 400, body)
        assert.strictEqual(malformed.headers["content-type"], "application/problem+json")
      }
    }))
})

const login = (given: string): Raw.Request => ({
  method: "POST",
  path: "/api/login",
  headers: Raw.json,
  body: JSON.stringify({ token: given })
})

const cookieOf = ({ headers }: Raw.Answer) => headers["set-cookie"]![0]!
const pair = (cookie: string) => cookie.split(";")[0]!

describe("a token", () => {
  it.live("is needed by everything but the probes, however they are spelled", () =>
    Effect.gen(function*() {
      const { send } = yield* serve({ token })
      for (const path of ["/livez", "/readyz", "/livez?x", "/login.css"]) {
        assert.strictEqual((yield* send({ path })).status, 200, path)
      }
      const closed = ["/thing", "/", "/nothing", "/api/session", "/openapi.json", "/metrics", "/livez/", "//livez"]
      for (
        const path of [...closed, "/livez;x", "/LIVEZ", "/%6civez", "/x/../livez", "/livez/../thing", "/login.css/"]
      ) {
        const answer = yield* send({ path })
        assert.strictEqual(answer.status, 401, path)
        assert.strictEqual(answer.headers["www-authenticate"], "Bearer realm=\"spindle\"")
        assert.strictEqual(answer.headers["content-type"], "application/problem+json")
      }
      assert.strictEqual((yield* send(post())).status, 401)
      assert.strictEqual((yield* send({ ...post(), path: "/api/logout" })).status, 401)
      assert.strictEqual((yield* send({ ...post(), path: "/login.css" })).status, 401)
    }))

  it.live("is a bearer token, the whole of it", () =>
    Effect.gen(function*() {
      const { send } = yield* serve({ token })
      const get = (authorization: string) =>
        Effect.map(send({ path: "/thing", headers: { authorization } }), ({ status }) => status)
      assert.strictEqual(yield* get(authorization), 200)
      assert.strictEqual(yield* get(`bearer ${token}`), 200)
      for (
        const wrong of [token, `Basic ${token}`, `Bearer ${token}x`, `Bearer ${token.slice(1)}`, "Bearer", "Bearer "]
      ) {
        assert.strictEqual(yield* get(wrong), 401, wrong)
      }
    }))

  it.live("gives a browser that has none the login page", () =>
    Effect.gen(function*() {
      const { send } = yield* serve({ token })
      const navigate = { accept: "text/html,application/xhtml+xml,*/*;q=0.8" }
      const page = yield* send({ path: "/tasks/42", headers: navigate })
      assert.strictEqual(page.status, 401)
      assert.include(page.body, "the login page")
      assert.strictEqual(page.headers["cache-control"], "no-store")
      assert.strictEqual(page.headers["www-authenticate"], "Bearer realm=\"spindle\"")
      const call = yield* send({ path: "/api/session", headers: navigate })
      assert.strictEqual(call.headers["content-type"], "application/problem+json")
    }))

  it.live("typed in once gives a session", () =>
    Effect.gen(function*() {
      const { send } = yield* serve({ token })
      const answer = yield* send(login(token))
      assert.strictEqual(answer.status, 204)
      const cookie = cookieOf(answer)
      assert.match(
        cookie,
        /^spindle_[\w-]{8}=v1\.\d{10}\.[\w-]{43}; Max-Age=604800; Path=\/; HttpOnly; SameSite=Strict$/
      )
      assert.notInclude(cookie, token)
      const session = yield* send({ path: "/api/session", headers: { cookie: `a=b; ${pair(cookie)}` } })
      assert.deepStrictEqual([session.status, JSON.parse(session.body).tokenRequired], [200, true])
      assert.strictEqual((yield* send(post({ cookie: pair(cookie) }))).status, 200)

      const out = yield* send({ method: "POST", path: "/api/logout", headers: { ...Raw.json, cookie: pair(cookie) } })
      assert.strictEqual(out.status, 204)
      assert.match(cookieOf(out), /^spindle_[\w-]{8}=; Max-Age=0; Path=\/; HttpOnly; SameSite=Strict$/)
    }))

  it.live("makes the cookie secure where the browser uses https", () =>
    Effect.gen(function*() {
      const { send } = yield* serve({ token })
      const request = login(token)
      const answer = yield* send({ ...request, headers: { ...request.headers, "x-forwarded-proto": "https" } })
      assert.match(cookieOf(answer), /; Secure/)
    }))

  it.live("is compared as any other by a login", () =>
    Effect.gen(function*() {
      const { send } = yield* serve({ token })
      const wrong = yield* send(login("wrong"))
      assert.deepStrictEqual([wrong.status, wrong.headers["set-cookie"]], [401, undefined])
    }))

  it.live("lets a connection go on; strangers keep none", () =>
    Effect.gen(function*() {
      const { send } = yield* serve({ token })
      const connection = (path: string, headers: Http.OutgoingHttpHeaders = {}) =>
        Effect.map(
          send({ path, headers: { connection: "keep-alive", ...headers } }),
          ({ headers }) => headers.connection
        )
      for (const path of ["/livez", "/readyz", "/thing", "/nothing", "/login.css"]) {
        assert.strictEqual(yield* connection(path), "close", path)
        assert.strictEqual(yield* connection(path, { authorization }), "keep-alive", path)
      }
      const open = yield* serve()
      const { headers } = yield* open.send({ path: "/livez", headers: { connection: "keep-alive" } })
      assert.strictEqual(headers.connection, "keep-alive")
    }))

  it.live("is not needed where none is set", () =>
    Effect.gen(function*() {
      const { send } = yield* serve()
      const session = yield* send({ path: "/api/session" })
      assert.deepInclude(JSON.parse(session.body), { tokenRequired: false, readOnly: false })
      assert.strictEqual((yield* send(login("whatever"))).status, 204)
    }))
})

const request = (headers: Record<string, string> = {}) =>
  HttpServerRequest.fromWeb(new Request("http://localhost/", { headers }))

describe("a session", () => {
  const make = (given: string) => Session.make({ token: Redacted.make(given), prefix: "/spindle", readOnly: false })

  const cookie = Effect.fnUntraced(function*(session: Session.Session["Service"]) {
    const [value] = Object.values((yield* session.start(request())).cookies)
    return `${value!.name}=${value!.valueEncoded}`
  })

  const check = (session: Session.Session["Service"], cookie: string) =>
    Effect.map(session.check(request({ cookie })), ({ _tag }) => _tag)

  it.effect("lasts seven days, over a restart, as long as the token does", () =>
    Effect.gen(function*() {
      const given = yield* cookie(make(token))
      assert.strictEqual(yield* check(make(token), given), "admitted")
      assert.strictEqual(yield* check(make(`${token}!`), given), "refused")
      const [name] = given.split("=")
      const other = yield* cookie(make(`${token}!`))
      assert.strictEqual(yield* check(make(token), other.replace(/^[^=]+/, name!)), "refused")
      yield* TestClock.adjust("6 days")
      assert.strictEqual(yield* check(make(token), given), "admitted")
      yield* TestClock.adjust("25 hours")
      assert.strictEqual(yield* check(make(token), given), "refused")
    }))

  it.effect("cannot be made up, or prolonged", () =>
    Effect.gen(function*() {
      const session = make(token)
      const given = yield* cookie(session)
      const longer = given.replace(/v1\.(\d+)/, (_, expires) => `v1.${Number(expires) + 1}`)
      const [name] = given.split("=")
      const all = [
        longer,
        `${given}x`,
        given.slice(0, -1),
        `${name}=`,
        `${name}=${token}`,
        `${name}=v1.9999999999.`,
        `${name}=v1..`
      ]
      for (const forged of all) assert.strictEqual(yield* check(session, forged), "refused", forged)
    }))

  it.effect("wrong tokens are counted: ten at once, then one every six seconds", () =>
    Effect.gen(function*() {
      const lines: Array<LogLine> = []
      const session = make(token)
      yield* Effect.gen(function*() {
        const given = yield* cookie(session)
        for (let i = 0; i < 10; i++) {
          const verdict = i % 2 === 0
            ? yield* session.login(request(), `guess ${i}`)
            : yield* session.check(request({ authorization: `Bearer guess${i}` }))
          assert.strictEqual(verdict._tag, "refused")
        }
        assert.deepStrictEqual(yield* session.login(request(), token), { _tag: "limited", retryAfterSeconds: 6 })
        assert.strictEqual((yield* session.check(request({ authorization })))._tag, "limited")
        assert.strictEqual(yield* check(session, given), "admitted")
        assert.strictEqual((yield* session.check(request()))._tag, "refused")
        yield* TestClock.adjust("6 seconds")
        assert.strictEqual((yield* session.login(request(), "guess"))._tag, "refused")
        assert.strictEqual((yield* session.login(request(), token))._tag, "limited")
        yield* TestClock.adjust("6 seconds")
        assert.strictEqual((yield* session.login(request(), token))._tag, "admitted")
      }).pipe(Effect.provide(keepLogs(lines)))
      assert.strictEqual(lines.length, 11)
      assert.deepStrictEqual(lines[0], { message: "a wrong token was given", annotations: { address: "unknown" } })
      assert.notInclude(JSON.stringify(lines), "guess")
    }))

  it.effect("that is refused for too many is told when to come back", () =>
    Effect.gen(function*() {
      const { send } = yield* serve({ token })
      for (let i = 0; i < 10; i++) assert.strictEqual((yield* send(login("wrong"))).status, 401)
      for (const again of [login(token), { path: "/thing", headers: { authorization } }]) {
        const answer = yield* send(again)
        assert.deepStrictEqual([answer.status, answer.headers["retry-after"]], [429, "6"])
      }
      assert.strictEqual((yield* send({ path: "/livez" })).status, 200)
    }))
})

describe("read-only", () => {
  it.live("refuses every change and says why; sessions come and go", () =>
    Effect.gen(function*() {
      const { send } = yield* serve({ token, readOnly: true })
      const cookie = pair(cookieOf(yield* send(login(token))))
      const answer = yield* send(post({ cookie }))
      assert.strictEqual(answer.status, 403)
      assert.include(Raw.detail(answer), "WORKER_HTTP_READONLY")
      assert.strictEqual((yield* send({ path: "/thing", headers: { cookie } })).status, 200)
      assert.strictEqual(JSON.parse((yield* send({ path: "/api/session", headers: { cookie } })).body).readOnly, true)
      assert.strictEqual(
        (yield* send({ method: "POST", path: "/api/logout", headers: { ...Raw.json, cookie } })).status,
        204
      )
    }))
})

describe("a server that stops", () => {
  it.live("is not ready any more, and alive", () =>
    Effect.gen(function*() {
      const { closing, send } = yield* serve()
      assert.strictEqual((yield* send({ path: "/readyz" })).status, 200)
      yield* closing.open
      assert.strictEqual((yield* send({ path: "/readyz" })).status, 503)
      assert.strictEqual((yield* send({ path: "/livez" })).status, 200)
    }))
})

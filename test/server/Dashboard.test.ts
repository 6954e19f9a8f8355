import { NodeHttpServer } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { assert, describe, it, layer } from "@effect/vitest"
import { Context, Effect, Layer, Redacted, Stream } from "effect"
import {
  FetchHttpClient,
  HttpClient,
  HttpClientRequest,
  HttpRouter,
  HttpServer,
  HttpServerRequest,
  HttpServerResponse
} from "effect/http"
import { HttpApiClient } from "effect/http-api"
import * as FastCheck from "fast-check"
import { createServer } from "node:http"
import { Api } from "../../src/Api.ts"
import * as Dashboard from "../../src/Dashboard.ts"
import * as HandlerRegistry from "../../src/HandlerRegistry.ts"
import * as Mount from "../../src/server/Mount.ts"
import * as Server from "../../src/server/Server.ts"
import * as TaskQueue from "../../src/TaskQueue.ts"
import * as Worker from "../../src/Worker.ts"
import * as Raw from "../support/Raw.ts"
import { TestDatabase } from "../support/TestDatabase.ts"
import * as Harness from "../support/WorkerHarness.ts"

const token = "0123456789abcdef0123456789abcdef"
const secret = Redacted.make(token)
const authorization = `Bearer ${token}`

/** An application with routes of its own and whatever is mounted. */
const serve = Effect.fnUntraced(function*<E, R>(mounts: Layer.Layer<never, E, R>) {
  const own = HttpRouter.use((router) => router.add("GET", "/own", HttpServerResponse.text("the application's own")))
  const context = yield* Layer.build(
    Dashboard.endStreamsBefore(
      HttpRouter.serve(Layer.mergeAll(own, mounts), { disableListenLog: true, disableLogger: true })
    ).pipe(
      Layer.provide(TaskQueue.layer),
      Layer.provideMerge(NodeHttpServer.layer(createServer, { port: 0, host: "127.0.0.1" }))
    ) as Layer.Layer<HttpServer.HttpServer, E, PgClient.PgClient>
  )
  return HttpServer.formatAddress(Context.get(context, HttpServer.HttpServer).address)
})

const enqueue = (type = "a") => ({
  method: "POST",
  path: "/spindle/api/tasks",
  headers: { ...Raw.json, authorization },
  body: JSON.stringify({ type, payload: {} })
})

layer(TestDatabase.layerSql({ maxConnections: 5 }), { excludeTestServices: true })("in an application", (it) => {
  it.effect("answers below its prefix, and nowhere else", () =>
    Effect.gen(function*() {
      const url = yield* serve(Dashboard.layer({ prefix: "/spindle", token: secret }))
      const own = yield* Effect.promise(() => fetch(`${url}/own`))
      assert.deepStrictEqual([own.status, own.headers.get("content-security-policy")], [200, null])
      const enqueued = yield* Raw.send(url, enqueue())
      assert.strictEqual(enqueued.status, 201)
      const { id } = JSON.parse(enqueued.body)
      const read = yield* Raw.send(url, { path: `/spindle/api/tasks/${id}`, headers: { authorization } })
      assert.deepStrictEqual([read.status, JSON.parse(read.body).type], [200, "a"])
      for (const path of ["/spindle/livez", "/spindle/readyz"]) {
        assert.strictEqual((yield* Raw.send(url, { path })).status, 200)
      }
      for (
        const path of ["/spindle", "/spindle/", "/spindle/metrics", "/spindle/openapi.json", "/spindle/api/queues"]
      ) {
        assert.strictEqual((yield* Raw.send(url, { path })).status, 401, path)
      }
      const elsewhere = yield* Effect.promise(() => fetch(`${url}/api/overview`))
      assert.strictEqual(elsewhere.status, 404)
    }))

  it.effect("has the document of its API, and every route of it", () =>
    Effect.gen(function*() {
      const url = yield* serve(Dashboard.layer({ prefix: "/spindle" }))
      const { body, status } = yield* Raw.send(url, { path: "/spindle/openapi.json" })
      assert.strictEqual(status, 200)
      const { paths, servers }: {
        readonly paths: Record<string, Record<string, unknown>>
        readonly servers: unknown
      } = JSON.parse(body)
      assert.deepStrictEqual(servers, [{ url: "/spindle" }])
      assert.isAtLeast(Object.keys(paths).length, 15)
      for (const [path, operations] of Object.entries(paths)) {
        // This is the id of a task to a GET.
        for (const method of path === "/api/tasks/bulk" ? ["post"] : ["get", "post"]) {
          const answer = yield* Raw.send(url, {
            method: method.toUpperCase(),
            path: `/spindle${path.replace("{id}", "999999999")}`,
            headers: { ...Raw.json, "last-event-id": "x" },
            body: method === "post" ? "{" : undefined
          }).pipe(path === "/api/stream" && method === "get" ? Effect.timeoutOption(0) : Effect.asSome)
          if (answer._tag === "None") continue
          assert.strictEqual(answer.value.status === 405, !(method in operations), `${method} ${path}`)
        }
      }
    }))

  it.effect("is known to the typed client", () =>
    Effect.gen(function*() {
      const url = yield* serve(Dashboard.layer({ prefix: "/spindle", token: secret }))
      const client = yield* HttpApiClient.make(Api, {
        baseUrl: `${url}/spindle`,
        transformClient: HttpClient.mapRequest(
          HttpClientRequest.setHeaders({ authorization, ...Raw.json })
        )
      }).pipe(Effect.provide(FetchHttpClient.layer))
      const { id } = yield* client.tasks.enqueue({ payload: { type: "typed" } })
      assert.deepStrictEqual(yield* client.tasks.cancel({ params: { id } }), { outcome: "cancelled" })
      assert.deepInclude(yield* client.sessions.get(), { readOnly: false, tokenRequired: true })
    }))

  it.effect("gives the typed client what it can be answered with", () =>
    Effect.gen(function*() {
      const url = yield* serve(Layer.mergeAll(
        Dashboard.layer({ prefix: "/spindle", token: secret }),
        Dashboard.layer({ prefix: "/shown", readOnly: true })
      ))
      const make = (prefix: string, headers: Record<string, string>) =>
        HttpApiClient.make(Api, {
          baseUrl: `${url}${prefix}`,
          transformClient: HttpClient.mapRequest(HttpClientRequest.setHeaders(headers))
        }).pipe(Effect.provide(FetchHttpClient.layer))
      const known = yield* make("/spindle", { authorization, ...Raw.json })
      const { id } = yield* known.tasks.enqueue({ payload: { type: "typed" } })
      const follow = { params: { id }, query: {}, headers: {} }
      assert.isTrue(Stream.isStream(yield* known.tasks.events(follow)))
      yield* known.tasks.cancel({ params: { id } })
      const after = yield* known.tasks.events(follow).pipe(
        Effect.flatMap((events) => Stream.isStream(events) ? Stream.runLast(events) : Effect.die("no events")),
        Effect.flatMap(Effect.fromOption)
      )
      assert.strictEqual(after.event, "cancelled")
      assert.isUndefined(yield* known.tasks.events({ ...follow, query: { after: after.id } }))
      const problemOf = <A, E>(call: Effect.Effect<A, E>) =>
        Effect.map(Effect.flip(call), (error) => {
          const { _tag, detail } = error as { readonly _tag?: string; readonly detail?: string }
          assert.isNotEmpty(detail)
          return _tag
        })
      const stranger = yield* make("/spindle", Raw.json)
      assert.strictEqual(yield* problemOf(stranger.overview.get()), "Unauthorized")
      const reader = yield* make("/shown", Raw.json)
      assert.strictEqual(yield* problemOf(reader.tasks.cancel({ params: { id } })), "Forbidden")
      const bare = yield* make("/spindle", { authorization, "content-type": "text/plain" })
      assert.strictEqual(yield* problemOf(bare.tasks.cancel({ params: { id } })), "UnsupportedMediaType")
      const large = { type: "typed", payload: "x".repeat(2 ** 20) }
      assert.strictEqual(yield* problemOf(known.tasks.enqueue({ payload: large })), "ContentTooLarge")
      const deep = { type: "typed", payload: JSON.parse(`${"[".repeat(300)}${"]".repeat(300)}`) }
      assert.strictEqual(yield* problemOf(known.tasks.enqueue({ payload: deep })), "Unprocessable")
      const guesser = yield* make("/spindle", { authorization: "Bearer wrong", ...Raw.json })
      const verdicts = yield* Effect.replicateEffect(problemOf(guesser.sessions.get()), 20, { concurrency: 20 })
      assert.deepStrictEqual(new Set(verdicts), new Set(["Unauthorized", "TooManyRequests"]))
    }))

  it.effect("two of them stand side by side", () =>
    Effect.gen(function*() {
      const other = "fedcba9876543210fedcba9876543210"
      const url = yield* serve(Layer.mergeAll(
        Dashboard.layer({ prefix: "/one", token: secret }),
        Dashboard.layer({ prefix: "/two/deep", token: Redacted.make(other), readOnly: true })
      ))
      const login = (prefix: string, token: string) =>
        Raw.send(url, {
          method: "POST",
          path: `${prefix}/api/login`,
          headers: Raw.json,
          body: JSON.stringify({ token })
        })
      const one = (yield* login("/one", token)).headers["set-cookie"]![0]!
      const two = (yield* login("/two/deep", other)).headers["set-cookie"]![0]!
      assert.strictEqual((yield* login("/two/deep", token)).status, 401)
      assert.include(one, "; Path=/one;")
      assert.include(two, "; Path=/two/deep;")
      const session = (prefix: string, cookie: string) =>
        Raw.send(url, { path: `${prefix}/api/session`, headers: { cookie: cookie.split(";")[0] } })
      assert.strictEqual(JSON.parse((yield* session("/one", one)).body).readOnly, false)
      assert.strictEqual(JSON.parse((yield* session("/two/deep", two)).body).readOnly, true)
      assert.strictEqual((yield* session("/one", two)).status, 401)
      assert.strictEqual((yield* session("/two/deep", one)).status, 401)
    }))

  it.effect("leaves it to a middleware of the application who may come in", () =>
    Effect.gen(function*() {
      const onlyKnown = HttpRouter.middleware((handler) =>
        Effect.gen(function*() {
          const request = yield* HttpServerRequest.HttpServerRequest
          return request.headers["x-user"] === "ann" ? yield* handler : HttpServerResponse.empty({ status: 403 })
        })
      ).layer
      const url = yield* serve(Dashboard.layer({ prefix: "/spindle" }).pipe(Layer.provide(onlyKnown)))
      const status = (headers: Record<string, string>) =>
        Effect.map(
          Effect.promise(() => fetch(`${url}/spindle/api/session`, { headers })),
          (response) => response.status
        )
      assert.strictEqual(yield* status({}), 403)
      assert.strictEqual(yield* status({ "x-user": "ann" }), 200)
      assert.strictEqual((yield* Effect.promise(() => fetch(`${url}/own`))).status, 200)
    }))

  it.effect("shows the worker that is there", () =>
    Effect.gen(function*() {
      const script = Harness.script()
      const { url: database } = yield* TestDatabase
      const client = PgClient.layer({ url: database, maxConnections: 2 })
      const worker = Worker.layer(Harness.quick).pipe(
        Layer.provideMerge(HandlerRegistry.layer(Harness.Tasks).pipe(Layer.provide(script.handlers))),
        Layer.provide(client)
      )
      const overview = (url: string) =>
        Effect.map(Raw.send(url, { path: "/spindle/api/overview" }), ({ body }) => JSON.parse(body))
      const alone = yield* overview(yield* serve(Dashboard.layer({ prefix: "/spindle" })))
      assert.isNull(alone.id)
      const beside = yield* overview(
        yield* serve(Dashboard.layer({ prefix: "/spindle" }).pipe(Layer.provide(worker)))
      )
      assert.isString(beside.id)
    }))

  it.effect("ends its streams before the application's server stops", () =>
    Effect.gen(function*() {
      const scope = yield* Effect.scope
      const body = yield* Effect.scoped(Effect.gen(function*() {
        const url = yield* serve(Dashboard.layer({ prefix: "/spindle" }))
        const response = yield* Effect.promise(() => fetch(`${url}/spindle/api/stream`))
        const reader = response.body!.getReader()
        yield* Effect.promise(() => reader.read())
        return reader
      })).pipe(Effect.timeout("10 seconds"))
      assert.isTrue((yield* Effect.promise(() => body.read())).done)
      assert.isDefined(scope)
    }))

  it.effect(
    "no request gets a 5xx, a stack trace, or an answer without the security headers",
    () =>
      Effect.gen(function*() {
        const servers = yield* Effect.forEach([undefined, secret], (token) =>
          Effect.gen(function*() {
            const settings = { port: 0, host: "127.0.0.1", prefix: "", token, readOnly: false, allowedHosts: [] }
            const server = yield* Server.listen(settings)
            const context = yield* Layer.build(Layer.merge(TaskQueue.layer, server.services))
            yield* server.mount(yield* Effect.provideContext(Mount.make(settings), context))
            return server.url
          }))
        const piece = FastCheck.oneof(
          FastCheck.constantFrom(
            "api",
            "tasks",
            "1",
            "99999999999999999999",
            "events",
            "cancel",
            "retry",
            "run-now",
            "bulk"
          ),
          FastCheck.constantFrom(
            "overview",
            "queues",
            "login",
            "session",
            "livez",
            "metrics",
            "assets",
            "..",
            ".",
            "",
            "%00",
            "%"
          ),
          FastCheck.constantFrom("__proto__", "constructor", "%2e%2e%2f", ";", "*", "%F0%28", "index.html"),
          FastCheck.string({ maxLength: 8 }).map((text) => encodeURIComponent(text.toWellFormed()))
        )
        const path = FastCheck.tuple(
          FastCheck.array(piece, { maxLength: 5 }),
          FastCheck.oneof(
            FastCheck.constant(""),
            FastCheck.constantFrom(
              "?limit=0",
              "?limit=x&limit=1",
              "?before=0",
              "?status=",
              "?q=%",
              "?q=%00",
              "?after=1-1"
            ),
            FastCheck.webQueryParameters().map((query) => `?${query}`)
          )
        ).map(([pieces, query]) => `/${pieces.join("/")}${query}`)
        const value = FastCheck.string({ maxLength: 20 }).map((text) => text.replace(/[^\x20-\x7e]/g, "x").trim())
        const headers = FastCheck.record({
          "content-type": FastCheck.oneof(FastCheck.constant("application/json"), value),
          authorization: FastCheck.oneof(FastCheck.constant(authorization), value),
          origin: FastCheck.oneof(FastCheck.constantFrom(...servers.map((url) => new URL(url).origin)), value),
          accept: FastCheck.oneof(FastCheck.constantFrom("text/html", "text/event-stream"), value),
          cookie: value,
          "last-event-id": FastCheck.oneof(FastCheck.constantFrom("1-1", "0-0", "99999999999999999999-1"), value),
          "sec-fetch-site": FastCheck.constantFrom("same-origin", "cross-site", "none"),
          "accept-encoding": FastCheck.oneof(FastCheck.constant("br, gzip"), value),
          "if-none-match": value,
          "x-forwarded-proto": value
        }, { requiredKeys: [] })
        const body = FastCheck.oneof(
          FastCheck.json(),
          FastCheck.string(),
          FastCheck.constantFrom(
            "{\"type\":\"a\",\"payload\":\"\\u0000\"}",
            "{\"type\":\"a\\u0000\"}",
            "{\"type\":\"a\",\"payload\":\"\\ud800\"}",
            "{\"type\":\"a\",\"priority\":1e300}",
            "{\"type\":\"a\",\"delayMs\":9007199254740991}",
            "{\"type\":\"a\",\"runAt\":\"+275760-09-13T00:00:00.000Z\"}",
            "{\"action\":\"cancel\",\"filter\":{\"q\":\"%\\u0000\"}}",
            "{\"action\":\"retry\",\"filter\":{\"ids\":[\"0\"]}}",
            "{\"__proto__\":{\"type\":\"a\"}}"
          )
        )
        const requests = FastCheck.sample(
          FastCheck.record({
            server: FastCheck.constantFrom(...servers),
            method: FastCheck.constantFrom("GET", "GET", "POST", "POST", "HEAD", "OPTIONS", "PUT", "DELETE"),
            path,
            headers,
            body
          }),
          { numRuns: 1000, seed: 20261121 }
        )
        let answered = 0
        yield* Effect.forEach(
          requests,
          ({ body, headers, method, path, server }) =>
            Raw.send(server, { method, path, headers, body: method === "POST" ? body : undefined }).pipe(
              Effect.tap(({ body: answer, status }) =>
                Effect.sync(() => {
                  answered++
                  // The page is not built for the tests.
                  if (status === 503 && method !== "HEAD") {
                    assert.include(answer, "npm run build", `${method} ${path} ${body}`)
                  } else if (status !== 503) {
                    assert.isBelow(status, 500, `${method} ${path} ${body}: ${answer}`)
                  }
                })
              ),
              // A stream goes on.
              Effect.timeoutOption("5 seconds")
            ),
          { concurrency: 8 }
        )
        assert.isAbove(answered, 950)
      }),
    60_000
  )
})

describe("options", () => {
  it.effect.each(
    [
      [{ prefix: "/a b" }, "prefix is \"/a b\", but must be a path such as /spindle"],
      [{ prefix: "//evil.example" }, "prefix is \"//evil.example\""],
      [{ allowedHosts: ["a:80"] }, "allowedHosts is [\"a:80\"], but must be names without ports"],
      [{ token: Redacted.make("short") }, "token is 5 characters long, but must be at least 32"]
    ] as const
  )("refuses %j", ([options, message]) =>
    Effect.gen(function*() {
      const failed = yield* Effect.flip(Layer.build(
        Dashboard.layer(options).pipe(Layer.provide(HttpRouter.layer)) as Layer.Layer<
          never,
          Dashboard.DashboardError
        >
      ))
      assert.include(failed.message, message)
    }))
})

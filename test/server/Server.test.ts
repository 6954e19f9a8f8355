import { assert, describe, it } from "@effect/vitest"
import { Context, Deferred, Effect, Exit, Fiber, Latch, Layer, Redacted, Scope } from "effect"
import { HttpRouter, HttpServerResponse } from "effect/http"
import * as Http from "node:http"
import * as Net from "node:net"
import * as Access from "../../src/server/Access.ts"
import * as Server from "../../src/server/Server.ts"
import * as Session from "../../src/server/Session.ts"
import * as Streams from "../../src/server/Streams.ts"
import * as Raw from "../support/Raw.ts"

const settings = { port: 0, host: "127.0.0.1", token: undefined, readOnly: false, allowedHosts: [], prefix: "" }

const portOf = (url: string) => Number(new URL(url).port)

/** Mounts a stream that ends with the server, an answer that waits for a latch, and one that comes at once. */
const mount = Effect.fnUntraced(function*(server: Server.Server, slow: Latch.Latch) {
  const asked = yield* Deferred.make<void>()
  const closing = yield* Latch.make()
  const context = yield* HttpRouter.use(Effect.fnUntraced(function*(router) {
    yield* router.add("GET", "/stream", Streams.lifecycle)
    yield* router.add("GET", "/quick", HttpServerResponse.text("quick"))
    yield* router.add(
      "GET",
      "/slow",
      Deferred.succeed(asked, undefined).pipe(
        Effect.andThen(slow.await),
        Effect.as(HttpServerResponse.text("slow"))
      )
    )
  })).pipe(Layer.provideMerge(HttpRouter.layer), Layer.fresh, Layer.build)
  const handle = Access.guard(Context.get(context, HttpRouter.HttpRouter).asHttpEffect(), {
    session: Session.make(settings),
    closing,
    allowedHosts: [],
    loginPage: Effect.succeedNone,
    isPublic: () => Effect.succeed(false),
    methodsOf: () => []
  })
  yield* server.mount({ handle, closing })
  return { asked: Deferred.await(asked) }
})

/** An open stream: how it ends. */
const follow = Effect.fnUntraced(function*(url: string) {
  const opened = yield* Deferred.make<void>()
  const ended = yield* Deferred.make<"ended" | "cut">()
  const request = Http.get(`${url}stream`, { agent: false }, (response) => {
    response.on("data", () => Deferred.doneUnsafe(opened, Exit.void))
    response.on("end", () => Deferred.doneUnsafe(ended, Exit.succeed("ended")))
    response.on("error", () => Deferred.doneUnsafe(ended, Exit.succeed("cut")))
  })
  request.on("error", () => Deferred.doneUnsafe(ended, Exit.succeed("cut")))
  yield* Deferred.await(opened)
  return { ended: Deferred.await(ended) }
})

/** A connection that sends this and no more. */
const connect = (url: string, text: string) =>
  Effect.callback<Net.Socket>((resume) => {
    const socket = Net.connect(portOf(url), "127.0.0.1", () => {
      socket.write(text)
      resume(Effect.succeed(socket))
    })
    socket.on("error", () => {})
  })

const isClosed = (socket: Net.Socket) =>
  Effect.callback<void>((resume) => {
    if (socket.destroyed) return resume(Effect.void)
    socket.on("data", () => {})
    socket.on("close", () => resume(Effect.void))
  })

describe("a server", () => {
  it.live("listens where it is told", () =>
    Effect.gen(function*() {
      const server = yield* Server.listen(settings)
      assert.match(server.url, /^http:\/\/127\.0\.0\.1:\d+\/$/)
      const six = yield* Server.listen({ ...settings, host: "::1" })
      assert.match(six.url, /^http:\/\/\[::1\]:\d+\/$/)
      assert.strictEqual((yield* Raw.send(six.url, { path: "/livez" })).status, 200)
    }))

  it.live("does not start where it cannot listen, and says what to do", () =>
    Effect.gen(function*() {
      const server = yield* Server.listen(settings)
      const port = portOf(server.url)
      const taken = yield* Effect.flip(Server.listen({ ...settings, port }))
      assert.deepStrictEqual([taken.message, taken.misconfigured], [
        `The port ${port} of 127.0.0.1 is taken by another process: WORKER_HTTP_PORT chooses another, 0 a free one, and off goes without`,
        false
      ])
      const elsewhere = yield* Effect.flip(Server.listen({ ...settings, host: "192.0.2.1" }))
      assert.deepStrictEqual([elsewhere.message, elsewhere.misconfigured], [
        "WORKER_HTTP_HOST is \"192.0.2.1\", but must be an address of this machine",
        true
      ])
    }))

  it.live("is alive and not ready until the worker runs", () =>
    Effect.gen(function*() {
      const token = "0123456789abcdef0123456789abcdef"
      const { url } = yield* Server.listen({ ...settings, token: Redacted.make(token) })
      assert.deepInclude(yield* Raw.send(url, { path: "/livez" }), {
        status: 200,
        body: "{\"status\":\"ok\",\"problems\":[],\"loops\":[]}"
      })
      const ready = yield* Raw.send(url, { path: "/readyz" })
      assert.deepStrictEqual([ready.status, Raw.detail(ready), ready.headers["retry-after"]], [
        503,
        "The worker is starting",
        "1"
      ])
      assert.strictEqual((yield* Raw.send(url, { path: "/api/overview" })).status, 401)
      const headers = { authorization: `Bearer ${token}` }
      assert.strictEqual((yield* Raw.send(url, { path: "/api/overview", headers })).status, 503)
    }))

  it.live("ends streams in order when it stops, whatever else is open", () =>
    Effect.gen(function*() {
      const outer = yield* Scope.make()
      const inner = yield* Scope.fork(outer)
      const slow = yield* Latch.make()
      const server = yield* Scope.provide(Server.listen(settings), outer)
      const { asked } = yield* Scope.provide(mount(server, slow), inner)
      const streams = yield* Effect.all([follow(server.url), follow(server.url)])
      const idle = yield* connect(server.url, "")
      const half = yield* connect(server.url, "GET /quick HTTP/1.1\r\nHost: loc")
      const body = yield* connect(
        server.url,
        "POST /quick HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
      )
      const kept = yield* connect(server.url, "GET /quick HTTP/1.1\r\nHost: localhost\r\n\r\n")
      const waiting = yield* connect(server.url, "GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
      yield* asked
      yield* Scope.close(inner, Exit.void).pipe(Effect.timeout("10 seconds"))
      assert.deepStrictEqual(yield* Effect.all(streams.map(({ ended }) => ended)), ["ended", "ended"])
      yield* Effect.forEach([idle, half, body, kept, waiting], isClosed)
      const refused = yield* Effect.exit(
        Effect.callback<void, Error>((resume) => {
          const socket = Net.connect(portOf(server.url), "127.0.0.1", () => resume(Effect.void))
          socket.on("error", (error) => resume(Effect.fail(error)))
        })
      )
      assert.isTrue(Exit.isFailure(refused))
      yield* Scope.close(outer, Exit.void).pipe(Effect.timeout("10 seconds"))
    }))

  it.live("lets an answer that is on its way arrive", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const slow = yield* Latch.make()
      const server = yield* Scope.provide(Server.listen(settings), scope)
      const { asked } = yield* Scope.provide(mount(server, slow), scope)
      const stream = yield* follow(server.url)
      const answer = yield* Effect.forkChild(Raw.send(server.url, { path: "/slow" }))
      yield* asked
      const closed = yield* Effect.forkChild(Scope.close(scope, Exit.void))
      // Its end is the beginning of the shutdown.
      assert.strictEqual(yield* stream.ended, "ended")
      yield* slow.open
      assert.strictEqual((yield* Fiber.join(answer)).body, "slow")
      yield* Fiber.join(closed)
    }))

  it.live("closes when nothing was mounted, whatever is open", () =>
    Effect.gen(function*() {
      const scope = yield* Scope.make()
      const server = yield* Scope.provide(Server.listen(settings), scope)
      const half = yield* connect(server.url, "GET /")
      yield* Scope.close(scope, Exit.void).pipe(Effect.timeout("10 seconds"))
      yield* isClosed(half)
    }))

  // Only on Linux every address of 127.0.0.0/8 is there.
  it.live.runIf(process.platform === "linux")(
    "has connections left for others, however many one address opens",
    () =>
      Effect.gen(function*() {
        const server = yield* Server.listen(settings)
        const probe = (localAddress: string) =>
          Effect.callback<number>((resume) => {
            const request = Http.get(`${server.url}livez`, { agent: false, localAddress }, (response) => {
              response.resume()
              resume(Effect.succeed(response.statusCode ?? 0))
            })
            request.on("error", () => resume(Effect.succeed(0)))
          })
        const sockets = yield* Effect.forEach(
          Array.from({ length: 1500 }),
          () => connect(server.url, ""),
          { concurrency: 50 }
        )
        // The system connects more than the server has taken on by then.
        yield* probe("127.0.0.1").pipe(Effect.repeat({ until: (status) => status === 0 }))
        yield* isClosed(yield* connect(server.url, ""))
        assert.strictEqual(yield* probe("127.0.0.2"), 200)
        const gone = Effect.forEach(sockets.slice(0, 10), isClosed)
        for (const socket of sockets.slice(0, 10)) socket.destroy()
        yield* gone
        yield* probe("127.0.0.1").pipe(Effect.repeat({ until: (status) => status === 200 }))
      }),
    60_000
  )

  it.live("does not wait for a request that does not come", () =>
    Effect.gen(function*() {
      const server = yield* Server.listen(settings)
      yield* mount(server, yield* Latch.make())
      const stream = yield* follow(server.url)
      const answer = yield* Raw.bytes(server.url, "GET /quick HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
      assert.strictEqual(answer.status, 408)
      const still = yield* Effect.timeoutOption(stream.ended, 0)
      assert.strictEqual(still._tag, "None")
    }))
})

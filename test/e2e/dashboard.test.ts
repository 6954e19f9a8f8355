/** The server of a worker service, as a process. */
import { assert, describe, it, layer } from "@effect/vitest"
import { Deferred, Effect, Exit, Redacted } from "effect"
import * as Http from "node:http"
import * as Net from "node:net"
import * as Path from "node:path"
import * as Cli from "../support/Cli.ts"
import * as Port from "../support/Port.ts"
import * as Raw from "../support/Raw.ts"
import { TestDatabase } from "../support/TestDatabase.ts"

const fixtures = Path.join(import.meta.dirname, "fixtures/tasks.ts")
const token = "0123456789abcdef0123456789abcdef"

const start = Effect.fnUntraced(function*(env: Cli.Environment, ...args: ReadonlyArray<string>) {
  const { url } = yield* TestDatabase
  return yield* Cli.spawn({ DATABASE_URL: Redacted.value(url), ...env }, ["start", ...args])
})

const addressOf = Effect.fnUntraced(function*(service: Cli.Running) {
  yield* service.says("message=dashboard")
  yield* service.says("address=http")
  return /address=(http:\S+)/.exec(service.output().stderr)![1]!
})

layer(TestDatabase.layerSql(), { excludeTestServices: true })("a service's server", (it) => {
  it.effect("shows the worker, and asks for the token", () =>
    Effect.gen(function*() {
      const service = yield* start({ WORKER_HTTP_TOKEN: token, WORKER_HTTP_HOST: "0.0.0.0", WORKER_ID: "shown" })
      const url = (yield* addressOf(service)).replace("0.0.0.0", "127.0.0.1")
      assert.strictEqual((yield* Raw.send(url, { path: "/readyz" })).status, 200)
      assert.strictEqual((yield* Raw.send(url, { path: "/api/overview" })).status, 401)
      const headers = { authorization: `Bearer ${token}` }
      const overview = JSON.parse((yield* Raw.send(url, { path: "/api/overview", headers })).body)
      assert.match(overview.id, /^shown-/)
      const types = JSON.parse((yield* Raw.send(url, { path: "/api/types", headers })).body)
      assert.include(types.map(({ type }: { type: string }) => type), "ai_response")
      assert.strictEqual((yield* Raw.send(url, { path: "/metrics", headers })).status, 200)
      assert.strictEqual(
        (yield* Raw.send(url, { path: "/metrics", headers: { ...headers, host: "evil.example" } })).status,
        403
      )
      yield* service.signal("SIGTERM")
      assert.strictEqual(yield* service.ended, 0)
      assert.notInclude(service.output().stderr, token)
    }))

  it.effect("ends its streams at SIGTERM, and then the worker drains", () =>
    Effect.gen(function*() {
      const service = yield* start({ WORKER_SHUTDOWN_GRACE: "600000" }, "--tasks", fixtures)
      const url = yield* addressOf(service)
      const enqueued = yield* Raw.send(url, {
        method: "POST",
        path: "/api/tasks",
        headers: Raw.json,
        body: JSON.stringify({ type: "patient" })
      })
      const { id } = JSON.parse(enqueued.body)
      const ended = yield* Deferred.make<void>()
      const opened = yield* Deferred.make<void>()
      Http.get(`${url}api/tasks/${id}/events`, { agent: false }, (response) => {
        response.on("data", () => Deferred.doneUnsafe(opened, Exit.void))
        response.on("end", () => Deferred.doneUnsafe(ended, Exit.void))
      })
      yield* Deferred.await(opened)
      yield* service.says("a patient task runs")
      yield* service.signal("SIGTERM")
      yield* Deferred.await(ended)
      yield* service.says("waiting for running tasks")
      const refused = yield* Effect.exit(
        Effect.callback<void, Error>((resume) => {
          const socket = Net.connect(Number(new URL(url).port), "127.0.0.1", () => resume(Effect.void))
          socket.on("error", (error) => resume(Effect.fail(error)))
        })
      )
      assert.isTrue(Exit.isFailure(refused))
      yield* service.signal("SIGTERM")
      assert.strictEqual(yield* service.ended, 0)
      yield* Cli.run("cancel", id)
    }))

  it.effect("is not there where it is off", () =>
    Effect.gen(function*() {
      const service = yield* start({ WORKER_HTTP_PORT: "off" })
      yield* service.says("worker started")
      yield* service.signal("SIGTERM")
      assert.strictEqual(yield* service.ended, 0)
      assert.notInclude(service.output().stderr, "dashboard")
    }))

  it.effect("does not start the worker where the port is taken", () =>
    Effect.gen(function*() {
      const holder = yield* Effect.acquireRelease(
        Effect.callback<Net.Server>((resume) => {
          const server = Net.createServer().listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
        }),
        (server) => Effect.sync(() => void server.close())
      )
      const { port } = holder.address() as Net.AddressInfo
      const service = yield* start({ WORKER_HTTP_PORT: String(port) })
      assert.strictEqual(yield* service.ended, 1)
      const { stderr } = service.output()
      assert.include(stderr, `spindle: The port ${port} of 127.0.0.1 is taken by another process: WORKER_HTTP_PORT`)
      assert.notInclude(stderr, "worker started")
      assert.notInclude(stderr, "    at ")
    }))
})

describe("without a database", () => {
  it.live("a service is alive and not ready", () =>
    Effect.gen(function*() {
      const port = yield* Port.free
      const service = yield* Cli.spawn({
        DATABASE_URL: "postgres://u:secret@127.0.0.1:1/d",
        WORKER_HTTP_PORT: String(port)
      }, ["start"])
      yield* service.says("the database cannot be used yet")
      const url = `http://127.0.0.1:${port}/`
      assert.strictEqual((yield* Raw.send(url, { path: "/livez" })).status, 200)
      assert.strictEqual((yield* Raw.send(url, { path: "/readyz" })).status, 503)
      yield* service.signal("SIGTERM")
      assert.strictEqual(yield* service.ended, 0)
    }))

  it.live.each(
    [
      [{ WORKER_HTTP_HOST: "0.0.0.0" }, /^spindle: WORKER_HTTP_HOST is "0\.0\.0\.0", .*WORKER_HTTP_TOKEN/],
      [{ WORKER_HTTP_TOKEN: "sesame" }, /^spindle: WORKER_HTTP_TOKEN is 6 characters long, but must be at least 32\n$/],
      [{ WORKER_HTTP_PORT: "http" }, /^spindle: WORKER_HTTP_PORT is "http", but must be/],
      [
        { WORKER_HTTP_PORT: "0", WORKER_HTTP_HOST: "192.0.2.1", WORKER_HTTP_TOKEN: token },
        /^spindle: WORKER_HTTP_HOST is "192\.0\.2\.1", but must be an address of this machine\n$/
      ]
    ] as const
  )("a mistake in %j stops the start", ([env, line]) =>
    Effect.gen(function*() {
      const service = yield* Cli.spawn({ DATABASE_URL: "postgres://u:secret@127.0.0.1:1/d", ...env }, ["start"])
      assert.strictEqual(yield* service.ended, 78)
      assert.match(service.output().stderr, line)
      assert.strictEqual(service.output().stderr.split("\n").length, 2)
    }))
})

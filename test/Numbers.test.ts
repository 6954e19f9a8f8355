/** A number that JavaScript does not have, through every door: refused with its path, or carried as it is. */
import { PgClient } from "@effect/sql-pg"
import { assert, layer } from "@effect/vitest"
import { Context, Effect, Exit, Layer, Option, Schema, Stream } from "effect"
import { FetchHttpClient } from "effect/http"
import { HttpApiClient } from "effect/http-api"
import { SqlClient } from "effect/sql"
import * as Api from "../src/Api.ts"
import * as Json from "../src/internal/Json.ts"
import * as Mount from "../src/server/Mount.ts"
import * as Server from "../src/server/Server.ts"
import * as Task from "../src/Task.ts"
import * as TaskEvent from "../src/TaskEvent.ts"
import * as TaskGroup from "../src/TaskGroup.ts"
import * as TaskQueue from "../src/TaskQueue.ts"
import * as Cli from "./support/Cli.ts"
import * as Raw from "./support/Raw.ts"
import * as Harness from "./support/WorkerHarness.ts"

// as PostgreSQL writes them
const inexact = [
  "1970670598291982290",
  "-9007199254740993",
  "0.1000000000000000055",
  "12345678901234567.89",
  `1${"0".repeat(400)}`,
  `0.${"0".repeat(400)}1`
]

const exact = ["9007199254740991", "100000000000000000000000", "1.10", "0.30000000000000004", "-0", "1e23", "5e-324"]

class Loose extends Task.make("loose", { payload: Schema.Json, success: Schema.Json }) {}

class Ids extends Task.make("ids", {
  payload: { userId: Schema.Finite },
  success: Schema.Struct({ id: Schema.Finite }),
  error: Harness.Refused,
  event: TaskEvent.Progress
}) {}

const Tasks = TaskGroup.make(Loose, Ids)

const serve = Effect.gen(function*() {
  const settings = { token: undefined, readOnly: false, allowedHosts: [] }
  const server = yield* Server.listen({ ...settings, host: "127.0.0.1", port: 0 })
  const context = Context.make(SqlClient.SqlClient, yield* PgClient.PgClient)
  yield* server.mount(
    yield* Mount.make({ ...settings, prefix: "" }).pipe(
      Effect.provide([TaskQueue.layer, server.services]),
      Effect.provide(context)
    )
  )
  return {
    send: (request: Raw.Request) => Raw.send(server.url, { ...request, headers: Raw.json }),
    client: yield* Effect.provide(HttpApiClient.make(Api.Api, { baseUrl: server.url }), FetchHttpClient.layer)
  }
})

const queueOf = Effect.gen(function*() {
  const sql = Layer.succeed(SqlClient.SqlClient, yield* PgClient.PgClient)
  return Context.get(yield* Layer.build(Layer.provide(TaskQueue.layer, sql)), TaskQueue.TaskQueue)
})

const count = Effect.gen(function*() {
  const sql = yield* PgClient.PgClient
  const [row] = yield* sql<{ readonly count: number }>`select count(*)::int as count from spindle.tasks`
  return row!.count
})

const decimals = (text: string) => Number(text) === 0 && /^-?[0.]+$/.test(text) ? "0" : text

layer(Harness.database, { excludeTestServices: true })("a number that JavaScript does not have", (it) => {
  it.effect("is refused with its path where it comes in, and nothing is stored", () =>
    Effect.gen(function*() {
      const { send } = yield* serve
      const queue = yield* queueOf
      const before = yield* count
      for (const number of [...inexact, "1e400", "1E-400"]) {
        const payload = `{"list":[0,{"userId":${number}}]}`
        const told = `The number ${number.length > 40 ? number.slice(0, 40) : number}`
        const path = "at payload.list[1].userId would become"

        const cli = yield* Cli.run("enqueue", "loose", payload)
        assert.deepStrictEqual([cli.code, cli.stdout], [64, ""])
        for (const part of [told, path]) assert.include(cli.stderr, part)

        for (const body of [`{"type":"loose","payload":${payload}}`, `{"type":"loose","metadata":${payload}}`]) {
          const { body: problem, status } = yield* send({ method: "POST", path: "/api/tasks", body })
          assert.strictEqual(status, 422)
          assert.include(problem, told)
          assert.match(problem, /at (payload|metadata)\.list\[1\]\.userId would become/)
        }

        if (/e/i.test(number)) continue
        const read = Json.parse(payload) as Schema.JsonObject
        for (const [given, options] of [[read, {}], [{}, { metadata: read }]] as const) {
          const { message } = yield* Effect.flip(queue.enqueueRaw("loose", given, options))
          assert.include(message, told)
          assert.match(message, /at (payload|metadata)\.list\[1\]\.userId would become/)
        }
      }
      for (const number of [Number.NaN, Infinity]) {
        const { message } = yield* Effect.flip(queue.enqueueRaw("loose", { a: [number] }))
        assert.include(message, `The number at payload.a[0] is ${number}`)
      }
      assert.strictEqual(yield* count, before)
    }))

  it.effect("is stored as what it is where JavaScript has it", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      const { send } = yield* serve
      for (const number of exact) {
        const same = (id: string) =>
          sql<{ same: boolean }>`
            select payload = ${`{"a":[${number}]}`}::text::jsonb as same from spindle.tasks where id = ${BigInt(id)}`
        const { stdout } = yield* Cli.run("enqueue", "kept", `{"a":[${number}]}`)
        const { body, status } = yield* send({
          method: "POST",
          path: "/api/tasks",
          body: `{"type":"kept","payload":{"a":[${number}]}}`
        })
        assert.strictEqual(status, 201, body)
        assert.deepStrictEqual(yield* same(stdout.trim()), [{ same: true }], number)
        assert.deepStrictEqual(yield* same(JSON.parse(body).id), [{ same: true }], number)
      }
    }))

  it.effect("is shown as it is stored", () =>
    Effect.gen(function*() {
      const { client, send } = yield* serve
      const queue = yield* queueOf
      const sql = yield* PgClient.PgClient
      for (const number of inexact) {
        const json = `{"apiKey": {"id": [${number}]}, "__proto__": {"n": ${number}}}`
        const compact = json.replaceAll(" ", "")
        const id = yield* Harness.insert("shown", {
          status: "failed",
          finished_at: new Date(),
          payload: json,
          result: json,
          error: json,
          metadata: json
        })
        yield* sql`insert into spindle.task_events (task_id, epoch, seq, type, data) values (${id}, 0, 1, 'mine', ${json}::text::jsonb)`
        yield* sql`insert into spindle.task_events (task_id, epoch, seq, type, data) values (${id}, 0, 2, 'error', ${json}::text::jsonb)`
        const times = (text: string) => text.replaceAll(/\s/g, "").split(compact).length - 1

        assert.strictEqual(times((yield* Cli.run("show", `${id}`, "--json")).stdout.replaceAll("\\\"", "\"")), 4)
        assert.strictEqual(times((yield* Cli.run("show", `${id}`)).stdout), 4)
        assert.strictEqual(times((yield* Cli.run("list", "--limit", "1", "--json")).stdout.replaceAll("\\\"", "\"")), 4)
        assert.include((yield* Cli.run("list", "--limit", "1")).stdout, `Unknown: {"apiKey":`)
        assert.strictEqual(times((yield* Cli.run("follow", `${id}`, "--json")).stdout), 2)
        assert.strictEqual(times((yield* Cli.run("follow", `${id}`)).stderr), 1)

        assert.strictEqual(times((yield* send({ path: `/api/tasks/${id}` })).body.replaceAll("\\\"", "\"")), 5)
        assert.strictEqual(
          times((yield* send({ path: `/api/tasks?type=shown&limit=1` })).body.replaceAll("\\\"", "\"")),
          1
        )
        assert.strictEqual(times((yield* send({ path: `/api/tasks/${id}/events` })).body), 2)

        const detail = yield* client.tasks.get({ params: { id: id as Task.TaskId } })
        for (const value of [detail.payload, detail.metadata]) assert.strictEqual(JSON.stringify(value), compact)
        const task = Option.getOrThrow(yield* queue.get(id as Task.TaskId))
        for (const value of [task.payload, task.result, task.metadata]) {
          assert.strictEqual(JSON.stringify(value), compact)
        }
        const events = yield* Stream.runCollect(queue.events(id as Task.TaskId))
        assert.deepStrictEqual(events.map(({ data }) => JSON.stringify(data)), [compact, compact])
      }
    }))

  it.effect("does not reach a handler, nor whoever waits for a typed result", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      const seen: Array<unknown> = []
      yield* Harness.launch(
        Tasks,
        Tasks.toLayer({
          loose: (payload) => Effect.sync(() => void seen.push(payload)).pipe(Effect.as(payload)),
          ids: ({ userId }) => Effect.sync(() => void seen.push(userId)).pipe(Effect.as({ id: userId }))
        })
      )
      const queue = yield* queueOf
      for (const number of inexact) {
        const path = `The number ${number.slice(0, 40)}`
        const rejected = [
          [yield* Harness.insert("loose", { payload: `[${number}]` }), "payload[0]"],
          [yield* Harness.insert("ids", { payload: `{"userId":${number}}` }), "payload.userId"],
          [yield* Harness.insert("ids", { payload: `{"userId":1,"other":${number}}` }), "payload.other"],
          [yield* Harness.insert("loose", { metadata: `{"a":${number}}` }), "metadata.a"]
        ] as const
        for (const [id, place] of rejected) {
          const { attempts, error, status } = yield* Harness.awaitOver(id)
          assert.deepStrictEqual([status, attempts, error.kind, error.tag], ["failed", 1, "rejected", "InvalidPayload"])
          assert.isTrue(error.message.startsWith(path) && error.message.includes(` at ${place} would become `))
        }

        // what another program has written
        const failed = JSON.stringify({ kind: "failure", tag: "Refused", message: "" }).replace(
          "}",
          `,"data":[${number}]}`
        )
        const ended = [
          [{ status: "completed", result: `{"id":${number}}` }, "result.id"],
          [{ status: "failed", error: failed }, "error.data[0]"]
        ] as const
        for (const [columns, place] of ended) {
          const id = (yield* Harness.insert("ids", { finished_at: new Date(), ...columns })) as Task.TaskId
          const { message } = yield* Effect.flip(queue.await(Ids, id))
          assert.isTrue(message.includes(path) && message.includes(` at ${place} would become `), message)
        }
        const told = yield* Harness.insert("ids", { status: "completed", finished_at: new Date() })
        yield* sql`insert into spindle.task_events (task_id, epoch, seq, type, data)
                   values (${told}, 0, 1, 'progress', ${`{"fraction":${number}}`}::text::jsonb)`
        const { message } = yield* Effect.flip(Stream.runDrain(queue.follow(Ids, told as Task.TaskId)))
        assert.isTrue(message.includes(path) && message.includes(" at data.fraction would become "), message)
      }
      assert.deepStrictEqual(seen, [])

      const numbers = exact.map(decimals)
      for (const number of numbers) {
        const id = (yield* Harness.insert("loose", { payload: `{"a":[${number}]}` })) as Task.TaskId
        assert.deepStrictEqual(yield* queue.await(Loose, id), Exit.succeed<Schema.Json>({ a: [Number(number)] }))
      }
      assert.deepStrictEqual(seen, numbers.map((number) => ({ a: [Number(number)] })))
    }))
})

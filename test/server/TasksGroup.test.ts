import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Layer, Option, Schema } from "effect"
import { HttpBody } from "effect/http"
import * as HandlerRegistry from "../../src/HandlerRegistry.ts"
import { mask } from "../../src/server/Masking.ts"
import * as TaskPages from "../../src/storage/TaskPages.ts"
import * as Task from "../../src/Task.ts"
import * as TaskGroup from "../../src/TaskGroup.ts"
import * as HttpServer from "../support/HttpServer.ts"
import * as Harness from "../support/WorkerHarness.ts"

const idOf = (id: bigint) => id as Task.TaskId

class Resize extends Task.make("image:resize", {
  payload: { url: Schema.String, width: Schema.Int },
  queue: "images",
  maxAttempts: 7,
  unique: ({ url }) => ({ key: url })
}) {}

class Many extends Task.make("many", { payload: { words: Schema.Array(Schema.String) } }) {}

const registry = Effect.gen(function*() {
  const group = TaskGroup.make(Resize, Many)
  const context = yield* Layer.build(
    HandlerRegistry.layer(group).pipe(
      Layer.provide(group.toLayer({ "image:resize": () => Effect.void, many: () => Effect.void }))
    )
  )
  return Context.get(context, HandlerRegistry.HandlerRegistry)
})

describe("a request", () => {
  it.live("has no key that does not exist, which is named", () =>
    Effect.gen(function*() {
      const server = yield* HttpServer.serve()
      const id = yield* Harness.insert("plain")
      const requests = [
        server.get("/api/tasks?stauts=failed"),
        server.post("/api/tasks/bulk", { action: "cancel", filter: { type: "plain", stauts: "failed" } }),
        server.post("/api/tasks/bulk", { action: "cancel", filter: { type: "plain" }, stauts: "failed" }),
        server.post("/api/tasks", { type: "plain", stauts: "failed" }),
        server.post(`/api/tasks/${id}/retry`, { stauts: true })
      ]
      for (const request of requests) {
        const { errors } = yield* HttpServer.problem(yield* request, 400)
        assert.include(JSON.stringify(errors), "stauts")
      }
      const { tasks } = yield* server.tasks.list({ query: {} })
      assert.deepStrictEqual(tasks.map(({ status }) => status), ["queued"])
      // substitutes of EventSource send more
      yield* HttpServer.problem(yield* server.get("/api/tasks/999/events?lastEventId=1-1"), 404)
      // what is the task's own may have any
      yield* server.tasks.enqueue({ payload: { type: "plain", payload: { a: { b: 1 } }, metadata: { c: { d: 1 } } } })
    }).pipe(Harness.onDatabase))
})

describe("a task that is nested deep", () => {
  const nested = (depth: number) => `${"[".repeat(depth)}${"]".repeat(depth)}`

  it.live("is shown as far as it goes", () =>
    Effect.gen(function*() {
      const server = yield* HttpServer.serve()
      const id = yield* Harness.insert("plain", { payload: `{"a":${nested(5000)}}` })
      const { payload } = yield* server.tasks.get({ params: { id: idOf(id) } })
      assert.include(JSON.stringify(payload), "[\"…\"]")
    }).pipe(Harness.onDatabase))

  it.live("is not stored", () =>
    Effect.gen(function*() {
      const server = yield* HttpServer.serve()
      const enqueue = (depth: number) =>
        server.post("/api/tasks", { type: "plain", payload: JSON.parse(nested(depth)) })
      assert.strictEqual((yield* enqueue(200)).status, 201)
      const { detail } = yield* HttpServer.problem(yield* enqueue(201), 422)
      assert.include(detail, "it is nested deeper than 200")
    }).pipe(Harness.onDatabase))
})

describe("the list", () => {
  it.live("narrows by every field, and finds pieces of text without wildcards", () =>
    Effect.gen(function*() {
      const server = yield* HttpServer.serve()
      const failure = JSON.stringify({ kind: "failure", tag: "Boom", message: "the printer is on FIRE" })
      const a = yield* Harness.insert("mail", { tag: "50%_off", payload: JSON.stringify({ to: "ada@example.org" }) })
      const b = yield* Harness.insert("mail", {
        queue: "slow",
        user_id: "u1",
        metadata: JSON.stringify({ trace: "t-77" })
      })
      const c = yield* Harness.insert("print", { status: "failed", error: failure, unique_key: "page-9" })
      const d = yield* Harness.insert("print", { status: "cancelled", tag: "50 percent off" })
      const e = yield* Harness.insert("print", { status: "completed" })
      const f = yield* Harness.insert("print", { status: "processing", locked_by: "w", lease_expires_at: new Date() })
      const expect = Effect.fnUntraced(function*(
        query: Parameters<typeof server.tasks.list>[0]["query"],
        ids: ReadonlyArray<bigint>
      ) {
        const page = yield* server.tasks.list({ query })
        assert.deepStrictEqual(page.tasks.map(({ id }) => id), ids.map(idOf), JSON.stringify(query))
        assert.deepStrictEqual(page.total, { count: ids.length, capped: false }, JSON.stringify(query))
        assert.isNull(page.next)
      })
      yield* expect({}, [f, e, d, c, b, a])
      yield* expect({ type: "mail" }, [b, a])
      yield* expect({ queue: "slow" }, [b])
      yield* expect({ userId: "u1" }, [b])
      yield* expect({ tag: "50%_off" }, [a])
      yield* expect({ status: "queued" }, [b, a])
      yield* expect({ status: "queued", queue: "default" }, [a])
      yield* expect({ status: "queued", tag: "none" }, [])
      yield* expect({ status: "processing" }, [f])
      yield* expect({ status: "completed" }, [e])
      yield* expect({ status: "failed" }, [c])
      yield* expect({ status: "cancelled" }, [d])
      yield* expect({ status: "cancelled", type: "mail" }, [])
      yield* expect({ q: "ADA@" }, [a])
      yield* expect({ q: "%_" }, [a])
      yield* expect({ q: "50" }, [d, a])
      yield* expect({ q: "\\" }, [])
      yield* expect({ q: "t-77" }, [b])
      yield* expect({ q: "on fire" }, [c])
      yield* expect({ q: "PAGE-9" }, [c])
      yield* expect({ q: "u1", type: "print" }, [])
    }).pipe(Harness.onDatabase))

  it.live("begins with the task whose id is looked for, and has it once", () =>
    Effect.gen(function*() {
      const server = yield* HttpServer.serve()
      const wanted = yield* Harness.insert("plain")
      const others: Array<bigint> = []
      for (let i = 0; i < 5; i++) {
        others.push(yield* Harness.insert("plain", { payload: JSON.stringify({ about: String(wanted) }) }))
      }
      const seen: Array<bigint> = []
      let before: Task.TaskId | undefined
      do {
        const page = yield* server.tasks.list({
          query: { q: String(wanted), limit: 2, ...before === undefined ? {} : { before } }
        })
        seen.push(...page.tasks.map(({ id }) => id))
        assert.strictEqual(page.total.count, 6)
        before = page.next ?? undefined
      } while (before !== undefined)
      assert.deepStrictEqual(seen, [wanted, ...others.toReversed()])
    }).pipe(Harness.onDatabase))

  it.live("has every task once while others are added", () =>
    Effect.gen(function*() {
      const server = yield* HttpServer.serve()
      const ids = yield* Harness.insertMany("plain", 25)
      const seen: Array<bigint> = []
      let before: Task.TaskId | undefined
      do {
        const page = yield* server.tasks.list({ query: { limit: 7, ...before === undefined ? {} : { before } } })
        seen.push(...page.tasks.map(({ id }) => id))
        yield* Harness.insertMany("plain", 5)
        before = page.next ?? undefined
      } while (before !== undefined)
      assert.deepStrictEqual(seen, ids.toReversed())
    }).pipe(Harness.onDatabase))

  it.live("refuses what it does not understand, as a problem that says what", () =>
    Effect.gen(function*() {
      const server = yield* HttpServer.serve()
      for (
        const [query, field, words] of [
          ["limit=0", "limit", "between 1 and 200"],
          ["limit=201", "limit", "between 1 and 200"],
          ["limit=ten", "limit", "finite"],
          ["before=x", "before", "decimal number"],
          ["status=done", "status", "queued"],
          ["q=", "q", "1 to 2000"],
          ["type=a%00b", "type", "NUL"]
        ] as const
      ) {
        const { errors } = yield* HttpServer.problem(yield* server.get(`/api/tasks?${query}`), 400)
        assert.deepStrictEqual(errors?.[0].path, ["query", field], query)
        assert.include(errors?.[0].message, words)
      }
      assert.deepStrictEqual(
        (yield* server.tasks.list({ query: { before: idOf(9_999_999_999_999_999_999n), limit: 200 } })).tasks,
        []
      )
    }).pipe(Harness.onDatabase))
})

describe("what stands in the way of a task", () => {
  it.live("is told with it, and in the list", () =>
    Effect.gen(function*() {
      const script = Harness.script()
      const worker = yield* Harness.launch(Harness.Tasks, script.handlers)
      const server = yield* HttpServer.serve({
        worker,
        registry: HandlerRegistry.HandlerRegistry.of({ types: ["scripted", "other"], get: () => Option.none() })
      })
      const running = yield* Harness.insert("scripted", { unique_key: "k" })
      const attempt = yield* script.next(running)
      attempt.unwind.closeUnsafe()
      yield* attempt.proceed(Effect.never)
      yield* server.tasks.cancel({ params: { id: idOf(running) } })
      const behind = yield* Harness.insert("scripted", { unique_key: "k" })
      const unknown = yield* Harness.insert("mail:send")
      const later = yield* Harness.insert("scripted", { run_at: new Date(Date.now() + 3_600_000) })
      const { tasks } = yield* server.tasks.list({ query: { status: "queued" } })
      const waiting = tasks.map(({ waiting }) => waiting.map(({ _tag }) => _tag))
      assert.deepStrictEqual(tasks.map(({ id }) => id), [later, unknown, behind].map(idOf))
      assert.deepStrictEqual(waiting, [["Later"], ["Unhandled"], ["SameKey"]])
      const shown = yield* server.tasks.get({ params: { id: idOf(behind) } })
      assert.deepStrictEqual(shown.waiting, [{ _tag: "SameKey", id: String(running) }])
      attempt.unwind.openUnsafe()
    }).pipe(Harness.onDatabase))
})

describe("a list that ends", () => {
  it.live("counts what it shows, and groups what fails alike", () =>
    Effect.gen(function*() {
      const server = yield* HttpServer.serve()
      const boom = (message: string) => JSON.stringify({ kind: "failure", tag: "Boom", message })
      const old = yield* Harness.insert("mail", { status: "failed", error: boom("down") })
      const ids = [yield* Harness.insert("mail", { status: "failed", error: boom("down") })]
      ids.push(yield* Harness.insert("mail", { status: "failed", error: boom("full") }))
      yield* Harness.insertMany("plain", TaskPages.window)
      const groups = yield* server.tasks.failures({ query: {} })
      assert.deepStrictEqual(groups.map(({ count, id, message, tag, type }) => [type, tag, message, count, id]), [
        ["mail", "Boom", "down", 2, idOf(ids[0]!)],
        ["mail", "Boom", "full", 1, idOf(ids[1]!)]
      ])
      const first = yield* server.tasks.list({ query: { tag: "none" } })
      assert.deepStrictEqual(first.total, { count: 0, capped: true })
      const rest = yield* server.tasks.list({ query: { type: "mail", before: first.next! } })
      assert.deepStrictEqual(rest.tasks.map(({ id }) => id), [...ids.toReversed(), old].map(idOf))
      assert.deepStrictEqual(rest.total, { count: 3, capped: true })
    }).pipe(Harness.onDatabase))
})

describe("a payload that does not fit", () => {
  it.live("is refused with the place of each problem", () =>
    Effect.gen(function*() {
      const server = yield* HttpServer.serve({ registry: yield* registry })
      const post = (body: object) =>
        Effect.flatMap(server.post("/api/tasks", { type: "image:resize", ...body }), (response) =>
          HttpServer.problem(response, 422))
      const { errors } = yield* post({ payload: { width: "wide" } })
      assert.deepStrictEqual(
        errors?.map(({ path }) =>
          path
        ),
        [["payload", "url"], ["payload", "width"]]
      )
      const payload = { url: "u", width: 1 }
      for (
        const [field, option] of [
          ["priority", { priority: 40_000 }],
          ["timeoutMs", { timeoutMs: -1 }],
          ["runAt", { delayMs: 1, runAt: "2030-01-01T00:00:00Z" }]
        ] as const
      ) assert.deepStrictEqual((yield* post({ payload, ...option })).errors?.[0].path, [field])
    }).pipe(Harness.onDatabase, Effect.scoped))
})

describe("a task", () => {
  it.live("is shown with its attempts, masked, and with times of the database's clock", () =>
    Effect.gen(function*() {
      const script = Harness.script()
      const worker = yield* Harness.launch(Harness.Tasks, script.handlers)
      const server = yield* HttpServer.serve({
        worker,
        registry: HandlerRegistry.HandlerRegistry.of({ types: ["scripted"], get: () => Option.none() })
      })
      const id = yield* Harness.insert("scripted", {
        payload: JSON.stringify({ apiKey: "sk-1", n: 5 }),
        metadata: JSON.stringify({ headers: { Authorization: "Bearer x" } }),
        timeout_ms: 60_000
      })
      yield* (yield* script.next(id)).proceed(Effect.fail(new Harness.Refused({ why: "not yet" })))
      const second = yield* script.next(id)
      const running = yield* server.tasks.get({ params: { id: idOf(id) } })
      assert.strictEqual(running.status, "processing")
      assert.strictEqual(running.lockedBy, worker.id)
      assert.isAtLeast(running.timing.ranMs!, 0)
      assert.isAbove(running.timing.leaseExpiresInMs!, 0)
      yield* second.proceed(Effect.succeed({ token: "t", tokens: 5 }))
      yield* Harness.awaitOver(id)
      const task = yield* server.tasks.get({ params: { id: idOf(id) } })
      assert.deepStrictEqual(task.payload, { apiKey: mask, n: 5 })
      assert.deepStrictEqual(task.metadata, { headers: { Authorization: mask } })
      assert.deepStrictEqual(task.result, { token: mask, tokens: 5 })
      assert.strictEqual(task.timeoutMs, 60_000)
      assert.isTrue(task.handledHere)
      assert.deepStrictEqual(
        task.attemptsEnded.map(({ error, outcome, worker }) => [outcome, error?.tag, worker]),
        [["retry", "Refused", worker.id], ["done", undefined, worker.id]]
      )
      for (const { durationMs } of task.attemptsEnded) assert.isAtLeast(durationMs!, 0)
      assert.isNotNull(task.attemptsEnded[0]!.runAt)
      assert.isAtLeast(task.timing.waitedMs!, 0)
      assert.isAtLeast(task.timing.ranMs!, 0)
      assert.isNull(task.timing.leaseExpiresInMs)
      assert.isNull(task.cancellation)
    }).pipe(Harness.onDatabase))

  it.live("that was cancelled tells how long that took", () =>
    Effect.gen(function*() {
      const script = Harness.script()
      const worker = yield* Harness.launch(Harness.Tasks, script.handlers)
      const server = yield* HttpServer.serve({ worker })
      const id = idOf(yield* Harness.insert("scripted"))
      const attempt = yield* script.next(id)
      attempt.unwind.closeUnsafe()
      yield* attempt.proceed(Effect.never)
      assert.deepStrictEqual(yield* server.tasks.cancel({ params: { id } }), { outcome: "cancelled" })
      const unwinding = yield* server.tasks.get({ params: { id } })
      assert.isNotNull(unwinding.cancellation?.requestedAt)
      assert.isNull(unwinding.cancellation?.totalMs)
      const conflict = yield* HttpServer.problem(yield* server.post(`/api/tasks/${id}/retry`, {}), 409)
      assert.strictEqual(conflict.outcome, "still_stopping")
      attempt.unwind.openUnsafe()
      yield* Harness.awaitOver(id)
      const { cancellation } = yield* server.tasks.get({ params: { id } })
      assert.isAtLeast(cancellation!.totalMs!, cancellation!.unwoundMs!)
      assert.approximately(cancellation!.totalMs!, cancellation!.noticedMs! + cancellation!.unwoundMs!, 0.001)

      const queued = idOf(yield* Harness.insert("nobody"))
      yield* server.tasks.cancel({ params: { id: queued } })
      const { cancellation: atOnce, timing } = yield* server.tasks.get({ params: { id: queued } })
      assert.strictEqual(atOnce!.totalMs, 0)
      assert.isNull(timing.ranMs)
      assert.isAtLeast(timing.waitedMs!, 0)
    }).pipe(Harness.onDatabase))

  it.live("with values beyond 256 KiB, odd errors and times without end does not choke", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      const server = yield* HttpServer.serve()
      const id = idOf(yield* Harness.insert("plain", { payload: JSON.stringify({ text: "x".repeat(300_000) }) }))
      yield* sql`update spindle.tasks set error = '{"reason": {"password": "p"}}', status = 'failed',
                        run_at = 'infinity', started_at = '-infinity' where id = ${id}`
      yield* sql`insert into spindle.task_events (task_id, epoch, seq, type, data)
                 select ${id}, n, 1, 'retry', jsonb_build_object('kind', 'defect', 'tag', 'T',
                        'message', repeat('m', 50000), 'stack', repeat('s', 50000))
                   from generate_series(1, 250) n`
      const response = yield* server.get(`/api/tasks/${id}`)
      assert.isBelow((yield* response.text).length, 1_000_000)
      const task = yield* server.tasks.get({ params: { id } })
      assert.isNull(task.payload)
      assert.deepStrictEqual(task.omitted, [{ value: "payload", bytes: 300_012 }])
      assert.strictEqual(task.error?.message, `{"reason":{"password":"${mask}"}}`)
      assert.lengthOf(task.attemptsEnded, 200)
      assert.strictEqual(task.attemptsEnded[0]!.epoch, "51")
      assert.strictEqual((yield* server.tasks.list({ query: {} })).tasks[0]!.error?.message, task.error?.message)
    }).pipe(Harness.onDatabase))

  it.live("that is not there is a problem of its own", () =>
    Effect.gen(function*() {
      const server = yield* HttpServer.serve()
      const { detail } = yield* HttpServer.problem(yield* server.get("/api/tasks/42"), 404)
      assert.strictEqual(detail, "There is no task 42")
      yield* HttpServer.problem(yield* server.get("/api/tasks/42/events"), 404)
      for (const [path, body] of [["cancel", {}], ["retry", {}], ["run-now", {}]] as const) {
        yield* HttpServer.problem(yield* server.post(`/api/tasks/42/${path}`, body), 404)
      }
      yield* HttpServer.problem(yield* server.get("/api/tasks/9999999999999999999"), 404)
      const { errors } = yield* HttpServer.problem(yield* server.get("/api/tasks/abc"), 400)
      assert.include(errors?.[0].message, "decimal number")
    }).pipe(Harness.onDatabase))
})

describe("enqueue", () => {
  it.live("checks a known type by its definition, whose defaults apply", () =>
    Effect.gen(function*() {
      const server = yield* HttpServer.serve({ registry: yield* registry })
      const refused = yield* HttpServer.problem(
        yield* server.post("/api/tasks", { type: "image:resize", payload: { url: 1, width: 1.5 } }),
        422
      )
      assert.include(refused.detail, "url")
      assert.include(refused.detail, "width")
      const large = yield* HttpServer.problem(
        yield* server.post("/api/tasks", { type: "image:resize", payload: { url: 1, width: "1".repeat(64 * 1024) } }),
        422
      )
      assert.include(large.detail, "url")
      assert.notInclude(large.detail, "width")
      const many = yield* HttpServer.problem(
        yield* server.post("/api/tasks", { type: "many", payload: { words: Array.from({ length: 20_000 }, () => 1) } }),
        422
      )
      assert.include(many.detail!, "[\"words\"][1]")
      assert.isBelow(many.detail!.length, 20_000)
      const task = { type: "image:resize", payload: { url: "u", width: 3 } }
      const stored = yield* server.post("/api/tasks", task)
      assert.strictEqual(stored.status, 201)
      const again = yield* server.post("/api/tasks", task)
      assert.strictEqual(again.status, 200)
      const first = yield* server.tasks.enqueue({ payload: task })
      assert.isTrue(first.duplicate)
      const { maxAttempts, payload, queue, uniqueKey } = yield* server.tasks.get({ params: { id: first.id } })
      assert.deepStrictEqual({ maxAttempts, payload, queue, uniqueKey }, {
        maxAttempts: 7,
        payload: { url: "u", width: 3 },
        queue: "images",
        uniqueKey: "u"
      })
      const own = yield* server.tasks.enqueue({
        payload: {
          ...task,
          queue: "own",
          maxAttempts: 1,
          uniqueKey: "k",
          priority: 5,
          tag: "t",
          userId: "me",
          delayMs: 60_000
        }
      })
      const detail = yield* server.tasks.get({ params: { id: own.id } })
      assert.deepInclude(detail, { queue: "own", maxAttempts: 1, uniqueKey: "k", priority: 5, tag: "t", userId: "me" })
      assert.isNull(detail.timing.waitedMs)
    }).pipe(Harness.onDatabase))

  it.live("takes any payload of an unknown type, and names the option that does not fit", () =>
    Effect.gen(function*() {
      const server = yield* HttpServer.serve({ registry: yield* registry })
      const { duplicate, id } = yield* server.tasks.enqueue({ payload: { type: "unheard:of" } })
      assert.isFalse(duplicate)
      assert.deepStrictEqual((yield* server.tasks.get({ params: { id } })).payload, {})
      for (
        const [fields, words] of [
          [{ priority: 99_999 }, "priority is 99999, expected an integer from -32768 to 32767"],
          [{ maxAttempts: 0 }, "maxAttempts is 0, expected"],
          [{ timeoutMs: 0 }, "timeoutMs is 0, expected a positive duration"],
          [{ delayMs: -1 }, "delayMs is -1, expected"],
          [{ uniqueKey: "" }, "uniqueKey is \"\", expected"],
          [{ queue: "q".repeat(201) }, "queue is"],
          [{ delayMs: 5, runAt: "2030-01-01T00:00:00Z" }, "both given"],
          [{ payload: "\0" }, "NUL"]
        ] as const
      ) {
        const { detail } = yield* HttpServer.problem(yield* server.post("/api/tasks", { type: "x", ...fields }), 422)
        assert.include(detail, words)
      }
      yield* HttpServer.problem(yield* server.post("/api/tasks", { type: "x", priority: "high" }), 400)
      yield* HttpServer.problem(yield* server.post("/api/tasks", { payload: {} }), 400)
      yield* HttpServer.problem(
        yield* server.http.post("/api/tasks", { body: HttpBody.text("{", "application/json") }),
        400
      )
    }).pipe(Harness.onDatabase))
})

describe("one task is steered", () => {
  it.live("with the truth about what happened", () =>
    Effect.gen(function*() {
      const server = yield* HttpServer.serve()
      const post = (id: bigint, path: string, body: unknown = {}) => server.post(`/api/tasks/${id}/${path}`, body)
      const outcome = Effect.fnUntraced(function*(id: bigint, path: string, status: number) {
        const response = yield* post(id, path)
        return status === 200
          ? ((yield* response.json) as { readonly outcome: string }).outcome
          : (yield* HttpServer.problem(response, status)).outcome
      })
      for (const status of ["completed", "failed", "cancelled"]) {
        const id = yield* Harness.insert("plain", { status, attempts: 3 })
        assert.strictEqual(yield* outcome(id, "cancel", 200), `already_${status}`)
        assert.strictEqual(yield* outcome(id, "run-now", 409), "not_queued")
        assert.strictEqual(yield* outcome(id, "retry", 200), "queued")
        assert.strictEqual((yield* Harness.rowOf(id)).attempts, 2)
        assert.strictEqual(yield* outcome(id, "retry", 409), "not_finished")
        assert.strictEqual(yield* outcome(id, "cancel", 200), "cancelled")
        yield* post(id, "retry", { resetAttempts: true })
        assert.strictEqual((yield* Harness.rowOf(id)).attempts, 0)
      }
      const bare = yield* Harness.insert("plain", { status: "failed" })
      const headers = { "content-type": "application/json" }
      assert.strictEqual((yield* server.http.post(`/api/tasks/${bare}/retry`, { headers })).status, 200)
      assert.strictEqual((yield* Harness.rowOf(bare)).status, "queued")
      const done = yield* Harness.insert("plain", { status: "failed", unique_key: "k" })
      yield* Harness.insert("plain", { unique_key: "k" })
      assert.strictEqual(yield* outcome(done, "retry", 409), "duplicate")
    }).pipe(Harness.onDatabase))

  it.live("run-now wakes a worker that would not look for an hour", () =>
    Effect.gen(function*() {
      const script = Harness.script()
      const worker = yield* Harness.launch(Harness.Tasks, script.handlers, {
        pollInterval: "1 hour",
        notifications: "on"
      })
      const server = yield* HttpServer.serve({ worker })
      const later = new Date(Date.now() + 3_600_000)
      const id = idOf(yield* Harness.insert("scripted", { run_at: later }))
      assert.deepStrictEqual(yield* server.tasks.runNow({ params: { id } }), { outcome: "queued" })
      const attempt = yield* script.next(id)
      const conflict = yield* HttpServer.problem(yield* server.post(`/api/tasks/${id}/run-now`, {}), 409)
      assert.strictEqual(conflict.outcome, "not_queued")
      yield* attempt.proceed(Effect.succeed(null))
      const due = idOf(yield* Harness.insert("nobody"))
      const before = (yield* Harness.rowOf(due)).run_at
      assert.deepStrictEqual(yield* server.tasks.runNow({ params: { id: due } }), { outcome: "queued" })
      assert.deepStrictEqual((yield* Harness.rowOf(due)).run_at, before)
    }).pipe(Harness.onDatabase))

  it.live("events are masked", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      const server = yield* HttpServer.serve()
      const id = yield* Harness.insert("plain", { status: "completed", epoch: 1n })
      yield* sql`insert into spindle.task_events (task_id, epoch, seq, type, data)
                 values (${id}, 1, 1, 'step', '{"password": "p", "n": 1}'), (${id}, 1, 2, 'done', '{}')`
      const text = yield* (yield* server.get(`/api/tasks/${id}/events`)).text
      assert.include(text, `id: 1-1\nevent: step\ndata: {"n":1,"password":"${mask}"}\n`)
      assert.include(text, "id: 1-2\nevent: done")
    }).pipe(Harness.onDatabase))
})

describe("an attached table", () => {
  it.live("without its optional columns and our indexes is shown as far as it goes", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      for (const column of ["timeout_ms", "unique_key", "tag", "user_id", "metadata"]) {
        yield* sql.unsafe(`alter table spindle.tasks drop column ${column} cascade`)
      }
      for (const index of ["tasks_claim_idx", "tasks_locked_idx", "tasks_ended_idx"]) {
        yield* sql.unsafe(`drop index spindle.${index}`)
      }
      const server = yield* HttpServer.serve()
      const ids = yield* Harness.insertMany("plain", 3)
      yield* sql`update spindle.tasks set status = 'failed' where id = ${ids[0]!}`
      assert.lengthOf((yield* server.tasks.list({ query: { q: "plain" } })).tasks, 3)
      for (const [status, count] of [["queued", 2], ["failed", 1], ["processing", 0]] as const) {
        assert.strictEqual((yield* server.tasks.list({ query: { status } })).total.count, count)
      }
      const detail = yield* server.tasks.get({ params: { id: idOf(ids[0]!) } })
      assert.deepInclude(detail, { tag: null, userId: null, uniqueKey: null, metadata: {}, timeoutMs: null })
      const { detail: words } = yield* HttpServer.problem(yield* server.get("/api/tasks?tag=a&userId=b"), 422)
      assert.include(words, "no column tag, user_id in spindle.tasks")
      yield* HttpServer.problem(yield* server.post("/api/tasks/bulk", { action: "retry", filter: { tag: "a" } }), 422)
      const { depth, queues } = yield* server.overview.get()
      assert.deepInclude(depth, { queued: { count: 2, capped: false }, failed: { count: 1, capped: false } })
      assert.strictEqual(queues[0]?.due.count, 2)
    }).pipe(Harness.onDatabase))
})

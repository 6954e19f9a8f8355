import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Redacted } from "effect"
import { Reactivity } from "effect/reactivity"
import * as Ddl from "../../src/storage/Ddl.ts"
import { textWindow, window } from "../../src/storage/TaskPages.ts"
import type * as Task from "../../src/Task.ts"
import * as FaultProxy from "../support/FaultProxy.ts"
import * as HttpServer from "../support/HttpServer.ts"
import { TestDatabase } from "../support/TestDatabase.ts"
import * as Harness from "../support/WorkerHarness.ts"

describe("a table of 300,000 finished tasks", () => {
  it.live("is searched a bounded number of rows at a time, and to its end", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      const server = yield* HttpServer.serve()
      yield* sql`alter table spindle.tasks disable trigger user`
      yield* sql`insert into spindle.tasks (type, status, payload, tag)
                 select 'plain', case when n in (5, 299000) then 'failed' else 'completed' end,
                        jsonb_build_object('n', n, 'needle', n = 290000), case when n in (7, 120000) then 'rare' end
                   from generate_series(1, 300000) n`
      const pages = Effect.fnUntraced(function*(query: Parameters<typeof server.tasks.list>[0]["query"]) {
        const found: Array<bigint> = []
        const edges: Array<bigint> = []
        let before: Task.TaskId | undefined
        while (true) {
          const page = yield* server.tasks.list({ query: { ...query, ...before === undefined ? {} : { before } } })
          found.push(...page.tasks.map(({ id }) => id))
          if (page.next === null) return { found, edges, total: page.total }
          edges.push(page.next)
          before = page.next
        }
      })
      assert.deepStrictEqual(yield* pages({ tag: "rare" }), {
        found: [120_000n, 7n],
        edges: Array.from({ length: 300_000 / window }, (_, n) => 300_001n - BigInt((n + 1) * window)),
        total: { count: 0, capped: true }
      })
      assert.deepStrictEqual(yield* pages({ status: "failed" }), {
        found: [299_000n, 5n],
        edges: [],
        total: { count: 2, capped: false }
      })
      // text is looked for in fewer rows a page
      const text: Array<bigint> = []
      let before: Task.TaskId | null = null
      for (let n = 0; n < 3; n++) {
        const page: { readonly tasks: ReadonlyArray<{ readonly id: bigint }>; readonly next: Task.TaskId | null } =
          yield* server.tasks.list({ query: { q: "\"needle\": true", ...before === null ? {} : { before } } })
        text.push(...page.tasks.map(({ id }) => id))
        before = page.next
        assert.strictEqual(before, 300_001n - BigInt((n + 1) * textWindow))
      }
      assert.deepStrictEqual(text, [290_000n])
      assert.deepStrictEqual((yield* server.overview.get()).depth.queued, { count: 0, capped: false })
    }).pipe(Harness.onDatabase), 120_000)

  it.live("counts what has completed below a backlog of newer tasks", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      const server = yield* HttpServer.serve()
      yield* sql`alter table spindle.tasks disable trigger user`
      yield* sql`insert into spindle.tasks (type, status) select 'plain', 'completed' from generate_series(1, 300)`
      yield* sql`insert into spindle.tasks (type) select 'plain' from generate_series(1, 120000)`
      const { completed, queued } = (yield* server.overview.get()).depth
      assert.deepStrictEqual(completed, { count: 300, capped: true })
      assert.deepStrictEqual(queued, { count: 10_000, capped: true })
    }).pipe(Harness.onDatabase), 60_000)
})

describe("a database", () => {
  it.live(
    "that takes too long is a problem that says what to do, and no harm to the next call",
    () =>
      Effect.gen(function*() {
        const sql = yield* PgClient.PgClient
        const server = yield* HttpServer.serve()
        const locked = yield* Deferred.make<void>()
        const release = yield* Deferred.make<void>()
        const holder = yield* sql.withTransaction(
          sql`lock table spindle.tasks`.pipe(
            Effect.andThen(Deferred.succeed(locked, undefined)),
            Effect.andThen(Deferred.await(release))
          )
        ).pipe(Effect.forkScoped)
        yield* Deferred.await(locked)
        for (const path of ["/api/tasks", "/api/tasks/1", "/api/overview", "/api/queues"]) {
          const { detail } = yield* HttpServer.problem(yield* server.get(path), 503)
          assert.include(detail, "narrow the filter")
        }
        yield* Deferred.succeed(release, undefined)
        yield* Fiber.join(holder)
        assert.deepStrictEqual((yield* server.tasks.list({ query: {} })).tasks, [])
      }).pipe(Harness.onDatabase),
    60_000
  )

  it.live("that goes away and comes back needs nothing from the server", () =>
    Effect.gen(function*() {
      const { url } = yield* TestDatabase
      const { hostname, port } = new URL(Redacted.value(url))
      const proxy = yield* FaultProxy.make({ host: hostname, port: Number(port) })
      yield* proxy.refuse(true)
      const client = yield* PgClient.make({ url: proxy.url(url), maxConnections: 2 }).pipe(
        Effect.provide(Reactivity.layer)
      )
      const server = yield* Effect.provideService(HttpServer.serve(), PgClient.PgClient, client)
      const id = yield* Harness.insert("plain")
      const away = Effect.gen(function*() {
        for (const path of ["/api/tasks", `/api/tasks/${id}`, "/api/overview", "/api/queues"]) {
          const { detail } = yield* HttpServer.problem(yield* server.get(path), 503)
          assert.include(detail, "away or busy")
        }
        yield* HttpServer.problem(yield* server.post(`/api/tasks/${id}/cancel`, {}), 503)
        yield* HttpServer.problem(yield* server.post(`/api/tasks/${id}/run-now`, {}), 503)
        yield* HttpServer.problem(yield* server.post("/api/tasks", { type: "plain" }), 503)
        yield* HttpServer.problem(
          yield* server.post("/api/tasks/bulk", { action: "cancel", filter: { type: "plain" } }),
          503
        )
      })
      yield* away
      yield* proxy.refuse(false)
      assert.lengthOf((yield* server.tasks.list({ query: {} })).tasks, 1)
      yield* proxy.refuse(true)
      yield* proxy.killAll
      yield* away
      yield* proxy.refuse(false)
      assert.strictEqual((yield* server.tasks.get({ params: { id: id as Task.TaskId } })).status, "queued")
      yield* proxy.blackhole(true)
      yield* HttpServer.problem(yield* server.get("/api/tasks"), 503)
      yield* proxy.blackhole(false)
      assert.lengthOf((yield* server.tasks.list({ query: {} })).tasks, 1)
    }).pipe(Harness.onDatabase), 90_000)

  it.live("is shown and steered with the rights of a producer that follows events", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      const { name, url } = yield* TestDatabase
      const role = `${name}_producer`
      yield* Effect.acquireRelease(
        sql.unsafe(`create role ${role}`),
        () => Effect.orDie(Effect.andThen(sql.unsafe(`drop owned by ${role}`), sql.unsafe(`drop role ${role}`)))
      )
      for (const grant of Ddl.grants("spindle", "producer", role)) yield* sql.unsafe(grant)
      yield* sql.unsafe(`grant select on spindle.task_events to ${role}`)
      yield* sql.unsafe(`alter database ${name} set role to ${role}`)
      const client = yield* PgClient.make({ url, maxConnections: 2 }).pipe(Effect.provide(Reactivity.layer))
      assert.deepStrictEqual(yield* client`select current_user::text as name`, [{ name: role }])
      const server = yield* Effect.provideService(HttpServer.serve(), PgClient.PgClient, client)
      const { id } = yield* server.tasks.enqueue({ payload: { type: "plain", delayMs: 60_000 } })
      yield* server.tasks.runNow({ params: { id } })
      assert.strictEqual(
        (yield* server.tasks.bulk({ payload: { action: "cancel", filter: { ids: [id] } } })).changed,
        1
      )
      assert.strictEqual((yield* server.tasks.bulk({ payload: { action: "retry", filter: { ids: [id] } } })).changed, 1)
      assert.strictEqual((yield* server.tasks.get({ params: { id } })).attemptsEnded[0]?.outcome, "cancelled")
      assert.strictEqual((yield* server.overview.get()).queues[0]?.due.count, 1)
      yield* sql.unsafe(`revoke select on spindle.task_events from ${role}`)
      const { detail } = yield* HttpServer.problem(yield* server.get(`/api/tasks/${id}`), 503)
      assert.include(detail, "permission denied")
    }).pipe(Harness.onDatabase))

  it.live("without the tables says how to get them", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      yield* sql`drop schema spindle cascade`
      const server = yield* HttpServer.serve()
      const { detail } = yield* HttpServer.problem(yield* server.get("/api/overview"), 503)
      assert.include(detail, "spindle migrate")
    }).pipe(Harness.onDatabase))
})

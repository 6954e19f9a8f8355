import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import { Array, Effect, Exit, Fiber, Layer, PubSub, Queue, Random, Scope } from "effect"
import { TestClock } from "effect/testing"
import * as Crypto from "node:crypto"
import type * as Net from "node:net"
import * as Lifecycle from "../../src/Lifecycle.ts"
import type * as Task from "../../src/Task.ts"
import * as TaskQueue from "../../src/TaskQueue.ts"
import * as Port from "../support/Port.ts"
import * as Client from "../support/SseClient.ts"
import * as Server from "../support/SseServer.ts"
import { TestDatabase } from "../support/TestDatabase.ts"
import * as Harness from "../support/WorkerHarness.ts"

const database = TaskQueue.layer.pipe(Layer.provideMerge(TestDatabase.layerSql()))

const onDatabase = <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.provide(Effect.scoped(self), database)

const claimed = Effect.gen(function*() {
  const sql = yield* PgClient.PgClient
  const id = yield* Harness.insert("story")
  yield* sql`update spindle.tasks set status = 'processing', epoch = 1, locked_by = 'w', started_at = now() where id = ${id}`
  return id
})

/** Events of the task's epoch as a worker writes them. */
const emit = Effect.fnUntraced(function*(id: bigint, from: number, ...texts: ReadonlyArray<string>) {
  const sql = yield* PgClient.PgClient
  yield* sql`
    insert into spindle.task_events (task_id, epoch, seq, type, data)
    select id, epoch, ${from}::int + n - 1, 'text_delta', jsonb_build_object('text', text)
      from spindle.tasks, unnest(${texts}::text[]) with ordinality as given(text, n) where id = ${id}`
  yield* sql`select pg_notify('spindle_task_events', ${String(id)})`
})

const finish = Effect.fnUntraced(function*(id: bigint, seq?: number) {
  const sql = yield* PgClient.PgClient
  yield* sql`
    with settled as (
      update spindle.tasks set status = 'completed', locked_by = null, finished_at = now() where id = ${id}
      returning id, epoch
    ), closed as (
      insert into spindle.task_events (task_id, epoch, seq, type, data)
      select id, epoch, ${seq ?? 0}, 'done', '{}' from settled where ${seq !== undefined}
    )
    select pg_notify('spindle_task_events', id::text) from settled`
})

/** More than two sockets hold: 1,000 events of 16 kB. */
const emitMuch = (id: bigint) => emit(id, 1, ...Array.makeBy(1000, () => Crypto.randomBytes(12_000).toString("base64")))

/** Waits until the server can send no more, and tells how much it has sent. */
const stalled = Effect.fnUntraced(function*(sockets: ReadonlySet<Net.Socket>) {
  const sent = Effect.sync(() => [...sockets].reduce((sum, { bytesWritten }) => sum + bytesWritten, 0))
  let last = -1
  for (let same = 0, now = yield* sent; same < 8; now = yield* Effect.delay(sent, "50 millis")) {
    same = now === last ? same + 1 : 0
    last = now
  }
  return last
})

const path = (id: bigint | string) => `/api/tasks/${id}/events`

const tell = (events: Iterable<Client.SseEvent>) =>
  Array.fromIterable(events).map(({ data, event, id }) => `${id} ${event} ${data.text ?? ""}`.trimEnd())

describe("a task's events over HTTP", () => {
  it.live("come as they are written, each once, and end with the story", () =>
    Effect.gen(function*() {
      const { port } = yield* Server.start()
      const id = yield* claimed
      yield* emit(id, 1, "a", "two\nlines")
      const response = yield* Client.open(port, path(id))
      assert.strictEqual(response.status, 200)
      assert.deepInclude(response.headers, {
        "content-type": "text/event-stream; charset=utf-8",
        "cache-control": "no-cache, no-transform",
        "x-accel-buffering": "no"
      })
      assert.deepStrictEqual(tell(yield* Queue.takeN(response.events, 2)), [
        "1-1 text_delta a",
        "1-2 text_delta two\nlines"
      ])
      yield* emit(id, 3, "b")
      assert.deepStrictEqual(tell([yield* Queue.take(response.events)]), ["1-3 text_delta b"])
      yield* finish(id, 4)
      assert.strictEqual(yield* response.ended, "end")
      assert.strictEqual(
        yield* response.body,
        `:

id: 1-1
event: text_delta
data: {"text":"a"}

id: 1-2
event: text_delta
data: {"text":"two\\nlines"}

id: 1-3
event: text_delta
data: {"text":"b"}

id: 1-4
event: done
data: {}

`
      )
    }).pipe(onDatabase))

  it.live("stay open over retry and released", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      const { port } = yield* Server.start()
      const script = Harness.script()
      yield* Harness.launch(Harness.Tasks, script.handlers, { lease: "4 seconds" })
      const id = yield* Harness.insert("scripted")
      const response = yield* Client.open(port, path(id))
      const first = yield* script.next(id)
      yield* first.proceed(Effect.fail(new Harness.Refused({ why: "once" })))
      const second = yield* script.next(id)
      assert.deepStrictEqual(tell([yield* Queue.take(response.events)]), ["1-1 retry"])
      yield* second.proceed(Effect.as(second.execution.emit({ _tag: "text_delta", text: "again" }), 1))
      assert.deepStrictEqual(tell(yield* Queue.takeN(response.events, 2)), ["2-1 text_delta again", "2-2 done"])
      assert.strictEqual(yield* response.ended, "end")

      // an expired lease: the sweep releases it for another attempt
      const held = yield* Harness.insert("scripted")
      const released = yield* Client.open(port, path(held))
      yield* script.next(held)
      yield* sql`update spindle.tasks set locked_by = 'gone', lease_expires_at = now() where id = ${held}`
      assert.deepStrictEqual(tell([yield* Queue.take(released.events)]), ["2-1 released"])
      const heir = yield* script.next(held)
      yield* heir.proceed(Effect.succeed(2))
      assert.deepStrictEqual(tell([yield* Queue.take(released.events)]), ["3-1 done"])
      assert.strictEqual(yield* released.ended, "end")
    }).pipe(onDatabase))

  it.live("begin after the position, the header's before the URL's", () =>
    Effect.gen(function*() {
      const { port } = yield* Server.start()
      const id = yield* claimed
      yield* emit(id, 1, "a", "b", "c")
      yield* finish(id, 4)
      const from = Effect.fnUntraced(function*(query: string, header?: string) {
        const response = yield* Client.open(
          port,
          path(id) + query,
          header === undefined ? {} : { "last-event-id": header }
        )
        yield* response.ended
        return [response.status, ...tell(yield* Queue.clear(response.events)).map((line) => line.slice(0, 3))]
      })
      assert.deepStrictEqual(yield* from(""), [200, "1-1", "1-2", "1-3", "1-4"])
      assert.deepStrictEqual(yield* from("?after=1-2"), [200, "1-3", "1-4"])
      assert.deepStrictEqual(yield* from("?after=1-1", "1-3"), [200, "1-4"])
      assert.deepStrictEqual(yield* from("?after=0-9"), [200, "1-1", "1-2", "1-3", "1-4"])
      // it has all of it, or more than there is
      assert.deepStrictEqual(yield* from("?after=1-1", "1-4"), [204])
      assert.deepStrictEqual(yield* from("?after=7-0"), [204])
    }).pipe(onDatabase))

  it.live("have a done made from the row where none is stored", () =>
    Effect.gen(function*() {
      const { port } = yield* Server.start()
      const id = yield* claimed
      const response = yield* Client.open(port, path(id))
      yield* finish(id)
      const { data, event, id: position } = yield* Queue.take(response.events)
      assert.deepStrictEqual([position, event, Object.keys(data)], ["1-1", "done", ["startedAt"]])
      assert.strictEqual(yield* response.ended, "end")
      assert.strictEqual((yield* Client.open(port, path(id), { "last-event-id": "1-1" })).status, 204)
    }).pipe(onDatabase))

  it.live("show what the transform leaves of their data, and no line breaks in a foreign type", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      const { port } = yield* Server.start({ transform: ({ type }) => ({ masked: type.length }) })
      const id = yield* claimed
      yield* sql`insert into spindle.task_events (task_id, epoch, seq, type, data)
        values (${id}, 1, 1, ${"x\ndata: 1\r\n\nevent: done"}, '{"secret": 1}')`
      yield* finish(id, 2)
      const response = yield* Client.open(port, path(id))
      assert.strictEqual(
        yield* response.body,
        ":\n\nid: 1-1\nevent: x data: 1   event: done\ndata: {\"masked\":23}\n\n" +
          "id: 1-2\nevent: done\ndata: {\"masked\":4}\n\n"
      )
    }).pipe(onDatabase))

  it.live("are refused as a problem before the stream begins", () =>
    Effect.gen(function*() {
      const { port } = yield* Server.start()
      const problem = Effect.fnUntraced(function*(path: string, headers?: Record<string, string>) {
        const response = yield* Client.open(port, path, headers)
        const body = JSON.parse(yield* response.body)
        assert.include(response.headers["content-type"]!, "application/problem+json")
        return [response.status, body.title, body.detail ?? ""]
      })
      assert.deepStrictEqual(yield* problem(path(2n ** 62n)), [404, "Not Found", `There is no task ${2n ** 62n}`])
      const id = yield* claimed
      for (const after of ["1", "1-", "01-1", "-1-1", "1-1 ", "x"]) {
        assert.strictEqual((yield* problem(`${path(id)}?after=${encodeURIComponent(after)}`))[0], 400)
      }
      assert.strictEqual((yield* problem(path(id), { "last-event-id": "abc" }))[0], 400)
      assert.strictEqual((yield* problem(path("0")))[0], 400)
      const sql = yield* PgClient.PgClient
      yield* sql`alter table spindle.task_events rename to elsewhere`
      yield* finish(id).pipe(Effect.ignore)
      yield* sql`update spindle.tasks set status = 'completed', locked_by = null where id = ${id}`
      assert.strictEqual((yield* problem(path(id)))[0], 503)
    }).pipe(onDatabase))

  it.live("read in pieces of any length, with any disconnects, are the stored log", () =>
    Effect.gen(function*() {
      const { port } = yield* Server.start()
      const count = 60
      yield* Effect.forEach(
        Array.range(1, 8),
        Effect.fnUntraced(function*() {
          const id = yield* claimed
          let until = yield* Random.nextIntBetween(1, 12)
          const following = yield* Effect.forkScoped(
            Client.follow(port, path(id), (_, response) =>
              Effect.gen(function*() {
                if (--until > 0) return
                until = yield* Random.nextIntBetween(1, 12)
                yield* response.disconnect
              }))
          )
          for (let seq = 1; seq <= count;) {
            const texts = Array.makeBy(
              Math.min(count + 1 - seq, yield* Random.nextIntBetween(1, 5)),
              (n) => `${seq + n}`
            )
            yield* emit(id, seq, ...texts)
            seq += texts.length
            if (yield* Random.nextBoolean) yield* Effect.sleep(yield* Random.nextIntBetween(0, 20))
          }
          yield* finish(id, count + 1)
          const stored = yield* Harness.eventsOf(id)
          assert.lengthOf(stored, count + 1)
          assert.deepStrictEqual(
            yield* Fiber.join(following),
            stored.map(({ data, epoch, seq, type }) => ({ id: `${epoch}-${seq}`, event: type, data }))
          )
        }),
        { concurrency: "unbounded", discard: true }
      )
    }).pipe(onDatabase))

  it.effect("have a comment every 15 seconds between them", () =>
    Effect.gen(function*() {
      const { port } = yield* Server.start()
      const id = yield* claimed
      const response = yield* Client.open(port, path(id))
      const comments = (n: number) =>
        Effect.repeat(Effect.andThen(Effect.yieldNow, Effect.promise(() => new Promise(setImmediate))), {
          until: () => response.comments() >= n
        })
      yield* comments(1)
      for (const n of [2, 3]) {
        yield* TestClock.adjust("14 seconds")
        assert.strictEqual(response.comments(), n - 1)
        yield* TestClock.adjust("1 seconds")
        yield* comments(n)
      }
      yield* emit(id, 1, "after all")
      assert.deepStrictEqual(tell([yield* Queue.take(response.events)]), ["1-1 text_delta after all"])
      assert.strictEqual(response.comments(), 3)
    }).pipe(onDatabase))

  it.live("of a client that takes none of them stay where they are, are read no further, and lose nothing", () =>
    Effect.gen(function*() {
      const { port, sockets } = yield* Server.start()
      const id = yield* claimed
      yield* emitMuch(id)
      yield* finish(id, 1001)
      const response = yield* Client.open(port, path(id))
      yield* response.pause
      assert.isBelow(yield* stalled(sockets), 14_000_000)
      yield* response.resume
      const ids = Array.map(yield* Queue.takeN(response.events, 1001), ({ id }) => id)
      assert.deepStrictEqual(ids, Array.makeBy(1001, (n) => `1-${n + 1}`))
      assert.strictEqual(yield* response.ended, "end")
    }).pipe(onDatabase))

  it.live("of 100 open streams all end at once, and cleanly, when the server stops", () =>
    Effect.gen(function*() {
      const server = yield* Server.start()
      const id = yield* claimed
      yield* emitMuch(id)
      const paused = yield* Client.open(server.port, path(id))
      yield* paused.pause
      yield* stalled(server.sockets)
      const responses = yield* Effect.forEach(
        Array.range(1, 100),
        () => Client.open(server.port, `${path(id)}?after=1-990`),
        { concurrency: 20 }
      )
      for (const { events } of responses) yield* Queue.takeN(events, 10)
      const stopping = yield* Effect.forkScoped(server.stop)
      assert.deepStrictEqual(
        yield* Effect.forEach(responses, ({ ended }) => ended),
        Array.makeBy(100, () => "end" as const)
      )
      // who takes nothing cannot be told
      yield* Fiber.join(stopping)
      yield* paused.resume
      assert.strictEqual(yield* paused.ended, "broken")
      assert.strictEqual(server.sockets.size, 0)
    }).pipe(onDatabase), 60_000)

  it.live("go on with the next server after the one they were on", () =>
    Effect.gen(function*() {
      const first = yield* Server.start({ port: yield* Port.free })
      const id = yield* claimed
      const seen = yield* Queue.unbounded<string>()
      const following = yield* Effect.forkScoped(
        Client.follow(first.port, path(id), (event) => Queue.offer(seen, event.id!))
      )
      yield* emit(id, 1, "a", "b")
      yield* Queue.takeN(seen, 2)
      yield* first.stop
      yield* emit(id, 3, "meanwhile")
      const second = yield* Server.start({ port: first.port })
      assert.strictEqual(yield* Queue.take(seen), "1-3")
      yield* emit(id, 4, "d")
      yield* finish(id, 5)
      assert.deepStrictEqual(tell(yield* Fiber.join(following)), [
        "1-1 text_delta a",
        "1-2 text_delta b",
        "1-3 text_delta meanwhile",
        "1-4 text_delta d",
        "1-5 done"
      ])
      yield* second.stop
    }).pipe(onDatabase))
})

describe("the lifecycle over HTTP", () => {
  it.live("tells what happens from now on, without payloads, and drops the oldest of a slow reader", () =>
    Effect.gen(function*() {
      const bus = yield* PubSub.sliding<Lifecycle.Event>(16)
      const scope = yield* Scope.fork(yield* Effect.scope)
      const server = yield* Server.start().pipe(Effect.provideService(Lifecycle.Bus, bus), Scope.provide(scope))
      const response = yield* Client.open(server.port, "/api/stream")
      const task = (id: number) =>
        ({ id: BigInt(id), type: "mail", queue: "default", payload: "secret" }) as unknown as Task.Row
      yield* PubSub.publish(bus, Lifecycle.Event.Started({ task: task(1), attempt: 1 }))
      yield* PubSub.publish(bus, Lifecycle.Event.Failed({ task: task(1), error: {} as never, willRetry: true }))
      assert.deepStrictEqual(yield* Queue.takeN(response.events, 2), [
        { id: undefined, event: "started", data: { id: "1", type: "mail", queue: "default" } },
        { id: undefined, event: "failed", data: { id: "1", type: "mail", queue: "default" } }
      ])
      // in one go: nothing is taken off the bus between them
      yield* PubSub.publishAll(bus, Array.range(1, 1000).map((id) => Lifecycle.Event.Cancelled({ task: task(id) })))
      const last = yield* Effect.repeat(Queue.take(response.events), { until: ({ data }) => data.id === "1000" })
      assert.strictEqual(last.event, "cancelled")
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual(yield* response.ended, "end")
    }).pipe(onDatabase))
})

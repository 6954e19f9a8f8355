import * as PgClient from "@effect/sql-pg/PgClient"
import { assert, layer } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Queue from "effect/Queue"
import * as Redacted from "effect/Redacted"
import * as TestClock from "effect/testing/TestClock"
import * as Net from "node:net"
import * as Db from "../../src/Db.ts"
import * as Listener from "../../src/storage/Listener.ts"
import { TestDatabase } from "../support/TestDatabase.ts"

const listeners = Effect.gen(function*() {
  const sql = yield* PgClient.PgClient
  const rows = yield* sql<{ pid: number }>`select pid from pg_stat_activity
    where application_name = 'spindle listener' and datname = current_database()`
  return rows.map(({ pid }) => pid)
})

const terminate = Effect.gen(function*() {
  const sql = yield* PgClient.PgClient
  for (const pid of yield* listeners) yield* sql`select pg_terminate_backend(${pid})`
})

const connection = Effect.map(PgClient.PgClient, Db.connection)

layer(TestDatabase.layerSql(), { excludeTestServices: true })("Listener", (it) => {
  it.effect("says so when it has subscribed, then passes on what arrives on its channels", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      const signals = yield* Listener.make(yield* connection, ["first_a", "first_b"])
      assert.deepStrictEqual(yield* Queue.take(signals), { _tag: "Subscribed" })
      yield* sql.notify("first_elsewhere", "0")
      yield* sql.notify("first_a", "1")
      assert.deepStrictEqual(yield* Queue.take(signals), { _tag: "Notification", channel: "first_a", payload: "1" })
      yield* sql.notify("first_b", "2")
      assert.deepStrictEqual(yield* Queue.take(signals), { _tag: "Notification", channel: "first_b", payload: "2" })
    }))
})

layer(TestDatabase.layerSql(), { excludeTestServices: true })("Listener on a connection that is lost", (it) => {
  it.effect("subscribes again and says so each time", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      const signals = yield* Listener.make(yield* connection, ["lost"])
      yield* Queue.take(signals)
      for (const payload of ["1", "2", "3"]) {
        yield* terminate
        assert.deepStrictEqual(yield* Queue.take(signals), { _tag: "Subscribed" })
        yield* sql.notify("lost", payload)
        assert.deepStrictEqual(yield* Queue.take(signals), { _tag: "Notification", channel: "lost", payload })
      }
    }))
})

layer(TestDatabase.layerSql(), { excludeTestServices: true })("Listener that ends", (it) => {
  it.effect("gives its connection back with the scope", () =>
    Effect.gen(function*() {
      yield* Effect.scoped(Effect.gen(function*() {
        yield* Queue.take(yield* Listener.make(yield* connection, ["ends"]))
        assert.lengthOf(yield* listeners, 1)
      }))
      yield* Effect.repeat(listeners, { until: (pids) => pids.length === 0 })
    }))

  it.effect("keeps trying where nothing listens, and can be stopped meanwhile", () =>
    Effect.gen(function*() {
      let attempts = 0
      const stream = () => {
        attempts++
        return Net.connect({ host: "127.0.0.1", port: 1 })
      }
      yield* Effect.scoped(Effect.gen(function*() {
        const signals = yield* Listener.make({ ...yield* connection, stream }, ["nowhere"])
        yield* Effect.repeat(Effect.andThen(Effect.yieldNow, Effect.sync(() => attempts)), { until: (n) => n === 3 })
        assert.strictEqual(yield* Queue.size(signals), 0)
      }))
    }))
})

layer(TestDatabase.layerSql())("Listener under a clock", (it) => {
  it.effect("finds a connection that died in silence", () =>
    Effect.gen(function*() {
      const config = yield* connection
      const { hostname, port } = new URL(Redacted.value(config.url!))
      const sockets: Array<Net.Socket> = []
      const stream = () => {
        const socket = Net.connect({ host: hostname, port: Number(port) })
        sockets.push(socket)
        return socket
      }
      const signals = yield* Listener.make({ ...config, stream }, ["silent"])
      yield* Queue.take(signals)
      sockets[0]!.pause()
      const again = yield* Effect.forkChild(Queue.take(signals))
      yield* TestClock.adjust("5 seconds")
      assert.isUndefined(again.pollUnsafe())
      yield* TestClock.adjust("5 seconds")
      // when it begins to wait for its next attempt the clock cannot know
      const turn = Effect.promise(() => new Promise((resolve) => setTimeout(resolve, 5)))
      yield* Effect.repeat(Effect.andThen(TestClock.adjust("1 second"), turn), { until: () => sockets.length === 2 })
      assert.deepStrictEqual(yield* Fiber.join(again), { _tag: "Subscribed" })
      assert.lengthOf(sockets, 2)
    }))

  it.effect("leaves a server that only reads, where somebody writes", () =>
    Effect.gen(function*() {
      const config = { ...yield* connection, startupParameters: { default_transaction_read_only: "on" } }
      const onlyReads = yield* Listener.make(config, ["only_reads"])
      const writes = yield* Listener.make(config, ["writes"], undefined, true)
      for (const signals of [onlyReads, writes]) assert.deepStrictEqual((yield* Queue.take(signals))._tag, "Subscribed")
      const again = yield* Effect.forkChild(Queue.take(writes))
      const turn = Effect.promise(() => new Promise((resolve) => setTimeout(resolve, 5)))
      yield* Effect.repeat(Effect.andThen(TestClock.adjust("1 second"), turn), {
        until: () => again.pollUnsafe() !== undefined
      })
      assert.deepStrictEqual(yield* Fiber.join(again), { _tag: "Subscribed" })
      assert.strictEqual(yield* Queue.size(onlyReads), 0)
    }))

  it.effect("of a reader that is far behind it keeps little, and tells it to read everything", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      const signals = yield* Listener.make(yield* connection, ["flood"])
      yield* Queue.take(signals)
      yield* sql`select pg_notify('flood', n::text) from generate_series(1, 5000) n`
      // what is left of 5000 after every 1024th emptied the queue; it passes through that number on its way, too
      const size = Effect.andThen(sql`select 1`, Queue.size(signals))
      yield* Effect.repeat(Effect.all([size, size, size]), { until: (sizes) => sizes.every((size) => size === 904) })
      const [first, ...rest] = yield* Queue.takeAll(signals)
      assert.deepStrictEqual(first, { _tag: "Subscribed" })
      assert.deepStrictEqual(rest.at(-1), { _tag: "Notification", channel: "flood", payload: "5000" })
    }))
})

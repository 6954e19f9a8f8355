import { PgClient } from "@effect/sql-pg"
import { assert, layer } from "@effect/vitest"
import { Context, Deferred, Effect, Fiber, Layer, Option, Redacted } from "effect"
import * as FaultProxy from "./FaultProxy.ts"
import { execute, TestDatabase } from "./TestDatabase.ts"

const setup = Effect.gen(function*() {
  const { url } = yield* TestDatabase
  const address = new URL(Redacted.value(url))
  const proxy = yield* FaultProxy.make({ host: address.hostname, port: Number(address.port) })
  const client = PgClient.layer({ url: proxy.url(url), maxConnections: 1 })
  const sql = Context.get(yield* Layer.build(client), PgClient.PgClient)
  return { address, direct: yield* PgClient.PgClient, proxy, sql, url }
})

layer(TestDatabase.layerSql(), { excludeTestServices: true })("FaultProxy", (it) => {
  it.effect("forwards both ways, also what is large", () =>
    Effect.gen(function*() {
      const { sql } = yield* setup
      const text = "x".repeat(5_000_000)
      assert.deepStrictEqual(yield* sql`select ${text}::text || 'y' as text`, [{ text: `${text}y` }])
    }))

  it.effect("resets every connection; the next one works", () =>
    Effect.gen(function*() {
      const { direct, proxy, sql } = yield* setup
      const [row] = yield* sql<{ readonly pid: number }>`select pg_backend_pid() as pid`
      const asleep = yield* Effect.forkChild(Effect.flip(sql`select pg_sleep(60)`))
      yield* Effect.repeat(
        direct<{ readonly asleep: boolean }>`
        select count(*) > 0 as asleep from pg_stat_activity where pid = ${row!.pid} and wait_event = 'PgSleep'
      `,
        { until: ([row]) => row?.asleep === true }
      )
      yield* proxy.killAll
      assert.strictEqual((yield* Fiber.join(asleep)).reason._tag, "ConnectionError")
      assert.deepStrictEqual(yield* sql`select 1 as one`, [{ one: 1 }])
    }))

  it.effect("refuses new connections until told otherwise", () =>
    Effect.gen(function*() {
      const { proxy, sql } = yield* setup
      yield* proxy.refuse(true)
      assert.strictEqual((yield* Effect.flip(sql`select 1`)).reason._tag, "ConnectionError")
      yield* proxy.refuse(false)
      assert.deepStrictEqual(yield* sql`select 1 as one`, [{ one: 1 }])
    }))

  it.effect("holds up what was sent into a black hole, and delivers it afterwards", () =>
    Effect.gen(function*() {
      const { direct, proxy, sql, url } = yield* setup
      yield* direct`create table held (id int)`
      yield* sql`select 1`
      yield* proxy.blackhole(true)
      const old = yield* Effect.forkChild(sql`insert into held values (1)`)
      const fresh = yield* Effect.forkChild(execute(proxy.url(url), "insert into held values (2)"))
      const both = Fiber.joinAll([old, fresh])
      assert.isTrue(Option.isNone(yield* Effect.timeoutOption(both, "100 millis")))
      assert.deepStrictEqual(yield* direct`select * from held`, [])
      yield* proxy.blackhole(false)
      yield* both
      assert.deepStrictEqual(yield* direct`select * from held order by id`, [{ id: 1 }, { id: 2 }])
    }))

  it.effect("throws away the reply of one request that the server has carried out", () =>
    Effect.gen(function*() {
      const { direct, proxy, sql } = yield* setup
      yield* direct`create table dropped (name text)`
      yield* sql`insert into dropped values (${"first"})`
      const lost = yield* proxy.dropNextReply((request) => request.includes("second"))
      yield* sql`insert into dropped values (${"third"})`
      const error = yield* Effect.flip(sql`insert into dropped values (${"second"})`)
      yield* Deferred.await(lost)
      assert.strictEqual(error.reason._tag, "ConnectionError")
      assert.deepStrictEqual(yield* direct`select name from dropped order by name`, [
        { name: "first" },
        { name: "second" },
        { name: "third" }
      ])
      yield* sql`insert into dropped values (${"fourth"})`
    }))

  it.effect("leaves a connection whose reply was thrown away hanging, if asked to", () =>
    Effect.gen(function*() {
      const { proxy, sql } = yield* setup
      const lost = yield* proxy.dropNextReply((request) => request.includes("nobody"), "hang")
      const query = yield* Effect.forkChild(Effect.exit(sql`select ${"nobody"}::text`))
      yield* Deferred.await(lost)
      assert.isUndefined(query.pollUnsafe())
      yield* proxy.killAll
      assert.strictEqual((yield* Fiber.join(query))._tag, "Failure")
    }))

  it.effect("takes new connections to another server", () =>
    Effect.gen(function*() {
      const { address, proxy, sql } = yield* setup
      const other = yield* FaultProxy.make({ host: address.hostname, port: Number(address.port) })
      yield* proxy.setTarget("127.0.0.1", other.port)
      yield* sql`select 1`
      yield* other.refuse(true)
      yield* other.killAll
      yield* Effect.flip(sql`select 1`)
      yield* proxy.setTarget(address.hostname, Number(address.port))
      assert.deepStrictEqual(yield* sql`select 1 as one`, [{ one: 1 }])
    }))
})

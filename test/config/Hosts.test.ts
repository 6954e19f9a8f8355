import { PgClient } from "@effect/sql-pg"
import { assert, layer } from "@effect/vitest"
import { ConfigProvider, Context, Effect, Layer, Logger, Queue, Redacted } from "effect"
import { SqlClient, type SqlError } from "effect/sql"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Database from "../../src/config/Database.ts"
import * as Db from "../../src/Db.ts"
import * as HandlerRegistry from "../../src/HandlerRegistry.ts"
import * as Listener from "../../src/storage/Listener.ts"
import * as Worker from "../../src/Worker.ts"
import * as Cluster from "../support/Cluster.ts"
import * as FaultProxy from "../support/FaultProxy.ts"
import * as Harness from "../support/WorkerHarness.ts"

class Pair extends Context.Service<Pair, {
  readonly primary: Cluster.Cluster
  readonly standby: Cluster.Cluster
}>()("spindle/test/Pair") {
  static readonly layer = Layer.effect(
    this,
    Effect.gen(function*() {
      const primary = yield* Cluster.make()
      return Pair.of({ primary, standby: yield* Cluster.standbyOf(primary) })
    })
  )
}

const passwordOf = (cluster: Cluster.Cluster) => new URL(Redacted.value(cluster.url())).password

/** A client as the environment names it, and a way to ask which server it reached, as the port it listens on. */
const connect = (env: Record<string, string>) =>
  Effect.map(
    Layer.build(Database.layer.pipe(Layer.provide(ConfigProvider.layer(ConfigProvider.fromEnvRecord(env))))),
    Context.get(PgClient.PgClient)
  )

const portOf = Effect.fnUntraced(function*(sql: SqlClient.SqlClient) {
  const [row] = yield* sql<{ readonly port: string }>`select current_setting('port') as port`
  return Number(row!.port)
})

const hosts = (...clusters: ReadonlyArray<Pick<Cluster.Cluster, "port">>) =>
  clusters.map(({ port }) => `127.0.0.1:${port}`).join(",")

const reached = (env: Record<string, string>) => Effect.scoped(Effect.flatMap(connect(env), portOf))

const refusal = (env: Record<string, string>) =>
  Effect.map(Effect.flip(reached(env)), (error) => {
    assert.strictEqual(error._tag, "SqlError")
    return (error as SqlError.SqlError).reason
  })

layer(Pair.layer, { excludeTestServices: true })("a connection to several hosts", (it) => {
  it.effect("goes to the first that is as wanted", () =>
    Effect.gen(function*() {
      const { primary, standby } = yield* Pair
      const password = passwordOf(primary)
      const both = hosts(standby, primary)
      for (
        const [target, expected] of [
          ["any", standby],
          ["read-write", primary],
          ["primary", primary],
          ["read-only", standby],
          ["standby", standby],
          ["prefer-standby", standby]
        ] as const
      ) {
        const url = `postgres://postgres:${password}@${both}/postgres?target_session_attrs=${target}`
        assert.strictEqual(yield* reached({ DATABASE_URL: url }), expected.port, target)
      }
      const only = `postgres://postgres:${password}@${hosts(primary)}/postgres?target_session_attrs=`
      assert.strictEqual(yield* reached({ DATABASE_URL: `${only}prefer-standby` }), primary.port)
      const { cause } = yield* refusal({ DATABASE_URL: `${only}standby` })
      assert.strictEqual(String(cause), `Error: no server will do (127.0.0.1:${primary.port}: not standby)`)

      const variables = {
        PGHOST: "127.0.0.1,localhost",
        PGPORT: `${standby.port},${primary.port}`,
        PGUSER: "postgres",
        PGPASSWORD: password
      }
      assert.strictEqual(yield* reached(variables), standby.port)
      assert.strictEqual(yield* reached({ ...variables, PGTARGETSESSIONATTRS: "read-write" }), primary.port)
      // the name is for certificates only, and is not looked up
      assert.strictEqual(
        yield* reached({
          ...variables,
          PGHOST: "nowhere.invalid,nowhere.invalid",
          PGHOSTADDR: "127.0.0.1,127.0.0.1",
          PGTARGETSESSIONATTRS: "primary"
        }),
        primary.port
      )
    }))

  it.effect("says of each why it will not do, and stops where a password is wrong", () =>
    Effect.gen(function*() {
      const { primary, standby } = yield* Pair
      const url = (password: string, places: string) =>
        `postgres://postgres:${password}@${places}/postgres?target_session_attrs=read-write`
      const away = yield* refusal({ DATABASE_URL: url(passwordOf(primary), `127.0.0.1:1,${hosts(standby)}`) })
      assert.strictEqual(
        String(away.cause),
        `Error: no server will do (127.0.0.1:1: connect ECONNREFUSED 127.0.0.1:1; 127.0.0.1:${standby.port}: not read-write)`
      )
      assert.isTrue(away.isRetryable)
      const wrong = yield* refusal({ DATABASE_URL: url("wrong", hosts(standby, primary)) })
      assert.strictEqual(wrong._tag, "AuthenticationError")
      assert.include(String(wrong.cause), "password authentication failed")
      const elsewhere = url(passwordOf(primary), hosts(primary, standby)).replace("/postgres?", "/elsewhere?")
      assert.include(
        String((yield* refusal({ DATABASE_URL: elsewhere })).cause),
        "database \"elsewhere\" does not exist"
      )
    }))

  it.effect("does not wait again for a host that did not answer", () =>
    Effect.gen(function*() {
      const { primary } = yield* Pair
      const proxy = yield* FaultProxy.make({ host: "127.0.0.1", port: primary.port })
      yield* proxy.blackhole(true)
      const url = `postgres://postgres:${passwordOf(primary)}@${hosts(proxy, primary)}/postgres?connect_timeout=1`
      const sql = yield* connect({ DATABASE_URL: url })
      assert.strictEqual(yield* portOf(sql), primary.port)
      // a connection more
      assert.strictEqual(
        yield* Effect.timeout(Effect.scoped(Effect.flatMap(Db.controlPool(sql), portOf)), "900 millis"),
        primary.port
      )
    }).pipe(Effect.scoped))

  it.effect("takes a password in the form that the server compares", () =>
    Effect.gen(function*() {
      const { primary } = yield* Pair
      const admin = yield* connect({ DATABASE_URL: Redacted.value(primary.url()) })
      const env = { PGHOST: "127.0.0.1", PGPORT: String(primary.port), PGUSER: "prepared", PGDATABASE: "postgres" }
      // by this method a role is asked for what is stored of it
      const rules = Path.join(primary.dataDir, "pg_hba.conf")
      Fs.writeFileSync(rules, Fs.readFileSync(rules, "utf8").replaceAll("scram-sha-256", "md5"))
      yield* admin`select pg_reload_conf()`
      for (
        const [method, password] of [
          // SASLprep makes a space, nothing, a letter, digits, one letter of two
          ...["a\u00a0b", "a\u00adb", "\u00aa", "x\u2168", "e\u0301"].map((password) => ["scram-sha-256", password]),
          // and nothing of these, which are compared as they are
          ...["\u2168\u{1f600}", "\u06271", "\u00ad", "\u0001\u2168", "plain"].map((
            password
          ) => ["scram-sha-256", password]),
          ["md5", "a\u00a0b"]
        ] as Array<[string, string]>
      ) {
        yield* admin.unsafe("drop role if exists prepared")
        yield* admin.unsafe(
          `do $$ begin set local password_encryption = '${method}'; create role prepared login password '${password}'; end $$`
        )
        const url = `postgres://prepared:${encodeURIComponent(password)}@${hosts(primary)}/postgres`
        for (const given of [{ ...env, PGPASSWORD: password }, { DATABASE_URL: url }]) {
          const exit = yield* Effect.exit(Effect.retry(reached(given), { times: method === "md5" ? 20 : 0 }))
          assert.isTrue(exit._tag === "Success", `${method} ${JSON.stringify(password)}`)
        }
      }
      assert.strictEqual((yield* refusal({ ...env, PGPASSWORD: "b\u00a0a" }))._tag, "AuthenticationError")
    }).pipe(Effect.scoped))

  it.effect(
    "moves to the next one with everything that a worker has, as soon as the first is gone",
    () =>
      Effect.gen(function*() {
        const { primary, standby } = yield* Pair
        const url = `postgres://postgres:${passwordOf(primary)}@${
          hosts(primary, standby)
        }/postgres?target_session_attrs=read-write`
        const sql = yield* connect({ DATABASE_URL: url })
        const script = Harness.script()
        const worker = yield* Layer.build(
          Worker.layer({ ...Harness.quick, migrations: "run" }).pipe(
            Layer.provide(HandlerRegistry.layer(Harness.Tasks).pipe(Layer.provide(script.handlers)) as never),
            Layer.provide(Layer.succeedContext(Context.make(SqlClient.SqlClient, sql))),
            Layer.provide(Logger.layer([]))
          ) as Layer.Layer<Worker.Worker>
        )
        assert.isDefined(worker)
        const page = yield* Db.pagePool(sql)
        const signals = yield* Listener.make(Db.connection(sql), ["there"])
        const run = Effect.gen(function*() {
          const id = yield* Harness.insert("plain")
          assert.strictEqual((yield* Harness.awaitRow(id, Harness.isOver)).status, "completed")
        }).pipe(Effect.provideService(PgClient.PgClient, sql))
        yield* run
        assert.strictEqual(yield* portOf(page), primary.port)
        assert.strictEqual((yield* Queue.take(signals))._tag, "Subscribed")

        // sends the standby everything before it ends
        yield* primary.stop("fast")
        const direct = yield* connect({ DATABASE_URL: Redacted.value(standby.url()) })
        yield* direct`select pg_promote()`
        yield* Effect.repeat(Effect.exit(portOf(sql)), { until: (exit) => exit._tag === "Success" })
        yield* run
        assert.strictEqual(yield* portOf(sql), standby.port)
        assert.strictEqual(yield* Effect.retry(portOf(page), { times: 3 }), standby.port)
        yield* Effect.repeat(Queue.take(signals), { until: ({ _tag }) => _tag === "Subscribed" })
        const listeners = direct<{ readonly n: bigint }>`
        select count(*) as n from pg_stat_activity where application_name = 'spindle listener'`
        yield* Effect.repeat(listeners, { until: ([row]) => Number(row!.n) === 2 })
      }).pipe(Effect.scoped),
    30_000
  )
})

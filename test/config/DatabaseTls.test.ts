/** The TLS rule against a real server with a certificate that no public CA knows. */
import { PgClient } from "@effect/sql-pg"
import { assert, layer } from "@effect/vitest"
import { ConfigProvider, Context, Effect, Layer, Redacted } from "effect"
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { promisify } from "node:util"
import * as Database from "../../src/config/Database.ts"
import * as Installation from "../../src/storage/embedded/Installation.ts"
import * as Cluster from "../support/Cluster.ts"
import * as Provider from "../support/Provider.ts"

class Servers extends Context.Service<Servers, {
  readonly encrypted: Cluster.Cluster
  readonly plain: Cluster.Cluster
  /** The path of the certificate, which is for `localhost` and not for `127.0.0.1`. */
  readonly certificate: string
}>()("spindle/test/Servers") {
  static readonly layer = Layer.effect(
    this,
    Effect.gen(function*() {
      const directory = yield* Provider.temporaryDirectory
      const { account, path } = yield* Installation.home(directory)
      const certificate = Path.join(path, "server.crt")
      const key = Path.join(path, "server.key")
      yield* Effect.promise(() =>
        promisify(ChildProcess.execFile)("openssl", [
          ..."req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2".split(" "),
          ..."-subj /CN=spindle -addext subjectAltName=DNS:localhost".split(" "),
          ..."-keyout server.key -out server.crt".split(" ")
        ], { cwd: path })
      )
      yield* Effect.sync(() => {
        Fs.chmodSync(key, 0o600)
        Installation.own(key, account)
        Fs.chmodSync(certificate, 0o644)
      })
      const settings = { ssl: "on", ssl_cert_file: certificate, ssl_key_file: key }
      const [encrypted, plain] = yield* Effect.all([Cluster.make({ settings }), Cluster.make()], { concurrency: 2 })
      return Servers.of({ encrypted, plain, certificate })
    })
  )
}

/** Whether the connection is encrypted, by the server's own account. */
const connect = (cluster: Cluster.Cluster, host: string, env: Record<string, string>) =>
  Effect.gen(function*() {
    const sql = yield* PgClient.PgClient
    const [row] = yield* sql<{ readonly ssl: boolean }>`select ssl from pg_stat_ssl where pid = pg_backend_pid()`
    return row?.ssl
  }).pipe(Effect.provide(Database.layer.pipe(Layer.provide(ConfigProvider.layer(ConfigProvider.fromEnvRecord({
    PGHOST: host,
    PGPORT: String(cluster.port),
    PGUSER: "postgres",
    PGPASSWORD: new URL(Redacted.value(cluster.url())).password,
    ...env
  }))))))

const refusal = (...args: Parameters<typeof connect>) =>
  Effect.map(Effect.flip(connect(...args)), (error) => {
    assert.strictEqual(error._tag, "SqlError")
    return error._tag === "SqlError" ? String(error.reason.cause) : ""
  })

layer(Servers.layer, { excludeTestServices: true })("TLS to a real server", (it) => {
  it.effect("verify-full takes the certificate of an own CA for the host it names", () =>
    Effect.gen(function*() {
      const { certificate, encrypted } = yield* Servers
      const env = { WORKER_DATABASE_SSL: "verify-full", PGSSLROOTCERT: certificate }
      assert.isTrue(yield* connect(encrypted, "localhost", env))
      assert.include(yield* refusal(encrypted, "127.0.0.1", env), "does not match certificate's altnames")
    }))

  it.effect("verify-full takes the certificate of the host that was chosen, by its name", () =>
    Effect.gen(function*() {
      const { certificate, encrypted } = yield* Servers
      const env = { WORKER_DATABASE_SSL: "verify-full", PGSSLROOTCERT: certificate }
      const addresses = { ...env, PGHOSTADDR: "127.0.0.1" }
      assert.isTrue(yield* connect(encrypted, "localhost", addresses))
      assert.include(
        yield* refusal(encrypted, "db.example", addresses),
        "Host: db.example. is not in the cert's altnames"
      )
      const ports = `1,${encrypted.port}`
      assert.isTrue(yield* connect(encrypted, "127.0.0.1,localhost", { ...env, PGPORT: ports }))
      assert.include(
        yield* refusal(encrypted, "localhost,127.0.0.1", { ...env, PGPORT: ports }),
        `127.0.0.1:${encrypted.port}: Hostname/IP does not match certificate's altnames`
      )
    }))

  it.effect("verify-full refuses a certificate of nobody known", () =>
    Effect.gen(function*() {
      const { encrypted } = yield* Servers
      assert.match(yield* refusal(encrypted, "localhost", { WORKER_DATABASE_SSL: "verify-full" }), /self.signed/)
    }))

  it.effect("verify-ca does not look at the host", () =>
    Effect.gen(function*() {
      const { certificate, encrypted } = yield* Servers
      const url = new URL(Redacted.value(encrypted.url()))
      url.searchParams.set("sslmode", "verify-ca")
      const env = { DATABASE_URL: url.href }
      assert.match(yield* refusal(encrypted, "", env), /self.signed/)
      assert.isTrue(yield* connect(encrypted, "", { ...env, PGSSLROOTCERT: certificate }))
    }))

  it.effect("require encrypts to whoever answers", () =>
    Effect.gen(function*() {
      const { encrypted } = yield* Servers
      assert.isTrue(yield* connect(encrypted, "127.0.0.1", { WORKER_DATABASE_SSL: "require" }))
      assert.isFalse(yield* connect(encrypted, "127.0.0.1", {}))
    }))

  it.effect.each(["require", "verify-full"])(
    "%s never falls back to a server without TLS",
    (mode) =>
      Effect.gen(function*() {
        const { plain } = yield* Servers
        assert.include(yield* refusal(plain, "localhost", { WORKER_DATABASE_SSL: mode }), "does not support TLS")
        assert.isFalse(yield* connect(plain, "localhost", {}))
      })
  )
})

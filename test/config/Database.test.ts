import { assert, describe, it } from "@effect/vitest"
import { ConfigProvider, Duration, Effect, Redacted, Result } from "effect"
import * as Database from "../../src/config/Database.ts"
import * as Hosts from "../../src/config/Hosts.ts"

const decide = (env: Record<string, string>) => Database.config.parse(ConfigProvider.fromEnvRecord(env))

const refusal = (env: Record<string, string>) =>
  Effect.map(Effect.flip(decide(env)), ({ cause }) => "message" in cause ? cause.message : String(cause))

const server = (env: Record<string, string>) =>
  Effect.filterOrElse(decide(env), (choice) => choice._tag === "Server", () => Effect.die("embedded"))

const everything = {
  CLICKSET_DATABASE_URL: "postgres://a:pa@localhost:1001/da",
  DATABASE_URL: "postgres://b:pb@localhost:1002/db",
  PGHOST: "localhost",
  PGPORT: "1003",
  PGUSER: "c",
  PGDATABASE: "dc",
  CLICKSET_PGPASSWORD: "pc",
  PGPASSWORD: "pd"
}

const without = (...names: ReadonlyArray<keyof typeof everything>): Record<string, string> =>
  Object.fromEntries(Object.entries(everything).filter(([name]) => !names.includes(name as keyof typeof everything)))

describe("which database", () => {
  it.effect.each(
    [
      ["CLICKSET_DATABASE_URL first", everything, ["a", "pa", 1001, "da"]],
      ["then DATABASE_URL", without("CLICKSET_DATABASE_URL"), ["b", "pb", 1002, "db"]],
      ["then the PG variables", without("CLICKSET_DATABASE_URL", "DATABASE_URL"), ["c", "pc", 1003, "dc"]],
      [
        "PGPASSWORD where CLICKSET_PGPASSWORD is not set",
        without("CLICKSET_DATABASE_URL", "DATABASE_URL", "CLICKSET_PGPASSWORD"),
        ["c", "pd", 1003, "dc"]
      ],
      ["an empty variable is not set", { ...everything, CLICKSET_DATABASE_URL: "" }, ["b", "pb", 1002, "db"]],
      ["one PG variable is enough", { PGUSER: "c" }, ["c", undefined, 5432, "c"]]
    ] as const
  )("%s", ([, env, [username, password, port, database]]) =>
    Effect.gen(function*() {
      const found = yield* server(env)
      assert.deepStrictEqual([
        found.username,
        found.password && Redacted.value(found.password),
        found.hosts[0].port,
        found.database,
        found.hosts[0].host
      ], [username, password, port, database, "localhost"])
      assert.include(JSON.stringify(found), password === undefined ? "localhost" : "<redacted>")
    }))

  it.effect("the embedded one where nothing is set", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* decide({}), { _tag: "Embedded" })
      assert.deepStrictEqual(yield* decide({ DATABASE_URL: "", WORKER_DATABASE_SSL: "require" }), { _tag: "Embedded" })
    }))

  it.effect("a URL's parts are decoded, and its parameters win over them", () =>
    Effect.gen(function*() {
      const plain = yield* server({ DATABASE_URL: "postgresql://a%40b:p%2F%23@[::1]/my%20db" })
      assert.deepStrictEqual(
        [plain.username, Redacted.value(plain.password!), plain.hosts[0].host, plain.hosts[0].port, plain.database],
        ["a@b", "p/#", "::1", 5432, "my db"]
      )
      const url = "postgres://x:y@z:1/d?host=/var/run/postgresql&port=2&user=u&password=p&dbname=n" +
        "&application_name=me&options=-c%20jit%3Doff&connect_timeout=7&target_session_attrs=any"
      const full = yield* server({ DATABASE_URL: url })
      assert.deepStrictEqual(
        [
          full.username,
          Redacted.value(full.password!),
          full.hosts[0].host,
          full.hosts[0].port,
          full.database,
          full.tls
        ],
        ["u", "p", "/var/run/postgresql", 2, "n", "none"]
      )
      assert.deepStrictEqual([full.applicationName, full.options], ["me", "-c jit=off"])
      assert.deepStrictEqual(full.connectTimeout, Duration.seconds(7))
    }))

  it.effect.each(
    [
      ["postgres://u:p@/d?host=/dir", "/dir:5432"],
      ["postgres://u:p@:5433/d", "localhost:5433"],
      ["postgres://%2Fvar%2Frun%2Fone,%2Ftmp:5433/d", "/var/run/one:5432 /tmp:5433"],
      ["postgres://u:p@h1:1,h2:2/d?sslmode=require&target_session_attrs=read-write", "h1:1 h2:2 read-write"],
      ["postgres://u:a,b@c@h1,h2:5433/d", "h1:5432 h2:5433"],
      ["postgres://[2001:db8::1]:1,[2001:db8::2]/d", "[2001:db8::1]:1 [2001:db8::2]:5432"],
      ["postgres:///d?host=h1,h2&port=1,2", "h1:1 h2:2"],
      ["postgres://h0:7/d?host=h1,h2", "h1:7 h2:7"],
      ["postgres://h0/d?host=h1,,h3&port=,2,&sslmode=require", "h1:5432 localhost:2 h3:5432"],
      ["postgres:///d?hostaddr=10.0.0.1,::1&sslmode=require", "10.0.0.1:5432 [::1]:5432"],
      ["postgres://h1,h2/d?hostaddr=10.0.0.1,10.0.0.2", "h1=10.0.0.1:5432 h2=10.0.0.2:5432"],
      ["postgres://localhost/d?host=/a,/b,127.0.0.1&port=1", "/a:1 /b:1 127.0.0.1:1"]
    ] as const
  )("%s", ([url, expected]) =>
    Effect.gen(function*() {
      const { hosts, target } = yield* server({ DATABASE_URL: url })
      const shown = hosts.map(({ address, host, port }) =>
        Hosts.nameOf({ host: address === host ? host : `${host}=${address}`, address, port })
      )
      assert.strictEqual([...shown, ...(target === "any" ? [] : [target])].join(" "), expected)
    }))

  it.effect("several hosts in the PG variables, and the servers that will do", () =>
    Effect.gen(function*() {
      const hosts = { PGHOST: "h1,h2", PGPORT: "1,2", PGTARGETSESSIONATTRS: "primary" }
      const found = yield* server(hosts)
      assert.deepStrictEqual([found.hosts.map(Hosts.nameOf), found.target], [["h1:1", "h2:2"], "primary"])
      const url = "postgres://h3,h4/d?sslmode=require"
      assert.strictEqual((yield* server({ ...hosts, DATABASE_URL: url })).target, "primary")
      assert.strictEqual(
        (yield* server({ ...hosts, DATABASE_URL: `${url}&target_session_attrs=any` })).target,
        "any"
      )
      const addresses = yield* server({ PGHOSTADDR: "127.0.0.1,127.0.0.2", PGPORT: "7" })
      assert.deepStrictEqual(addresses.hosts.map(Hosts.nameOf), ["127.0.0.1:7", "127.0.0.2:7"])
    }))

  const url = "but must be like postgres://user:password@host:5432/database, with special characters percent-encoded"
  it.effect.each([
    [{ DATABASE_URL: "user:secret@host" }, `DATABASE_URL is a URL of the scheme user, ${url}`],
    [{ DATABASE_URL: "secret" }, `DATABASE_URL is not a URL, ${url}`],
    [{ CLICKSET_DATABASE_URL: "mysql://u:secret@h/d" }, `CLICKSET_DATABASE_URL is a URL of the scheme mysql, ${url}`],
    [{ DATABASE_URL: "postgres://u:12#secret@h/d" }, `DATABASE_URL is a URL with a stray #, / or @, ${url}`],
    [{ DATABASE_URL: "postgres://u:12/secret@h/d" }, `DATABASE_URL is a URL with a stray #, / or @, ${url}`],
    [{ DATABASE_URL: "postgres://u:12?secret@h/d" }, `DATABASE_URL is a URL with a stray ?, ${url}`],
    [{ DATABASE_URL: "postgres://u:sec%ret@h/d" }, `DATABASE_URL is a URL with a stray %, ${url}`],
    [{ DATABASE_URL: "postgres://u:secret@h:0/d" }, `DATABASE_URL is a URL with the port 0, ${url}`],
    [
      { DATABASE_URL: "postgres://h/d?connect_timeout=ages" },
      `DATABASE_URL is a URL with connect_timeout=ages, ${url}`
    ],
    [{ DATABASE_URL: "postgres://user:secret" }, `DATABASE_URL is a URL with a stray : or [, ${url}`],
    [{ DATABASE_URL: "postgres://user:123456" }, `DATABASE_URL is a URL with a stray :, ${url}`],
    [{ DATABASE_URL: "postgres://u:secret@[::1/d" }, `DATABASE_URL is a URL with a stray : or [, ${url}`],
    [{ DATABASE_URL: "postgres://h1,h2,h3:1/d?port=1,2" }, `DATABASE_URL is a URL with 3 hosts and 2 ports, ${url}`],
    [
      { DATABASE_URL: "postgres://h1,h2/d?hostaddr=10.0.0.1" },
      `DATABASE_URL is a URL with 2 hosts and 1 of hostaddr, ${url}`
    ],
    [
      { DATABASE_URL: "postgres://h1/d?hostaddr=h2" },
      `DATABASE_URL is a URL with hostaddr=h2, which is no address, ${url}`
    ],
    [
      { DATABASE_URL: "postgres://h1,h2/d?target_session_attrs=master" },
      "DATABASE_URL is a URL with target_session_attrs=master, but must be one with target_session_attrs=any, " +
      "read-write, read-only, primary, standby or prefer-standby, or without"
    ],
    [
      { DATABASE_URL: "postgres://u:secret@localhost,db.example:1/d" },
      "DATABASE_URL has hosts that are reached by TLS and hosts that are not (localhost:5432, db.example:1), but must " +
      "have either; sslmode and WORKER_DATABASE_SSL decide it for all but Unix sockets"
    ],
    [
      { PGHOST: "h1,h2", PGPORT: "1,2,3" },
      "PGHOST, PGHOSTADDR and PGPORT are 2 hosts and 3 ports, but must be as many of each, or one port"
    ],
    [{ PGHOST: "h1,h2", PGPORT: "1,0" }, "PGPORT is \"1,0\", but must be a port from 1 to 65535"],
    [
      { PGHOST: "h", PGTARGETSESSIONATTRS: "master" },
      "PGTARGETSESSIONATTRS is \"master\", but must be any, read-write, read-only, primary, standby or prefer-standby"
    ],
    [{ PGHOST: "h", PGPORT: "70000" }, "PGPORT is \"70000\", but must be a port from 1 to 65535"],
    [
      { WORKER_DATABASE_SSL: "on" },
      "WORKER_DATABASE_SSL is \"on\", but must be \"verify-full\" or \"require\" or \"disable\""
    ],
    [
      { PGHOST: "h", PGSSLROOTCERT: "/nowhere.pem" },
      "PGSSLROOTCERT is \"/nowhere.pem\", but must be a file of certificates in PEM"
    ],
    [
      { PGHOST: "h", PGSSLROOTCERT: import.meta.filename },
      `PGSSLROOTCERT is ${JSON.stringify(import.meta.filename)}, but must be a file of certificates in PEM`
    ],
    [
      { DATABASE_URL: "postgres://u:secret@db.example/d?sslmode=prefer" },
      "DATABASE_URL is a URL with sslmode=prefer, but must be without it, or have sslmode=require, verify-ca or " +
      "verify-full, to reach db.example; only WORKER_DATABASE_SSL=disable turns TLS off"
    ]
  ] as ReadonlyArray<[Record<string, string>, string]>)(
    "refused in one line without a password: %#",
    ([env, line]) =>
      Effect.gen(function*() {
        assert.strictEqual(yield* refusal(env), line)
      })
  )
})

describe("TLS", () => {
  const other = "db.example"
  it.each(
    [
      [other, undefined, undefined, "verify-full"],
      ["10.0.0.7", undefined, undefined, "verify-full"],
      ["127.0.0.1.example", undefined, undefined, "verify-full"],
      ["localhost.example", undefined, undefined, "verify-full"],
      ["localhost", undefined, undefined, "none"],
      ["127.0.0.1", undefined, undefined, "none"],
      ["127.1.2.3", undefined, undefined, "none"],
      ["::1", undefined, undefined, "none"],
      ["/var/run/postgresql", undefined, undefined, "none"],
      [other, undefined, "verify-full", "verify-full"],
      [other, undefined, "verify-ca", "verify-ca"],
      [other, undefined, "require", "require"],
      [other, undefined, "prefer", "refused"],
      [other, undefined, "allow", "refused"],
      [other, undefined, "disable", "refused"],
      [other, undefined, "nonsense", "refused"],
      ["localhost", undefined, "nonsense", "refused"],
      ["localhost", undefined, "prefer", "none"],
      ["localhost", undefined, "disable", "none"],
      ["localhost", undefined, "require", "require"],
      [other, "verify-full", "require", "verify-full"],
      [other, "require", "verify-full", "require"],
      [other, "require", "disable", "require"],
      [other, "disable", undefined, "none"],
      [other, "disable", "verify-full", "none"],
      [other, "disable", "prefer", "none"],
      ["localhost", "verify-full", undefined, "verify-full"],
      ["/var/run/postgresql", "verify-full", "verify-full", "none"]
    ] as const
  )("to %s, WORKER_DATABASE_SSL %s, sslmode %s: %s", (host, variable, sslmode, expected) => {
    assert.strictEqual(Result.getOrElse(Database.tls(host, variable, sslmode), () => "refused"), expected)
  })

  it.effect("is decided on the host that a parameter of the URL names", () =>
    Effect.gen(function*() {
      assert.strictEqual((yield* server({ DATABASE_URL: "postgres://localhost/d?host=db.example" })).tls, "verify-full")
      assert.strictEqual((yield* server({ PGHOST: "db.example" })).tls, "verify-full")
    }))

  it("is handed to the driver without a word that it could read otherwise", () => {
    const given = {
      _tag: "Server",
      hosts: [{ host: other, address: other, port: 5432 }],
      target: "any",
      username: "u",
      password: undefined,
      database: "d",
      ca: undefined,
      applicationName: undefined,
      options: undefined,
      connectTimeout: undefined
    } as const
    const ssl = (tls: Database.Tls) => Database.clientConfig({ ...given, tls }).ssl
    assert.strictEqual(ssl("none"), false)
    assert.deepStrictEqual(ssl("require"), { rejectUnauthorized: false })
    assert.deepStrictEqual(ssl("verify-full"), { rejectUnauthorized: true })
    assert.isUndefined(Database.clientConfig({ ...given, tls: "require" }).url)
  })
})

describe("WORKER_SCHEMA", () => {
  it.effect("is a plain identifier, spindle by default", () =>
    Effect.gen(function*() {
      const parse = (env: Record<string, string>) => Database.schema.parse(ConfigProvider.fromEnvRecord(env))
      assert.strictEqual(yield* parse({}), "spindle")
      assert.strictEqual(yield* parse({ WORKER_SCHEMA: "public" }), "public")
      const { cause } = yield* Effect.flip(parse({ WORKER_SCHEMA: "Tasks" }))
      assert.include(String(cause), "WORKER_SCHEMA is \"Tasks\", but must be a lower-case identifier")
    }))
})

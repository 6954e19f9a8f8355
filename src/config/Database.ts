/**
 * Which database a process works on, found in its environment, and how the connection to it is protected.
 *
 * The first of these that is set decides: `CLICKSET_DATABASE_URL`, `DATABASE_URL`, then `PGHOST`, `PGPORT`, `PGUSER`,
 * `PGDATABASE` and `CLICKSET_PGPASSWORD` or `PGPASSWORD` together. Where none is, the embedded PostgreSQL is used.
 *
 * @since 0.1.0
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import type * as SqlClient from "effect/sql/SqlClient"
import type * as SqlError from "effect/sql/SqlError"
import * as Crypto from "node:crypto"
import * as Fs from "node:fs"
import * as Net from "node:net"
import * as Os from "node:os"
import * as Path from "node:path"
import * as Db from "../Db.ts"
import * as EmbeddedPostgres from "../storage/EmbeddedPostgres.ts"
import * as Names from "../storage/Names.ts"
import * as ConnectionUrl from "./ConnectionUrl.ts"
import * as Hosts from "./Hosts.ts"
import * as Variable from "./Variable.ts"

/**
 * How a connection is protected.
 *
 * - `none`: not at all, which only a connection that stays on the machine may do unasked
 * - `require`: encrypted, to whoever answers
 * - `verify-ca`: encrypted, to a server with a certificate of a known CA
 * - `verify-full`: the same, and the certificate is for the host that was asked for
 *
 * @category models
 * @since 0.1.0
 */
export type Tls = "none" | "require" | "verify-ca" | "verify-full"

/**
 * What the environment says. `Embedded` stands for a database of nobody's choosing.
 *
 * @category models
 * @since 0.1.0
 */
export type Choice = { readonly _tag: "Embedded" } | Server

/**
 * A server, and the role and database on it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Server {
  readonly _tag: "Server"
  readonly hosts: Hosts.Hosts
  readonly target: Hosts.Target
  readonly username: string
  readonly password: Redacted.Redacted | undefined
  readonly database: string
  readonly tls: Tls
  /** The certificates to trust instead of those that come with Node, in PEM. */
  readonly ca: string | undefined
  readonly applicationName: string | undefined
  readonly options: string | undefined
  readonly connectTimeout: Duration.Duration | undefined
}

// A connection to such a host cannot leave the machine.
const isLocal = (host: string) =>
  Hosts.isSocket(host) || host === "localhost" || host === "::1" || (Net.isIPv4(host) && host.startsWith("127."))

type TlsVariable = "verify-full" | "require" | "disable"

/**
 * How a connection to the host is protected: by what `WORKER_DATABASE_SSL` says, else by `sslmode`, else fully unless
 * the host is this machine. Fails with the `sslmode` that it does not accept. PostgreSQL has no TLS on Unix sockets.
 *
 * @category constructors
 * @since 0.1.0
 */
export const tls = (
  host: string,
  variable: TlsVariable | undefined,
  sslmode: string | undefined
): Result.Result<Tls, string> => {
  if (Hosts.isSocket(host)) return Result.succeed("none")
  if (variable !== undefined) return Result.succeed(variable === "disable" ? "none" : variable)
  switch (sslmode) {
    case undefined:
      return Result.succeed(isLocal(host) ? "none" : "verify-full")
    case "require":
    case "verify-ca":
    case "verify-full":
      return Result.succeed(sslmode)
    case "disable":
    case "allow":
    case "prefer":
      return isLocal(host) ? Result.succeed("none") : Result.fail(sslmode)
    default:
      return Result.fail(sslmode)
  }
}

const text = (name: string) => Config.map(Variable.make(name, "", Option.some), Option.getOrUndefined)

const variables = Config.all({
  clicksetUrl: text("CLICKSET_DATABASE_URL"),
  url: text("DATABASE_URL"),
  host: text("PGHOST"),
  address: text("PGHOSTADDR"),
  port: Config.map(
    Variable.make(
      "PGPORT",
      "a port from 1 to 65535",
      (list) => Option.map(Option.all(list.split(",").map(ConnectionUrl.parsePort)), () => list)
    ),
    Option.getOrUndefined
  ),
  target: Config.map(
    Variable.make("PGTARGETSESSIONATTRS", Hosts.allowedTargets, Hosts.parseTarget),
    Option.getOrUndefined
  ),
  username: text("PGUSER"),
  database: text("PGDATABASE"),
  clicksetPassword: text("CLICKSET_PGPASSWORD"),
  password: text("PGPASSWORD"),
  rootCertificate: text("PGSSLROOTCERT"),
  tls: Config.map(
    Variable.make(
      "WORKER_DATABASE_SSL",
      "\"verify-full\" or \"require\" or \"disable\"",
      Variable.oneOf("verify-full", "require", "disable")
    ),
    Option.getOrUndefined
  )
})

const accountName = Effect.try({
  try: () => Os.userInfo().username,
  catch: () => Variable.malformed("PGUSER", "not set", "the role to connect as, since this account has no name")
})

// The TLS library passes over what is no certificate, and would then trust nobody.
const checkedPem = (pem: string) => ({ pem, first: new Crypto.X509Certificate(pem) })

const certificates = (path: string) =>
  Effect.try({
    try: () => checkedPem(Fs.readFileSync(path, "utf8")).pem,
    catch: () => Variable.malformed("PGSSLROOTCERT", JSON.stringify(path), "a file of certificates in PEM")
  })

/**
 * The variables of the connection; one that cannot be used is named, with what was given (never a password) and what is
 * allowed.
 *
 * @category constants
 * @since 0.1.0
 */
export const config: Config.Config<Choice> = Config.mapEffect(
  variables,
  Effect.fnUntraced(function*(given) {
    const server = Effect.fnUntraced(function*(name: string, { sslmode, ...address }: ConnectionUrl.Address) {
      const { hosts } = address
      const username = address.username ?? (yield* accountName)
      const protections = yield* Effect.forEach(hosts, (host) =>
        Effect.mapError(
          Effect.fromResult(tls(host.address, given.tls, sslmode)),
          (refused) =>
            Variable.malformed(
              name,
              `a URL with sslmode=${refused}`,
              `without it, or have sslmode=require, verify-ca or verify-full, to reach ${host.host}; only WORKER_DATABASE_SSL=disable turns TLS off`
            )
        ))
      const [protection] = protections as [Tls]
      if (protections.some((other) => other !== protection)) {
        return yield* Effect.fail(Variable.refused(
          `${name} has hosts that are reached by TLS and hosts that are not (${
            hosts.map(Hosts.nameOf).join(", ")
          }), but must have either; sslmode and WORKER_DATABASE_SSL decide it for all but Unix sockets`
        ))
      }
      const verifies = protection === "verify-ca" || protection === "verify-full"
      return {
        _tag: "Server",
        ...address,
        target: address.target ?? given.target ?? "any",
        username,
        database: address.database ?? username,
        tls: protection,
        ca: given.rootCertificate !== undefined && verifies ? yield* certificates(given.rootCertificate) : undefined
      } satisfies Server
    })
    const named = [["CLICKSET_DATABASE_URL", given.clicksetUrl], ["DATABASE_URL", given.url]] as const
    for (const [name, url] of named) {
      if (url === undefined) continue
      const address = yield* Effect.mapError(
        Effect.fromResult(ConnectionUrl.parse(url)),
        (issue) => Variable.malformed(name, issue.given, issue.allowed)
      )
      return yield* server(name, address)
    }
    const password = given.clicksetPassword ?? given.password
    if (
      [given.host, given.address, given.port, given.username, given.database, password].every((one) =>
        one === undefined
      )
    ) return { _tag: "Embedded" } satisfies Choice
    const hosts = yield* Effect.mapError(
      Effect.fromResult(
        ConnectionUrl.hostsOf(
          (given.host ?? "").split(","),
          given.address?.split(","),
          (given.port ?? "").split(",")
        )
      ),
      (what) => Variable.refused(`PGHOST, PGHOSTADDR and PGPORT are ${what}, but must be as many of each, or one port`)
    )
    return yield* server("PGHOST", {
      hosts,
      target: undefined,
      username: given.username,
      password: password === undefined ? undefined : Redacted.make(password),
      database: given.database,
      sslmode: undefined,
      applicationName: undefined,
      options: undefined,
      connectTimeout: undefined
    })
  })
)

/**
 * The schema of the tables.
 *
 * @category constants
 * @since 0.1.0
 */
export const schema: Config.Config<string> = Variable.withDefault(
  "WORKER_SCHEMA",
  "a lower-case identifier of at most 47 characters, such as spindle or public",
  (name) => Names.schemaPattern.test(name) ? Option.some(name) : Option.none(),
  "spindle"
)

/**
 * How the driver is told. It has an opinion of its own on `sslmode`, hence it never sees a URL.
 *
 * @category constructors
 * @since 0.1.0
 */
export const clientConfig = (server: Server): PgClient.PgPoolConfig =>
  Hosts.connecting(
    {
      username: server.username,
      password: server.password,
      database: server.database,
      ssl: server.tls === "none" ? false : {
        rejectUnauthorized: server.tls !== "require",
        ...(server.ca === undefined ? {} : { ca: server.ca }),
        ...(server.tls === "verify-ca" ? { checkServerIdentity: () => undefined } : {})
      },
      applicationName: server.applicationName ?? "spindle",
      startupOptions: server.options,
      connectTimeout: server.connectTimeout,
      keepAlive: "30 seconds",
      // a payload and a result, each as large as they may be
      maxMessageSize: 64 * 1024 * 1024
    },
    server.hosts,
    server.target
  )

/**
 * Where this process found its database.
 *
 * @category services
 * @since 0.1.0
 */
export class Database extends Context.Service<Database, {
  /** The address without password, to be shown. */
  readonly address: string
  readonly embedded: boolean
}>()("spindle/Database") {}

const address = ({ database, hosts, tls, username }: Server) =>
  `${username}@${hosts.map(Hosts.nameOf).join(",")}/${database} (${
    hosts.every(({ address }) => Hosts.isSocket(address))
      ? "Unix socket"
      : tls === "none"
      ? "without TLS"
      : `TLS, ${tls}`
  })`

/**
 * The application's pool on the database that the environment names, with the schema of the tables. The pool connects
 * when it is first used; an embedded server is started, or joined, at once.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<
  Database | PgClient.PgClient | SqlClient.SqlClient,
  Config.ConfigError | EmbeddedPostgres.EmbeddedPostgresError | SqlError.SqlError
> = Layer.unwrap(Effect.gen(function*() {
  const schemaName = yield* schema
  const choice = yield* config
  const server = choice._tag === "Server" ? choice : yield* embedded
  return Layer.mergeAll(
    PgClient.layer(clientConfig(server)),
    Layer.succeed(Db.Schema, schemaName),
    Layer.succeed(Database, { address: address(server), embedded: choice._tag === "Embedded" })
  )
}))

/** Whether the embedded server is started where it does not run. Who only reads has nothing to find there. */
export const StartsEmbedded: Context.Reference<boolean> = Context.Reference("spindle/config/Database/StartsEmbedded", {
  defaultValue: () => true
})

const embedded = Effect.gen(function*() {
  const directory = Path.resolve(".spindle")
  if (!(yield* StartsEmbedded) && !(yield* EmbeddedPostgres.isRunning({ dataDir: directory }))) {
    return yield* new EmbeddedPostgres.EmbeddedPostgresError({
      message:
        `No database is named (DATABASE_URL, PGHOST), and the embedded PostgreSQL of ${directory} does not run: ` +
        "`spindle start` starts it"
    })
  }
  const { dataDir, url } = yield* EmbeddedPostgres.make({ dataDir: directory })
  yield* Effect.logInfo(
    "no database is configured: using the embedded PostgreSQL, a default for development"
  ).pipe(Effect.annotateLogs({ dataDir }))
  const { sslmode: _, ...address } = Result.getOrThrow(ConnectionUrl.parse(Redacted.value(url())))
  return {
    _tag: "Server",
    ...address,
    target: "any",
    username: address.username ?? "postgres",
    database: address.database ?? "postgres",
    tls: "none",
    ca: undefined
  } satisfies Server
})

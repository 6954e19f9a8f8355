/**
 * Which of several servers a connection goes to.
 *
 * The driver knows one server. It asks for the password before each connection, and then for a socket: the server is chosen
 * in between, by a short connection of our own.
 */
import type * as PgClient from "@effect/sql-pg/PgClient"
import * as PgConnection from "@effect/sql-pg/PgConnection"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import type * as SqlError from "effect/sql/SqlError"
import * as Net from "node:net"
import { Duplex } from "node:stream"
import type { ConnectionOptions } from "node:tls"
import * as Db from "../Db.ts"
import * as Variable from "./Variable.ts"

/** A server: what it is called and verified as, and where it is reached. */
export interface Host {
  /** A name, an address, or the directory of a Unix socket. */
  readonly host: string
  /** The same, or the address to use instead of looking the name up. */
  readonly address: string
  readonly port: number
}

/** In the order in which they are tried. */
export type Hosts = readonly [Host, ...Array<Host>]

const targets = ["any", "read-write", "read-only", "primary", "standby", "prefer-standby"] as const

/** Which servers will do, as in libpq's `target_session_attrs`. */
export type Target = typeof targets[number]

export const parseTarget: (text: string) => Option.Option<Target> = Variable.oneOf(...targets)

export const allowedTargets = `${targets.slice(0, -1).join(", ")} or ${targets.at(-1)}`

/** Whether a host is the directory of a Unix socket. */
export const isSocket = (host: string): boolean => host.startsWith("/")

/**
 * Connects to the first of the hosts that answers and is as wanted, beginning with the one that did so last. What a server
 * refuses for good, such as a wrong password, is not tried on the others: its own error says it.
 */
export const connecting = (
  config: PgClient.PgPoolConfig & { readonly password?: Redacted.Redacted | undefined },
  hosts: Hosts,
  target: Target
): PgClient.PgPoolConfig => {
  const secret = config.password === undefined ? undefined : Redacted.value(config.password)
  // oxlint-disable-next-line no-control-regex
  const plain = secret === undefined || /^[\0-\x7f]*$/.test(secret)
  if (hosts.length === 1 && target === "any" && plain) return { ...config, ...reaching(config, hosts[0]) }

  const patience = Duration.fromInputUnsafe(config.connectTimeout ?? "5 seconds")
  let passwords: ReadonlyArray<Redacted.Redacted | undefined> | undefined = plain ? [config.password] : undefined
  let first = 0
  let chosen: Host | Error = new Error("no server was chosen yet")

  const ask = (host: Host, password: Redacted.Redacted | undefined, wanted: Target) =>
    Effect.gen(function*() {
      const connection = yield* PgConnection.make({
        ...config,
        ...reaching(config, host),
        password,
        applicationName: "spindle choosing a server",
        multiplex: false,
        prepare: false
      })
      if (wanted === "any") return true
      const { rows } = yield* connection.query(
        "select pg_is_in_recovery() as standby, current_setting('transaction_read_only')::bool as \"readOnly\""
      )
      return suits[wanted](rows[0] as unknown as Role)
    }).pipe(Effect.scoped, Effect.timeoutOption(patience), Effect.result)

  const choose = Effect.gen(function*() {
    passwords ??= yield* forms(config.password!)
    if (hosts.length === 1 && target === "any" && passwords.length === 1) {
      chosen = hosts[0]
      return passwords[0]!
    }
    const refusals: Array<string> = []
    for (const wanted of target === "prefer-standby" ? ["standby", "any"] as const : [target]) {
      const inTurn = [...hosts.keys()].map((n) => (first + n) % hosts.length)
      for (const place of inTurn) {
        const host = hosts[place]!
        // Whoever is interrupted meanwhile goes on with the next one.
        first = (place + 1) % hosts.length
        for (const [n, password] of passwords.entries()) {
          const answer = yield* ask(host, password, wanted)
          const denied = Result.isFailure(answer) && !Db.isTransient(answer.failure)
          if (denied && n + 1 < passwords.length) continue
          if (denied || (Result.isSuccess(answer) && Option.getOrElse(answer.success, () => false))) {
            if (!denied) passwords = [password]
            first = place
            chosen = host
            return password!
          }
          refusals.push(`${nameOf(host)}: ${whyNot(answer, wanted)}`)
          break
        }
      }
    }
    chosen = new Error(`no server will do (${refusals.join("; ")})`)
    return passwords[0]!
  })

  const rounds = hosts.length * (target === "prefer-standby" ? 2 : 1) * (plain ? 1 : 2) + 1
  return {
    ...config,
    ...reaching(config, hosts[0]),
    // Read when the driver has a socket and begins with TLS on it.
    ssl: typeof config.ssl === "object"
      ? Object.defineProperties({ ...config.ssl }, {
        host: { enumerable: true, get: () => chosen instanceof Error ? undefined : chosen.host },
        servername: { enumerable: true, get: () => chosen instanceof Error ? undefined : serverName(chosen.host) }
      })
      : config.ssl,
    password: choose as Effect.Effect<Redacted.Redacted>,
    connectTimeout: Duration.times(patience, rounds),
    stream: () => chosen instanceof Error ? broken(chosen) : socket(chosen)
  }
}

/** How the driver is told of one server. */
const reaching = (config: PgClient.PgPoolConfig, { address, host, port }: Host) => ({
  host: address,
  port,
  ...(address === host || typeof config.ssl !== "object"
    ? {}
    : { ssl: { ...config.ssl, host, servername: serverName(host) } as ConnectionOptions })
})

// An address is verified as such: TLS has no names for addresses.
const serverName = (host: string) => Net.isIP(host) === 0 ? host : undefined

const socket = ({ address, port }: Host) =>
  isSocket(address)
    ? Net.connect({ path: `${address}/.s.PGSQL.${port}` })
    : Net.connect({ host: address, port, noDelay: true, keepAlive: true, keepAliveInitialDelay: 30_000 })

const broken = (why: Error) => new Duplex({ read: () => {}, write: (_, __, done) => done() }).destroy(why)

interface Role {
  readonly standby: boolean
  readonly readOnly: boolean
}

const suits = {
  "read-write": ({ readOnly }: Role) => !readOnly,
  "read-only": ({ readOnly }: Role) => readOnly,
  primary: ({ standby }: Role) => !standby,
  standby: ({ standby }: Role) => standby,
  "prefer-standby": () => true
}

const whyNot = (answer: Result.Result<Option.Option<boolean>, SqlError.SqlError>, wanted: Target) => {
  if (Result.isSuccess(answer)) return Option.isNone(answer.success) ? "no answer" : `not ${wanted}`
  const { cause, message } = answer.failure.reason
  return cause instanceof Error && cause.message !== "" ? cause.message : message
}

/** As it is written in a URL. */
export const nameOf = ({ host, port }: Host): string => `${host.includes(":") ? `[${host}]` : host}:${port}`

// SCRAM compares passwords as SASLprep makes them (RFC 4013), and the driver does not prepare them. What cannot be prepared
// is compared as it is, and so is every password by other methods.
const forms = (password: Redacted.Redacted) =>
  Effect.promise(() => import("@mongodb-js/saslprep")).pipe(
    Effect.map(({ default: saslprep }) => {
      const given = Redacted.value(password)
      const prepared = Option.getOrElse(Option.liftThrowable(() => saslprep(given))(), () => given)
      return prepared === given ? [password] : [Redacted.make(prepared), password]
    })
  )

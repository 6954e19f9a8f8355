/**
 * URLs of databases, in the forms that libpq takes: several hosts, addresses beside their names, directories of Unix sockets.
 */
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import * as Net from "node:net"
import * as Hosts from "./Hosts.ts"
import * as Variable from "./Variable.ts"

/** What a URL says. */
export interface Address {
  readonly hosts: Hosts.Hosts
  readonly target: Hosts.Target | undefined
  readonly username: string | undefined
  readonly password: Redacted.Redacted | undefined
  readonly database: string | undefined
  readonly sslmode: string | undefined
  readonly applicationName: string | undefined
  readonly options: string | undefined
  readonly connectTimeout: Duration.Duration | undefined
}

/** What is wrong with it, and what would be allowed. */
export interface Issue {
  readonly given: string
  readonly allowed: string
}

const issue = (
  given: string,
  allowed = "like postgres://user:password@host:5432/database, with special characters percent-encoded"
) => Result.fail<Issue>({ given, allowed })

/**
 * Takes no character for the end of a part that may as well be an unencoded one of the password: a piece of that could
 * otherwise end up as a host, and in a log.
 */
export const parse = (text: string): Result.Result<Address, Issue> => {
  const [, scheme, rest] = /^([a-z][a-z0-9+.-]*):(.*)$/is.exec(text.trim()) ?? []
  if (scheme === undefined || rest === undefined) return issue("not a URL")
  if (!/^postgres(ql)?$/i.test(scheme)) return issue(`a URL of the scheme ${scheme}`)
  const [, authority, path = "", query = ""] = /^\/\/([^/?]*)(\/[^?]*)?(?:\?(.*))?$/s.exec(rest) ?? []
  if (authority === undefined || rest.includes("#") || !/^(\/[^/@]*)?$/.test(path)) {
    return issue("a URL with a stray #, / or @")
  }
  const parameters = new URLSearchParams(query.replaceAll("+", "%2B"))
  if ([...parameters.keys()].some((key) => !/^[a-z_]+$/.test(key))) return issue("a URL with a stray ?")
  const listOf = (name: string) => parameters.get(name) ? parameters.get(name)!.split(",") : undefined

  const [, user = "", password = "", places = ""] = /^(?:([^:]*)(?::(.*))?@)?([^@]*)$/s.exec(authority)!
  const pairs = places.split(",").map((place) => /^(\[[^\]]*\]|[^:[\]]*)(?::(\d*))?$/.exec(place))
  if (pairs.some((pair) => pair === null)) return issue("a URL with a stray : or [")
  const names = pairs.map((pair) => pair![1]!.replace(/^\[(.*)\]$/, "$1"))
  const decoded = [user, password, path.slice(1), ...names].map(decode)
  if (decoded.some((part) => part === undefined)) return issue("a URL with a stray %")
  const [username, secret, database, ...hosts] = decoded as [string, string, string, ...Array<string>]

  const found = hostsOf(
    listOf("host") ?? hosts,
    listOf("hostaddr"),
    listOf("port") ?? pairs.map((pair) => pair![2] ?? "")
  )
  if (Result.isFailure(found)) {
    // A port without an @ can be the password.
    const hidden = found.failure.startsWith("the port") && !authority.includes("@") && !parameters.has("port")
    return issue(hidden ? "a URL with a stray :" : `a URL with ${found.failure}`)
  }
  const seconds = parameters.get("connect_timeout")
  if (seconds !== null && !/^\d{1,9}$/.test(seconds)) return issue(`a URL with connect_timeout=${seconds}`)
  const wanted = parameters.get("target_session_attrs") || undefined
  const target = wanted === undefined ? undefined : Option.getOrNull(Hosts.parseTarget(wanted))
  if (target === null) {
    return issue(
      `a URL with target_session_attrs=${wanted}`,
      `one with target_session_attrs=${Hosts.allowedTargets}, or without`
    )
  }
  const given = parameters.get("password") ?? secret
  return Result.succeed({
    hosts: found.success,
    target,
    username: parameters.get("user") || username || undefined,
    password: given === "" ? undefined : Redacted.make(given),
    database: parameters.get("dbname") || database || undefined,
    sslmode: parameters.get("sslmode") ?? undefined,
    applicationName: parameters.get("application_name") ?? undefined,
    options: parameters.get("options") ?? undefined,
    connectTimeout: seconds === null
      ? undefined
      : Number(seconds) === 0
      ? Duration.infinity
      : Duration.seconds(Number(seconds))
  })
}

const decode = (text: string) => Option.getOrUndefined(Option.liftThrowable(decodeURIComponent)(text))

/**
 * Hosts with their addresses and ports, from lists as libpq takes them: as many of each, or a single port for all. What is
 * empty stands for the default. Fails with what does not fit.
 */
export const hostsOf = (
  names: ReadonlyArray<string>,
  addresses: ReadonlyArray<string> | undefined,
  ports: ReadonlyArray<string>
): Result.Result<Hosts.Hosts, string> => {
  const hosts = addresses !== undefined && names.every((name) => name === "") ? addresses.map(() => "") : names
  if (addresses !== undefined && addresses.length !== hosts.length) {
    return Result.fail(`${hosts.length} hosts and ${addresses.length} of hostaddr`)
  }
  const wrong = addresses?.find((address) => address !== "" && Net.isIP(address) === 0)
  if (wrong !== undefined) return Result.fail(`hostaddr=${wrong}, which is no address`)
  if (ports.length > 1 && ports.length !== hosts.length) {
    return Result.fail(`${hosts.length} hosts and ${ports.length} ports`)
  }
  const numbers = ports.map(parsePort)
  const bad = numbers.findIndex(Option.isNone)
  if (bad >= 0) return Result.fail(`the port ${ports[bad]}`)
  return Result.succeed(hosts.map((name, n): Hosts.Host => {
    const host = name || addresses?.[n] || "localhost"
    return { host, address: addresses?.[n] || host, port: Option.getOrThrow(numbers[n] ?? numbers[0]!) }
  }) as [Hosts.Host, ...Array<Hosts.Host>])
}

/** One port; empty is PostgreSQL's own. */
export const parsePort = (text: string): Option.Option<number> =>
  text === "" ? Option.some(5432) : Variable.wholeNumber(1, 65535)(text)

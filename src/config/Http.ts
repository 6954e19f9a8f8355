/**
 * Whether and where a worker service answers over HTTP, and whom.
 *
 * @since 0.1.0
 */
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import * as Net from "node:net"
import * as Variable from "./Variable.ts"

/**
 * A server as the environment wants it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Http {
  /** 0 picks a free one. */
  readonly port: number
  readonly host: string
  readonly token: Redacted.Redacted | undefined
  readonly readOnly: boolean
  readonly allowedHosts: ReadonlyArray<string>
}

const hostPattern = /^[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?$/i

/**
 * Names as the header `Host` has them, without a port; none if one of them is something else.
 *
 * @category parsers
 * @since 0.1.0
 */
export const hostNames = (names: ReadonlyArray<string>): Option.Option<ReadonlyArray<string>> =>
  names.every((name) => hostPattern.test(name) || Net.isIPv6(name))
    ? Option.some(names.map((name) => name.includes(":") ? `[${name.toLowerCase()}]` : name.toLowerCase()))
    : Option.none()

/**
 * What a token must be, if this one is not: long enough not to be guessed, and possible in a header.
 *
 * @category parsers
 * @since 0.1.0
 */
export const tokenIssue = (token: Redacted.Redacted): string | undefined => {
  const text = Redacted.value(token)
  if (text.length < 32) return `${text.length} characters long, but must be at least 32`
  return /^[!-~]+$/.test(text) ? undefined : "of other characters than must be: visible ASCII, without spaces"
}

const isLoopback = (host: string) =>
  host === "localhost" || host === "::1" || (Net.isIPv4(host) && host.startsWith("127."))

const token = Config.mapEffect(
  Config.map(Variable.make("WORKER_HTTP_TOKEN", "", Option.some), Option.map(Redacted.make)),
  Effect.fnUntraced(function*(given) {
    const issue = Option.match(given, { onNone: () => undefined, onSome: tokenIssue })
    if (issue !== undefined) return yield* Effect.fail(Variable.refused(`WORKER_HTTP_TOKEN is ${issue}`))
    return Option.getOrUndefined(given)
  })
)

/**
 * The variables of the server; none where `WORKER_HTTP_PORT` is `off`.
 *
 * @category constants
 * @since 0.1.0
 */
export const config: Config.Config<Option.Option<Http>> = Config.mapEffect(
  Config.all({
    port: Variable.withDefault<number | "off">(
      "WORKER_HTTP_PORT",
      "a port from 1 to 65535, 0 to pick a free one, or \"off\"",
      (text) => text === "off" ? Option.some(text) : Variable.wholeNumber(0, 65535)(text),
      5000
    ),
    host: Variable.withDefault(
      "WORKER_HTTP_HOST",
      "an address of this machine such as 127.0.0.1, 0.0.0.0 or ::, or localhost",
      (host) => host === "localhost" || Net.isIP(host) !== 0 ? Option.some(host) : Option.none(),
      "127.0.0.1"
    ),
    token,
    readOnly: Variable.withDefault(
      "WORKER_HTTP_READONLY",
      "\"true\" or \"false\"",
      (word) => Option.map(Variable.oneOf("true", "false")(word), (word) => word === "true"),
      false
    ),
    allowedHosts: Variable.withDefault<ReadonlyArray<string>>(
      "WORKER_HTTP_ALLOWED_HOSTS",
      "names without ports, separated by commas, such as spindle.example.com,10.0.0.7",
      (list) => hostNames(list.split(",").map((name) => name.trim())),
      []
    )
  }),
  Effect.fnUntraced(function*({ port, ...given }) {
    if (port === "off") return Option.none()
    if (given.token === undefined && !isLoopback(given.host)) {
      return yield* Effect.fail(Variable.refused(
        `WORKER_HTTP_HOST is ${
          JSON.stringify(given.host)
        }, where others can reach the server: that needs WORKER_HTTP_TOKEN, of at least 32 characters; without it only 127.0.0.1, ::1 and localhost`
      ))
    }
    return Option.some({ port, ...given })
  })
)

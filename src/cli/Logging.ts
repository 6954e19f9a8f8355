/**
 * Where and how a command logs: to standard error, so that standard output has the answer alone.
 *
 * @since 0.1.0
 */
import type * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Formatter from "effect/Formatter"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import type * as LogLevel from "effect/LogLevel"
import * as Option from "effect/Option"
import * as References from "effect/References"
import * as Variable from "../config/Variable.ts"
import { Process, visible } from "./Process.ts"

const levels: Readonly<Record<string, LogLevel.LogLevel>> = {
  trace: "Trace",
  debug: "Debug",
  info: "Info",
  warn: "Warn",
  error: "Error",
  fatal: "Fatal",
  none: "None"
}

const formats = ["pretty", "json", "logfmt"] as const

const words = (all: ReadonlyArray<string>) => all.map((word) => `"${word}"`).join(" or ")

/**
 * Logs as `WORKER_LOG_LEVEL` and `WORKER_LOG_FORMAT` say. The format is by default `pretty` where somebody looks, and
 * else `json`.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (
  defaultLevel: LogLevel.LogLevel
): Layer.Layer<never, Config.ConfigError, Process> =>
  Layer.unwrap(Effect.gen(function*() {
    const { colors, isTerminal } = yield* Process
    const level = yield* Variable.withDefault(
      "WORKER_LOG_LEVEL",
      words(Object.keys(levels)),
      (word) => Option.fromUndefinedOr(Object.hasOwn(levels, word) ? levels[word] : undefined),
      defaultLevel
    )
    const format = yield* Variable.withDefault<typeof formats[number]>(
      "WORKER_LOG_FORMAT",
      words(formats),
      Variable.oneOf(...formats),
      isTerminal.stderr ? "pretty" : "json"
    )
    const logger = {
      pretty: pretty(colors),
      json: Logger.map(Logger.formatJson, visible),
      logfmt: Logger.map(Logger.formatLogFmt, visible)
    }[format]
    return Layer.merge(
      Logger.layer([Logger.withConsoleError(logger)]),
      Layer.succeed(References.MinimumLogLevel, level)
    )
  }))

const sgr: Readonly<Record<string, string>> = {
  TRACE: "90",
  DEBUG: "34",
  INFO: "32",
  WARN: "33",
  ERROR: "31",
  FATAL: "30;101",
  message: "1;36",
  key: "1"
}

/**
 * As `Logger.consolePretty`, whose colours cannot be told from those of a text that it prints. No text begins a line of its own at the
 * left edge.
 */
const pretty = (colors: boolean) => {
  const paint = (text: string, kind: string) => colors ? `\x1b[${sgr[kind]}m${text}\x1b[0m` : text
  const text = (value: unknown) =>
    visible(typeof value === "string" ? value : Formatter.format(value)).replaceAll("\n", "\n  ")
  return Logger.make<unknown, string>((options) => {
    const { annotations, cause, fiberId, level, message, spans } = Logger.formatStructured.log(options)
    const [first, ...others] = Array.isArray(message) ? message : [message]
    const { date } = options
    const time = [date.getHours(), date.getMinutes(), date.getSeconds()].map((part) => String(part).padStart(2, "0"))
    const millis = String(date.getMilliseconds()).padStart(3, "0")
    const timings = Object.entries(spans).map(([label, took]) => ` ${text(label)}=${took}ms`).join("")
    return [
      `[${time.join(":")}.${millis}] ${paint(level, level)} (${fiberId})${timings}: ${paint(text(first), "message")}`,
      ...[...cause === undefined ? [] : [cause], ...others].map(text),
      ...Object.entries(annotations).map(([key, value]) => `${paint(`${text(key)}:`, "key")} ${text(value)}`)
    ].join("\n  ")
  })
}

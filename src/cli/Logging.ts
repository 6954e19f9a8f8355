/**
 * Where and how a command logs: to standard error, so that standard output has the answer alone.
 *
 * @since 0.1.0
 */
import type * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import type * as LogLevel from "effect/LogLevel"
import * as Option from "effect/Option"
import * as References from "effect/References"
import * as Variable from "../config/Variable.ts"
import { Process } from "./Process.ts"

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
    return Layer.mergeAll(
      Logger.layer([
        format === "pretty"
          ? Logger.consolePretty({ colors })
          : Logger.withConsoleError(format === "json" ? Logger.formatJson : Logger.formatLogFmt)
      ]),
      Layer.succeed(Logger.LogToStderr, true),
      Layer.succeed(References.MinimumLogLevel, level)
    )
  }))

/**
 * A worker's options, checked and in milliseconds, and the variables they come from.
 *
 * @since 0.1.0
 */
import * as Config from "effect/Config"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Random from "effect/Random"
import * as Os from "node:os"
import * as Variable from "../config/Variable.ts"
import type * as Lifecycle from "../Lifecycle.ts"
import type { Options } from "../Worker.ts"

/**
 * @category models
 * @since 0.1.0
 */
export interface Resolved {
  readonly concurrency: number
  readonly pollMillis: number
  readonly leaseMillis: number
  readonly sweepMillis: number
  readonly graceMillis: number
  readonly timeoutMillis: number
  readonly taskTypes: ReadonlyArray<string>
  /** The bound of each queue that is served; undefined serves all. */
  readonly queues: ReadonlyMap<string, number> | undefined
  readonly unknownTypes: Options["unknownTypes"]
  readonly notifications: Options["notifications"]
  readonly migrations: Options["migrations"]
}

const maxConcurrency = 10_000
const day = 86_400_000

const bounds = {
  pollInterval: [10, day],
  lease: [500, day],
  staleCheckInterval: [10, day],
  shutdownGrace: [0, day],
  taskTimeout: [1, 2 ** 31 - 1]
} as const

/**
 * What the actors of one worker share.
 *
 * @category services
 * @since 0.1.0
 */
export class Settings extends Context.Service<
  Settings,
  Resolved & {
    readonly workerId: string
    readonly schema: string
    /** Where everything that happens is told, with how long it took: of a start what it waited, of an end what it ran. */
    readonly publish: (event: Lifecycle.Event, millis: number) => void
  }
>()("spindle/Settings") {}

/**
 * Fails with what is wrong: the option, what was given and what is allowed.
 *
 * @category constructors
 * @since 0.1.0
 */
export const resolve = Effect.fnUntraced(function*(options: Options): Effect.fn.Return<Resolved, string> {
  const millis = (name: keyof typeof bounds) => {
    const [minimum, maximum] = bounds[name]
    const duration = Duration.fromInput(options[name])
    const value = Option.match(duration, { onNone: () => NaN, onSome: Duration.toMillis })
    return value >= minimum && value <= maximum
      ? Effect.succeed(value)
      : Effect.fail(`${name} is ${String(options[name])}, but must be a duration from ${minimum} to ${maximum} ms`)
  }
  const count = (name: string, value: number) =>
    Number.isInteger(value) && value >= 1 && value <= maxConcurrency
      ? Effect.succeed(value)
      : Effect.fail(`${name} is ${value}, but must be a whole number from 1 to ${maxConcurrency}`)
  const concurrency = yield* count("concurrency", options.concurrency)
  const isName = (name: string, longest: number) => name.length >= 1 && name.length <= longest && !name.includes("\0")
  if (options.id !== undefined && !isName(options.id, 100)) {
    return yield* Effect.fail(
      `id is ${JSON.stringify(options.id)}, but must be a text of 1 to 100 characters without NUL`
    )
  }
  const queues = new Map<string, number>()
  for (const [queue, { concurrency: own }] of Object.entries(options.queues ?? {})) {
    if (!isName(queue, 200)) {
      return yield* Effect.fail(
        `the queue ${JSON.stringify(queue)} must have a name of 1 to 200 characters without NUL`
      )
    }
    queues.set(queue, own === undefined ? concurrency : yield* count(`the concurrency of queue ${queue}`, own))
  }
  if (options.queues !== undefined && queues.size === 0) return yield* Effect.fail("queues is empty, but must name one")
  return {
    concurrency,
    pollMillis: yield* millis("pollInterval"),
    leaseMillis: Math.round(yield* millis("lease")),
    sweepMillis: yield* millis("staleCheckInterval"),
    graceMillis: yield* millis("shutdownGrace"),
    timeoutMillis: yield* millis("taskTimeout"),
    taskTypes: options.taskTypes,
    queues: options.queues === undefined ? undefined : queues,
    unknownTypes: options.unknownTypes,
    notifications: options.notifications,
    migrations: options.migrations
  }
})

/**
 * Whether a type matches one of the globs, in which `*` stands for any text.
 *
 * @category constructors
 * @since 0.1.0
 */
export const globs = (patterns: ReadonlyArray<string>): (type: string) => boolean => {
  const parts = patterns.map((pattern) => pattern.split("*"))
  return (type) => parts.some((part) => matches(part, type))
}

// Piece by piece from the left: linear, whatever the pattern.
const matches = ([first = "", ...rest]: ReadonlyArray<string>, type: string): boolean => {
  if (!type.startsWith(first)) return false
  if (rest.length === 0) return type === first
  let at = first.length
  for (const piece of rest.slice(0, -1)) {
    const found = type.indexOf(piece, at)
    if (found < 0) return false
    at = found + piece.length
  }
  const last = rest[rest.length - 1]!
  return type.length - last.length >= at && type.endsWith(last)
}

/**
 * The label and a fresh id, so that a restarted process is never taken for the one that died.
 *
 * @category constructors
 * @since 0.1.0
 */
export const workerId = (label: string | undefined): Effect.Effect<string> =>
  Effect.map(
    Random.nextIntBetween(0, 36 ** 6),
    (fresh) => `${label ?? Os.hostname()}-${fresh.toString(36).padStart(6, "0")}`
  )

const millisVariable = (name: string, option: keyof typeof bounds, fallback: Options[typeof option]) => {
  const [minimum, maximum] = bounds[option]
  return Variable.withDefault<Duration.Input>(
    name,
    `a whole number of milliseconds from ${minimum} to ${maximum}`,
    Variable.wholeNumber(minimum, maximum),
    fallback
  )
}

const wordVariable = <const Words extends ReadonlyArray<string>>(name: string, words: Words, fallback: Words[number]) =>
  Variable.withDefault(name, words.map((word) => `"${word}"`).join(" or "), Variable.oneOf(...words), fallback)

const parseQueues = (text: string): Option.Option<NonNullable<Options["queues"]>> => {
  const entries = text.split(",").map((entry) => /^\s*([^,:\s]{1,200})\s*(?::\s*(\d{1,5})\s*)?$/.exec(entry))
  return entries.every((entry) => entry !== null && (entry[2] === undefined || inRange(Number(entry[2]))))
    ? Option.some(Object.fromEntries(
      entries.map((entry) => [entry![1]!, entry![2] === undefined ? {} : { concurrency: Number(entry![2]) }])
    ))
    : Option.none()
}

const inRange = (n: number) => n >= 1 && n <= maxConcurrency

const parseGlobs = (text: string): Option.Option<ReadonlyArray<string>> => {
  const list = text.split(",").map((glob) => glob.trim())
  return list.every((glob) => glob !== "") ? Option.some(list) : Option.none()
}

/**
 * The variables of a worker's options.
 *
 * @category constructors
 * @since 0.1.0
 */
export const config = (defaults: Options): Config.Config<Options> =>
  Config.all({
    id: Config.map(
      Variable.make("WORKER_ID", "a text of 1 to 100 characters", (text) =>
        text.length <= 100 ? Option.some(text) : Option.none()),
      Option.getOrUndefined
    ),
    concurrency: Variable.withDefault(
      "JOB_CONCURRENCY",
      `a whole number from 1 to ${maxConcurrency}`,
      Variable.wholeNumber(1, maxConcurrency),
      defaults.concurrency
    ),
    pollInterval: millisVariable("WORKER_POLL_INTERVAL", "pollInterval", defaults.pollInterval),
    lease: millisVariable("WORKER_LEASE", "lease", defaults.lease),
    staleCheckInterval: millisVariable(
      "WORKER_STALE_CHECK_INTERVAL",
      "staleCheckInterval",
      defaults.staleCheckInterval
    ),
    shutdownGrace: millisVariable("WORKER_SHUTDOWN_GRACE", "shutdownGrace", defaults.shutdownGrace),
    taskTimeout: millisVariable("JOB_TIMEOUT", "taskTimeout", defaults.taskTimeout),
    taskTypes: Variable.withDefault(
      "WORKER_TASK_TYPES",
      "globs separated by commas, such as email:*,report:*",
      parseGlobs,
      defaults.taskTypes
    ),
    queues: Config.map(
      Variable.make(
        "WORKER_QUEUES",
        "queues separated by commas, each with its bound or without, such as default,ai:50",
        parseQueues
      ),
      Option.getOrUndefined
    ),
    unknownTypes: wordVariable("WORKER_UNKNOWN_TYPES", ["leave", "fail"], defaults.unknownTypes),
    notifications: wordVariable("WORKER_NOTIFICATIONS", ["auto", "on", "off"], defaults.notifications),
    migrations: wordVariable("WORKER_MIGRATIONS", ["run", "verify"], defaults.migrations)
  })

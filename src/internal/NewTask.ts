/**
 * What `enqueue` was given, checked against what the tables hold.
 *
 * @since 0.1.0
 */
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import type * as TaskTable from "../storage/TaskTable.ts"
import * as Times from "../storage/Times.ts"
import * as Task from "../Task.ts"
import type { EnqueueOptions, Reason } from "../TaskQueue.ts"
import * as Json from "./Json.ts"
import * as Tracing from "./Tracing.ts"

const maxPayload = 16 * 1024 * 1024
const maxMetadata = 1024 * 1024
const maxShown = 600

const maxInt4 = 2 ** 31 - 1
const maxDelay = Duration.days(36_525)

/**
 * What the task's definition says where the options say nothing.
 *
 * @category models
 * @since 0.1.0
 */
export interface Defaults {
  readonly queue?: string | undefined
  readonly maxAttempts?: number | undefined
  readonly unique?: Task.Unique | undefined
}

/**
 * The row to insert, or the reason why it cannot be stored, named before any statement is sent.
 *
 * A timeout that is not given stays null: the worker's definition of the type has it.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function*(
  type: string,
  json: Schema.Json,
  options: EnqueueOptions,
  defaults: Defaults
): Effect.fn.Return<TaskTable.NewTask, Reason> {
  const deep = isDeep(json)
  const payload = deep ? "" : JSON.stringify(json)
  const issue = deep ? `it is nested deeper than ${Json.maxDepth}` : payloadIssue(payload, json)
  if (issue !== undefined) return yield* Effect.fail<Reason>({ _tag: "InvalidPayload", type, issue })

  const { priority = 0, runAt, tag = null, timeout, userId = null } = options
  const queue = options.queue ?? defaults.queue ?? "default"
  const maxAttempts = options.maxAttempts ?? defaults.maxAttempts ?? 3
  const unique = options.unique ?? defaults.unique
  yield* check("type", type, isText(type, 200), textOf(200))
  yield* check("queue", queue, isText(queue, 200), textOf(200))
  yield* check("priority", priority, isInt(priority, -32768, 32767), "an integer from -32768 to 32767")
  yield* check("maxAttempts", maxAttempts, isInt(maxAttempts, 1, maxInt4), `an integer from 1 to ${maxInt4}`)
  yield* check("tag", tag, tag === null || isText(tag, 200), textOf(200))
  yield* check("userId", userId, userId === null || isText(userId, 200), textOf(200))
  if (unique !== undefined) {
    yield* check("unique.key", unique.key, isText(unique.key, 500), textOf(500))
    yield* check("unique.mode", unique.mode, unique.mode === undefined || unique.mode === "skip", "\"skip\"")
  }

  const timeoutMillis = timeout === undefined ? null : Math.ceil(millis(timeout))
  yield* check(
    "timeout",
    timeout,
    timeoutMillis === null || isInt(timeoutMillis, 1, maxInt4),
    `a positive duration of at most ${maxInt4} milliseconds`
  )
  const delayMillis = options.delay === undefined ? 0 : millis(options.delay)
  yield* check(
    "delay",
    options.delay,
    delayMillis >= 0 && delayMillis <= Duration.toMillis(maxDelay),
    "a duration of at most 100 years"
  )
  const start = runAt === undefined ? undefined : Option.getOrUndefined(DateTime.make(runAt))
  yield* check(
    "runAt",
    runAt,
    runAt === undefined ||
      (start !== undefined && DateTime.between(start, { minimum: Times.earliest, maximum: Times.latest })),
    "a point in time of the years 1 to 9999"
  )
  yield* check("delay", options.delay, options.delay === undefined || runAt === undefined, "no delay beside runAt")

  if (isDeep(options.metadata)) {
    return yield* Effect.fail<Reason>({
      _tag: "InvalidOptions",
      issue: `metadata is nested deeper than ${Json.maxDepth}`
    })
  }
  const traceparent = yield* Tracing.traceparent
  const metadataText = JSON.stringify(
    traceparent === undefined ? options.metadata ?? {} : { [Tracing.key]: traceparent, ...options.metadata }
  )
  yield* check(
    "metadata",
    metadataText.length > 100 ? `${metadataText.slice(0, 100)}…` : metadataText,
    metadataText.startsWith("{") && isStorable(metadataText) && Buffer.byteLength(metadataText) <= maxMetadata,
    "an object of at most 1 MiB of JSON without NUL characters and lone surrogates"
  )
  const changed = changedNumber(metadataText, options.metadata, "metadata")
  if (changed !== undefined) return yield* Effect.fail<Reason>({ _tag: "InvalidOptions", issue: changed })

  return {
    queue,
    priority,
    payload,
    maxAttempts,
    timeoutMillis,
    runAtMillis: start === undefined ? null : DateTime.toEpochMillis(start),
    delayMillis,
    uniqueKey: unique?.key ?? null,
    tag,
    userId,
    metadata: metadataText
  }
})

/**
 * The same from a payload of the task's own type.
 *
 * @category constructors
 * @since 0.1.0
 */
export const maker = <T extends Task.Any>(task: T): Maker<T> => {
  let known = makers.get(task)
  if (known === undefined) makers.set(task, known = makeMaker(task) as Maker<any>)
  return known as Maker<T>
}

type Maker<T extends Task.Any> = (
  input: Task.PayloadInput<T>,
  options?: EnqueueOptions
) => Effect.Effect<TaskTable.NewTask, Reason, Task.EnqueueServices<T>>

// Reading a schema costs as much as storing a task.
const makers = new WeakMap<Task.Any, Maker<any>>()

const makeMaker = <T extends Task.Any>(task: T): Maker<T> => {
  const encode = Schema.encodeEffect(Task.payloadCodec(task))
  const { maxAttempts, queue, unique } = task.options
  return Effect.fnUntraced(function*(input, options = {}) {
    const [payload, json] = yield* task.payloadSchema.makeEffect(input).pipe(
      Effect.mapError((issue) => new Schema.SchemaError(issue)),
      Effect.flatMap((payload) => Effect.map(encode(payload), (json) => [payload, json] as const)),
      Effect.mapError(({ message }): Reason => ({ _tag: "InvalidPayload", type: task.type, issue: message }))
    )
    return yield* make(task.type, json, options, {
      queue,
      maxAttempts,
      unique: options.unique === undefined ? unique?.(payload) : undefined
    })
  })
}

/**
 * About how many bytes of parameters the row needs.
 *
 * @category getters
 * @since 0.1.0
 */
export const size = (task: TaskTable.NewTask): number => task.payload.length + task.metadata.length + 256

// Recursive readers, such as those of JSON and schemas, run out of stack at some thousands.
const isDeep = (json: unknown): boolean => {
  let level: ReadonlyArray<unknown> = [json]
  for (let depth = 0; level.length > 0; depth++) {
    if (depth === Json.maxDepth) return true
    level = level.flatMap((value) =>
      typeof value === "object" && value !== null ? Object.values(value).filter(Predicate.isObjectOrArray) : []
    )
  }
  return false
}

const payloadIssue = (payload: string, json: Schema.Json) => {
  const bytes = Buffer.byteLength(payload)
  if (bytes > maxPayload) return `it is ${bytes} bytes of JSON, at most ${maxPayload} can be stored`
  return isStorable(payload)
    ? changedNumber(payload, json, "payload")
    : "PostgreSQL cannot store NUL characters and lone surrogates"
}

// `JSON.stringify` writes null for a number that JSON does not have.
const changedNumber = (text: string, json: unknown, root: string) =>
  Json.inexact(text, root) ?? (text.includes("null") ? Json.notFinite(json, root) : undefined)

// `JSON.stringify` escapes just these: NUL, and a surrogate without its other half.
const unstorable = /(?:^|[^\\])(?:\\\\)*\\u(?:0000|d[89a-f][0-9a-f]{2})/

const isStorable = (json: string) => !(json.includes("\\u") && unstorable.test(json))

const isText = (text: unknown, max: number) =>
  typeof text === "string" && text.length >= 1 && text.length <= max && !/[\0\p{Surrogate}]/u.test(text)

const textOf = (max: number) => `a text of 1 to ${max} characters without NUL and lone surrogates`

const isInt = (n: number, min: number, max: number) => Number.isInteger(n) && n >= min && n <= max

const millis = (input: Duration.Input) =>
  Option.match(Duration.fromInput(input), { onNone: () => Number.NaN, onSome: Duration.toMillis })

const check = (name: string, given: unknown, holds: boolean, allowed: string): Effect.Effect<void, Reason> =>
  holds ? Effect.void : Effect.fail({
    _tag: "InvalidOptions",
    issue: `${name} is ${
      typeof given === "string"
        ? JSON.stringify(given.length > maxShown ? `${given.slice(0, maxShown)}…` : given)
        : DateTime.isDateTime(given)
        ? DateTime.formatIso(given)
        : String(given)
    }, expected ${allowed}`
  })

/**
 * Typed task definitions: a name, a payload schema, and the schemas of what a
 * handler may return, fail with and stream.
 *
 * @since 0.1.0
 */
import * as Data from "effect/Data"
import type * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import * as SchemaAST from "effect/SchemaAST"
import * as SchemaTransformation from "effect/SchemaTransformation"
import type * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import * as RetryPolicy from "./RetryPolicy.ts"
import * as TaskEvent from "./TaskEvent.ts"

const TypeId = "~spindle/Task"

/**
 * A decimal string on the wire.
 *
 * @since 0.1.0
 * @category models
 */
export const TaskId = Schema.BigInt.pipe(Schema.brand("spindle/TaskId"))
/**
 * @since 0.1.0
 * @category models
 */
export type TaskId = typeof TaskId.Type

/**
 * A durable unit of work, identified by `type`.
 *
 * @since 0.1.0
 * @category models
 */
export interface Task<
  out Type extends string,
  out Payload extends Schema.Top,
  out Success extends Schema.Top,
  out Error extends TaskEvent.TaggedSchema,
  out Event extends TaskEvent.TaggedSchema
> {
  new(_: never): {}
  readonly [TypeId]: typeof TypeId
  readonly type: Type
  readonly payloadSchema: Payload
  readonly successSchema: Success
  readonly errorSchema: Error
  readonly eventSchema: Event
  readonly options: Options<any, any>
}

/**
 * Any task, whatever its types.
 *
 * @since 0.1.0
 * @category models
 */
export interface Any {
  readonly [TypeId]: typeof TypeId
  readonly type: string
  readonly payloadSchema: Schema.Top
  readonly successSchema: Schema.Top
  readonly errorSchema: TaskEvent.TaggedSchema
  readonly eventSchema: TaskEvent.TaggedSchema
  readonly options: Options<any, any>
}

/**
 * How tasks of a type run unless `enqueue` says otherwise.
 *
 * @since 0.1.0
 * @category models
 */
export interface Options<in Payload, in Error extends { readonly _tag: string }> {
  /** Default `"default"`. */
  readonly queue?: string | undefined
  /** Default 3. */
  readonly maxAttempts?: number | undefined
  /** Interrupts the handler; the slot is free when its finalizers have run. Default: the worker's `taskTimeout`. */
  readonly timeout?: Duration.Input | undefined
  /** Default: retry every failure, `RetryPolicy.exponential()`. */
  readonly retry?: RetryPolicy.RetryPolicy<Error> | undefined
  /** Default: every task is its own. */
  readonly unique?: ((payload: Payload) => Unique) | undefined
}

/**
 * At most one task of a type and key is queued or processing at a time.
 *
 * - `skip`, the default: while there is one, another is not stored
 *
 * @since 0.1.0
 * @category models
 */
export interface Unique {
  readonly key: string
  readonly mode?: "skip" | undefined
}

/**
 * What the handler is given.
 *
 * @since 0.1.0
 * @category utility types
 */
export type Payload<T extends Any> = T["payloadSchema"]["Type"]
/**
 * What `enqueue` accepts: fields with a constructor default may be left out.
 *
 * @since 0.1.0
 * @category utility types
 */
export type PayloadInput<T extends Any> = T["payloadSchema"]["~type.make.in"]
/**
 * What the handler returns.
 *
 * @since 0.1.0
 * @category utility types
 */
export type Success<T extends Any> = T["successSchema"]["Type"]
/**
 * What the handler fails with.
 *
 * @since 0.1.0
 * @category utility types
 */
export type Error<T extends Any> = T["errorSchema"]["Type"]
/**
 * What the handler emits.
 *
 * @since 0.1.0
 * @category utility types
 */
export type Event<T extends Any> = T["eventSchema"]["Type"]

/**
 * What a producer's schemas need to write a payload.
 *
 * @since 0.1.0
 * @category utility types
 */
export type EnqueueServices<T extends Any> = T["payloadSchema"]["EncodingServices"]
/**
 * What a reader's schemas need to read events, results and errors.
 *
 * @since 0.1.0
 * @category utility types
 */
export type ReadServices<T extends Any> = T["successSchema" | "errorSchema" | "eventSchema"]["DecodingServices"]
/**
 * What a worker's schemas need to read payloads and write events, results and errors.
 *
 * @since 0.1.0
 * @category utility types
 */
export type RunServices<T extends Any> =
  | T["payloadSchema"]["DecodingServices"]
  | T["successSchema" | "errorSchema" | "eventSchema"]["EncodingServices"]

/**
 * The phantom service "the handler of the task `Type` is available".
 *
 * @since 0.1.0
 * @category services
 */
export interface Handler<in out Type extends string> {
  readonly _: unique symbol
  readonly type: Type
}
/**
 * The handlers of a union of tasks.
 *
 * @since 0.1.0
 * @category utility types
 */
export type ToHandler<T extends Any> = T extends Any ? Handler<T["type"]> : never

/**
 * What runs a task. It returns the result, fails with an error of the task or
 * with a control failure, and may be interrupted at any time: by a cancel, a
 * timeout, a lost lease or a shutdown. Its scope closes with the attempt.
 *
 * @since 0.1.0
 * @category models
 */
export type HandlerFn<T extends Any, R = Scope.Scope> = (
  payload: Payload<T>,
  execution: Execution<T>
) => Effect.Effect<Success<T>, Error<T> | Control, R>

/**
 * The row a handler sees: what does not change while it runs.
 *
 * @since 0.1.0
 * @category models
 */
export interface Row {
  readonly id: TaskId
  readonly type: string
  readonly queue: string
  readonly priority: number
  readonly tag: string | null
  readonly userId: string | null
  readonly metadata: Schema.JsonObject
  readonly createdAt: DateTime.Utc
  readonly runAt: DateTime.Utc
}

/**
 * The running attempt, passed to the handler as its second argument.
 *
 * @since 0.1.0
 * @category models
 */
export interface Execution<in out T extends Any> {
  readonly task: Row
  /** Starts at 1. */
  readonly attempt: number
  readonly maxAttempts: number
  readonly workerId: string
  /** Whether the worker is draining: a good moment to save work and `Snooze`. */
  readonly isShuttingDown: Effect.Effect<boolean>
  /** Stores one event, in order. Waits while the write buffer is full. */
  readonly emit: (event: Event<T>) => Effect.Effect<void>
  /** Stores every element of a stream, in order. */
  readonly emitAll: <E, R>(stream: Stream.Stream<Event<T>, E, R>) => Effect.Effect<void, E, R>
  /** Stores how far the attempt is, from 0 to 1. */
  readonly progress: (fraction: number, message?: string) => Effect.Effect<void>
}

/**
 * What a handler may fail with beyond the errors of its task. These steer the
 * worker and overrule the task's retry policy.
 *
 * @since 0.1.0
 * @category control failures
 */
export type Control = Retry | Snooze | Discard

/**
 * Run the task again after `delay`. The attempt is charged.
 *
 * @since 0.1.0
 * @category control failures
 */
export class Retry extends Data.TaggedError("spindle/Retry")<{
  readonly delay: Duration.Input
  readonly cause?: unknown
}> {}

/**
 * Run the task again after `delay`. No attempt is charged.
 *
 * @since 0.1.0
 * @category control failures
 */
export class Snooze extends Data.TaggedError("spindle/Snooze")<{
  readonly delay: Duration.Input
}> {}

/**
 * Give the task up at once.
 *
 * @since 0.1.0
 * @category control failures
 */
export class Discard extends Data.TaggedError("spindle/Discard")<{
  readonly cause: unknown
}> {}

/**
 * The schema of a payload that may be given as the fields of a struct.
 *
 * @since 0.1.0
 * @category utility types
 */
export type PayloadSchema<P extends Schema.Top | Schema.Struct.Fields> = P extends Schema.Top ? P
  : P extends Schema.Struct.Fields ? Schema.Struct<P>
  : never

/**
 * Defines a task. Extend the result to name it: `class SendEmail extends Task.make("send_email", …) {}`.
 *
 * The event schema is a tagged union; no event may have the name of a closing one.
 * Throws if an argument cannot work, with what was given and what is allowed.
 *
 * @since 0.1.0
 * @category constructors
 * @example
 * ```ts
 * class Resize extends Task.make("image:resize", {
 *   payload: { url: Schema.String, width: Schema.Int },
 *   success: Schema.Struct({ bytes: Schema.Int }),
 *   error: NotAnImage,
 *   timeout: "1 minute",
 *   retry: { on: { NotAnImage: "fail" } }
 * }) {}
 * ```
 */
export const make = <
  const Type extends string,
  Payload extends Schema.Top | Schema.Struct.Fields = Schema.Void,
  Success extends Schema.Top = Schema.Void,
  Error extends TaskEvent.TaggedSchema = Schema.Never,
  Event extends TaskEvent.TaggedSchema = Schema.Never
>(
  type: Type,
  options?: Options<PayloadSchema<Payload>["Type"], Error["Type"]> & {
    readonly payload?: Payload | undefined
    readonly success?: Success | undefined
    readonly error?: Error | undefined
    readonly event?: (Event & TaskEvent.NotClosing<Event>) | undefined
  }
): Task<Type, PayloadSchema<Payload>, Success, Error, Event> => {
  const { error, event, payload = Schema.Void, success, ...rest } = options ?? {}
  const eventSchema: Schema.Top = event ?? Schema.Never
  check(type, rest as Options<any, any>, eventSchema)
  return Object.assign(function() {}, {
    [TypeId]: TypeId,
    type,
    payloadSchema: Schema.isSchema(payload) ? payload : Schema.Struct(payload as Schema.Struct.Fields),
    successSchema: success ?? Schema.Void,
    errorSchema: error ?? Schema.Never,
    eventSchema,
    options: rest
  }) as any
}

const check = (type: string, options: Options<any, any>, eventSchema: Schema.Top) => {
  const refuse = (what: string, given: unknown, allowed: string): never => {
    throw new Error(`Task.make(${JSON.stringify(type)}): ${what} is ${format(given)}, expected ${allowed}`)
  }
  const checkName = (what: string, name: unknown) => {
    if (typeof name !== "string" || name.length < 1 || name.length > 200 || name.includes("\0")) {
      refuse(what, name, "a text of 1 to 200 characters without NUL")
    }
  }
  checkName("the type", type)
  if (options.queue !== undefined) checkName("queue", options.queue)
  if (options.maxAttempts !== undefined && !isAttempts(options.maxAttempts)) {
    refuse("maxAttempts", options.maxAttempts, "an integer from 1 to 2147483647")
  }
  if (options.timeout !== undefined && !isPositive(options.timeout)) {
    refuse("timeout", options.timeout, "a positive duration, such as \"30 seconds\"")
  }
  const issue = options.retry === undefined ? undefined : RetryPolicy.issue(options.retry)
  if (issue !== undefined) throw new Error(`Task.make(${JSON.stringify(type)}): retry.backoff: ${issue}`)
  for (const event of TaskEvent.types(eventSchema)) {
    if (event === undefined) refuse("the _tag of an event", event, "a literal, as in Schema.TaggedStruct")
    checkName("the _tag of an event", event)
    if (TaskEvent.closingTypes.has(event!)) {
      refuse("the _tag of an event", event, `another name than ${[...TaskEvent.closingTypes].join(", ")}`)
    }
  }
}

const format = (given: unknown) => typeof given === "string" ? JSON.stringify(given) : String(given)

const isAttempts = (n: number) => Number.isInteger(n) && n >= 1 && n < 2 ** 31

const isPositive = (input: Duration.Input) => Option.exists(Duration.fromInput(input), Duration.isPositive)

// a task without a payload is stored as the column's default
const NoPayload = Schema.declare(
  (json): json is Schema.JsonObject | null => json === null || Predicate.isObject(json),
  { expected: "an object, as the task has no payload" }
).pipe(
  Schema.decodeTo(
    Schema.Void,
    SchemaTransformation.transform({ decode: (): void => undefined, encode: (): Schema.JsonObject | null => ({}) })
  )
)

/**
 * The column `payload` of a task. For a task without a payload that is `{}`;
 * fields that its schema does not know are ignored.
 *
 * @since 0.1.0
 * @category codecs
 */
export const payloadCodec = <T extends Any>(
  task: T
): Schema.Codec<Payload<T>, Schema.Json, T["payloadSchema"]["DecodingServices"], EnqueueServices<T>> =>
  SchemaAST.isVoid(task.payloadSchema.ast) ? NoPayload : Schema.toCodecJson(task.payloadSchema) as any

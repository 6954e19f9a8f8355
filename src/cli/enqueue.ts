/**
 * `spindle enqueue`: stores a task and prints its id.
 *
 * @since 0.1.0
 */
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Config from "effect/Config"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Schema from "effect/Schema"
import * as Json from "../internal/Json.ts"
import * as Tracing from "../internal/Tracing.ts"
import type * as Task from "../Task.ts"
import * as TaskQueue from "../TaskQueue.ts"
import * as Connection from "./Connection.ts"
import { CliFailure } from "./Failure.ts"
import * as Parameters from "./Parameters.ts"
import { Process } from "./Process.ts"

interface Payload {
  readonly json: Schema.Json
  readonly issue: string | undefined
}

const read = (text: string): Payload => ({ json: JSON.parse(text), issue: Json.issue(text, "payload") })
const why = (error: unknown) => `JSON (${error instanceof Error ? error.message : String(error)})`

const payload = Argument.String("json").pipe(
  Argument.withDescription("The payload; - reads it from standard input"),
  Argument.withDefault("{}"),
  Argument.mapTryCatch((text) => text === "-" ? undefined : read(text), why)
)

const fromStandardInput = Effect.gen(function*() {
  const text = yield* (yield* Process).stdin
  return yield* Effect.try({
    try: () => read(text),
    catch: (error) => new CliFailure({ message: `Standard input must be ${why(error)}`, exitCode: 64 })
  })
})

// Whoever has mistyped a type would wait for ever. What was stored lately is all that can be known of the workers there are.
const recent = 200
const strange = Effect.fnUntraced(function*(queue: TaskQueue.TaskQueue["Service"], type: string, id: Task.TaskId) {
  const tasks = yield* queue.list({ limit: recent, before: id, values: false })
  if (tasks.length === 0 || tasks.some((task) => task.type === type)) return undefined
  const own = yield* Effect.promise(() => Promise.all([import("../ai/AiTasks.ts"), import("../demo/DemoTasks.ts")]))
  const [{ AiTasks }, { DemoTasks }] = own
  return AiTasks.tasks.has(type) || DemoTasks.tasks.has(type)
    ? undefined
    : [...new Set(tasks.map((task) => task.type))].slice(0, 5)
})

/**
 * With `TRACEPARENT` in the environment the task joins that trace.
 *
 * Prints the id alone, also that of the task that holds the unique key already; standard error tells which it is.
 *
 * @category commands
 * @since 0.1.0
 */
export const command = Command.make("enqueue", {
  type: Argument.String("type").pipe(Argument.withDescription("The type, such as ai_response or email:send")),
  payload,
  queue: Flag.String("queue").pipe(Flag.withDescription("Default: \"default\""), Flag.optional),
  priority: Flag.Int("priority").pipe(Flag.withDescription("Higher runs first. Default: 0"), Flag.optional),
  delay: Parameters.duration("delay").pipe(Flag.withDescription("Not before this has passed"), Flag.optional),
  runAt: Flag.String("run-at").pipe(
    Flag.withMetavar("time"),
    Flag.withDescription("Not before this point in time, such as 2030-01-31T08:00:00Z"),
    Flag.optional
  ),
  uniqueKey: Flag.String("unique-key").pipe(
    Flag.withDescription("Not while another task of this type and key is queued or processing"),
    Flag.optional
  ),
  tag: Flag.String("tag").pipe(Flag.withDescription("A label for finding it"), Flag.optional),
  userId: Flag.String("user").pipe(
    Flag.withAlias("user-id"),
    Flag.withDescription("Whom it is for"),
    Flag.optional
  ),
  maxAttempts: Flag.Int("max-attempts").pipe(Flag.withDescription("Default: 3"), Flag.optional),
  timeout: Parameters.duration("timeout").pipe(
    Flag.withDescription("How long an attempt may take; else its type or the worker decides"),
    Flag.optional
  ),
  asJson: Parameters.json
}, ({ asJson, payload, type, uniqueKey, ...flags }) =>
  Effect.gen(function*() {
    const { issue, json } = payload ?? (yield* fromStandardInput)
    if (issue !== undefined) {
      return yield* new TaskQueue.TaskQueueError({ reason: { _tag: "InvalidPayload", type, issue } })
    }
    const { note, stderr, stdout } = yield* Process
    const queue = yield* TaskQueue.TaskQueue
    const options = Object.fromEntries(
      Object.entries(flags).map(([name, value]) => [name, Option.getOrUndefined<unknown>(value)])
    )
    const caller = Tracing.external(yield* Config.withDefault(Config.String("TRACEPARENT"), undefined))
    const { duplicate, id } = yield* queue.enqueueRaw(type, json, {
      ...options,
      unique: Option.getOrUndefined(Option.map(uniqueKey, (key) => ({ key })))
    }).pipe((enqueue) => caller === undefined ? enqueue : Effect.withParentSpan(enqueue, caller))
    yield* stdout(asJson ? `${JSON.stringify({ id: String(id), duplicate })}\n` : `${id}\n`)
    if (duplicate) yield* stderr("A task with this unique key is there already; nothing was stored.\n")
    const others = duplicate ? undefined : yield* strange(queue, type, id)
    if (others !== undefined) {
      yield* note(
        `None of the last ${recent} tasks has the type ${type}; they have ${
          others.join(", ")
        }. It waits until a worker ` +
          `handles its type: \`spindle follow ${id}\` tells.`
      )
    }
  }).pipe(Effect.provide(Connection.queue))).pipe(Command.withDescription("Store a task and print its id"))

/**
 * Tasks that come over HTTP: checked by the definition of their type where a worker of this process has one.
 *
 * @since 0.1.0
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Schema from "effect/Schema"
import * as SchemaIssue from "effect/SchemaIssue"
import * as Api from "../Api.ts"
import type { Entry, HandlerRegistry } from "../HandlerRegistry.ts"
import type * as TaskQueue from "../TaskQueue.ts"
import * as Failures from "../worker/Failures.ts"
import * as Unavailable from "./Unavailable.ts"
import type * as Views from "./Views.ts"

/**
 * Stores it as it was given, where the definition has nothing to say with the defaults of plain SQL.
 *
 * @category combinators
 * @since 0.1.0
 */
export const enqueue = Effect.fnUntraced(function*(
  queue: TaskQueue.TaskQueue["Service"],
  registry: Option.Option<HandlerRegistry["Service"]>,
  {
    delayMs,
    maxAttempts,
    metadata,
    payload = {},
    priority,
    queue: name,
    runAt,
    tag,
    timeoutMs,
    type,
    uniqueKey,
    userId
  }: Views.NewTask
): Effect.fn.Return<TaskQueue.Enqueued, Api.Unprocessable | Api.Unavailable> {
  if (delayMs !== undefined && runAt !== undefined) {
    const message = "delayMs and runAt are both given, expected at most one of them"
    return yield* new Api.Unprocessable({ detail: message, errors: [{ path: ["runAt"], message }] })
  }
  const entry = Option.flatMap(registry, ({ get }) => get(type))
  const definition: Definition = Option.isNone(entry) ? {} : yield* Effect.mapBoth(decode(entry.value, payload), {
    onSuccess: (value) => {
      const { maxAttempts, queue, unique } = entry.value.task.options
      return { queue, maxAttempts, uniqueKey: uniqueKey === undefined ? unique?.(value).key : undefined }
    },
    onFailure: (error) =>
      new Api.Unprocessable({
        detail: `The payload does not fit the task "${type}": ${Failures.rejected(error).message}`,
        errors: issuesOf(error)
      })
  })
  const key = uniqueKey ?? definition.uniqueKey
  return yield* Unavailable.patiently(queue.enqueueRaw(type, payload, {
    priority,
    maxAttempts: maxAttempts ?? definition.maxAttempts,
    queue: name ?? definition.queue,
    tag,
    userId,
    metadata,
    timeout: timeoutMs as Duration.Input | undefined,
    unique: key === undefined ? undefined : { key },
    ...(runAt === undefined ? { delay: delayMs } : { runAt })
  })).pipe(
    Effect.catchTag("TaskQueueError", (error) =>
      Effect.fail(
        error.reason._tag === "InvalidOptions" || error.reason._tag === "InvalidPayload"
          ? new Api.Unprocessable(named(inTheirWords(error.message)))
          : Unavailable.fromQueue(error)
      ))
  )
})

// All that is wrong, where finding it cannot hold up the process.
const decode = ({ decodePayload }: Entry, payload: Schema.Json) =>
  Effect.catch(
    decodePayload(payload),
    (error) => JSON.stringify(payload).length < maxChecked ? decodePayload(payload, "all") : Effect.fail(error)
  )

const maxChecked = 64 * 1024

interface Definition {
  readonly queue?: string | undefined
  readonly maxAttempts?: number | undefined
  readonly uniqueKey?: string | undefined
}

// the queue's options have other names than the fields of the request
const names: ReadonlyArray<readonly [string, string]> = [
  ["Invalid option: timeout is", "timeoutMs is"],
  ["Invalid option: delay is", "delayMs is"],
  ["Invalid option: unique.key is", "uniqueKey is"],
  ["Invalid option: ", ""]
]

/** Beyond this nobody reads what is wrong, or where. */
const maxIssues = 100
const maxIssue = 500

const issuesOf = ({ issue }: Schema.SchemaError) =>
  SchemaIssue.makeFormatterStandardSchemaV1()(issue).issues.slice(0, maxIssues).map(({ message, path = [] }) => ({
    path: ["payload", ...path.map((step) => typeof step === "object" ? step.key : step)].map((key) =>
      typeof key === "number" ? key : String(key)
    ),
    message: message.length > maxIssue ? `${message.slice(0, maxIssue)}…` : message
  }))

/** Where the message begins with the name of a field, that field is told beside it. */
const named = (detail: string) => {
  const field = /^(\w+) (?:is|are) /.exec(detail)?.[1]
  return field === undefined ? { detail } : { detail, errors: [{ path: [field], message: detail }] }
}

const inTheirWords = (message: string) => {
  const name = names.find(([prefix]) => message.startsWith(prefix))
  return name === undefined ? message : name[1] + message.slice(name[0].length)
}

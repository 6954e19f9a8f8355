/**
 * The task `ai_response`: a chat completion, streamed while the model writes it.
 *
 * @since 0.1.0
 */
import * as AiError from "effect/ai/AiError"
import * as LanguageModel from "effect/ai/LanguageModel"
import type * as Prompt from "effect/ai/Prompt"
import * as Response from "effect/ai/Response"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as Task from "../Task.ts"
import * as TaskEvent from "../TaskEvent.ts"
import * as ModelError from "./ModelError.ts"
import { ModelSettings } from "./ModelSettings.ts"

/**
 * One message of a conversation.
 *
 * @category models
 * @since 0.1.0
 */
export const Message = Schema.Struct({
  role: Schema.Literals(["system", "user", "assistant"]),
  content: Schema.String
})
/**
 * One message of a conversation.
 *
 * @category models
 * @since 0.1.0
 */
export type Message = typeof Message.Type

/**
 * What to answer: a `prompt`, or the `messages` of a conversation, and how.
 * Other keys are ignored; a producer may keep its own there.
 *
 * @category models
 * @since 0.1.0
 */
export const Payload = Schema.Struct({
  prompt: Schema.optional(Schema.NonEmptyString),
  messages: Schema.optional(Schema.NonEmptyArray(Message)),
  /** Instructions that go before the prompt or the messages. */
  system: Schema.optional(Schema.String),
  /** The provider's name of the model. Default: the provider's choice. */
  model: Schema.optional(Schema.NonEmptyString),
  temperature: Schema.optional(Schema.Finite.check(Schema.isBetween({ minimum: 0, maximum: 2 }))),
  maxOutputTokens: Schema.optional(Schema.Int.check(Schema.isGreaterThanOrEqualTo(1)))
}).check(Schema.makeFilter(({ messages, prompt }) => {
  if ((prompt === undefined) !== (messages === undefined)) return undefined
  return `Expected either "prompt" or "messages", got ${prompt === undefined ? "neither" : "both"}`
}))
/**
 * What to answer, and how.
 *
 * @category models
 * @since 0.1.0
 */
export type Payload = typeof Payload.Type

/**
 * Tokens the model has consumed and produced.
 *
 * @category models
 * @since 0.1.0
 */
export const Usage = Schema.Struct({
  inputTokens: Schema.Int,
  outputTokens: Schema.Int,
  totalTokens: Schema.Int
})
/**
 * Tokens the model has consumed and produced.
 *
 * @category models
 * @since 0.1.0
 */
export type Usage = typeof Usage.Type

/**
 * The whole answer.
 *
 * @category models
 * @since 0.1.0
 */
export const Result = Schema.Struct({
  /** All `text_delta`s, joined. */
  text: Schema.String,
  /** Why the model stopped: `stop`, or `length` if `maxOutputTokens` cut it off. */
  finishReason: Response.FinishReason,
  /** `null` if the provider did not count. */
  usage: Schema.NullOr(Usage),
  /** The model that answered, as the provider names it. */
  model: Schema.String
})
/**
 * The whole answer.
 *
 * @category models
 * @since 0.1.0
 */
export type Result = typeof Result.Type

/**
 * Answers a prompt. Emits a `text_delta` for each piece of text the model
 * streams, then `usage` if the provider counts, and returns the whole answer.
 *
 * A `text_delta` is never empty, never ends between the halves of a surrogate
 * pair, and all of one attempt joined are exactly the result's `text`.
 *
 * @category tasks
 * @since 0.1.0
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { TaskQueue } from "effect-spindle"
 * import { AiResponse } from "effect-spindle/ai/AiResponse"
 *
 * const program = Effect.gen(function*() {
 *   const queue = yield* TaskQueue.TaskQueue
 *   yield* queue.enqueue(AiResponse, { prompt: "Why is the sky blue?", maxOutputTokens: 500 })
 * })
 * ```
 */
export class AiResponse extends Task.make("ai_response", {
  payload: Payload,
  success: Result,
  error: ModelError.ModelError,
  event: Schema.Union([TaskEvent.TextDelta, TaskEvent.Usage]),
  retry: ModelError.retry
}) {}

/**
 * Answers with whichever language model is provided.
 *
 * The result names the model the provider reports, else the one that was asked for.
 *
 * @category handlers
 * @since 0.1.0
 */
export const handler: Task.HandlerFn<typeof AiResponse, LanguageModel.LanguageModel> = Effect.fnUntraced(function*(
  payload,
  { emit }
) {
  const { maxOutputTokens, temperature } = payload
  let model = payload.model ?? "unknown"
  let text = ""
  let heldBack = ""
  let finish: { readonly reason: Response.FinishReason; readonly usage: Usage | null } | undefined

  const write = Effect.fnUntraced(function*(piece: string) {
    if (piece === "") return
    text += piece
    yield* emit({ _tag: "text_delta", text: piece })
  })

  yield* LanguageModel.streamText({ prompt: promptOf(payload) }).pipe(
    Stream.provideService(ModelSettings, { model: payload.model, temperature, maxOutputTokens }),
    Stream.mapError((error) => ModelError.fromReason(error.reason)),
    Stream.runForEach(Effect.fnUntraced(function*(part) {
      switch (part.type) {
        case "response-metadata": {
          model = part.modelId ?? model
          return
        }
        case "text-delta": {
          const received = heldBack + part.delta
          heldBack = highSurrogateAtEnd.exec(received)?.[0] ?? ""
          return yield* write(wellFormed(received.slice(0, received.length - heldBack.length)))
        }
        case "finish": {
          yield* write(wellFormed(heldBack))
          heldBack = ""
          finish = { reason: part.reason, usage: usageOf(part.usage) }
          if (finish.usage === null) return
          return yield* emit({ _tag: "usage", ...finish.usage, model })
        }
        case "error": {
          return yield* fromErrorPart(part.error)
        }
      }
    }))
  )

  if (finish === undefined) {
    return yield* new ModelError.MalformedOutput({ message: "The answer broke off before the model had finished" })
  }
  if (finish.reason === "content-filter") {
    return yield* new ModelError.ContentFiltered({ message: "The provider's content filter stopped the answer" })
  }
  if (finish.reason === "error") {
    return yield* new ModelError.ModelUnavailable({ message: "The model stopped with an error" })
  }
  return { text, finishReason: finish.reason, usage: finish.usage, model }
})

const promptOf = ({ messages, prompt, system }: Payload): ReadonlyArray<Prompt.MessageEncoded> => [
  ...(system === undefined ? [] : [{ role: "system" as const, content: system }]),
  ...(messages ?? []),
  ...(prompt === undefined ? [] : [{ role: "user" as const, content: prompt }])
]

const highSurrogateAtEnd = /[\uD800-\uDBFF]$/

// a half without its other half is no character and cannot be stored in PostgreSQL
const wellFormed = (text: string): string => text.replace(/\p{Surrogate}/gu, "\uFFFD")

const usageOf = ({ inputTokens, outputTokens }: Response.Usage): Usage | null => {
  if (inputTokens.total === undefined && outputTokens.total === undefined) return null
  const input = inputTokens.total ?? 0
  const output = outputTokens.total ?? 0
  return { inputTokens: input, outputTokens: output, totalTokens: input + output }
}

const fromErrorPart = (error: unknown): ModelError.ModelError => {
  if (AiError.isAiError(error)) return ModelError.fromReason(error.reason)
  if (AiError.isAiErrorReason(error)) return ModelError.fromReason(error)
  return new ModelError.ModelUnavailable({ message: error instanceof Error ? error.message : String(error) })
}

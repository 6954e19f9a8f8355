/**
 * The task `ai_response`: a chat completion, streamed while the model writes it.
 *
 * @since 0.1.0
 */
import type * as LanguageModel from "effect/ai/LanguageModel"
import type * as Prompt from "effect/ai/Prompt"
import * as Response from "effect/ai/Response"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as Task from "../Task.ts"
import * as TaskEvent from "../TaskEvent.ts"
import * as ModelAnswer from "./ModelAnswer.ts"
import * as ModelError from "./ModelError.ts"

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
 * The whole answer.
 *
 * @category models
 * @since 0.1.0
 */
export const Result = Schema.Struct({
  /** All `text_delta`s, joined. */
  text: Schema.String,
  /** Why the model stopped: `stop`, or `length` if `maxOutputTokens` cut it off; `other` for a reason of the provider's own. */
  finishReason: Response.FinishReason,
  /** `null` if the provider did not count. */
  usage: Schema.NullOr(ModelAnswer.Usage),
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
 * streams, then `usage` if the provider counts, also if it fails or is interrupted, and returns the whole answer.
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
  const { maxOutputTokens, model, temperature } = payload
  // Joined now and then: a text that grows word by word otherwise keeps every word with a node of its own.
  let pieces: Array<string> = []
  let end!: ModelAnswer.End
  let usage: TaskEvent.Usage | undefined
  const counted = (counts: ModelAnswer.Usage, model: string) => {
    usage = { _tag: "usage", ...counts, model }
  }

  yield* ModelAnswer.stream(promptOf(payload), { model, temperature, maxOutputTokens }, counted).pipe(
    Stream.runForEach((piece) => {
      if (piece._tag === "Text") {
        pieces.push(piece.text)
        if (pieces.length === 1000) pieces = [pieces.join("")]
        return emit({ _tag: "text_delta", text: piece.text })
      }
      end = piece
      return Effect.void
    }),
    Effect.ensuring(Effect.suspend(() => usage === undefined ? Effect.void : emit(usage)))
  )

  const finishReason = yield* ModelAnswer.finishReason(end)
  return { text: pieces.join(""), finishReason, usage: end.usage, model: end.model }
})

const promptOf = ({ messages, prompt, system }: Payload): ReadonlyArray<Prompt.MessageEncoded> => [
  ...(system === undefined ? [] : [{ role: "system" as const, content: system }]),
  ...(messages ?? []),
  ...(prompt === undefined ? [] : [{ role: "user" as const, content: prompt }])
]

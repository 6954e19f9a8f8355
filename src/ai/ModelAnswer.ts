/**
 * The answer of a language model as the AI tasks read it: text in whole
 * characters, then how it ended.
 *
 * @since 0.1.0
 */
import * as AiError from "effect/ai/AiError"
import * as LanguageModel from "effect/ai/LanguageModel"
import type * as Prompt from "effect/ai/Prompt"
import type * as Response from "effect/ai/Response"
import * as Effect from "effect/Effect"
import { constVoid } from "effect/Function"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as ModelError from "./ModelError.ts"
import { ModelSettings, type Settings } from "./ModelSettings.ts"

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
 * A piece of the answer's text. It is never empty, and never ends between the
 * halves of a surrogate pair.
 *
 * @category models
 * @since 0.1.0
 */
export interface Text {
  readonly _tag: "Text"
  readonly text: string
  /** The model that answers, as the provider names it; else the one that was asked for; else `unknown`. */
  readonly model: string
}

/**
 * The last piece of every answer.
 *
 * @category models
 * @since 0.1.0
 */
export interface End {
  readonly _tag: "End"
  /** `undefined` if the answer broke off. */
  readonly reason: Response.FinishReason | undefined
  /** `null` if the provider did not count. */
  readonly usage: Usage | null
  readonly model: string
}

/**
 * Asks the model and streams its answer. Ending the stream early aborts the
 * request.
 *
 * `counted` is told the usage as soon as the provider counts, and again when it has counted more, so that it is known also of
 * an answer that is interrupted. A provider's layer tells it in the metadata of a `response-metadata` part, as `usage`.
 *
 * @category streaming
 * @since 0.1.0
 */
export const stream = (
  prompt: ReadonlyArray<Prompt.MessageEncoded>,
  settings: Settings,
  counted: (usage: Usage, model: string) => void = constVoid
): Stream.Stream<Text | End, ModelError.ModelError, LanguageModel.LanguageModel> =>
  LanguageModel.streamText({ prompt }).pipe(
    Stream.provideService(ModelSettings, settings),
    Stream.mapError((error) => ModelError.fromReason(error.reason)),
    Stream.mapEffect((part) => part.type === "error" ? Effect.fail(fromErrorPart(part.error)) : Effect.succeed(part)),
    Stream.concat(Stream.succeed({ type: "closed" } as const)),
    Stream.mapAccum(
      (): State => ({ model: settings.model ?? "unknown", heldBack: "", end: undefined }),
      (state, part): readonly [State, ReadonlyArray<Text | End>] => {
        const { heldBack, model } = state
        switch (part.type) {
          case "response-metadata": {
            const named = part.modelId ?? model
            const usage = usageSoFar(part.metadata)
            if (usage !== undefined) counted(usage, named)
            return [{ ...state, model: named }, []]
          }
          case "text-delta": {
            const received = heldBack + part.delta
            const half = highSurrogateAtEnd.exec(received)?.[0] ?? ""
            return [{ ...state, heldBack: half }, text(received.slice(0, received.length - half.length), model)]
          }
          case "finish": {
            const usage = usageOf(part.usage)
            if (usage !== null) counted(usage, model)
            return [{ ...state, end: { _tag: "End", reason: part.reason, usage, model } }, []]
          }
          case "closed":
            return [
              state,
              [...text(heldBack, model), state.end ?? { _tag: "End", reason: undefined, usage: null, model }]
            ]
          default:
            return [state, []]
        }
      }
    )
  )

interface State {
  readonly model: string
  readonly heldBack: string
  readonly end: End | undefined
}

const text = (received: string, model: string): ReadonlyArray<Text> =>
  received === "" ? [] : [{ _tag: "Text", text: wellFormed(received), model }]

const highSurrogateAtEnd = /[\uD800-\uDBFF]$/

// a half without its other half is no character and cannot be stored in PostgreSQL
const wellFormed = (text: string): string => text.replace(/\p{Surrogate}/gu, "\uFFFD")

const usageOf = ({ inputTokens, outputTokens }: Response.Usage): Usage | null => {
  if (inputTokens.total === undefined && outputTokens.total === undefined) return null
  const input = inputTokens.total ?? 0
  const output = outputTokens.total ?? 0
  return { inputTokens: input, outputTokens: output, totalTokens: input + output }
}

const isUsage = Schema.is(Usage)

const usageSoFar = (metadata: Response.ProviderMetadata): Usage | undefined =>
  Object.values(metadata).map((_) => Predicate.hasProperty(_, "usage") ? _.usage : undefined).find(isUsage)

/**
 * Why the model stopped. Fails where that makes the answer none: it broke off, was filtered, or the model gave up.
 *
 * @category accessors
 * @since 0.1.0
 */
export const finishReason = ({ reason }: End): Effect.Effect<Response.FinishReason, ModelError.ModelError> => {
  switch (reason) {
    case undefined:
      return Effect.fail(
        new ModelError.MalformedOutput({ message: "The answer broke off before the model had finished" })
      )
    case "content-filter":
      return Effect.fail(
        new ModelError.ContentFiltered({ message: "The provider's content filter stopped the answer" })
      )
    case "error":
      return Effect.fail(new ModelError.ModelUnavailable({ message: "The model stopped with an error" }))
    default:
      return Effect.succeed(reason)
  }
}

const fromErrorPart = (error: unknown): ModelError.ModelError => {
  if (AiError.isAiError(error)) return ModelError.fromReason(error.reason)
  if (AiError.isAiErrorReason(error)) return ModelError.fromReason(error)
  return new ModelError.ModelUnavailable({ message: error instanceof Error ? error.message : String(error) })
}

/**
 * A language model that answers what the test says, one answer for each request.
 */
import { Effect, Layer, Stream } from "effect"
import { type AiError, LanguageModel, type Response } from "effect/ai"
import { ModelSettings, type Settings } from "../../src/ai/ModelSettings.ts"

export type Parts = Stream.Stream<Response.StreamPartEncoded, AiError.AiError>

/** What the model was asked. */
export interface Asked {
  readonly system: string
  readonly user: string
  readonly settings: Settings
}

export interface Scripted {
  readonly layer: Layer.Layer<LanguageModel.LanguageModel>
  readonly asked: ReadonlyArray<Asked>
}

/** A request without an answer is a defect. */
export const scripted = (...answers: ReadonlyArray<Parts>): Scripted => {
  const asked: Array<Asked> = []
  return {
    asked,
    layer: Layer.effect(
      LanguageModel.LanguageModel,
      LanguageModel.make({
        generateText: () => Effect.die("the AI tasks stream"),
        streamText: ({ prompt }) =>
          Stream.unwrap(Effect.gen(function*() {
            const settings = yield* ModelSettings
            const [system = "", user = ""] = prompt.content.map(({ content }) =>
              typeof content === "string"
                ? content
                : content.map((part) => part.type === "text" ? part.text : "").join("")
            )
            const answer = answers[asked.length]
            asked.push({ system, user, settings })
            return answer ?? Stream.die(new Error(`no answer for request ${asked.length}`))
          }))
      })
    )
  }
}

export const deltas = (...texts: ReadonlyArray<string>): Parts =>
  Stream.fromIterable(texts).pipe(Stream.map((delta) => ({ type: "text-delta", id: "1", delta })))

export const finish = (
  reason: Response.FinishReason = "stop",
  tokens: { readonly input?: number; readonly output?: number } = { input: 3, output: 4 }
): Parts =>
  Stream.make({
    type: "finish",
    reason,
    usage: {
      inputTokens: { uncached: undefined, total: tokens.input, cacheRead: undefined, cacheWrite: undefined },
      outputTokens: { total: tokens.output, text: undefined, reasoning: undefined }
    }
  })

/** A whole answer by the model `m-1`, one delta for each piece. */
export const says = (...texts: ReadonlyArray<string>): Parts =>
  Stream.make({ type: "response-metadata", modelId: "m-1" } as const).pipe(
    Stream.concat(deltas(...texts)),
    Stream.concat(finish())
  )

/** A whole answer that is a JSON document. */
export const saysJson = (document: unknown): Parts => says(JSON.stringify(document))

/**
 * A language model that is none: it keeps everything runnable without an
 * account anywhere, and says so in every answer.
 *
 * The answer is made from the prompt alone, so the same prompt gets the same
 * answer, and it is streamed at the pace of a real model.
 *
 * @since 0.1.0
 */
import * as AiError from "effect/ai/AiError"
import * as LanguageModel from "effect/ai/LanguageModel"
import type * as Prompt from "effect/ai/Prompt"
import type * as Response from "effect/ai/Response"
import * as Effect from "effect/Effect"
import type * as JsonSchema from "effect/JsonSchema"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as Stream from "effect/Stream"
import * as DemoDocument from "./DemoDocument.ts"
import { ModelSettings } from "./ModelSettings.ts"

/**
 * What the model calls itself, so that nobody takes it for a real one.
 *
 * @category constants
 * @since 0.1.0
 */
export const name = "spindle-demo"

/**
 * How fast it writes.
 *
 * @category constants
 * @since 0.1.0
 */
export const tokensPerSecond = 50

/**
 * The demo model. It honours `maxOutputTokens`, writes a JSON document of the
 * schema it is asked for with `json`, and ignores the other settings of a
 * request. It calls no tools.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<LanguageModel.LanguageModel> = Layer.effect(
  LanguageModel.LanguageModel,
  LanguageModel.make({
    streamText: ({ prompt }) => Stream.unwrap(Effect.map(answer(prompt), stream)),
    generateText: Effect.fnUntraced(function*({ prompt, responseFormat }) {
      if (responseFormat.type === "json") {
        return yield* AiError.make({
          module: "DemoModel",
          method: "generateObject",
          reason: new AiError.UnsupportedSchemaError({
            description: "Spindle's built-in demo model writes JSON as a stream of text only"
          })
        })
      }
      const whole = yield* answer(prompt)
      yield* Stream.runDrain(stream(whole))
      return [metadata, { type: "text", text: whole.tokens.join("") }, whole.finish]
    })
  })
)

interface Answer {
  readonly tokens: ReadonlyArray<string>
  readonly finish: Response.FinishPartEncoded
}

const metadata: Response.ResponseMetadataPartEncoded = { type: "response-metadata", modelId: name }

const answer = Effect.fnUntraced(function*(prompt: Prompt.Prompt): Effect.fn.Return<Answer, AiError.AiError> {
  const { json, maxOutputTokens = Infinity } = yield* ModelSettings
  const asked = prompt.content.findLast((message) => message.role === "user")
  const text = asked === undefined ? "" : textOf(asked)
  const all = tokenize(json === undefined ? write(text) : yield* document(json.schema, text))
  const tokens = all.slice(0, maxOutputTokens)
  const inputTokens = prompt.content.reduce((sum, message) => sum + tokenize(textOf(message)).length, 0)
  return {
    tokens,
    finish: {
      type: "finish",
      reason: tokens.length < all.length ? "length" : "stop",
      usage: {
        inputTokens: { uncached: inputTokens, total: inputTokens, cacheRead: 0, cacheWrite: 0 },
        outputTokens: { total: tokens.length, text: tokens.length, reasoning: 0 }
      }
    }
  }
})

const document = (schema: JsonSchema.JsonSchema, prompt: string) =>
  Effect.fromResult(DemoDocument.make(schema, prompt)).pipe(
    Effect.map((document) => JSON.stringify(document)),
    Effect.mapError(({ message }) =>
      AiError.make({
        module: "DemoModel",
        method: "streamText",
        reason: new AiError.UnsupportedSchemaError({ description: message })
      })
    )
  )

const stream = ({ finish, tokens }: Answer): Stream.Stream<Response.StreamPartEncoded> =>
  Stream.fromIterable(tokens).pipe(
    Stream.schedule(Schedule.fixed(1000 / tokensPerSecond)),
    Stream.map((delta): Response.StreamPartEncoded => ({ type: "text-delta", id: "1", delta })),
    (deltas) => Stream.concat(Stream.make(metadata, { type: "text-start", id: "1" }), deltas),
    Stream.concat(Stream.make({ type: "text-end", id: "1" }, finish))
  )

const textOf = ({ content }: Prompt.Message): string =>
  typeof content === "string" ? content : content.map((part) => part.type === "text" ? part.text : "").join("")

// words with the space before them, long ones in pieces
const tokenize = (text: string): ReadonlyArray<string> => text.match(/\s*\S{1,12}|\s+$/gu) ?? []

const quotedLength = 160

const write = (prompt: string): string => {
  const characters = Array.from(prompt)
  const quoted = characters.slice(0, quotedLength).join("") + (characters.length > quotedLength ? "…" : "")
  return [
    `This is ${name}, the demo model built into Spindle. It is a short program and no language model: it understands ` +
    "nothing, and nothing below answers you.",
    `The prompt was: “${quoted}”. Its length in characters is ${characters.length}.`,
    "What is real is the way these words reach you. A worker has claimed the task, runs it as a fiber of its own, and " +
    `stores every piece of this text while it is being written, about ${tokensPerSecond} tokens a second. Whoever ` +
    "follows the task reads each piece once and in order, also after coming late or losing the connection.",
    "You can stop me in the middle of a sentence. Cancel the task, and its fiber is interrupted at once; what was " +
    "written until then stays, and one closing event tells every reader that no more will come.",
    "Otherwise a count of the tokens comes next, and then the whole text as the result of the task. For real answers, " +
    "provide the layer of another language model to the worker; everything else stays as it is."
  ].join("\n\n")
}

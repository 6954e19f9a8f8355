/**
 * The Chat Completions protocol: what is sent, and what its chunks mean.
 *
 * @since 0.1.0
 */
import * as AiError from "effect/ai/AiError"
import type * as LanguageModel from "effect/ai/LanguageModel"
import * as OpenAiStructuredOutput from "effect/ai/OpenAiStructuredOutput"
import type * as Prompt from "effect/ai/Prompt"
import type * as Response from "effect/ai/Response"
import * as Effect from "effect/Effect"
import * as Base64 from "effect/encoding/Base64"
import type * as JsonSchema from "effect/JsonSchema"
import * as Predicate from "effect/Predicate"
import * as Stream from "effect/Stream"
import type * as OpenAI from "openai/resources/chat/completions"
import type { Settings } from "../ModelSettings.ts"

/**
 * The messages of a prompt. Fails with what the protocol, or this layer, has no form for.
 *
 * @category requests
 * @since 0.1.0
 */
export const messages = (
  prompt: Prompt.Prompt
): Effect.Effect<Array<OpenAI.ChatCompletionMessageParam>, AiError.InvalidUserInputError> =>
  Effect.forEach(
    prompt.content,
    (message): Effect.Effect<OpenAI.ChatCompletionMessageParam, AiError.InvalidUserInputError> => {
      switch (message.role) {
        case "system":
          return Effect.succeed({ role: "system", content: message.content })
        case "user":
          return Effect.map(Effect.forEach(message.content, userPart), (content) => ({
            role: "user",
            // many endpoints know no list of parts
            content: content.every((part) => part.type === "text") ? content.map(({ text }) => text).join("") : content
          }))
        case "assistant":
          return Effect.map(Effect.forEach(message.content, assistantText), (texts) => ({
            role: "assistant",
            content: texts.join("")
          }))
        case "tool":
          return unsupported("tool results")
      }
    }
  )

const unsupported = (what: string) =>
  Effect.fail(
    new AiError.InvalidUserInputError({ description: `The prompt has ${what}, but only text and images can be sent` })
  )

const userPart = (
  part: Prompt.UserMessagePart
): Effect.Effect<
  OpenAI.ChatCompletionContentPartText | OpenAI.ChatCompletionContentPartImage,
  AiError.InvalidUserInputError
> => {
  if (part.type === "text") return Effect.succeed({ type: "text", text: part.text })
  const { data, mediaType } = part
  if (!mediaType.startsWith("image/")) return unsupported(`a file of the type ${mediaType}`)
  const base64 = (text: string) => `data:${mediaType === "image/*" ? "image/jpeg" : mediaType};base64,${text}`
  const url = data instanceof URL
    ? data.href
    : data instanceof Uint8Array
    ? base64(Base64.encode(data))
    : /^(https?|data):/.test(data)
    ? data
    : base64(data)
  return Effect.succeed({ type: "image_url", image_url: { url } })
}

// what the model thought is not sent back to it
const assistantText = (part: Prompt.AssistantMessagePart) =>
  part.type === "text"
    ? Effect.succeed(part.text)
    : part.type === "reasoning"
    ? Effect.succeed("")
    : unsupported(part.type === "file" ? "a file of the assistant's" : "tool calls")

/**
 * Whether it is OpenAI itself that serves there.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isOpenAi = (hostname: string): boolean => /(^|\.)openai\.com$/.test(hostname)

/**
 * The bound of an answer, in the name that the host takes: OpenAI's newer models, which Azure serves too, refuse the old
 * one, and other servers may not know the new one.
 *
 * @category requests
 * @since 0.1.0
 */
export const tokenLimit = (
  hostname: string,
  tokens: number
): Pick<OpenAI.ChatCompletionCreateParams, "max_completion_tokens" | "max_tokens"> =>
  isOpenAi(hostname) || hostname.endsWith(".azure.com") ? { max_completion_tokens: tokens } : { max_tokens: tokens }

/**
 * The document that is asked for, by the request itself or by its settings.
 *
 * @category requests
 * @since 0.1.0
 */
export const documentOf = (
  responseFormat: LanguageModel.ProviderOptions["responseFormat"],
  settings: Settings
): Effect.Effect<OpenAI.ChatCompletionCreateParams["response_format"], AiError.UnsupportedSchemaError> => {
  if (responseFormat.type === "json") {
    return Effect.try({
      try: () =>
        format(responseFormat.objectName, OpenAiStructuredOutput.toCodecOpenAI(responseFormat.schema).jsonSchema),
      catch: (error) =>
        new AiError.UnsupportedSchemaError({ description: error instanceof Error ? error.message : String(error) })
    })
  }
  return Effect.succeed(settings.json === undefined ? undefined : format(settings.json.name, settings.json.schema))
}

const format = (name: string, schema: JsonSchema.JsonSchema): OpenAI.ChatCompletionCreateParams["response_format"] => ({
  type: "json_schema",
  json_schema: { name: name.replaceAll(/[^\w-]/g, "_").slice(0, 64), schema, strict: isStrict(schema) }
})

const loose = ["oneOf", "allOf", "not", "if", "patternProperties", "dependentRequired", "dependentSchemas"]

// OpenAI refuses `strict` unless every object is closed and requires all it has.
const isStrict = (schema: unknown): boolean => {
  if (Array.isArray(schema)) return schema.every(isStrict)
  if (!Predicate.isObject(schema)) return true
  const { properties, required, type } = schema as JsonSchema.JsonSchema
  if (loose.some((keyword) => Object.hasOwn(schema, keyword))) return false
  if (type === "object" || properties !== undefined) {
    const names = Object.keys(Predicate.isObject(properties) ? properties : {})
    const all = Array.isArray(required) && names.every((name) => required.includes(name))
    if ((schema as JsonSchema.JsonSchema).additionalProperties !== false || (names.length > 0 && !all)) return false
  }
  return Object.entries(schema).every(([key, value]) =>
    key === "properties" || key === "$defs"
      ? Object.values(Predicate.isObject(value) ? value : {}).every(isStrict)
      : key === "enum" || key === "const" || key === "default" || key === "examples" || isStrict(value)
  )
}

/**
 * The same request of an endpoint that can promise JSON, but not a schema: the schema is told to the model instead.
 *
 * @category requests
 * @since 0.1.0
 */
export const withoutSchema = (
  body: OpenAI.ChatCompletionCreateParamsStreaming
): OpenAI.ChatCompletionCreateParamsStreaming => {
  if (body.response_format?.type !== "json_schema") return body
  const schema = JSON.stringify(body.response_format.json_schema.schema)
  return {
    ...body,
    messages: [
      {
        role: "system",
        content: `Answer with one JSON document that fits this JSON Schema, and nothing else: ${schema}`
      },
      ...body.messages
    ],
    response_format: { type: "json_object" }
  }
}

/**
 * Reads one answer.
 *
 * @category answers
 * @since 0.1.0
 */
export interface Reader {
  /** The parts that a chunk brings. */
  readonly read: (chunk: OpenAI.ChatCompletionChunk) => ReadonlyArray<Response.StreamPartEncoded>
  /** Whether the model has said that it is done, so that nothing of the answer can be missing. */
  readonly isComplete: () => boolean
  /** What is left to say when the stream has ended. */
  readonly end: Stream.Stream<Response.StreamPartEncoded, AiError.AiErrorReason>
}

/**
 * Reads the chunks of one answer in order.
 *
 * Nothing of a chunk is taken for granted: compatible endpoints leave out, add, and spell things their own way.
 *
 * @category answers
 * @since 0.1.0
 */
export const reader = (): Reader => {
  let named = false
  let block: "text" | "reasoning" | undefined
  let blocks = 0
  let refusal = ""
  let reason: Response.FinishReason | undefined
  let usage: Response.FinishPartEncoded["usage"] | undefined
  let finished = false

  const close = (): ReadonlyArray<Response.StreamPartEncoded> => {
    const ended = block
    block = undefined
    return ended === undefined ? [] : [{ type: `${ended}-end`, id: String(blocks) }]
  }
  const piece = (kind: "text" | "reasoning", delta: string): ReadonlyArray<Response.StreamPartEncoded> => {
    if (delta === "" || finished) return []
    if (block === kind) return [{ type: `${kind}-delta`, id: String(blocks), delta }]
    const closed = close()
    block = kind
    const id = String(++blocks)
    return [...closed, { type: `${kind}-start`, id }, { type: `${kind}-delta`, id, delta }]
  }
  const finish = (): ReadonlyArray<Response.StreamPartEncoded> => {
    if (finished || reason === undefined) return []
    finished = true
    return [...close(), { type: "finish", reason, usage: usage ?? usageOf({}) }]
  }
  const metadata = ({ id, model }: OpenAI.ChatCompletionChunk): ReadonlyArray<Response.StreamPartEncoded> => {
    if (named || !Predicate.isString(model) || model === "") return []
    named = true
    return [{ type: "response-metadata", modelId: model, ...(Predicate.isString(id) && { id }) }]
  }

  return {
    read: (chunk) => {
      if (!Predicate.isObject(chunk)) return []
      const choice = Array.isArray(chunk.choices) ? chunk.choices.find((_) => (_?.index ?? 0) === 0) : undefined
      // not every endpoint sends every field of the type, and some send more
      const delta: Readonly<Record<string, unknown>> = { ...choice?.delta }
      if (Predicate.isString(delta.refusal)) refusal += delta.refusal
      const stopped: unknown = choice?.finish_reason
      if (Predicate.isString(stopped) && stopped !== "") reason = finishReasons[stopped] ?? "other"
      if (Predicate.isObject(chunk.usage)) usage = usageOf(chunk.usage as UsageFields)
      return [
        ...metadata(chunk),
        ...piece("reasoning", textOf(delta.reasoning_content ?? delta.reasoning)),
        ...piece("text", textOf(delta.content)),
        ...(usage === undefined ? [] : finish())
      ]
    },
    isComplete: () => reason !== undefined,
    end: Stream.suspend((): Stream.Stream<Response.StreamPartEncoded, AiError.AiErrorReason> => {
      if (reason === undefined) {
        return Stream.fail(
          new AiError.InvalidResponseError({ description: "the stream ended before the model had finished" })
        )
      }
      const parts = Stream.fromIterable(finish())
      return refusal === ""
        ? parts
        : Stream.concat(
          parts,
          Stream.fail(new AiError.ContentPolicyError({ description: `the model refused: ${refusal}` }))
        )
    })
  }
}

const finishReasons: Readonly<Record<string, Response.FinishReason>> = {
  stop: "stop",
  length: "length",
  content_filter: "content-filter",
  tool_calls: "tool-calls",
  function_call: "tool-calls",
  error: "error"
}

// a text, or a list of parts some of which are text
const textOf = (content: unknown): string =>
  Predicate.isString(content)
    ? content
    : Array.isArray(content)
    ? content.map((part) => part?.type === "text" && Predicate.isString(part.text) ? part.text : "").join("")
    : ""

interface UsageFields {
  readonly prompt_tokens?: unknown
  readonly completion_tokens?: unknown
  readonly prompt_tokens_details?: { readonly cached_tokens?: unknown } | null
  readonly completion_tokens_details?: { readonly reasoning_tokens?: unknown } | null
}

const usageOf = (usage: UsageFields): Response.FinishPartEncoded["usage"] => {
  const input = count(usage.prompt_tokens)
  const cached = count(usage.prompt_tokens_details?.cached_tokens)
  const output = count(usage.completion_tokens)
  const reasoning = count(usage.completion_tokens_details?.reasoning_tokens)
  return {
    inputTokens: { total: input, cacheRead: cached, uncached: less(input, cached), cacheWrite: undefined },
    outputTokens: { total: output, reasoning, text: less(output, reasoning) }
  }
}

const count = (tokens: unknown): number | undefined =>
  Number.isSafeInteger(tokens) && (tokens as number) >= 0 ? tokens as number : undefined

const less = (total: number | undefined, part: number | undefined): number | undefined =>
  total === undefined || part === undefined ? undefined : Math.max(0, total - part)

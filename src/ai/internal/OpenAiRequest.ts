/**
 * What is sent to an endpoint of the Chat Completions API.
 *
 * @since 0.1.0
 */
import * as AiError from "effect/ai/AiError"
import type * as LanguageModel from "effect/ai/LanguageModel"
import * as OpenAiStructuredOutput from "effect/ai/OpenAiStructuredOutput"
import type * as Prompt from "effect/ai/Prompt"
import * as Tool from "effect/ai/Tool"
import * as Arr from "effect/Array"
import * as Effect from "effect/Effect"
import * as Base64 from "effect/encoding/Base64"
import type * as JsonSchema from "effect/JsonSchema"
import * as Predicate from "effect/Predicate"
import * as Struct from "effect/Struct"
import type * as OpenAI from "openai/resources/chat/completions"
import type { Settings } from "../ModelSettings.ts"

/**
 * The messages of a prompt; those of the system that it begins with are one. Fails with what the protocol, or this
 * layer, has no form for.
 *
 * @category requests
 * @since 0.1.0
 */
export const messages = (
  prompt: Prompt.Prompt
): Effect.Effect<Array<OpenAI.ChatCompletionMessageParam>, AiError.InvalidUserInputError> => {
  // the templates of many models take one system message and no more
  const [system, others] = Arr.span(prompt.content, (message) => message.role === "system")
  return Effect.map(Effect.forEach(others, messagesOf), (all) => [
    ...(system.length === 0
      ? []
      : [{ role: "system" as const, content: system.map(({ content }) => content).join("\n\n") }]),
    ...all.flat()
  ])
}

const messagesOf = (
  message: Prompt.Message
): Effect.Effect<ReadonlyArray<OpenAI.ChatCompletionMessageParam>, AiError.InvalidUserInputError> => {
  switch (message.role) {
    case "system":
      return Effect.succeed([{ role: "system", content: message.content }])
    case "user":
      return Effect.map(Effect.forEach(message.content, userPart), (content) => [{
        role: "user",
        // many endpoints know no list of parts
        content: content.every((part) => part.type === "text") ? content.map(({ text }) => text).join("") : content
      }])
    case "assistant":
      return assistantMessage(message)
    case "tool":
      return Effect.succeed(
        message.content.filter((part) => part.type === "tool-result").map(({ id, result }) => ({
          role: "tool",
          tool_call_id: id,
          content: Predicate.isString(result) ? result : JSON.stringify(result)
        }))
      )
  }
}

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

// What the model thought is not sent back to it.
const assistantMessage = (
  { content }: Prompt.AssistantMessage
): Effect.Effect<ReadonlyArray<OpenAI.ChatCompletionMessageParam>, AiError.InvalidUserInputError> => {
  if (content.some((part) => part.type === "file")) return unsupported("a file of the assistant's")
  const text = content.map((part) => part.type === "text" ? part.text : "").join("")
  const calls = content.filter((part) => part.type === "tool-call").map(({ id, name, params }) => ({
    id,
    type: "function" as const,
    function: { name, arguments: JSON.stringify(params) }
  }))
  return Effect.succeed([{
    role: "assistant",
    content: text === "" && calls.length > 0 ? null : text,
    ...(calls.length > 0 && { tool_calls: calls })
  }])
}

/**
 * The tools that the model may call. Fails for those that a provider brings along: the protocol has none.
 *
 * @category requests
 * @since 0.1.0
 */
export const tools = (
  { toolChoice, tools }: LanguageModel.ProviderOptions
): Effect.Effect<Pick<OpenAI.ChatCompletionCreateParams, "tools" | "tool_choice">, AiError.ToolConfigurationError> => {
  if (tools.length === 0) return Effect.succeed({})
  const choice = Predicate.isString(toolChoice)
    ? toolChoice
    : "tool" in toolChoice
    ? { type: "function" as const, function: { name: String(toolChoice.tool) } }
    : toolChoice.mode ?? "auto"
  return Effect.map(Effect.forEach(tools, toolOf), (tools) => ({ tools, tool_choice: choice }))
}

const toolOf = (tool: Tool.Any): Effect.Effect<OpenAI.ChatCompletionFunctionTool, AiError.ToolConfigurationError> => {
  if (Tool.isProviderDefined(tool)) {
    return Effect.fail(
      new AiError.ToolConfigurationError({
        toolName: tool.name,
        description: "the Chat Completions API has no tools of the provider"
      })
    )
  }
  const parameters = Tool.getJsonSchema(tool)
  const description = Tool.getDescription(tool)
  return Effect.succeed({
    type: "function",
    function: {
      name: tool.name,
      parameters,
      strict: isStrict(parameters),
      ...(description !== undefined && { description })
    }
  })
}

const isOpenAi = (hostname: string): boolean => /(^|\.)openai\.com$/.test(hostname)

/**
 * The model that a request asks for, whoever has named it: else OpenAI's default, which is asked not to think before it
 * writes. Undefined where a model has to be named.
 *
 * @category requests
 * @since 0.1.0
 */
export const model = (
  hostname: string,
  named: string | undefined
): Pick<OpenAI.ChatCompletionCreateParams, "model" | "reasoning_effort"> | undefined =>
  named !== undefined
    ? { model: named }
    : isOpenAi(hostname)
    ? { model: "gpt-6-luna", reasoning_effort: "none" }
    : undefined

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
 * The request as the endpoint may take it after all, from what it says against this one; undefined, if that is about
 * something else.
 *
 * - `max_completion_tokens` in place of `max_tokens`, if it asks for that.
 * - Without `stream_options`.
 * - With a format that more endpoints know: any JSON document, with the schema told to the model; else text.
 *
 * @category requests
 * @since 0.1.0
 */
export const adapted = (
  body: OpenAI.ChatCompletionCreateParamsStreaming,
  refusal: string
): OpenAI.ChatCompletionCreateParamsStreaming | undefined => {
  const { max_tokens, response_format } = body
  if (max_tokens !== undefined && refusal.includes("max_completion_tokens")) {
    return { ...Struct.omit(body, ["max_tokens"]), max_completion_tokens: max_tokens }
  }
  if (body.stream_options !== undefined && /stream_options|include_usage/.test(refusal)) {
    return Struct.omit(body, ["stream_options"])
  }
  if (response_format === undefined || !/response.?format|schema|grammar/i.test(refusal)) return undefined
  if (response_format.type !== "json_schema") return Struct.omit(body, ["response_format"])
  const schema = JSON.stringify(response_format.json_schema.schema)
  const form = `Answer with one JSON document that fits this JSON Schema, and nothing else: ${schema}`
  const [first, ...others] = body.messages
  return {
    ...body,
    messages: first?.role === "system"
      ? [{ role: "system", content: `${form}\n\n${first.content}` }, ...others]
      : [{ role: "system", content: form }, ...body.messages],
    response_format: { type: "json_object" }
  }
}

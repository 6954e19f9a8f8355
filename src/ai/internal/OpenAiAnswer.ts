/**
 * What an endpoint of the Chat Completions API answers.
 *
 * @since 0.1.0
 */
import * as AiError from "effect/ai/AiError"
import type * as Response from "effect/ai/Response"
import * as Predicate from "effect/Predicate"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"
import type * as OpenAI from "openai/resources/chat/completions"
import type { Settings } from "../ModelSettings.ts"
import { done } from "./OpenAiStream.ts"

/**
 * Reads one answer.
 *
 * @category answers
 * @since 0.1.0
 */
export interface Reader {
  /** The parts that a chunk brings. */
  readonly read: (chunk: unknown) => ReadonlyArray<Response.StreamPartEncoded>
  /**
   * Whether the model has said that it is done, and said so apart from the text, so that nothing can be missing although
   * the connection has broken. A gateway may name a reason beside every piece of text.
   */
  readonly isComplete: () => boolean
  /** Whether something of the answer has come. */
  readonly hasBegun: () => boolean
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
export const reader = (counted: Settings["counted"]): Reader => {
  let named = false
  let block: "text" | "reasoning" | undefined
  let blocks = 0
  let refusal = ""
  let reason: Response.FinishReason | undefined
  let usage: Response.FinishPartEncoded["usage"] | undefined
  let begun = false
  let settled = false
  let saidDone = false
  let failure: AiError.AiErrorReason | undefined
  const calls: Array<ToolCall> = []

  const close = (): ReadonlyArray<Response.StreamPartEncoded> => {
    const ended = block
    block = undefined
    return ended === undefined ? [] : [{ type: `${ended}-end`, id: String(blocks) }]
  }
  const piece = (kind: "text" | "reasoning", delta: string): ReadonlyArray<Response.StreamPartEncoded> => {
    if (delta === "") return []
    if (block === kind) return [{ type: `${kind}-delta`, id: String(blocks), delta }]
    const closed = close()
    block = kind
    const id = String(++blocks)
    return [...closed, { type: `${kind}-start`, id }, { type: `${kind}-delta`, id, delta }]
  }
  // The parameters of a call come in pieces: the first has its name, and every one its place in the list.
  const call = (piece: ToolCallFields): ReadonlyArray<Response.StreamPartEncoded> => {
    const { arguments: delta, name } = { ...piece?.function }
    const parts: Array<Response.StreamPartEncoded> = []
    const index = Number(piece?.index ?? (Predicate.isString(name) ? calls.length : calls.length - 1))
    let known = calls.findLast((call) => call.index === index)
    // some endpoints number none and put each call into one piece
    if (known === undefined || (Predicate.isString(piece.id) && piece.id !== "" && piece.id !== known.id)) {
      if (!Predicate.isString(name) || name === "") return []
      const id = Predicate.isString(piece.id) && piece.id !== "" ? piece.id : `call_${calls.length}`
      known = { index, id, name, params: "" }
      calls.push(known)
      parts.push(...close(), { type: "tool-params-start", id, name })
    }
    if (!Predicate.isString(delta) || delta === "") return parts
    known.params += delta
    return [...parts, { type: "tool-params-delta", id: known.id, delta }]
  }
  const called = ({ id, name, params }: ToolCall): ReadonlyArray<Response.StreamPartEncoded> => {
    const parsed = Result.try((): unknown => JSON.parse(params === "" ? "{}" : params))
    if (Result.isSuccess(parsed)) {
      return [{ type: "tool-params-end", id }, { type: "tool-call", id, name, params: parsed.success }]
    }
    failure ??= new AiError.ToolParameterValidationError({ toolName: name, description: "they are not JSON" })
    return []
  }
  const finish = (reason: Response.FinishReason): ReadonlyArray<Response.StreamPartEncoded> => [
    ...close(),
    // What was cut off is no call.
    ...(reason === "length" ? [] : calls.flatMap(called)),
    { type: "finish", reason, usage: usage ?? usageOf({}) }
  ]
  const metadata = ({ id, model }: OpenAI.ChatCompletionChunk): ReadonlyArray<Response.StreamPartEncoded> => {
    if (named || !Predicate.isString(model) || model === "") return []
    named = true
    return [{ type: "response-metadata", modelId: model, ...(Predicate.isString(id) && { id }) }]
  }

  return {
    read: (given) => {
      if (given === done) saidDone = true
      if (!Predicate.isObject(given)) return []
      const chunk = given as unknown as OpenAI.ChatCompletionChunk
      const choice: (Partial<OpenAI.ChatCompletionChunk.Choice> & { readonly message?: object }) | undefined =
        Array.isArray(chunk.choices) ? chunk.choices.find((_) => (_?.index ?? 0) === 0) : undefined
      // Not every endpoint sends every field of the type, and some send more. One that does not stream sends the message,
      // and one that does may repeat it at the end.
      const delta: Readonly<Record<string, unknown>> = { ...(begun ? undefined : choice?.message), ...choice?.delta }
      if (Predicate.isString(delta.refusal)) refusal += delta.refusal
      const toolCalls = Array.isArray(delta.tool_calls) ? delta.tool_calls : []
      const stopped: unknown = choice?.finish_reason
      const ends = Predicate.isString(stopped) && stopped !== ""
      if (ends) reason = finishReasons[stopped] ?? "other"
      const counts = Predicate.isObject(chunk.usage)
      if (counts) {
        usage = usageOf(chunk.usage as UsageFields)
        counted?.(usage)
      }
      const parts = [
        ...piece("reasoning", textOf(delta.reasoning_content ?? delta.reasoning)),
        ...piece("text", textOf(delta.content)),
        ...toolCalls.flatMap(call)
      ]
      if (parts.length > 0) settled = false
      else if (reason !== undefined && (ends || counts)) settled = true
      begun ||= parts.length > 0 || ends
      return [...metadata(chunk), ...parts]
    },
    isComplete: () => settled,
    hasBegun: () => begun,
    end: Stream.suspend((): Stream.Stream<Response.StreamPartEncoded, AiError.AiErrorReason> => {
      // Who says that it is done without a reason has left that out, unless there is nothing at all.
      const why = reason ?? (saidDone && begun ? (calls.length > 0 ? "tool-calls" : "unknown") : undefined)
      if (why === undefined && refusal === "") {
        return Stream.fail(
          new AiError.InvalidResponseError({ description: "the stream ended before the model had finished" })
        )
      }
      const parts = Stream.fromIterable(finish(why ?? "unknown"))
      if (refusal !== "") {
        const words = refusal.replaceAll(/\s+/g, " ").slice(0, 500)
        failure = new AiError.ContentPolicyError({ description: `the model refused: ${words}` })
      }
      return failure === undefined ? parts : Stream.concat(parts, Stream.fail(failure))
    })
  }
}

interface ToolCall {
  readonly index: number
  readonly id: string
  readonly name: string
  params: string
}

interface ToolCallFields {
  readonly index?: unknown
  readonly id?: unknown
  readonly function?: { readonly name?: unknown; readonly arguments?: unknown } | null
}

const finishReasons: Readonly<Record<string, Response.FinishReason>> = {
  stop: "stop",
  length: "length",
  model_length: "length",
  content_filter: "content-filter",
  tool_calls: "tool-calls",
  function_call: "tool-calls",
  error: "error",
  // vLLM and SGLang; DeepSeek: the model was stopped before its end
  abort: "error",
  insufficient_system_resource: "error"
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

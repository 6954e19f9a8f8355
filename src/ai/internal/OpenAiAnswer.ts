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
import * as OpenAiStream from "./OpenAiStream.ts"

/**
 * Reads one answer.
 *
 * @category answers
 * @since 0.1.0
 */
export interface Reader {
  /** The parts that a chunk brings. */
  readonly read: (chunk: unknown) => ReadonlyArray<Response.StreamPartEncoded>
  /** Whether the model has begun to say or to think something, or has stopped before. */
  readonly hasBegun: () => boolean
  /** Whether nothing can be missing although the stream has no end: it broke, or fell silent. */
  readonly isWhole: (how: "broken" | "silent") => boolean
  /** What is left to say when the stream has ended. */
  readonly end: Stream.Stream<Response.StreamPartEncoded, AiError.AiErrorReason>
}

/**
 * Reads the chunks of one answer in order. Only the end of the stream ends it: some endpoints say with every chunk why the
 * model has stopped, and what it has used. The last word counts.
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
  let usage: Usage | undefined
  let failure: AiError.AiErrorReason | undefined
  let isDone = false
  let hasDeltas = false
  let hasBegun = false
  // with text, calls or a refusal; thoughts are no answer
  let hasAnswer = false
  // a reason, or the usage, has come by itself since the answer last went on
  let isSettled = false
  let wentOnAfterReason = false
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
  const metadata = (
    { id, model }: OpenAI.ChatCompletionChunk,
    counts: Usage | undefined
  ): ReadonlyArray<Response.StreamPartEncoded> => {
    const names = !named && Predicate.isString(model) && model !== ""
    named ||= names
    if (!names && counts === undefined) return []
    return [{
      type: "response-metadata",
      ...(names && { modelId: model, ...(Predicate.isString(id) && { id }) }),
      // who is interrupted never sees the finish
      ...(counts !== undefined && { metadata: { openai: { usage: totals(counts) } } })
    }]
  }

  return {
    read: (given) => {
      if (given === OpenAiStream.done) isDone = true
      if (!Predicate.isObject(given)) return []
      const chunk = given as unknown as OpenAI.ChatCompletionChunk
      const choice: any = Array.isArray(chunk.choices)
        ? chunk.choices.find((_) => Number(_?.index ?? 0) === 0)
        : undefined
      // A whole answer has a message, also where a stream was asked for; beside deltas a message repeats them.
      // Not every endpoint sends every field of the type, and some send more.
      const delta: Readonly<Record<string, unknown>> = { ...(!hasDeltas && choice?.message), ...choice?.delta }
      hasDeltas ||= Predicate.isObject(choice?.delta)
      const counted = chunk.usage ?? choice?.usage
      const counts = Predicate.isObject(counted) ? usageOf(counted as UsageFields) : undefined
      const thoughts = piece("reasoning", textOf(delta.reasoning_content ?? delta.reasoning))
      const answer = [
        ...piece("text", textOf(delta.content ?? choice?.text)),
        ...(Array.isArray(delta.tool_calls) ? delta.tool_calls.flatMap(call) : [])
      ]
      const refused = Predicate.isString(delta.refusal) ? delta.refusal : ""
      refusal += refused
      usage = counts ?? usage

      const answers = answer.length > 0 || refused !== ""
      const goesOn = answers || thoughts.length > 0
      if (goesOn) {
        hasBegun = true
        hasAnswer ||= answers
        isSettled = false
        wentOnAfterReason ||= reason !== undefined
      }
      const stopped: unknown = choice?.finish_reason
      const stops = Predicate.isString(stopped) && stopped !== "" && stopped !== "null"
      if (stops) reason = finishReasons.get(stopped.toLowerCase()) ?? "other"
      if (!goesOn && reason !== undefined && (stops || counts !== undefined)) isSettled = hasAnswer
      return [...metadata(chunk, counts), ...thoughts, ...answer]
    },
    hasBegun: () => hasBegun || reason !== undefined,
    isWhole: (how) => isSettled || (how === "silent" && hasAnswer && reason !== undefined && !wentOnAfterReason),
    end: Stream.suspend((): Stream.Stream<Response.StreamPartEncoded, AiError.AiErrorReason> => {
      if (isDone && hasAnswer) reason ??= calls.length > 0 ? "tool-calls" : "unknown"
      if (reason === undefined) {
        return Stream.fail(
          new AiError.InvalidResponseError({ description: "the stream ended before the model had finished" })
        )
      }
      const parts = Stream.fromIterable<Response.StreamPartEncoded>([
        ...close(),
        // What was cut off is no call.
        ...(reason === "length" ? [] : calls.flatMap(called)),
        { type: "finish", reason, usage: usage ?? uncounted }
      ])
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

const finishReasons: ReadonlyMap<string, Response.FinishReason> = new Map([
  ["stop", "stop"],
  ["length", "length"],
  ["model_length", "length"],
  ["max_tokens", "length"],
  ["content_filter", "content-filter"],
  ["tool_calls", "tool-calls"],
  ["function_call", "tool-calls"],
  ["error", "error"],
  // vLLM and SGLang; DeepSeek: the model was stopped before its end
  ["abort", "error"],
  ["insufficient_system_resource", "error"]
])

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

type Usage = Response.FinishPartEncoded["usage"]

// undefined if nothing is counted
const usageOf = (usage: UsageFields): Usage | undefined => {
  const input = count(usage.prompt_tokens)
  const cached = count(usage.prompt_tokens_details?.cached_tokens)
  const output = count(usage.completion_tokens)
  const reasoning = count(usage.completion_tokens_details?.reasoning_tokens)
  if (input === undefined && output === undefined) return undefined
  return {
    inputTokens: { total: input, cacheRead: cached, uncached: less(input, cached), cacheWrite: undefined },
    outputTokens: { total: output, reasoning, text: less(output, reasoning) }
  }
}

const uncounted: Usage = {
  inputTokens: { total: undefined, cacheRead: undefined, uncached: undefined, cacheWrite: undefined },
  outputTokens: { total: undefined, reasoning: undefined, text: undefined }
}

const totals = ({ inputTokens, outputTokens }: Usage) => {
  const [input, output] = [inputTokens.total ?? 0, outputTokens.total ?? 0]
  return { inputTokens: input, outputTokens: output, totalTokens: input + output }
}

const count = (tokens: unknown): number | undefined =>
  Number.isSafeInteger(tokens) && (tokens as number) >= 0 ? tokens as number : undefined

const less = (total: number | undefined, part: number | undefined): number | undefined =>
  total === undefined || part === undefined ? undefined : Math.max(0, total - part)

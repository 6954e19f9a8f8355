import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Stream } from "effect"
import { AiError, LanguageModel, type Response } from "effect/ai"
import * as ModelAnswer from "../../src/ai/ModelAnswer.ts"
import type * as ModelError from "../../src/ai/ModelError.ts"

const read = (parts: Stream.Stream<Response.StreamPartEncoded, AiError.AiError>, model?: string) =>
  Effect.gen(function*() {
    const pieces: Array<ModelAnswer.Text | ModelAnswer.End> = []
    const counts: Array<readonly [ModelAnswer.Usage, string]> = []
    const counted = (usage: ModelAnswer.Usage, model: string) => {
      counts.push([usage, model])
    }
    const error = yield* ModelAnswer.stream([{ role: "user", content: "hi" }], { model }, counted).pipe(
      Stream.runForEach((piece) => Effect.sync(() => pieces.push(piece))),
      Effect.as(undefined),
      Effect.catch((error: ModelError.ModelError) => Effect.succeed(error)),
      Effect.provide(Layer.effect(
        LanguageModel.LanguageModel,
        LanguageModel.make({ generateText: () => Effect.die("it streams"), streamText: () => parts })
      ))
    )
    return { pieces, error, counts }
  })

const delta = (text: string) => ({ type: "text-delta", id: "1", delta: text }) as const
const metadata = (modelId: string) => ({ type: "response-metadata", modelId }) as const
const finish = (reason: Response.FinishReason) =>
  ({
    type: "finish",
    reason,
    usage: {
      inputTokens: { uncached: undefined, total: 3, cacheRead: undefined, cacheWrite: undefined },
      outputTokens: { total: undefined, text: undefined, reasoning: undefined }
    }
  }) as const

describe("ModelAnswer", () => {
  it.effect("is text, then an end, each with the model that answers", () =>
    Effect.gen(function*() {
      const { pieces } = yield* read(
        Stream.make(delta("a"), metadata("m-2"), delta(""), delta("b\uD83D"), finish("stop")),
        "m"
      )
      assert.deepStrictEqual(pieces, [
        { _tag: "Text", text: "a", model: "m" },
        { _tag: "Text", text: "b", model: "m-2" },
        { _tag: "Text", text: "\uFFFD", model: "m-2" },
        {
          _tag: "End",
          reason: "stop",
          usage: { inputTokens: 3, outputTokens: 0, totalTokens: 3 },
          model: "m-2"
        }
      ])
    }))

  it.effect("tells what is counted as soon as it is", () =>
    Effect.gen(function*() {
      const usage = (count: number) => ({ inputTokens: 3, outputTokens: count, totalTokens: 3 + count })
      const { counts, pieces } = yield* read(Stream.make(
        { ...metadata("m-1"), metadata: { a: { usage: "none" }, b: null, c: { usage: usage(1) } } },
        delta("a"),
        { type: "response-metadata", metadata: { c: { usage: usage(2) } } },
        finish("stop")
      ))
      assert.deepStrictEqual(counts, [1, 2, 0].map((count) => [usage(count), "m-1"] as const))
      assert.lengthOf(pieces, 2)
    }))

  it.effect("ends with its stream, and as it was said last", () =>
    Effect.gen(function*() {
      const { pieces } = yield* read(Stream.make(delta("a"), finish("stop"), delta("b\uD83D"), finish("length")))
      assert.deepStrictEqual(pieces.map((piece) => piece._tag === "Text" ? piece.text : piece.reason), [
        "a",
        "b",
        "\uFFFD",
        "length"
      ])
    }))

  it.effect("has an end also when it breaks off", () =>
    Effect.gen(function*() {
      const { pieces } = yield* read(Stream.make(delta("a")))
      assert.deepStrictEqual(pieces, [
        { _tag: "Text", text: "a", model: "unknown" },
        { _tag: "End", reason: undefined, usage: null, model: "unknown" }
      ])
    }))

  it.effect("gives what came before an error of the same chunk", () =>
    Effect.gen(function*() {
      const error = new AiError.RateLimitError({})
      const answer = yield* read(Stream.make(delta("a"), delta("b"), { type: "error", error }, delta("c")))
      assert.deepStrictEqual(answer.pieces.map((piece) => piece._tag === "Text" ? piece.text : ""), ["a", "b"])
      assert.strictEqual(answer.error?._tag, "RateLimited")
    }))

  it.effect.each<readonly [Response.FinishReason | undefined, string]>([
    ["stop", "stop"],
    ["length", "length"],
    ["tool-calls", "tool-calls"],
    ["pause", "pause"],
    ["other", "other"],
    ["unknown", "unknown"],
    ["content-filter", "ContentFiltered"],
    ["error", "ModelUnavailable"],
    [undefined, "MalformedOutput"]
  ])("that ends with %s is %s", ([reason, expected]) =>
    Effect.gen(function*() {
      const finished = ModelAnswer.finishReason({ _tag: "End", reason, usage: null, model: "m" })
      assert.strictEqual(yield* Effect.catch(finished, ({ _tag }) => Effect.succeed(_tag)), expected)
    }))
})

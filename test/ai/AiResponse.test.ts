import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Layer, Ref, Schema, Stream } from "effect"
import { AiError, LanguageModel, type Prompt, type Response } from "effect/ai"
import * as AiResponse from "../../src/ai/AiResponse.ts"
import * as ModelError from "../../src/ai/ModelError.ts"
import { ModelSettings, type Settings } from "../../src/ai/ModelSettings.ts"
import { attempt } from "../support/execution.ts"

type Parts = Stream.Stream<Response.StreamPartEncoded, AiError.AiError>

const model = (streamText: (prompt: Prompt.Prompt) => Parts) =>
  Layer.effect(
    LanguageModel.LanguageModel,
    LanguageModel.make({
      generateText: () => Effect.die("ai_response streams"),
      streamText: ({ prompt }) => streamText(prompt)
    })
  )

const deltas = (...texts: ReadonlyArray<string>): Parts =>
  Stream.fromIterable(texts).pipe(Stream.map((delta) => ({ type: "text-delta", id: "1", delta })))

const finish = (
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

const failing = (reason: AiError.AiErrorReason): Parts =>
  Stream.fail(AiError.make({ module: "test", method: "streamText", reason }))

const run = (parts: Parts, payload: AiResponse.Payload = { prompt: "hi" }) => {
  const { events, execution } = attempt(AiResponse.AiResponse)
  return AiResponse.handler(payload, execution).pipe(
    Effect.provide(model(() => parts)),
    Effect.exit,
    Effect.map((exit) => ({ exit, events, texts: events.flatMap((_) => _._tag === "text_delta" ? [_.text] : []) }))
  )
}

const failure = (parts: Parts) => run(parts).pipe(Effect.flatMap(({ exit }) => Effect.flip(exit)))

describe("AiResponse", () => {
  describe("payload", () => {
    const decode = Schema.decodeUnknownEffect(Schema.toCodecJson(AiResponse.Payload))
    const messages = [{ role: "user", content: "hi" }]

    it.effect.each([
      { prompt: "hi" },
      { messages },
      { prompt: "hi", messages: null },
      { prompt: "hi", system: "be brief", model: "m", temperature: 0, maxOutputTokens: 1 },
      { messages, temperature: 2 }
    ])("accepts %j", (payload) => decode(payload))

    it.effect("ignores unknown keys", () =>
      Effect.gen(function*() {
        assert.deepStrictEqual(yield* decode({ prompt: "hi", conversationId: 5 }), { prompt: "hi" })
      }))

    it.effect.each<readonly [unknown, string]>([
      [{}, "Expected either \"prompt\" or \"messages\", got neither"],
      [{ system: "be brief" }, "got neither"],
      [{ prompt: null, messages: null }, "got neither"],
      [{ prompt: "hi", messages }, "Expected either \"prompt\" or \"messages\", got both"],
      [{ prompt: "" }, "[\"prompt\"]"],
      [{ prompt: 5 }, "[\"prompt\"]"],
      [{ messages: [] }, "[\"messages\"]"],
      [{ messages: [{ role: "tool", content: "hi" }] }, "[\"messages\"][0][\"role\"]"],
      [{ messages: [{ role: "user" }] }, "[\"messages\"][0][\"content\"]"],
      [{ prompt: "hi", model: "" }, "[\"model\"]"],
      [{ prompt: "hi", temperature: -0.1 }, "[\"temperature\"]"],
      [{ prompt: "hi", temperature: 2.1 }, "[\"temperature\"]"],
      [{ prompt: "hi", temperature: "1" }, "[\"temperature\"]"],
      [{ prompt: "hi", maxOutputTokens: 0 }, "[\"maxOutputTokens\"]"],
      [{ prompt: "hi", maxOutputTokens: 1.5 }, "[\"maxOutputTokens\"]"],
      ["hi", "Expected object"]
    ])("rejects %j", ([payload, message]) =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(decode(payload))
        assert.include(error.message, message)
      }))
  })

  describe("request", () => {
    it.effect("sends the conversation and the settings", () =>
      Effect.gen(function*() {
        const seen = yield* Ref.make<ReadonlyArray<{ readonly prompt: unknown; readonly settings: Settings }>>([])
        const recording = model((prompt) =>
          Stream.unwrap(Effect.gen(function*() {
            const settings = yield* ModelSettings
            const content = prompt.content.map(({ content, role }) => [
              role,
              typeof content === "string"
                ? content
                : content.map((part) => part.type === "text" ? part.text : part.type)
            ])
            yield* Ref.update(seen, (_) => [..._, { prompt: content, settings }])
            return finish()
          }))
        )
        const settings = { model: "m", temperature: 0.5, maxOutputTokens: 9 }
        const { execution } = attempt(AiResponse.AiResponse)
        yield* Effect.gen(function*() {
          yield* AiResponse.handler({ prompt: "why?", system: "be brief", ...settings }, execution)
          yield* AiResponse.handler({
            messages: [
              { role: "system", content: "be kind" },
              { role: "user", content: "hi" },
              { role: "assistant", content: "hello" },
              { role: "user", content: "bye" }
            ]
          }, execution)
        }).pipe(Effect.provide(recording))
        const none = { model: undefined, temperature: undefined, maxOutputTokens: undefined }
        assert.deepStrictEqual(yield* Ref.get(seen), [
          { prompt: [["system", "be brief"], ["user", ["why?"]]], settings },
          {
            prompt: [["system", "be kind"], ["user", ["hi"]], ["assistant", ["hello"]], ["user", ["bye"]]],
            settings: none
          }
        ])
      }))
  })

  describe("answer", () => {
    it.effect("emits the deltas, then the usage, and returns the whole", () =>
      Effect.gen(function*() {
        const parts = Stream.make({ type: "response-metadata", modelId: "m-2026" } as const).pipe(
          Stream.concat(deltas("Hel", "lo")),
          Stream.concat(finish())
        )
        const { events, exit } = yield* run(parts, { prompt: "hi", model: "m" })
        assert.deepStrictEqual(events, [
          { _tag: "text_delta", text: "Hel" },
          { _tag: "text_delta", text: "lo" },
          { _tag: "usage", inputTokens: 3, outputTokens: 4, totalTokens: 7, model: "m-2026" }
        ])
        assert.deepStrictEqual(
          exit,
          Exit.succeed({
            text: "Hello",
            finishReason: "stop",
            usage: { inputTokens: 3, outputTokens: 4, totalTokens: 7 },
            model: "m-2026"
          })
        )
      }))

    it.effect("names the model that was asked for if the provider names none", () =>
      Effect.gen(function*() {
        const { exit } = yield* run(finish(), { prompt: "hi", model: "m" })
        assert.strictEqual((yield* exit).model, "m")
      }))

    it.effect("emits no usage if the provider does not count", () =>
      Effect.gen(function*() {
        const { events, exit } = yield* run(Stream.concat(deltas("a"), finish("length", {})))
        assert.deepStrictEqual(events, [{ _tag: "text_delta", text: "a" }])
        assert.deepInclude(yield* exit, { usage: null, finishReason: "length" })
      }))

    it.effect("leaves the model's thoughts out", () =>
      Effect.gen(function*() {
        const thought: Parts = Stream.make({ type: "reasoning-delta", id: "0", delta: "hmm" })
        const { exit, texts } = yield* run(thought.pipe(Stream.concat(deltas("a")), Stream.concat(finish())))
        assert.deepStrictEqual(texts, ["a"])
        assert.strictEqual((yield* exit).text, "a")
      }))

    const smile = "\u{1F600}"
    it.effect.each<{ readonly sent: ReadonlyArray<string>; readonly stored: ReadonlyArray<string> }>([
      { sent: [], stored: [] },
      { sent: ["", "a", "", "b", ""], stored: ["a", "b"] },
      { sent: [smile], stored: [smile] },
      { sent: ["a\uD83D", "\uDE00b"], stored: ["a", `${smile}b`] },
      { sent: ["\uD83D", "", "\uDE00"], stored: [smile] },
      { sent: ["\uD83D", "\uDE00\uD83D", "\uDE00"], stored: [smile, smile] },
      { sent: ["\u{1F469}\u200D\uD83D", "\uDCBB"], stored: ["\u{1F469}\u200D", "\u{1F4BB}"] },
      { sent: ["שלום ", "\u202Eعربى\u202C"], stored: ["שלום ", "\u202Eعربى\u202C"] },
      { sent: ["a\u0000", "b"], stored: ["a\u0000", "b"] },
      { sent: ["e", "\u0301"], stored: ["e", "\u0301"] },
      // halves that never get their other half
      { sent: ["a\uD83D"], stored: ["a", "\uFFFD"] },
      { sent: ["a\uD83D", "b"], stored: ["a", "\uFFFDb"] },
      { sent: ["\uD83D", "\uD83D", "\uDE00"], stored: ["\uFFFD", smile] },
      { sent: ["\uDE00a"], stored: ["\uFFFDa"] }
    ])("stores whole characters: %j", ({ sent, stored }) =>
      Effect.gen(function*() {
        const { exit, texts } = yield* run(Stream.concat(deltas(...sent), finish()))
        assert.deepStrictEqual(texts, stored)
        assert.strictEqual((yield* exit).text, stored.join(""))
      }))
  })

  describe("failure", () => {
    it.effect("keeps what was streamed before the provider failed", () =>
      Effect.gen(function*() {
        const { exit, texts } = yield* run(
          Stream.concat(deltas("Hel"), failing(new AiError.InternalProviderError({ description: "down" })))
        )
        assert.deepStrictEqual(texts, ["Hel"])
        assert.instanceOf(yield* Effect.flip(exit), ModelError.ModelUnavailable)
      }))

    it.effect.each<{ readonly error: unknown; readonly tag: ModelError.ModelError["_tag"]; readonly message: string }>([
      { error: new AiError.RateLimitError({}), tag: "RateLimited", message: "Rate limit exceeded" },
      {
        error: AiError.make({ module: "m", method: "s", reason: new AiError.ContentPolicyError({ description: "d" }) }),
        tag: "ContentFiltered",
        message: "Content policy violation: d"
      },
      { error: new Error("boom"), tag: "ModelUnavailable", message: "boom" },
      { error: "overloaded", tag: "ModelUnavailable", message: "overloaded" }
    ])(
      "takes an error in the stream for a failure: $tag, $message",
      ({ error, message, tag }) =>
        Effect.gen(function*() {
          assert.deepInclude(yield* failure(Stream.make({ type: "error", error })), { _tag: tag, message })
        })
    )

    it.effect.each<readonly [string, Parts, string]>([
      ["an answer that breaks off", deltas("Hel"), "MalformedOutput"],
      ["a content filter", Stream.concat(deltas("Hel"), finish("content-filter")), "ContentFiltered"],
      ["a model's own error", finish("error"), "ModelUnavailable"]
    ])("does not take %s for a result", ([_, parts, tag]) =>
      Effect.gen(function*() {
        assert.strictEqual((yield* failure(parts))._tag, tag)
      }))

    it.effect("stores the usage of an answer that was filtered", () =>
      Effect.gen(function*() {
        const { events } = yield* run(finish("content-filter"))
        assert.deepStrictEqual(events.map(({ _tag }) => _tag), ["usage"])
      }))
  })

  describe("interruption", () => {
    it.effect("closes the provider's stream and keeps what was streamed", () =>
      Effect.gen(function*() {
        const writing = yield* Deferred.make<void>()
        const closed = yield* Deferred.make<void>()
        const parts = deltas("Hel").pipe(
          Stream.concat(Stream.fromEffectDrain(Effect.andThen(Deferred.succeed(writing, undefined), Effect.never))),
          Stream.ensuring(Deferred.succeed(closed, undefined))
        )
        const { events, execution } = attempt(AiResponse.AiResponse)
        const fiber = yield* AiResponse.handler({ prompt: "hi" }, execution).pipe(
          Effect.provide(model(() => parts)),
          Effect.forkChild
        )
        yield* Deferred.await(writing)
        assert.isFalse(yield* Deferred.isDone(closed))
        yield* Fiber.interrupt(fiber)
        assert.isTrue(yield* Deferred.isDone(closed))
        assert.deepStrictEqual(events, [{ _tag: "text_delta", text: "Hel" }])
      }))
  })
})

import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, Fiber, type JsonSchema, Schema, Stream } from "effect"
import { LanguageModel } from "effect/ai"
import { TestClock } from "effect/testing"
import * as AiResponse from "../../src/ai/AiResponse.ts"
import * as DemoModel from "../../src/ai/DemoModel.ts"
import { ModelSettings } from "../../src/ai/ModelSettings.ts"
import { attempt } from "../support/execution.ts"

const answer = Effect.fnUntraced(function*(payload: AiResponse.Payload) {
  const { events, execution, times } = attempt(AiResponse.AiResponse)
  const fiber = yield* Effect.forkChild(Effect.provide(AiResponse.handler(payload, execution), DemoModel.layer))
  yield* TestClock.adjust("1 minute")
  const result = yield* Fiber.join(fiber)
  const texts = events.flatMap((event) => event._tag === "text_delta" ? [event.text] : [])
  return { events, result, texts, times }
})

describe("DemoModel", () => {
  it.effect("says what it is and what it was asked", () =>
    Effect.gen(function*() {
      const { result } = yield* answer({ prompt: "Why is the sky blue?", model: "gpt-5" })
      assert.strictEqual(result.model, "spindle-demo")
      assert.strictEqual(result.finishReason, "stop")
      assert.include(result.text, "the demo model built into Spindle")
      assert.include(result.text, "“Why is the sky blue?”")
    }))

  it.effect("writes 50 tokens a second, long enough to be stopped", () =>
    Effect.gen(function*() {
      const { events, result, texts, times } = yield* answer({ prompt: "Why is the sky blue?" })
      assert.isAtLeast(texts.length, 120)
      assert.isAtMost(texts.length, 220)
      assert.deepStrictEqual(times.slice(0, texts.length), texts.map((_, index) => 20 * (index + 1)))
      assert.strictEqual(texts.join(""), result.text)
      assert.strictEqual(events.at(-1)?._tag, "usage")
      assert.deepStrictEqual(result.usage, {
        inputTokens: 5,
        outputTokens: texts.length,
        totalTokens: 5 + texts.length
      })
    }))

  it.effect("gives the same prompt the same answer", () =>
    Effect.gen(function*() {
      const first = yield* answer({ prompt: "a" })
      const again = yield* answer({ prompt: "a" })
      const other = yield* answer({ prompt: "b" })
      assert.deepStrictEqual(again.events, first.events)
      assert.notStrictEqual(other.result.text, first.result.text)
    }))

  it.effect("answers the last message of the user", () =>
    Effect.gen(function*() {
      const { result } = yield* answer({
        messages: [
          { role: "user", content: "first" },
          { role: "user", content: "second" },
          { role: "assistant", content: "third" }
        ]
      })
      assert.include(result.text, "“second”")
    }))

  it.effect("stops after maxOutputTokens", () =>
    Effect.gen(function*() {
      const { result, texts } = yield* answer({ prompt: "hi", maxOutputTokens: 5 })
      assert.lengthOf(texts, 5)
      assert.strictEqual(result.finishReason, "length")
      assert.strictEqual(result.usage?.outputTokens, 5)
    }))

  it.effect.each([
    "\u{1F600}".repeat(1000),
    "x" + "\u{1F600}".repeat(1000),
    "x".repeat(100_000),
    " \n ",
    "漢".repeat(200),
    "שלום",
    "a\u0000b"
  ])("answers any prompt briefly and in whole characters: %#", (prompt) =>
    Effect.gen(function*() {
      const fiber = yield* LanguageModel.streamText({ prompt }).pipe(
        Stream.runCollect,
        Effect.provide(DemoModel.layer),
        Effect.forkChild
      )
      yield* TestClock.adjust("1 minute")
      const deltas = (yield* Fiber.join(fiber)).flatMap((part) => part.type === "text-delta" ? [part.delta] : [])
      assert.isAtMost(deltas.length, 300)
      for (const delta of deltas) assert.notMatch(delta, /\p{Surrogate}/u)
    }))

  it.effect("generates the same text without a stream, in the same time", () =>
    Effect.gen(function*() {
      const { result, texts } = yield* answer({ prompt: "hi", maxOutputTokens: 50 })
      const fiber = yield* LanguageModel.generateText({ prompt: "hi" }).pipe(
        Effect.provideService(ModelSettings, { maxOutputTokens: 50 }),
        Effect.provide(DemoModel.layer),
        Effect.forkChild
      )
      yield* TestClock.adjust(20 * texts.length - 1)
      assert.isUndefined(fiber.pollUnsafe())
      yield* TestClock.adjust(1)
      const response = yield* Fiber.join(fiber)
      assert.strictEqual(response.text, result.text)
      assert.strictEqual(response.finishReason, "length")
      assert.strictEqual(response.usage.outputTokens.total, 50)
    }))

  const json = (schema: JsonSchema.JsonSchema, prompt = "hi") =>
    Effect.gen(function*() {
      const fiber = yield* LanguageModel.streamText({ prompt }).pipe(
        Stream.provideService(ModelSettings, { json: { name: "document", schema } }),
        Stream.runCollect,
        Effect.provide(DemoModel.layer),
        Effect.forkChild
      )
      yield* TestClock.adjust("1 minute")
      return yield* Fiber.join(fiber)
    })

  it.effect("writes a JSON document if it is asked for one, at the same pace", () =>
    Effect.gen(function*() {
      const schema = { type: "object", properties: { list: { type: "array", items: { type: "string" }, minItems: 9 } } }
      const fiber = yield* LanguageModel.streamText({ prompt: "Tell me about rivers" }).pipe(
        Stream.provideService(ModelSettings, { json: { name: "document", schema } }),
        Stream.mapEffect((part) => Effect.map(Clock.currentTimeMillis, (time) => ({ part, time }))),
        Stream.runCollect,
        Effect.provide(DemoModel.layer),
        Effect.forkChild
      )
      yield* TestClock.adjust("1 minute")
      const deltas = (yield* Fiber.join(fiber)).flatMap(({ part, time }) =>
        part.type === "text-delta" ? [{ text: part.delta, time }] : []
      )
      assert.deepStrictEqual(deltas.map(({ time }) => time), deltas.map((_, index) => 20 * (index + 1)))
      const { list } = JSON.parse(deltas.map(({ text }) => text).join(""))
      assert.lengthOf(list, 9)
      assert.strictEqual(list[0], "demo list 1 Tell")
    }))

  it.effect("cuts a JSON document off after maxOutputTokens", () =>
    Effect.gen(function*() {
      const fiber = yield* LanguageModel.streamText({ prompt: "hi" }).pipe(
        Stream.provideService(ModelSettings, {
          json: { name: "document", schema: { type: "array", items: { type: "boolean" }, minItems: 100 } },
          maxOutputTokens: 2
        }),
        Stream.runCollect,
        Effect.provide(DemoModel.layer),
        Effect.forkChild
      )
      yield* TestClock.adjust("1 minute")
      const parts = yield* Fiber.join(fiber)
      assert.lengthOf(parts.filter(({ type }) => type === "text-delta"), 2)
      assert.deepInclude(parts.at(-1), { type: "finish", reason: "length" })
    }))

  it.effect("refuses a schema that it does not know", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(json({ type: "string", pattern: "^a+$" }))
      assert.strictEqual(error.reason._tag, "UnsupportedSchemaError")
      assert.include(error.message, "does not know the keyword \"pattern\"")
    }))

  it.effect("refuses to make up an object", () =>
    Effect.gen(function*() {
      const error = yield* LanguageModel.generateObject({ prompt: "hi", schema: Schema.Struct({ n: Schema.Int }) })
        .pipe(
          Effect.provide(DemoModel.layer),
          Effect.flip
        )
      assert.strictEqual(error.reason._tag, "UnsupportedSchemaError")
    }))
})

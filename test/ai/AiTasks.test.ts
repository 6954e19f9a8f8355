import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Option } from "effect"
import { TestClock } from "effect/testing"
import * as AiResponse from "../../src/ai/AiResponse.ts"
import * as AiTasks from "../../src/ai/AiTasks.ts"
import * as DemoModel from "../../src/ai/DemoModel.ts"
import * as HandlerRegistry from "../../src/HandlerRegistry.ts"
import { attempt } from "../support/execution.ts"

const Registry = HandlerRegistry.layer(AiTasks.AiTasks).pipe(
  Layer.provide(AiTasks.layer),
  Layer.provide(DemoModel.layer)
)

describe("AiTasks", () => {
  it.effect("runs stored payloads on the model it is given, and stores what comes back", () =>
    Effect.gen(function*() {
      const registry = yield* HandlerRegistry.HandlerRegistry
      assert.deepStrictEqual(registry.types, ["ai_response", "ai_generate_records", "ai_generate_fields"])
      const entry = Option.getOrThrow(registry.get("ai_response"))
      const { events, execution } = attempt(AiResponse.AiResponse)
      const payload = yield* entry.decodePayload({ prompt: "hi", maxOutputTokens: 2, conversation: "c1" })
      const fiber = yield* Effect.forkChild(Effect.provideContext(entry.run(payload, execution), entry.services))
      yield* TestClock.adjust("1 second")
      const stored = yield* Effect.forEach(events, entry.encodeEvent)
      const usage = { inputTokens: 1, outputTokens: 2, totalTokens: 3 }
      assert.deepStrictEqual(stored, [
        { type: "text_delta", data: { text: "This" } },
        { type: "text_delta", data: { text: " is" } },
        { type: "usage", data: { ...usage, model: "spindle-demo" } }
      ])
      assert.deepStrictEqual(yield* entry.encodeSuccess(yield* Fiber.join(fiber)), {
        text: "This is",
        finishReason: "length",
        usage,
        model: "spindle-demo"
      })
    }).pipe(Effect.provide(Registry)))
})

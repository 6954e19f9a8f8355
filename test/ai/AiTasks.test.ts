import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Option } from "effect"
import * as AiTasks from "../../src/ai/AiTasks.ts"
import * as DemoModel from "../../src/ai/DemoModel.ts"
import * as HandlerRegistry from "../../src/HandlerRegistry.ts"

describe("AiTasks", () => {
  it.effect("registers a handler for every AI task", () =>
    Effect.gen(function*() {
      const registry = yield* HandlerRegistry.HandlerRegistry
      assert.deepStrictEqual(registry.types, ["ai_response"])
      assert.isTrue(Option.isSome(registry.get("ai_response")))
    }).pipe(
      Effect.provide(
        HandlerRegistry.layer(AiTasks.AiTasks).pipe(Layer.provide(AiTasks.layer), Layer.provide(DemoModel.layer))
      )
    ))
})

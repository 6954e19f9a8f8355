import { assert, describe, it } from "@effect/vitest"
import { Deferred, Duration, Effect, Fiber, Layer, Option, Stream } from "effect"
import { AiError } from "effect/ai"
import { TestClock } from "effect/testing"
import * as AiResponse from "../../src/ai/AiResponse.ts"
import * as AiTasks from "../../src/ai/AiTasks.ts"
import * as DemoModel from "../../src/ai/DemoModel.ts"
import * as HandlerRegistry from "../../src/HandlerRegistry.ts"
import { attempt } from "../support/execution.ts"
import * as Harness from "../support/WorkerHarness.ts"
import { deltas, type Parts, says, saysJson, scripted } from "./scripted.ts"

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

  describe("on a worker", () => {
    const fields = [{ name: "name", type: "text" }, { name: "km", type: "number", required: false }]
    const records = { prompt: "rivers", fields, count: 2 }
    const elbe = { name: "Elbe", km: 1094 }
    const oder = { name: "Oder", km: null }

    const launch = Effect.fnUntraced(function*(...answers: ReadonlyArray<Parts>) {
      const model = scripted(...answers)
      yield* Harness.launch(AiTasks.AiTasks, Layer.provide(AiTasks.layer, model.layer))
      return model
    })

    const insert = (type: string, payload: unknown) => Harness.insert(type, { payload: JSON.stringify(payload) })

    const eventsOf = (id: bigint) =>
      Effect.map(
        Harness.eventsOf(id),
        (events) => events.map(({ data, epoch, type }) => [Number(epoch), type, data] as const)
      )

    const failing = (reason: AiError.AiErrorReason) => Stream.fail(AiError.make({ module: "m", method: "s", reason }))
    const usage = { inputTokens: 6, outputTokens: 8, totalTokens: 14 }

    it.live("ai_generate_records stores each record, asks again, and stores the result", () =>
      Effect.gen(function*() {
        yield* launch(saysJson({ records: [elbe, { km: 1 }] }), saysJson({ records: [{ name: "Oder" }] }))
        const id = yield* insert("ai_generate_records", { ...records, datasetId: 7 })
        const row = yield* Harness.awaitOver(id)
        assert.deepInclude(row, {
          status: "completed",
          attempts: 1,
          result: { records: [elbe, oder], usage, model: "m-1" }
        })
        assert.deepStrictEqual((yield* eventsOf(id)).slice(0, -1), [
          [1, "record", { index: 0, record: elbe }],
          [1, "progress", { fraction: 0.5 }],
          [1, "warning", { index: 1, message: "Missing key\n  at [\"name\"]" }],
          [1, "warning", { message: "1 of 2 records: the answer has no more that fit" }],
          [1, "record", { index: 1, record: oder }],
          [1, "progress", { fraction: 1 }],
          [1, "usage", { ...usage, model: "m-1" }]
        ])
      }).pipe(Harness.onDatabase))

    it.live("ai_generate_fields stores definitions", () =>
      Effect.gen(function*() {
        yield* launch(
          saysJson({ fields: [fields[0], { name: "x", type: "select" }] }),
          saysJson({ fields: [fields[1]] })
        )
        const id = yield* insert("ai_generate_fields", { mode: "definitions", prompt: "rivers", count: 2 })
        const row = yield* Harness.awaitOver(id)
        assert.deepInclude(row, { status: "completed", result: { fields, usage, model: "m-1" } })
        assert.deepStrictEqual(
          (yield* eventsOf(id)).filter(([_, type]) => type === "field").map(([_, __, data]) => data),
          fields.map((field, index) => ({ index, field }))
        )
      }).pipe(Harness.onDatabase))

    it.live("ai_generate_fields stores values", () =>
      Effect.gen(function*() {
        const values = [{ recordId: 1, field: "km", value: 1094 }, { recordId: "b", field: "km", value: null }]
        yield* launch(
          saysJson({ values: [values[0], { recordId: 2, field: "km", value: 1 }] }),
          saysJson({ values: [values[1]] })
        )
        const id = yield* insert("ai_generate_fields", {
          mode: "values",
          fields: [fields[1]],
          records: [{ id: 1, name: "Elbe" }, { id: "b", name: "Oder" }]
        })
        const row = yield* Harness.awaitOver(id)
        assert.deepInclude(row, { status: "completed", result: { values, usage, model: "m-1" } })
        assert.deepStrictEqual(
          (yield* eventsOf(id)).filter(([_, type]) => type === "value").map(([_, __, data]) => data),
          values
        )
      }).pipe(Harness.onDatabase))

    it.live.each<readonly [string, object, string]>([
      ["ai_generate_records", { ...records, count: 501 }, "Expected a value between 1 and 500\n  at [\"count\"]"],
      ["ai_generate_fields", { mode: "values", fields, records: [] }, "Expected 1 to 500 records, got 0"],
      ["ai_generate_fields", { mode: "both" }, "whose \"mode\" is \"definitions\" or \"values\""]
    ])("%s refuses a payload before any request: %j", ([type, payload, message]) =>
      Effect.gen(function*() {
        const model = yield* launch()
        const row = yield* Harness.awaitOver(yield* insert(type, payload))
        assert.deepInclude(row, { status: "failed", attempts: 1 })
        assert.strictEqual(row.error.kind, "rejected")
        assert.include(row.error.message, message)
        assert.lengthOf(model.asked, 0)
      }).pipe(Harness.onDatabase))

    it.live("a cancel in the middle ends the request; what was stored stays", () =>
      Effect.gen(function*() {
        const closed = yield* Deferred.make<void>()
        yield* launch(
          deltas(`[${JSON.stringify(elbe)},`).pipe(
            Stream.concat(Stream.never),
            Stream.ensuring(Deferred.succeed(closed, undefined))
          )
        )
        const id = yield* insert("ai_generate_records", { ...records, count: 50 })
        yield* Harness.eventually("the first record", eventsOf(id), (events) => events.length === 2)
        assert.isFalse(yield* Deferred.isDone(closed))
        assert.isTrue(yield* Harness.cancel(id))
        yield* Deferred.await(closed)
        assert.deepInclude(yield* Harness.awaitOver(id), { status: "cancelled", result: null, error: null })
        const events = yield* eventsOf(id)
        assert.deepStrictEqual(events.map(([_, type]) => type), ["record", "progress", "cancelled"])
        assert.deepStrictEqual(events[0]![2], { index: 0, record: elbe })
      }).pipe(Harness.onDatabase))

    it.live("an attempt that is tried again starts over in a new epoch", () =>
      Effect.gen(function*() {
        const model = yield* launch(
          Stream.concat(
            deltas(`[${JSON.stringify(oder)},`),
            failing(new AiError.RateLimitError({ retryAfter: Duration.millis(1) }))
          ),
          says("I cannot do that."),
          saysJson({ records: [] }),
          saysJson({ records: [elbe, oder] })
        )
        const id = yield* insert("ai_generate_records", records)
        const row = yield* Harness.awaitOver(id)
        assert.deepInclude(row, { status: "completed", attempts: 3 })
        assert.deepStrictEqual(row.result.records, [elbe, oder])
        assert.lengthOf(model.asked, 4)
        const events = yield* eventsOf(id)
        assert.deepStrictEqual(
          events.flatMap(([epoch, type, data]) => type === "record" ? [[epoch, data.index, data.record]] : []),
          [[1, 0, oder], [3, 0, elbe], [3, 1, oder]]
        )
        assert.deepStrictEqual(
          events.flatMap(([epoch, type, data]) => type === "retry" ? [[epoch, data.tag]] : []),
          [[1, "RateLimited"], [2, "MalformedOutput"]]
        )
      }).pipe(Harness.onDatabase))

    it.live.each(["ai_generate_records", "ai_generate_fields"])(
      "%s is not tried again with a wrong key",
      (type) =>
        Effect.gen(function*() {
          const model = yield* launch(failing(new AiError.AuthenticationError({ kind: "InvalidKey" })))
          const id = yield* insert(type, { ...records, mode: "definitions" })
          const row = yield* Harness.awaitOver(id)
          assert.deepInclude(row, { status: "failed", attempts: 1 })
          assert.deepInclude(row.error, { kind: "failure", tag: "AuthenticationFailed" })
          assert.lengthOf(model.asked, 1)
        }).pipe(Harness.onDatabase)
    )

    it.live("what PostgreSQL cannot store is made storable", () =>
      Effect.gen(function*() {
        yield* launch(says("[{\"name\": \"a\\u0000b\\ud83d\", \"__proto__\": {\"x\": 1}}]"))
        const id = yield* insert("ai_generate_records", { ...records, count: 1 })
        const row = yield* Harness.awaitOver(id)
        assert.deepInclude(row, { status: "completed" })
        assert.deepStrictEqual(row.result.records, [{ name: "a\uFFFDb\uFFFD", km: null }])
        assert.deepStrictEqual((yield* eventsOf(id))[0], [
          1,
          "record",
          { index: 0, record: { name: "a\uFFFDb\uFFFD", km: null }, sanitized: true }
        ])
      }).pipe(Harness.onDatabase))
  })
})

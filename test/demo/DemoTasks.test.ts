import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Fiber, Layer, Logger, Option, Random, Schema } from "effect"
import { TestClock } from "effect/testing"
import * as DemoTasks from "../../src/demo/DemoTasks.ts"
import * as HandlerRegistry from "../../src/HandlerRegistry.ts"
import type * as Task from "../../src/Task.ts"
import { attempt } from "../support/execution.ts"

const Registry = HandlerRegistry.layer(DemoTasks.DemoTasks).pipe(Layer.provide(DemoTasks.layer))

/** Runs the registered handler; the clock has to be moved. */
const start = Effect.fnUntraced(function*<T extends Task.Any>(task: T, payload: Task.Payload<T>, number = 1) {
  const registry = yield* HandlerRegistry.HandlerRegistry
  const entry = Option.getOrThrow(registry.get(task.type))
  const { events, execution, times } = attempt(task, number)
  const fiber = yield* Effect.forkChild(Effect.provideContext(entry.run(payload, execution), entry.services))
  yield* Effect.yieldNow
  return { events, fiber, times }
})

const finish = Effect.fnUntraced(function*<T extends Task.Any>(task: T, payload: Task.Payload<T>, number = 1) {
  const { fiber } = yield* start(task, payload, number)
  yield* TestClock.adjust("1 minute")
  return yield* Fiber.await(fiber)
})

describe("DemoTasks", () => {
  it.effect("registers a handler for every demo task", () =>
    Effect.gen(function*() {
      const registry = yield* HandlerRegistry.HandlerRegistry
      assert.sameMembers([...registry.types], ["demo:sleep", "demo:stream", "demo:fail", "email:send"])
    }).pipe(Effect.provide(Registry)))

  describe("payloads", () => {
    it.effect.each<{ readonly task: Task.Any; readonly payload: unknown; readonly accepted: boolean }>([
      { task: DemoTasks.Sleep, payload: { ms: 0 }, accepted: true },
      { task: DemoTasks.Sleep, payload: { ms: 86_400_000 }, accepted: true },
      { task: DemoTasks.Sleep, payload: { ms: 86_400_001 }, accepted: false },
      { task: DemoTasks.Sleep, payload: { ms: -1 }, accepted: false },
      { task: DemoTasks.Sleep, payload: { ms: 1.5 }, accepted: false },
      { task: DemoTasks.Sleep, payload: {}, accepted: false },
      { task: DemoTasks.StreamText, payload: { tokens: 1, perSecond: 0.1 }, accepted: true },
      { task: DemoTasks.StreamText, payload: { tokens: 100_000, perSecond: 1000 }, accepted: true },
      { task: DemoTasks.StreamText, payload: { tokens: 0, perSecond: 1 }, accepted: false },
      { task: DemoTasks.StreamText, payload: { tokens: 100_001, perSecond: 1 }, accepted: false },
      { task: DemoTasks.StreamText, payload: { tokens: 1, perSecond: 0 }, accepted: false },
      { task: DemoTasks.StreamText, payload: { tokens: 1, perSecond: 1001 }, accepted: false },
      { task: DemoTasks.Fail, payload: { times: 0 }, accepted: true },
      { task: DemoTasks.Fail, payload: { times: -1 }, accepted: false },
      { task: DemoTasks.SendEmail, payload: { to: "ada@example.com", subject: "", body: "" }, accepted: true },
      { task: DemoTasks.SendEmail, payload: { to: "ada", subject: "", body: "" }, accepted: false },
      { task: DemoTasks.SendEmail, payload: { to: "ada@example.com", subject: "" }, accepted: false }
    ])("$task.type $payload: $accepted", ({ accepted, payload, task }) =>
      Effect.gen(function*() {
        const schema = task.payloadSchema as Schema.Codec<unknown, unknown>
        const exit = yield* Effect.exit(Schema.decodeUnknownEffect(Schema.toCodecJson(schema))(payload))
        assert.strictEqual(Exit.isSuccess(exit), accepted)
      }))
  })

  describe("demo:sleep", () => {
    it.effect("ends when its time is over, not before", () =>
      Effect.gen(function*() {
        const { fiber } = yield* start(DemoTasks.Sleep, { ms: 1500 })
        yield* TestClock.adjust(1499)
        assert.isUndefined(fiber.pollUnsafe())
        yield* TestClock.adjust(1)
        assert.deepStrictEqual(yield* Fiber.join(fiber), { sleptMs: 1500 })
      }).pipe(Effect.provide(Registry)))
  })

  describe("demo:stream", () => {
    it.effect.each([
      { perSecond: 50, expected: [20, 40, 60, 80, 100, 120] },
      { perSecond: 300, expected: [4, 7, 10, 14, 17, 20] },
      { perSecond: 0.5, expected: [2000, 4000, 6000, 8000, 10_000, 12_000] }
    ])("spaces its tokens evenly: $perSecond a second", ({ expected, perSecond }) =>
      Effect.gen(function*() {
        const { events, fiber, times } = yield* start(DemoTasks.StreamText, { tokens: 6, perSecond })
        yield* TestClock.adjust("1 minute")
        const result = yield* Fiber.join(fiber)
        assert.deepStrictEqual(times, expected)
        assert.deepStrictEqual(result, {
          text: events.map((event) => event._tag === "text_delta" ? event.text : "").join(""),
          tokens: 6
        })
      }).pipe(Effect.provide(Registry)))
  })

  describe("demo:fail", () => {
    it.effect("fails as often as it was told, then succeeds", () =>
      Effect.gen(function*() {
        const exits = yield* Effect.forEach([1, 2, 3], (number) => finish(DemoTasks.Fail, { times: 2 }, number))
        const [first, second, third] = exits.map((exit) =>
          Exit.isSuccess(exit) ? exit.value : Option.getOrThrow(Cause.findErrorOption(exit.cause))
        )
        assert.deepInclude(first, { _tag: "FailedOnPurpose", remaining: 1 })
        assert.deepInclude(second, { _tag: "FailedOnPurpose", remaining: 0 })
        assert.deepStrictEqual(third, { attempts: 3 })
      }).pipe(Effect.provide(Registry)))
  })

  describe("email:send", () => {
    const message = { to: "ada@example.com", subject: "Hello", body: "…" }

    it.effect("fails one time in ten, and sends otherwise", () =>
      Effect.gen(function*() {
        const attempts = yield* Effect.forEach(Array.from({ length: 1000 }), () => start(DemoTasks.SendEmail, message))
        yield* TestClock.adjust(199)
        assert.isUndefined(attempts[0]?.fiber.pollUnsafe())
        yield* TestClock.adjust(1)
        const results = yield* Effect.forEach(attempts, ({ fiber }) => Effect.result(Fiber.join(fiber)))
        const failed = results.flatMap((result) => result._tag === "Failure" ? [result.failure] : [])
        assert.isAbove(failed.length, 60)
        assert.isBelow(failed.length, 140)
        assert.deepInclude(failed[0], { _tag: "MailServerBusy" })
        const sent = results.flatMap((result) => result._tag === "Success" ? [result.success] : [])
        assert.deepStrictEqual(sent[0], { messageId: "<7@demo.spindle>" })
      }).pipe(Random.withSeed("email:send"), Effect.provide([Registry, Logger.layer([])])))
  })
})

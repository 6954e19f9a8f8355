import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Exit, Option, Schema } from "effect"
import * as RetryPolicy from "../src/RetryPolicy.ts"
import * as Task from "../src/Task.ts"
import * as TaskEvent from "../src/TaskEvent.ts"

class Boom extends Schema.TaggedError<Boom>()("Boom", {}) {}

const throwsWith = (thunk: () => unknown, ...parts: ReadonlyArray<string>) => {
  const message = Effect.runSync(Effect.flip(Effect.try({ try: thunk, catch: (error) => (error as Error).message })))
  for (const part of parts) assert.include(message, part)
}

describe("Task", () => {
  it("make keeps what it is given", () => {
    class Resize extends Task.make("image:resize", {
      payload: { url: Schema.String },
      success: Schema.Int,
      error: Boom,
      event: TaskEvent.TextDelta,
      queue: "images",
      maxAttempts: 7,
      timeout: "1 minute",
      unique: ({ url }) => ({ key: url }),
      retry: { on: { Boom: "fail" } }
    }) {}
    assert.strictEqual(Resize.type, "image:resize")
    assert.deepStrictEqual(Object.keys(Resize.payloadSchema.fields), ["url"])
    assert.strictEqual(Resize.successSchema, Schema.Int)
    assert.strictEqual(Resize.errorSchema, Boom)
    assert.strictEqual(Resize.eventSchema, TaskEvent.TextDelta)
    const { unique, ...options } = Resize.options
    assert.deepStrictEqual(options, {
      queue: "images",
      maxAttempts: 7,
      timeout: "1 minute",
      retry: { on: { Boom: "fail" } }
    })
    assert.deepStrictEqual(unique?.({ url: "a" }), { key: "a" })
  })

  it("make without options", () => {
    const Tick = Task.make("tick")
    assert.strictEqual(Tick.payloadSchema, Schema.Void)
    assert.strictEqual(Tick.successSchema, Schema.Void)
    assert.strictEqual(Tick.errorSchema, Schema.Never)
    assert.strictEqual(Tick.eventSchema, Schema.Never)
    assert.deepStrictEqual(Tick.options, {})
  })

  it("make takes a schema as the payload", () => {
    class Mail extends Schema.Class<Mail>("Mail")({ to: Schema.String }) {}
    assert.strictEqual(Task.make("mail", { payload: Mail }).payloadSchema, Mail)
  })

  describe("make refuses", () => {
    it("a type that is empty, too long, no text, or has a NUL", () => {
      throwsWith(() => Task.make(""), "the type is \"\"", "1 to 200 characters")
      throwsWith(() => Task.make("x".repeat(201)), "the type is \"xxx", "1 to 200 characters")
      throwsWith(() => Task.make("a\0b"), "the type is", "without NUL")
      throwsWith(() => Task.make(undefined as any), "the type is undefined")
      assert.strictEqual(Task.make("x".repeat(200)).type.length, 200)
    })

    it("a queue that is empty or has a NUL", () => {
      throwsWith(() => Task.make("t", { queue: "" }), "Task.make(\"t\")", "queue is \"\"")
      throwsWith(() => Task.make("t", { queue: "a\0" }), "queue is", "without NUL")
    })

    it.each([0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 31])("maxAttempts %s", (maxAttempts) => {
      throwsWith(() => Task.make("t", { maxAttempts }), `maxAttempts is ${maxAttempts}`, "an integer from 1")
    })

    it.each([0, "0 seconds", "-1 second", "soon", "5m", Number.NaN])("the timeout %s", (timeout) => {
      throwsWith(() => Task.make("t", { timeout: timeout as Duration.Input }), "timeout is", "a positive duration")
    })

    it("a malformed backoff", () => {
      throwsWith(
        () => Task.make("t", { retry: { backoff: RetryPolicy.exponential({ jitter: 2 }) } }),
        "Task.make(\"t\"): retry.backoff: jitter is 2, expected a number from 0 to 1"
      )
    })

    it.each(["done", "error", "retry", "released", "cancelled"])("an event with the closing name %s", (tag) => {
      const event = Schema.Union([TaskEvent.TextDelta, Schema.TaggedStruct(tag, {})])
      throwsWith(() => Task.make("t", { event: event as any }), `the _tag of an event is "${tag}"`, "another name than")
    })

    it("a closing name behind a class", () => {
      class Done extends Schema.TaggedClass<Done>()("done", { at: Schema.Date }) {}
      throwsWith(() => Task.make("t", { event: Done as any }), "the _tag of an event is \"done\"")
    })

    it("an event without a name, or with a NUL in it", () => {
      throwsWith(() => Task.make("t", { event: Schema.Struct({ _tag: Schema.String }) }), "a literal")
      throwsWith(() => Task.make("t", { event: Schema.Struct({ at: Schema.Date }) as any }), "a literal")
      throwsWith(() => Task.make("t", { event: Schema.TaggedStruct("a\0b", {}) }), "without NUL")
    })
  })

  it("control failures are errors to be yielded", () => {
    const retry = Effect.runSync(Effect.flip(Effect.asVoid(new Task.Retry({ delay: "1 second", cause: "busy" }))))
    assert.deepStrictEqual([retry._tag, retry.delay, retry.cause], ["spindle/Retry", "1 second", "busy"])
    assert.strictEqual(new Task.Snooze({ delay: 5 })._tag, "spindle/Snooze")
    assert.strictEqual(new Task.Discard({ cause: "nobody" }).cause, "nobody")
  })

  describe("payloadCodec", () => {
    const Rich = Task.make("rich", {
      payload: { at: Schema.Date, id: Schema.BigInt, note: Schema.Option(Schema.String), wait: Schema.Duration }
    })
    const rich = { at: new Date(0), id: 2n ** 60n, note: Option.some("x"), wait: Duration.seconds(5) }

    it.effect("writes JSON and reads it back", () =>
      Effect.gen(function*() {
        const json = yield* Schema.encodeEffect(Task.payloadCodec(Rich))(rich)
        const stored = JSON.parse(JSON.stringify(json))
        assert.deepStrictEqual(stored, json)
        assert.deepInclude(stored, { at: "1970-01-01T00:00:00.000Z", id: "1152921504606846976" })
        assert.deepStrictEqual(yield* Schema.decodeEffect(Task.payloadCodec(Rich))(stored), rich)
      }))

    it.effect("a task without a payload writes {} and reads any object", () =>
      Effect.gen(function*() {
        const codec = Task.payloadCodec(Task.make("tick"))
        assert.deepStrictEqual(yield* Schema.encodeEffect(codec)(undefined), {})
        for (const json of [{}, null, { from: "cron" }]) {
          assert.isUndefined(yield* Schema.decodeEffect(codec)(json))
        }
        for (const json of ["x", 1, []]) {
          const exit = yield* Effect.exit(Schema.decodeEffect(codec)(json))
          assert(Exit.isFailure(exit))
        }
      }))
  })
})

import { assert, describe, it } from "@effect/vitest"
import { Context, Duration, Effect, Exit, Layer, Option, Schema, SchemaGetter } from "effect"
import * as HandlerRegistry from "../src/HandlerRegistry.ts"
import * as Task from "../src/Task.ts"
import * as TaskEvent from "../src/TaskEvent.ts"
import * as TaskGroup from "../src/TaskGroup.ts"

class Busy extends Schema.TaggedError<Busy>()("Busy", { until: Schema.Date }) {}
class Finding extends Schema.TaggedClass<Finding>()("finding", { at: Schema.Date, score: Schema.BigInt }) {}

class Key extends Context.Service<Key, { readonly prefix: string }>()("test/Key") {}
const Sealed = Schema.String.pipe(
  Schema.decodeTo(Schema.String, {
    decode: SchemaGetter.transformEffect((text: string) => Effect.map(Key, ({ prefix }) => text.slice(prefix.length))),
    encode: SchemaGetter.transformEffect((text: string) => Effect.map(Key, ({ prefix }) => prefix + text))
  })
)

const Rich = Task.make("rich", {
  payload: {
    at: Schema.Date,
    id: Schema.BigInt,
    note: Schema.Option(Schema.String),
    priority: Schema.Int.pipe(Schema.withDecodingDefaultKey(Effect.succeed(5)))
  },
  success: Schema.Struct({ took: Schema.Duration }),
  error: Busy,
  event: Schema.Union([TaskEvent.TextDelta, Finding])
})
const Tick = Task.make("tick")
const Secret = Task.make("secret", { payload: { text: Sealed }, success: Sealed })

const RichTasks = TaskGroup.make(Rich)
const Others = TaskGroup.make(Tick, Secret)

const RegistryLive = HandlerRegistry.layer(RichTasks.merge(Others)).pipe(
  Layer.provide([
    RichTasks.toLayer({ rich: () => Effect.succeed({ took: Duration.zero }) }),
    Others.toLayer({ tick: () => Effect.void, secret: ({ text }) => Effect.succeed(text) })
  ]),
  Layer.provide(Layer.succeed(Key, { prefix: "v1:" }))
)

const entry = (type: string) =>
  Effect.map(HandlerRegistry.HandlerRegistry, (registry) => Option.getOrThrow(registry.get(type)))

describe("HandlerRegistry", () => {
  it.layer(RegistryLive)((it) => {
    it.effect("knows the tasks of merged groups and no others", () =>
      Effect.gen(function*() {
        const { get, types } = yield* HandlerRegistry.HandlerRegistry
        assert.deepStrictEqual(types, ["rich", "tick", "secret"])
        assert.strictEqual(Option.getOrThrow(get("rich")).task, Rich)
        assert.deepStrictEqual(get("nope"), Option.none())
      }))

    it.effect("decodes payloads with Date, bigint, Option and defaults, and ignores unknown fields", () =>
      Effect.gen(function*() {
        const { decodePayload } = yield* entry("rich")
        const payload = { at: new Date(86_400_000), id: -(2n ** 70n), note: Option.none(), priority: 7 }
        const stored = JSON.parse(JSON.stringify(yield* Schema.encodeEffect(Task.payloadCodec(Rich))(payload)))
        assert.deepStrictEqual(yield* decodePayload({ ...stored, extra: 1 }), payload)
        const { priority: _, ...withoutPriority } = stored
        assert.deepStrictEqual(yield* decodePayload(withoutPriority), { ...payload, priority: 5 })
      }))

    it.effect("a payload that does not fit fails with what is wrong", () =>
      Effect.gen(function*() {
        const { decodePayload } = yield* entry("rich")
        const error = yield* Effect.flip(decodePayload({ at: "yesterday", id: "1", note: null }))
        assert.strictEqual(error._tag, "SchemaError")
        assert.include(error.message, "[\"at\"]")
        assert.notInclude(error.message, "[\"note\"]")
        const all = yield* Effect.flip(decodePayload({ at: "yesterday", id: "1", note: null }, "all"))
        assert.include(all.message, "[\"at\"]")
        assert.include(all.message, "[\"note\"]")
      }))

    it.effect("encodes results and errors", () =>
      Effect.gen(function*() {
        const { encodeError, encodeSuccess } = yield* entry("rich")
        const result = yield* encodeSuccess({ took: Duration.seconds(90) })
        assert.deepStrictEqual(JSON.parse(JSON.stringify(result)), result)
        assert.deepStrictEqual(
          yield* Schema.decodeEffect(Schema.toCodecJson(Rich.successSchema))(result),
          { took: Duration.seconds(90) }
        )
        assert.deepStrictEqual(yield* encodeError(new Busy({ until: new Date(0) })), {
          _tag: "Busy",
          until: "1970-01-01T00:00:00.000Z"
        })
        yield* Effect.flip(encodeError(new Error("boom")))
        yield* Effect.flip(encodeSuccess({ took: "long" }))
      }))

    it.effect("splits the tag off events", () =>
      Effect.gen(function*() {
        const { declaresEvents, encodeEvent } = yield* entry("rich")
        assert.isTrue(declaresEvents)
        assert.deepStrictEqual(yield* encodeEvent({ _tag: "text_delta", text: "Hi" }), {
          type: "text_delta",
          data: { text: "Hi" }
        })
        assert.deepStrictEqual(yield* encodeEvent(new Finding({ at: new Date(0), score: 5n })), {
          type: "finding",
          data: { at: "1970-01-01T00:00:00.000Z", score: "5" }
        })
        yield* Effect.flip(encodeEvent({ _tag: "text_delta", text: 1 }))
        yield* Effect.flip(encodeEvent({ _tag: "done" }))
      }))

    it.effect("a task without payload, result, errors and events can still report progress", () =>
      Effect.gen(function*() {
        const tick = yield* entry("tick")
        assert.isFalse(tick.declaresEvents)
        assert.isUndefined(yield* tick.decodePayload({}))
        assert.isNull(yield* tick.encodeSuccess(undefined))
        assert.deepStrictEqual(yield* tick.encodeEvent({ _tag: "progress", fraction: 0.5, message: "half" }), {
          type: "progress",
          data: { fraction: 0.5, message: "half" }
        })
        yield* Effect.flip(tick.encodeEvent({ _tag: "progress", fraction: 2 }))
        yield* Effect.flip(tick.encodeEvent({ _tag: "text_delta", text: "" }))
        yield* Effect.flip(tick.encodeError(new Busy({ until: new Date(0) })))
      }))

    it.effect("codecs without services answer at once", () =>
      Effect.gen(function*() {
        const { decodePayload, encodeEvent, encodeSuccess } = yield* entry("rich")
        assert.isTrue(Exit.isExit(decodePayload({ at: "1970-01-01T00:00:00.000Z", id: "1", note: { _tag: "None" } })))
        assert.isTrue(Exit.isExit(encodeSuccess({ took: Duration.zero })))
        assert.isTrue(Exit.isExit(encodeEvent({ _tag: "text_delta", text: "" })))
      }))

    it.effect("schemas have the services of the layer", () =>
      Effect.gen(function*() {
        const { decodePayload, encodeSuccess, run } = yield* entry("secret")
        const payload = yield* decodePayload({ text: "v1:hush" })
        assert.deepStrictEqual(payload, { text: "hush" })
        const result = yield* run(payload, {} as Task.Execution<any>)
        assert.strictEqual(yield* encodeSuccess(result), "v1:hush")
      }))
  })
})

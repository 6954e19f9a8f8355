import { assert, describe, it } from "@effect/vitest"
import { Cause, Deferred, Effect, Exit, Fiber, Schema, Stream } from "effect"
import { AiError } from "effect/ai"
import * as fc from "fast-check"
import * as AiGenerateRecords from "../../src/ai/AiGenerateRecords.ts"
import type * as Field from "../../src/ai/Field.ts"
import * as ModelError from "../../src/ai/ModelError.ts"
import { attempt } from "../support/execution.ts"
import * as Documents from "./documents.ts"
import { deltas, finish, type Parts, says, saysJson, scripted } from "./scripted.ts"

const fields = [{ name: "name", type: "text" }, { name: "km", type: "number" }] as const

const river = (n: number) => ({ name: `river ${n}`, km: n })
const rivers = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => river(from + i))

const run = Effect.fnUntraced(function*(
  payload: Partial<AiGenerateRecords.Payload>,
  ...answers: ReadonlyArray<Parts>
) {
  const model = scripted(...answers)
  const { events, execution } = attempt(AiGenerateRecords.AiGenerateRecords)
  const exit = yield* AiGenerateRecords.handler({ prompt: "rivers", fields, count: 2, ...payload }, execution).pipe(
    Effect.provide(model.layer),
    Effect.exit
  )
  const of = <T extends (typeof events)[number]["_tag"]>(tag: T) =>
    events.filter((event): event is Extract<(typeof events)[number], { readonly _tag: T }> => event._tag === tag)
  return { asked: model.asked, events, exit, records: of("record").map(({ record }) => record), of }
})

const usage = (requests: number) => ({
  inputTokens: 3 * requests,
  outputTokens: 4 * requests,
  totalTokens: 7 * requests
})

const succeeds = (records: ReadonlyArray<Field.Record>, requests = 1) =>
  Exit.succeed({ records, usage: usage(requests), model: "m-1" })

describe("AiGenerateRecords", () => {
  describe("payload", () => {
    const decode = Schema.decodeUnknownEffect(Schema.toCodecJson(AiGenerateRecords.Payload))
    const valid = { prompt: "rivers", fields, count: 2 }

    it.effect("ignores unknown keys", () =>
      Effect.gen(function*() {
        assert.deepStrictEqual(yield* decode({ ...valid, datasetId: 5 }), valid)
        assert.deepInclude(yield* decode({ ...valid, model: null, existing: null }), valid)
      }))

    it.effect("keeps existing records whole", () =>
      Effect.gen(function*() {
        const existing = [{ name: "Elbe", more: { deep: [1] } }]
        assert.deepStrictEqual((yield* decode({ ...valid, count: 500, existing })).existing, existing)
      }))

    it.effect.each<readonly [object, string]>([
      [{ prompt: undefined }, "Missing key\n  at [\"prompt\"]"],
      [{ prompt: "" }, "[\"prompt\"]"],
      [{ fields: [] }, "Expected 1 to 100 fields, got 0\n  at [\"fields\"]"],
      [{ fields: [fields[0], fields[0]] }, "Expected every field name once, got \"name\" twice\n  at [\"fields\"]"],
      [{ fields: [{ name: "s", type: "select" }] }, "Expected at least one option, as the type is \"select\""],
      [{ fields: [{ name: "s", type: "date-time" }] }, "[\"fields\"][0][\"type\"]"],
      [{ count: 0 }, "Expected a value between 1 and 500\n  at [\"count\"]"],
      [{ count: 501 }, "Expected a value between 1 and 500\n  at [\"count\"]"],
      [{ count: 1.5 }, "Expected an integer\n  at [\"count\"]"],
      [{ existing: [1] }, "[\"existing\"][0]"],
      [{ existing: Array.from({ length: 1001 }, () => ({})) }, "a length of at most 1000\n  at [\"existing\"]"],
      [{ model: "" }, "[\"model\"]"]
    ])("refuses %j", ([change, message]) =>
      Effect.gen(function*() {
        const given = JSON.parse(JSON.stringify({ ...valid, ...change }))
        assert.include((yield* Effect.flip(decode(given))).message, message)
      }))
  })

  describe("request", () => {
    it.effect("tells the model everything, and its provider the schema", () =>
      Effect.gen(function*() {
        const { asked } = yield* run(
          { count: 3, model: "m", existing: [{ name: "Elbe", km: 1094 }] },
          saysJson({ records: rivers(1, 3) })
        )
        assert.lengthOf(asked, 1)
        const { settings, system, user } = asked[0]!
        assert.strictEqual(settings.model, "m")
        assert.strictEqual(settings.json?.name, "records")
        const schema = settings.json?.schema as any
        const { records } = schema.properties
        assert.deepInclude(records, { minItems: 3, maxItems: 3 })
        assert.deepStrictEqual(Object.keys(records.items.properties), ["name", "km"])
        assert.include(system, JSON.stringify(schema))
        assert.match(user, /^rivers\n/)
        assert.include(user, "Generate 3 records.")
        assert.include(user, "\n{\"name\":\"Elbe\",\"km\":1094}")
      }))
  })

  describe("answer", () => {
    it.effect("emits each record when it is complete, and how far it is", () =>
      Effect.gen(function*() {
        const { events, exit } = yield* run(
          {},
          says("{\"records\": [{\"name\": \"a\", \"km\"", ": 1}, {\"name\": \"b\", \"km\": 2, \"more\": 3}", "]}")
        )
        assert.deepStrictEqual(events, [
          { _tag: "record", index: 0, record: { name: "a", km: 1 } },
          { _tag: "progress", fraction: 0.5 },
          { _tag: "record", index: 1, record: { name: "b", km: 2 } },
          { _tag: "progress", fraction: 1 },
          { _tag: "usage", ...usage(1), model: "m-1" }
        ])
        assert.deepStrictEqual(exit, succeeds([{ name: "a", km: 1 }, { name: "b", km: 2 }]))
      }))

    it.effect("does not wait for the next piece to emit a record", () =>
      Effect.gen(function*() {
        const gate = yield* Deferred.make<void>()
        const model = scripted(
          deltas("[{\"name\":\"a\",\"km\":1}").pipe(
            Stream.concat(Stream.fromEffectDrain(Deferred.await(gate))),
            Stream.concat(says(",{\"name\":\"b\",\"km\":2}]"))
          )
        )
        const seen = yield* Deferred.make<void>()
        const { events, execution } = attempt(AiGenerateRecords.AiGenerateRecords)
        const fiber = yield* AiGenerateRecords.handler({ prompt: "rivers", fields, count: 2 }, {
          ...execution,
          emit: (event) => Effect.andThen(execution.emit(event), Deferred.succeed(seen, undefined))
        }).pipe(Effect.provide(model.layer), Effect.forkChild)
        yield* Deferred.await(seen)
        assert.deepStrictEqual(events[0], { _tag: "record", index: 0, record: { name: "a", km: 1 } })
        yield* Deferred.succeed(gate, undefined)
        assert.lengthOf((yield* Fiber.join(fiber)).records, 2)
      }))

    it.effect("tells the progress in whole percents", () =>
      Effect.gen(function*() {
        const { of, records } = yield* run({ count: 500 }, saysJson({ records: rivers(1, 500) }))
        assert.lengthOf(records, 500)
        assert.deepStrictEqual(
          of("progress").map(({ fraction }) => fraction),
          Array.from({ length: 100 }, (_, percent) => (percent + 1) / 100)
        )
      }))

    it.effect.each([
      "Sure! Here are [2] records:\n\n```json\n{DOC}\n```\nAnything else?",
      "```\n{LIST}\n```",
      "{DOC}",
      "{LIST}"
    ])("finds the records in %j", (form) =>
      Effect.gen(function*() {
        const list = JSON.stringify(rivers(1, 2))
        const text = form.replace("{DOC}", `{"records":${list}}`).replace("{LIST}", list)
        const { exit } = yield* run({}, says(...text.split("")))
        assert.deepStrictEqual(exit, succeeds(rivers(1, 2)))
      }))

    it.effect("emits no more than were asked for", () =>
      Effect.gen(function*() {
        const { asked, exit, of } = yield* run({}, saysJson({ records: [...rivers(1, 4), { bad: true }] }))
        assert.deepStrictEqual(exit, succeeds(rivers(1, 2)))
        assert.lengthOf(of("warning"), 0)
        assert.lengthOf(asked, 1)
      }))

    it.effect("does not mind what follows the last record", () =>
      Effect.gen(function*() {
        const { exit } = yield* run({}, says(JSON.stringify(rivers(1, 2)).replace("]", ",]"), " oops"))
        assert.deepStrictEqual(exit, succeeds(rivers(1, 2)))
      }))

    it.effect("waits for the usage below the last record, but not for ever", () =>
      Effect.gen(function*() {
        const closed = yield* Deferred.make<void>()
        const list = JSON.stringify(rivers(1, 2))
        const chatter = yield* run({}, says(list, "\n\n", "Anything else?"))
        assert.deepStrictEqual(chatter.exit, succeeds(rivers(1, 2)))
        const endless = deltas(list).pipe(
          Stream.concat(Stream.forever(deltas(",{\"name\":\"again\",\"km\":0}"))),
          Stream.ensuring(Deferred.succeed(closed, undefined))
        )
        const stopped = yield* run({}, endless)
        assert.isTrue(yield* Deferred.isDone(closed))
        assert.deepStrictEqual(stopped.exit, Exit.succeed({ records: rivers(1, 2), usage: null, model: "unknown" }))
      }))

    it.effect("emits the records of any document, cut anywhere, in order", () =>
      Effect.promise(() =>
        fc.assert(
          fc.asyncProperty(
            fc.array(fc.record({ name: Documents.text, km: Documents.number }), { minLength: 1, maxLength: 8 }),
            Documents.hand,
            Documents.places,
            async (expected, hand, places) => {
              const document = Documents.document("records", expected, {}, hand())
              const { asked, records } = await Effect.runPromise(
                run({ count: expected.length }, says(...Documents.cut(document.text, places)))
              )
              assert.deepStrictEqual(records, expected)
              assert.lengthOf(asked, 1)
            }
          )
        )
      ))
  })

  describe("asking again", () => {
    it.effect("replaces what did not fit", () =>
      Effect.gen(function*() {
        const { asked, events, exit } = yield* run(
          { count: 3 },
          saysJson({ records: [river(1), { name: 5, km: "far" }, river(3)] }),
          saysJson({ records: [river(4)] })
        )
        assert.deepStrictEqual(exit, succeeds([river(1), river(3), river(4)], 2))
        assert.deepStrictEqual(events.filter(({ _tag }) => _tag !== "progress"), [
          { _tag: "record", index: 0, record: river(1) },
          {
            _tag: "warning",
            index: 1,
            message: "Expected string\n  at [\"name\"]\nExpected number\n  at [\"km\"]"
          },
          { _tag: "record", index: 1, record: river(3) },
          { _tag: "warning", message: "2 of 3 records: the answer has no more that fit" },
          { _tag: "record", index: 2, record: river(4) },
          { _tag: "usage", ...usage(2), model: "m-1" }
        ])
        const { settings, user } = asked[1]!
        assert.deepNestedInclude(settings.json!.schema, {
          "properties.records.minItems": 1,
          "properties.records.maxItems": 1
        })
        assert.include(user, "Generate 1 record.")
        assert.include(user, `\n${JSON.stringify(river(1))}\n${JSON.stringify(river(3))}\n`)
        assert.include(user, "Expected number\n  at [\"km\"]")
      }))

    it.effect.each<readonly [string, Parts, string]>([
      ["too few", saysJson({ records: [river(1)] }), "1 of 2 records: the answer has no more that fit"],
      [
        "cut JSON",
        says("{\"records\": [{\"name\": \"river 1\", \"km\": 1}, {\"name\": \"ri"),
        "1 of 2 records: the answer breaks off"
      ],
      [
        "an answer that ends at its length",
        Stream.concat(deltas("[{\"name\": \"river 1\", \"km\": 1}, "), finish("length")),
        "1 of 2 records: the answer breaks off"
      ],
      ["a broken stream", deltas("[{\"name\": \"river 1\", \"km\": 1}"), "1 of 2 records: the answer breaks off"],
      [
        "malformed JSON",
        says("[{\"name\": \"river 1\", \"km\": 1}, {name: \"river 2\"", ", \"km\": 2}]"),
        "1 of 2 records: the answer is no valid JSON from there on"
      ]
    ])("fills up after %s", ([_, first, message]) =>
      Effect.gen(function*() {
        const { exit, of } = yield* run({}, first, saysJson({ records: [river(2)] }))
        assert.deepInclude(yield* exit, { records: [river(1), river(2)] })
        assert.deepStrictEqual(of("warning"), [{ _tag: "warning", message }])
      }))

    it.effect("is done once; what is missing then is missing, with a warning", () =>
      Effect.gen(function*() {
        const { asked, exit, of } = yield* run(
          { count: 4 },
          saysJson({ records: rivers(1, 2) }),
          saysJson({ records: [river(3), { name: "x" }] })
        )
        assert.lengthOf(asked, 2)
        assert.deepStrictEqual(exit, succeeds(rivers(1, 3), 2))
        assert.deepStrictEqual(of("warning").map(({ index, message }) => [index, message]), [
          [undefined, "2 of 4 records: the answer has no more that fit"],
          [1, "Missing key\n  at [\"km\"]"],
          [undefined, "3 of 4 records: the answer has no more that fit"]
        ])
      }))

    it.effect("fails if nothing came that fits", () =>
      Effect.gen(function*() {
        const { asked, exit, of } = yield* run({}, says("I cannot do that."), saysJson({ records: [{ name: 1 }] }))
        assert.lengthOf(asked, 2)
        const error = yield* Effect.flip(exit)
        assert.instanceOf(error, ModelError.MalformedOutput)
        assert.strictEqual(
          (error as ModelError.MalformedOutput).message,
          "The model gave no records that fit: 0 of 2 records: the answer has no list of them in valid JSON"
        )
        assert.deepInclude(of("usage")[0], usage(2))
      }))

    it.effect("does not read on where too much does not fit", () =>
      Effect.gen(function*() {
        const endless = Stream.concat(deltas("{\"records\":["), Stream.forever(deltas("{\"name\":1},")))
        const { exit, of } = yield* run({}, endless, saysJson({ records: rivers(1, 2) }))
        assert.deepInclude(yield* exit, { records: rivers(1, 2), usage: usage(1) })
        assert.lengthOf(of("warning"), 4)
        assert.strictEqual(of("warning").at(-1)?.message, "0 of 2 records: too much of the answer does not fit")
      }))

    it.effect("does not read on in an answer that is too long", () =>
      Effect.gen(function*() {
        const endless = Stream.concat(
          deltas("{\"records\":[{\"name\":\"river 1\",\"km\":1},{\"name\":\""),
          Stream.forever(deltas("x".repeat(100_000)))
        )
        const { exit } = yield* run({}, endless, saysJson({ records: [river(2)] }))
        assert.deepInclude(yield* exit, { records: rivers(1, 2) })
      }))
  })

  describe("failure", () => {
    const rateLimited = AiError.make({ module: "m", method: "s", reason: new AiError.RateLimitError({}) })

    it.effect.each<readonly [string, Parts, string]>([
      ["the provider's", Stream.concat(deltas("["), Stream.fail(rateLimited)), "RateLimited"],
      ["one in the stream", Stream.make({ type: "error", error: rateLimited }), "RateLimited"],
      ["a content filter", Stream.concat(deltas("["), finish("content-filter")), "ContentFiltered"],
      ["the model's own", Stream.concat(deltas("["), finish("error")), "ModelUnavailable"]
    ])("is %s, in either request", ([_, failing, tag]) =>
      Effect.gen(function*() {
        const first = yield* run({}, failing)
        assert.strictEqual((yield* Effect.flip(first.exit))._tag, tag)
        assert.lengthOf(first.asked, 1)
        const second = yield* run({}, saysJson({ records: [river(1)] }), failing)
        assert.strictEqual((yield* Effect.flip(second.exit))._tag, tag)
        assert.deepStrictEqual(second.records, [river(1)])
        assert.isAtLeast(second.of("usage")[0]!.totalTokens, 7)
      }))

    it.effect("is none if everything is there already", () =>
      Effect.gen(function*() {
        const { exit } = yield* run({}, Stream.concat(deltas(JSON.stringify(rivers(1, 2))), finish("content-filter")))
        assert.deepInclude(yield* exit, { records: rivers(1, 2) })
      }))

    it.effect.each<readonly [string, Parts]>([
      ["breaks then", Stream.concat(says(JSON.stringify(rivers(1, 2))), Stream.fail(rateLimited))],
      [
        "breaks before its last bracket",
        Stream.concat(deltas(JSON.stringify(rivers(1, 2)).slice(0, -1)), Stream.fail(rateLimited))
      ]
    ])("is none if everything is there, and the answer %s", ([_, parts]) =>
      Effect.gen(function*() {
        const { asked, exit } = yield* run({}, parts)
        assert.deepInclude(yield* exit, { records: rivers(1, 2) })
        assert.lengthOf(asked, 1)
      }))

    it.effect("leaves what a list that is complete has too few to the second request", () =>
      Effect.gen(function*() {
        const { exit } = yield* run(
          {},
          Stream.concat(deltas(JSON.stringify(rivers(1, 1))), Stream.fail(rateLimited)),
          saysJson(rivers(2, 2))
        )
        assert.deepInclude(yield* exit, { records: rivers(1, 2) })
      }))

    it.effect("leaves room for no usage", () =>
      Effect.gen(function*() {
        const { exit, of } = yield* run(
          { model: "m" },
          Stream.concat(deltas(JSON.stringify(rivers(1, 2))), finish("stop", {}))
        )
        assert.lengthOf(of("usage"), 0)
        assert.deepStrictEqual(exit, Exit.succeed({ records: rivers(1, 2), usage: null, model: "m" }))
      }))
  })

  describe("interruption", () => {
    it.effect("closes the provider's stream, and keeps the records and the usage so far", () =>
      Effect.gen(function*() {
        const writing = yield* Deferred.make<void>()
        const closed = yield* Deferred.make<void>()
        const model = scripted(
          saysJson({ records: [river(1)] }),
          deltas("[{\"name\": \"river 2\", \"km\": 2},").pipe(
            Stream.concat(Stream.fromEffectDrain(Effect.andThen(Deferred.succeed(writing, undefined), Effect.never))),
            Stream.ensuring(Deferred.succeed(closed, undefined))
          )
        )
        const { events, execution } = attempt(AiGenerateRecords.AiGenerateRecords)
        const fiber = yield* AiGenerateRecords.handler({ prompt: "rivers", fields, count: 9 }, execution).pipe(
          Effect.provide(model.layer),
          Effect.forkChild
        )
        yield* Deferred.await(writing)
        assert.isFalse(yield* Deferred.isDone(closed))
        yield* Fiber.interrupt(fiber)
        const exit = yield* Fiber.await(fiber)
        assert.isTrue(Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause))
        assert.isTrue(yield* Deferred.isDone(closed))
        assert.deepStrictEqual(
          events.flatMap((event) => event._tag === "record" ? [event.record] : []),
          rivers(1, 2)
        )
        assert.deepStrictEqual(events.at(-1), { _tag: "usage", ...usage(1), model: "unknown" })
      }))
  })
})

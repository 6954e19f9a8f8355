import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Schema, Stream } from "effect"
import { AiError } from "effect/ai"
import * as fc from "fast-check"
import * as AiGenerateFields from "../../src/ai/AiGenerateFields.ts"
import * as ModelError from "../../src/ai/ModelError.ts"
import { attempt } from "../support/execution.ts"
import * as Documents from "./documents.ts"
import { deltas, type Parts, says, saysJson, scripted } from "./scripted.ts"

const run = Effect.fnUntraced(function*(
  payload: AiGenerateFields.Payload,
  ...answers: ReadonlyArray<Parts>
) {
  const model = scripted(...answers)
  const { events, execution } = attempt(AiGenerateFields.AiGenerateFields)
  const exit = yield* AiGenerateFields.handler(payload, execution).pipe(Effect.provide(model.layer), Effect.exit)
  const of = <T extends (typeof events)[number]["_tag"]>(tag: T) =>
    events.filter((event): event is Extract<(typeof events)[number], { readonly _tag: T }> => event._tag === tag)
  return { asked: model.asked, events, exit, of }
})

const usage = (requests: number) => ({
  inputTokens: 3 * requests,
  outputTokens: 4 * requests,
  totalTokens: 7 * requests
})
const answered = (requests: number) => ({ usage: usage(requests), model: "m-1" })

const text = (name: string) => ({ name, type: "text", description: `about ${name}`, required: true }) as const
const select = { name: "size", type: "select", options: ["s", "l"] } as const

const schemaOf = ({ settings }: { readonly settings: { readonly json?: any } }, list: string) =>
  settings.json.schema.properties[list]

const decode = Schema.decodeUnknownEffect(Schema.toCodecJson(AiGenerateFields.Payload))

describe("AiGenerateFields", () => {
  it.effect.each([{}, { mode: "records" }, 5])("refuses %j", (payload) =>
    Effect.gen(function*() {
      assert.include(
        (yield* Effect.flip(decode(payload))).message,
        "Expected an object whose \"mode\" is \"definitions\" or \"values\""
      )
    }))

  describe("definitions", () => {
    const payload = { mode: "definitions", prompt: "rivers" } as const

    it.effect.each<readonly [object, string]>([
      [{ prompt: undefined }, "Missing key\n  at [\"prompt\"]"],
      [{ count: 0 }, "Expected a value between 1 and 100\n  at [\"count\"]"],
      [{ count: 101 }, "Expected a value between 1 and 100\n  at [\"count\"]"],
      [{ existing: [{ name: "s", type: "select" }] }, "Expected at least one option"],
      [{ existing: [{ name: "s" }] }, "Missing key\n  at [\"existing\"][0][\"type\"]"]
    ])("refuses %j", ([change, message]) =>
      Effect.gen(function*() {
        const given = JSON.parse(JSON.stringify({ ...payload, ...change }))
        assert.include((yield* Effect.flip(decode(given))).message, message)
      }))

    it.effect("ignores unknown keys", () =>
      Effect.gen(function*() {
        assert.deepStrictEqual(yield* decode({ ...payload, datasetId: 5 }), payload)
      }))

    it.effect("emits each field when it is complete", () =>
      Effect.gen(function*() {
        const { asked, events, exit } = yield* run(
          { ...payload, count: 2, existing: [text("there")], model: "m" },
          says(
            `{"fields": [${JSON.stringify({ ...text("name"), options: ["x"] })}, {"name": "size", "type": "select",`,
            `"options": ["s", "l"], "description": null}`,
            "]}"
          )
        )
        assert.deepStrictEqual(events, [
          { _tag: "field", index: 0, field: text("name") },
          { _tag: "field", index: 1, field: select },
          { _tag: "usage", ...usage(1), model: "m-1" }
        ])
        assert.deepStrictEqual(exit, Exit.succeed({ fields: [text("name"), select], ...answered(1) }))
        assert.strictEqual(asked[0]!.settings.model, "m")
        assert.include(asked[0]!.user, "Propose 2 fields.")
        assert.include(asked[0]!.user, JSON.stringify(text("there")))
        assert.deepInclude(schemaOf(asked[0]!, "fields"), { minItems: 2, maxItems: 2 })
      }))

    it.effect("takes as many as the model finds useful, if no count is given", () =>
      Effect.gen(function*() {
        const { asked, exit, of } = yield* run(payload, saysJson({ fields: [text("a"), text("b"), text("c")] }))
        assert.deepInclude(yield* exit, { fields: [text("a"), text("b"), text("c")] })
        assert.lengthOf(asked, 1)
        assert.lengthOf(of("warning"), 0)
        assert.deepInclude(schemaOf(asked[0]!, "fields"), { minItems: 1, maxItems: 20 })
        const many = yield* run(payload, saysJson({ fields: Array.from({ length: 30 }, (_, i) => text(`f${i}`)) }))
        assert.lengthOf(many.of("field"), 20)
      }))

    it.effect.each<readonly [string, object, string]>([
      ["a name that is there", text("there"), "Expected a name of its own, got \"there\" again\n  at [\"name\"]"],
      ["a repeated name", text("a"), "Expected a name of its own, got \"a\" again\n  at [\"name\"]"],
      ["an empty name", text(""), "at [\"name\"]"],
      ["an unknown type", { name: "x", type: "int" }, "at [\"type\"]"],
      ["a select without options", { name: "x", type: "select", options: null }, "Expected at least one option"],
      ["a select with an option twice", { ...select, options: ["s", "s"] }, "Expected every option once"]
    ])("replaces %s", ([_, bad, message]) =>
      Effect.gen(function*() {
        for (const count of [2, undefined]) {
          const { asked, exit, of } = yield* run(
            { ...payload, existing: [text("there")], ...(count && { count }) },
            saysJson({ fields: [text("a"), bad] }),
            saysJson({ fields: [text("b")] })
          )
          assert.deepStrictEqual(exit, Exit.succeed({ fields: [text("a"), text("b")], ...answered(2) }))
          assert.strictEqual(of("warning")[0]!.index, 1)
          assert.include(of("warning")[0]!.message, message)
          assert.strictEqual(schemaOf(asked[1]!, "fields").maxItems, 1)
          assert.include(asked[1]!.user, message.split("\n")[0]!)
          assert.include(asked[1]!.user, JSON.stringify(text("a")))
        }
      }))

    it.effect("asks again for what a cut answer has not", () =>
      Effect.gen(function*() {
        const { exit, of } = yield* run(
          payload,
          says(`{"fields": [${JSON.stringify(text("a"))}, {"name"`),
          saysJson({ fields: [text("b"), text("c")] })
        )
        assert.deepInclude(yield* exit, { fields: [text("a"), text("b"), text("c")] })
        assert.deepStrictEqual(of("warning").map(({ message }) => message), ["fields: the answer breaks off"])
      }))

    it.effect("fails if nothing came that fits", () =>
      Effect.gen(function*() {
        const { asked, exit } = yield* run(payload, saysJson({ fields: [] }), saysJson({ fields: [{ name: "x" }] }))
        assert.lengthOf(asked, 2)
        assert.instanceOf(yield* Effect.flip(exit), ModelError.MalformedOutput)
      }))

    it.effect("lets names that objects know be names", () =>
      Effect.gen(function*() {
        const names = ["__proto__", "constructor", "toString"]
        const { exit } = yield* run({ ...payload, count: 3 }, saysJson({ fields: names.map(text) }))
        assert.deepInclude(yield* exit, { fields: names.map(text) })
      }))
  })

  describe("values", () => {
    const fields = [{ name: "km", type: "number" }, { ...select, required: false }] as const
    const records = [{ id: "a", name: "Elbe" }, { id: 2, name: "Oder" }]
    const payload = { mode: "values", fields, records } as const

    const value = (recordId: string | number, field: string, value: string | number | null) => ({
      recordId,
      field,
      value
    })
    const all = [value("a", "km", 1094), value("a", "size", "l"), value(2, "km", 866), value(2, "size", null)]

    it.effect.each<readonly [object, string]>([
      [{ fields: [] }, "Expected 1 to 100 fields, got 0"],
      [{ fields: [fields[0], fields[0]] }, "Expected every field name once, got \"km\" twice"],
      [{ records: [] }, "Expected 1 to 500 records, got 0\n  at [\"records\"]"],
      [{ records: Array.from({ length: 501 }, (_, id) => ({ id })) }, "Expected 1 to 500 records, got 501"],
      [{ records: [{ id: 1 }, { id: "1" }] }, "Expected every id once, got \"1\" twice\n  at [\"records\"]"],
      [{ records: [{ name: "Elbe" }] }, "Missing key\n  at [\"records\"][0][\"id\"]"],
      [{ records: [{ id: "" }] }, "at [\"records\"][0][\"id\"]"],
      [{ records: [{ id: 2 ** 60 }] }, "at [\"records\"][0][\"id\"]"]
    ])("refuses %j", ([change, message]) =>
      Effect.gen(function*() {
        assert.include((yield* Effect.flip(decode({ ...payload, ...change }))).message, message)
      }))

    it.effect("keeps the records whole", () =>
      Effect.gen(function*() {
        assert.deepStrictEqual(yield* decode({ ...payload, datasetId: 5 }), payload)
      }))

    it.effect("emits each value when it is complete, with the record's own id", () =>
      Effect.gen(function*() {
        const { asked, events, exit } = yield* run(
          { ...payload, prompt: "lengths", model: "m" },
          saysJson({ values: all.map((value) => ({ ...value, recordId: String(value.recordId) })) })
        )
        assert.deepStrictEqual(events, [
          ...all.map((value) => ({ _tag: "value", ...value }) as const),
          { _tag: "usage", ...usage(1), model: "m-1" }
        ])
        assert.deepStrictEqual(exit, Exit.succeed({ values: all, ...answered(1) }))
        const [{ user, settings }] = asked as [(typeof asked)[number]]
        assert.strictEqual(settings.model, "m")
        assert.match(user, /^lengths\n/)
        assert.include(user, "\n{\"id\":\"a\",\"name\":\"Elbe\"}\n{\"id\":2,\"name\":\"Oder\"}")
        assert.deepInclude(schemaOf(asked[0]!, "values"), { minItems: 4, maxItems: 4 })
        assert.deepStrictEqual(schemaOf(asked[0]!, "values").items.anyOf[1].properties, {
          recordId: { type: "string" },
          field: { type: "string", enum: ["size"] },
          value: { anyOf: [{ type: "string", enum: ["s", "l"] }, { type: "null" }] }
        })
      }))

    const large = "1970670598291982290"
    it.effect.each<readonly [string, ReadonlyArray<string>, string, boolean]>([
      ["as a text", [large, "1970670598291982291"], `"${large}"`, true],
      ["as a number", [large, "1970670598291999999"], large, true],
      ["as a number that stands for another, too", [large, "1970670598291982291"], large, false],
      ["as a number that is no record's", ["1970670598291999999"], large, false]
    ])("keeps an id of many digits that the model writes %s", ([_, ids, written, isFound]) =>
      Effect.gen(function*() {
        const answer = says(`{"values": [{"recordId": ${written}, "field": "km", "value": 1}]}`)
        const { events, exit, of } = yield* run(
          { mode: "values", fields: [fields[0]], records: ids.map((id) => ({ id })) },
          answer,
          answer
        )
        assert.deepStrictEqual(of("value"), isFound ? [{ _tag: "value", ...value(large, "km", 1) }] : [])
        if (isFound) assert.deepInclude(yield* exit, { values: [value(large, "km", 1)] })
        else assert.include(JSON.stringify(events), "Expected the id of a record, got 197067059829198")
      }))

    it.effect.each<readonly [string, object, string]>([
      ["an unknown record", value("b", "km", 1), "Expected the id of a record, got \"b\"\n  at [\"recordId\"]"],
      ["an unknown field", value("a", "depth", 1), "Expected the name of a field, got \"depth\"\n  at [\"field\"]"],
      ["a name that objects know", value("a", "__proto__", 1), "Expected the name of a field, got \"__proto__\""],
      ["a value that does not fit", value(2, "size", "xl"), "Expected \"s\" | \"l\"\n  at [\"value\"]"],
      ["a value of another type", value(2, "size", 5), "at [\"value\"]"],
      ["a second value", value("a", "km", 1), "Expected one value for \"km\" of \"a\""],
      ["no value", { recordId: 2, field: "size" }, "Missing key\n  at [\"value\"]"]
    ])("replaces %s", ([_, bad, message]) =>
      Effect.gen(function*() {
        const { asked, exit, of } = yield* run(
          payload,
          saysJson({ values: [...all.slice(0, 3), bad] }),
          saysJson({ values: all.slice(3) })
        )
        assert.deepStrictEqual(exit, Exit.succeed({ values: all, ...answered(2) }))
        assert.strictEqual(of("warning")[0]!.index, 3)
        assert.include(of("warning")[0]!.message, message)
        const { user } = asked[1]!
        assert.include(user, "{\"id\":2,")
        assert.notInclude(user, "{\"id\":\"a\"")
        assert.deepInclude(schemaOf(asked[1]!, "values"), { minItems: 1, maxItems: 1 })
        assert.lengthOf(schemaOf(asked[1]!, "values").items.anyOf, 1)
      }))

    it.effect("asks again for the values that are missing, by name", () =>
      Effect.gen(function*() {
        const { asked, exit, of } = yield* run(
          payload,
          saysJson({ values: [all[0], all[3]] }),
          saysJson({ values: [all[1]] })
        )
        assert.include(
          asked[1]!.user,
          "\n{\"recordId\":\"a\",\"fields\":[\"size\"]}\n{\"recordId\":2,\"fields\":[\"km\"]}"
        )
        assert.deepInclude(yield* exit, { values: [all[0]!, all[3]!, all[1]!] })
        assert.strictEqual(of("warning").at(-1)?.message, "3 of 4 values: the answer has no more that fit")
      }))

    it.effect("emits the values of any document, cut anywhere, in order", () =>
      Effect.promise(() =>
        fc.assert(
          fc.asyncProperty(
            fc.uniqueArray(Documents.text.filter((id) => id !== ""), { minLength: 1, maxLength: 4 }),
            fc.uniqueArray(Documents.text.filter((name) => name !== ""), { minLength: 1, maxLength: 3 }),
            fc.array(Documents.text, { minLength: 12, maxLength: 12 }),
            Documents.hand,
            Documents.places,
            async (ids, names, texts, hand, places) => {
              const values = ids.flatMap((recordId, i) =>
                names.map((field, j) => ({ recordId, field, value: texts[i * names.length + j]! }))
              )
              const document = Documents.document("values", values, {}, hand())
              const { asked, of } = await Effect.runPromise(run(
                {
                  mode: "values",
                  fields: names.map((name) => ({ name, type: "text" })),
                  records: ids.map((id) => ({ id }))
                },
                says(...Documents.cut(document.text, places))
              ))
              assert.deepStrictEqual(of("value").map(({ _tag, ...value }) => value), values)
              assert.lengthOf(asked, 1)
            }
          )
        )
      ))

    it.effect("fails as the provider does", () =>
      Effect.gen(function*() {
        const error = AiError.make({
          module: "m",
          method: "s",
          reason: new AiError.AuthenticationError({ kind: "InvalidKey" })
        })
        const { exit, of } = yield* run(
          payload,
          Stream.concat(deltas(`[${JSON.stringify(all[0])}`), Stream.fail(error))
        )
        assert.instanceOf(yield* Effect.flip(exit), ModelError.AuthenticationFailed)
        assert.lengthOf(of("value"), 1)
      }))

    it.effect("closes the provider's stream when it is interrupted", () =>
      Effect.gen(function*() {
        const writing = yield* Deferred.make<void>()
        const closed = yield* Deferred.make<void>()
        const model = scripted(
          deltas(`[${JSON.stringify(all[0])},`).pipe(
            Stream.concat(Stream.fromEffectDrain(Effect.andThen(Deferred.succeed(writing, undefined), Effect.never))),
            Stream.ensuring(Deferred.succeed(closed, undefined))
          )
        )
        const { events, execution } = attempt(AiGenerateFields.AiGenerateFields)
        const fiber = yield* AiGenerateFields.handler(payload, execution).pipe(
          Effect.provide(model.layer),
          Effect.forkChild
        )
        yield* Deferred.await(writing)
        yield* Fiber.interrupt(fiber)
        assert.isTrue(yield* Deferred.isDone(closed))
        assert.deepStrictEqual(events, [{ _tag: "value", ...all[0]! }])
      }))
  })
})

import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, type JsonSchema, Result, Schema } from "effect"
import { TestClock } from "effect/testing"
import * as fc from "fast-check"
import * as AiGenerateFields from "../../src/ai/AiGenerateFields.ts"
import * as AiGenerateRecords from "../../src/ai/AiGenerateRecords.ts"
import * as DemoDocument from "../../src/ai/DemoDocument.ts"
import * as DemoModel from "../../src/ai/DemoModel.ts"
import * as Field from "../../src/ai/Field.ts"
import { attempt } from "../support/execution.ts"
import * as Documents from "./documents.ts"

const make = (schema: JsonSchema.JsonSchema, prompt = "Rivers of Europe") =>
  Result.getOrThrow(DemoDocument.make(schema, prompt)) as any

const field = fc.record({
  name: Documents.text.filter((name) => name !== ""),
  type: fc.constantFrom(...Field.Type.literals),
  description: Documents.text,
  options: fc.uniqueArray(Documents.text.filter((option) => option !== ""), { minLength: 1, maxLength: 4 }),
  required: fc.boolean()
})

const fields = fc.uniqueArray(field, { minLength: 1, maxLength: 6, selector: ({ name }) => name })

const generateRecords = Effect.fnUntraced(function*(payload: AiGenerateRecords.Payload) {
  const { events, execution } = attempt(AiGenerateRecords.AiGenerateRecords)
  const handler = Effect.provide(AiGenerateRecords.handler(payload, execution), DemoModel.layer)
  const fiber = yield* Effect.forkChild(handler)
  yield* TestClock.adjust("15 minutes")
  return { events, result: yield* Fiber.join(fiber) }
})

const generateFields = Effect.fnUntraced(function*(payload: AiGenerateFields.Payload) {
  const { events, execution } = attempt(AiGenerateFields.AiGenerateFields)
  const handler = Effect.provide(AiGenerateFields.handler(payload, execution), DemoModel.layer)
  const fiber = yield* Effect.forkChild(handler)
  yield* TestClock.adjust("15 minutes")
  return { events, result: (yield* Fiber.join(fiber)) as any }
})

describe("DemoDocument", () => {
  it("makes the records of any fields, as many as are asked for", () => {
    fc.assert(
      fc.property(fields, fc.integer({ min: 1, max: 500 }), Documents.text, (fields, count, prompt) => {
        const schema = Field.listJsonSchema("records", Field.recordSchema(fields), { minimum: count, maximum: count })
        const { records } = make(schema, prompt)
        assert.lengthOf(records, count)
        const read = Field.recordReader(fields)
        for (const record of records) assert.deepStrictEqual(Result.getOrThrow(read(record)), record)
      }),
      { numRuns: 50 }
    )
  })

  it("says what it is, and makes each element another one", () => {
    const schema = Field.listJsonSchema(
      "records",
      Field.recordSchema([{ name: "name", type: "text" }, { name: "born", type: "date" }]),
      { minimum: 200, maximum: 200 }
    )
    const { records } = make(schema)
    assert.strictEqual(records[0].name, "demo name 1 Rivers")
    assert.strictEqual(new Set(records.map(({ name }: { name: string }) => name)).size, 200)
    assert.isAbove(new Set(records.map(({ born }: { born: string }) => born)).size, 100)
    assert.deepStrictEqual(make(schema).records, records)
    assert.notDeepEqual(make(schema, "Rivers of Asia").records, records)
  })

  it.each<readonly [JsonSchema.JsonSchema, (value: any) => boolean]>([
    [{ type: "integer", minimum: 5, maximum: 7 }, (n) => [5, 6, 7].includes(n)],
    [{ type: "integer", minimum: 0.5, maximum: 1.5 }, (n) => n === 1],
    [{ type: "number", minimum: 0.25, maximum: 0.5 }, (n) => n >= 0.25 && n <= 0.5],
    [{ type: "number", maximum: -10 }, (n) => n <= -10],
    [{ type: "number", minimum: 1_000_000 }, (n) => n >= 1_000_000],
    [{ type: "number" }, Number.isFinite],
    [{ const: null }, (value) => value === null],
    [{ anyOf: [{ type: "null" }] }, (value) => value === null],
    [{ type: "array", items: { type: "boolean" }, maxItems: 2 }, (list) => list.length === 2],
    [{ type: "array", items: { type: "boolean" } }, (list) => list.length === 3],
    [{ type: "array", items: { type: "boolean" }, minItems: 1 }, (list) => list.length === 3],
    [{ type: "array", items: { type: "boolean" }, minItems: 5, maxItems: 9 }, (list) => list.length === 5]
  ])("fits %j", (schema, fits) => {
    for (const prompt of ["a", "b", "c", "d", "e"]) assert.isTrue(fits(make(schema, prompt)))
  })

  it.each<readonly [JsonSchema.JsonSchema, string]>([
    [{ type: "string", minLength: 5 }, "the keyword \"minLength\""],
    [{ $ref: "#/$defs/A" }, "the keyword \"$ref\""],
    [{ type: "string", format: "uri" }, "the format \"uri\""],
    [{ type: ["string", "null"] }, "the type [\"string\",\"null\"]"],
    [{ type: "array" }, "a schema that is undefined"],
    [{}, "the type undefined"]
  ])("refuses %j", (schema, message) => {
    const result = DemoDocument.make(schema, "")
    assert.isTrue(Result.isFailure(result))
    if (Result.isFailure(result)) {
      assert.strictEqual(
        result.failure.message,
        `Spindle's built-in demo model does not know ${message} in a JSON Schema`
      )
    }
  })

  it.effect("gives ai_generate_records what it asks for, in one request", () =>
    Effect.gen(function*() {
      const { events, result } = yield* generateRecords({
        prompt: "Rivers of Europe",
        fields: [
          { name: "name", type: "text" },
          { name: "km", type: "number", required: false },
          { name: "navigable", type: "boolean" },
          { name: "first measured", type: "date" },
          { name: "ends in", type: "select", options: ["sea", "lake", "river"] }
        ],
        count: 25,
        existing: [{ name: "demo name 1 Rivers" }]
      })
      assert.lengthOf(result.records, 25)
      assert.strictEqual(result.model, "spindle-demo")
      assert.lengthOf(events.filter(({ _tag }) => _tag === "warning"), 0)
      assert.notInclude(result.records.map(({ name }) => name), "demo name 1 Rivers")
    }))

  it.effect("gives ai_generate_fields what it asks for, also next to its own", () =>
    Effect.gen(function*() {
      const first = yield* generateFields({ mode: "definitions", prompt: "Rivers of Europe", count: 6 })
      const second = yield* generateFields({
        mode: "definitions",
        prompt: "Rivers of Europe",
        existing: first.result.fields
      })
      assert.lengthOf(first.result.fields, 6)
      assert.isAtLeast(second.result.fields.length, 1)
      assert.include(first.result.fields.map(({ type }: Field.Field) => type), "select")
      for (const { events } of [first, second]) assert.lengthOf(events.filter(({ _tag }) => _tag === "warning"), 0)
      yield* Schema.decodeEffect(Field.Fields)([...first.result.fields, ...second.result.fields])

      const records = [{ id: 7, name: "Elbe" }, { id: "x\"y", name: "Oder" }, { id: "__proto__" }]
      const values = yield* generateFields({ mode: "values", fields: first.result.fields, records })
      assert.lengthOf(values.events.filter(({ _tag }) => _tag === "warning"), 0)
      assert.deepStrictEqual(
        values.result.values.map(({ field, recordId }: AiGenerateFields.Value) => [recordId, field]),
        records.flatMap(({ id }) => first.result.fields.map(({ name }: Field.Field) => [id, name]))
      )
    }))
})

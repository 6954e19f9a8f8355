import { assert, describe, it } from "@effect/vitest"
import { Result, Schema } from "effect"
import * as fc from "fast-check"
import * as Field from "../../src/ai/Field.ts"
import * as Documents from "./documents.ts"

const select: Field.Field = { name: "s", type: "select", options: ["a", "b"] }

describe("Field", () => {
  describe("a value", () => {
    it.each<readonly [Field.Field, ReadonlyArray<unknown>, ReadonlyArray<unknown>]>([
      [{ name: "t", type: "text" }, ["", "a", "漢"], [null, 1, undefined]],
      [{ name: "n", type: "number" }, [0, -1.5, 2 ** 60], ["1", NaN, Infinity, null]],
      [{ name: "b", type: "boolean" }, [true, false], ["true", 0, null]],
      [{ name: "d", type: "date" }, ["2026-11-21", "2024-02-29", "0001-01-01", "9999-12-31"], [
        "2026-02-29",
        "2026-13-01",
        "2026-1-1",
        "0000-01-01",
        "2026-11-21T00:00:00Z",
        "21.11.2026",
        "",
        20261121,
        null
      ]],
      [select, ["a", "b"], ["c", "", null]],
      [{ ...select, required: false }, ["a", null], ["c", undefined]],
      [{ name: "n", type: "number", required: true }, [1], [null]]
    ])("of %j", (field, good, bad) => {
      const read = Field.reader(Field.valueSchema(field))
      for (const value of good) assert.strictEqual(Result.getOrThrow(read(value)), value)
      for (const value of bad) assert.isTrue(Result.isFailure(read(value)), JSON.stringify(value))
    })

    it("is told off in the words of the schema", () => {
      const told = (field: Field.Field, value: unknown) => Result.merge(Field.reader(Field.valueSchema(field))(value))
      assert.strictEqual(told(select, "c"), "Expected \"a\" | \"b\"")
      assert.strictEqual(told({ name: "d", type: "date" }, "today"), "Expected a date as YYYY-MM-DD")
      assert.strictEqual(told({ name: "n", type: "number" }, Infinity), "Expected a finite number")
    })
  })

  describe("a record", () => {
    const read = Field.recordReader([
      { name: "name", type: "text" },
      { name: "age", type: "number", required: false },
      select
    ])

    it("has every field, and no other", () => {
      assert.deepStrictEqual(
        read({ s: "a", more: 1, name: "x" }),
        Result.succeed({ name: "x", age: null, s: "a" })
      )
    })

    it("names everything that does not fit", () => {
      assert.strictEqual(
        Result.merge(read({ name: 1, age: "old" })),
        "Expected string\n  at [\"name\"]\nExpected number | null\n  at [\"age\"]\nMissing key\n  at [\"s\"]"
      )
      for (const value of [null, 1, "x", [1]]) assert.strictEqual(Result.merge(read(value)), "Expected object")
    })

    it("takes names that objects know for names like any other", () => {
      const names = ["__proto__", "constructor", "toString", "hasOwnProperty"]
      const read = Field.recordReader(names.map((name) => ({ name, type: "text" })))
      const whole = JSON.parse(
        "{\"__proto__\": \"a\", \"constructor\": \"b\", \"toString\": \"c\", \"hasOwnProperty\": \"d\"}"
      )
      const record = Result.getOrThrow(read(whole))
      assert.deepStrictEqual(Object.entries(record), [
        ["__proto__", "a"],
        ["constructor", "b"],
        ["toString", "c"],
        ["hasOwnProperty", "d"]
      ])
      assert.isTrue(Result.isFailure(read({})))
      const optional = Field.recordReader(names.map((name) => ({ name, type: "text", required: false })))
      assert.deepStrictEqual(
        Object.entries(Result.getOrThrow(optional({}))),
        names.map((name): [string, null] => [name, null])
      )
      assert.notProperty({}, "a")
    })

    it("drops keys that are no field, whatever they are", () => {
      fc.assert(fc.property(Documents.object, (object) => {
        const record = Result.getOrThrow(
          Field.recordReader([{ name: "only", type: "text", required: false }])({
            ...object,
            only: "x"
          })
        )
        assert.deepStrictEqual(record, { only: "x" })
        assert.strictEqual(Object.getPrototypeOf(record), Object.prototype)
      }))
    })
  })

  describe("the schema for a model", () => {
    it("says what the fields say", () => {
      const fields: ReadonlyArray<Field.Field> = [
        { name: "t", type: "text", description: "the name" },
        { name: "n", type: "number", required: false, description: "the age" },
        { name: "d", type: "date", description: "the day" },
        { ...select, description: "a choice" }
      ]
      assert.deepStrictEqual(
        Field.listJsonSchema("records", Field.recordSchema(fields), { minimum: 2, maximum: 3 }),
        {
          type: "object",
          properties: {
            records: {
              type: "array",
              items: {
                type: "object",
                properties: {
                  t: { type: "string", description: "the name" },
                  n: { anyOf: [{ type: "number" }, { type: "null" }], description: "the age" },
                  d: { type: "string", format: "date", description: "the day" },
                  s: { type: "string", enum: ["a", "b"], description: "a choice" }
                },
                required: ["t", "n", "d", "s"],
                additionalProperties: false
              },
              minItems: 2,
              maxItems: 3
            }
          },
          required: ["records"],
          additionalProperties: false
        }
      )
    })
  })

  it("finds the first name that is there twice, however many there are", () => {
    const names = Array.from({ length: 300_000 }, (_, i) => String(i))
    assert.isUndefined(Field.repeated(names))
    assert.strictEqual(Field.repeated([...names, "7", "3"]), "7")
  })

  describe("a definition", () => {
    const decode = Schema.decodeUnknownResult(Schema.toCodecJson(Field.Fields))
    const field = { name: "a", type: "text" }

    it.each([
      [[{ ...field, options: null, description: null, required: null }]],
      [[{ ...field, options: [] }]],
      [[{ ...field, unit: "km" }, { ...field, name: "b", type: "select", options: ["x"] }]]
    ])("can be %j", (fields) => {
      assert.isTrue(Result.isSuccess(decode(fields)))
    })

    it.each<readonly [unknown, string]>([
      [[], "Expected 1 to 100 fields, got 0"],
      [[field, field], "Expected every field name once, got \"a\" twice"],
      [[{ ...field, name: "" }], "[0][\"name\"]"],
      [[{ ...field, type: "int" }], "[0][\"type\"]"],
      [
        [{ ...field, type: "select" }],
        "Expected at least one option, as the type is \"select\"\n  at [0][\"options\"]"
      ],
      [[{ ...field, type: "select", options: [] }], "Expected at least one option"],
      [[{ ...field, type: "select", options: ["x", "y", "x"] }], "Expected every option once, got \"x\" twice"],
      [[{ ...field, type: "select", options: [""] }], "[0][\"options\"][0]"],
      [
        [{ ...field, options: Array.from({ length: 1001 }, (_, i) => String(i)) }],
        "Expected a value with a length of at most 1000\n  at [0][\"options\"]"
      ],
      [Array.from({ length: 101 }, (_, i) => ({ ...field, name: `${i}` })), "Expected 1 to 100 fields, got 101"]
    ])("cannot be %j", (fields, message) => {
      const result = decode(fields)
      assert.isTrue(Result.isFailure(result))
      if (Result.isFailure(result)) assert.include(result.failure.message, message)
    })
  })
})

import { assert, describe, it } from "@effect/vitest"
import { Schema } from "effect"
import * as AiResponse from "../../src/ai/AiResponse.ts"
import * as Form from "../../src/dashboard/form.ts"
import type { Json } from "../../src/dashboard/json.ts"

const field = <Kind extends Form.Field["kind"]>(schema: Json, kind: Kind) => {
  const made = Form.fromSchema(schema)
  assert.strictEqual(made.kind, kind, JSON.stringify(made))
  return made as Extract<Form.Field, { readonly kind: Kind }>
}
const property = (form: Form.Field, name: string) => {
  const found = form.kind === "object" ? form.properties.find((each) => each.name === name) : undefined
  assert.isDefined(found, name)
  return found!
}

describe("the form of a schema", () => {
  it("has a field for each property, and knows which are required", () => {
    const form = field({
      type: "object",
      required: ["to"],
      properties: {
        to: { type: "string", maxLength: 100, minLength: 3, title: "Recipient", description: "Whom" },
        urgent: { type: "boolean" },
        copies: { type: "integer", minimum: 1, maximum: 9 }
      }
    }, "object")
    assert.deepStrictEqual(form.properties.map(({ name, required }) => [name, required]), [
      ["to", true],
      ["urgent", false],
      ["copies", false]
    ])
    assert.deepStrictEqual(form.properties[0]!.field, {
      kind: "text",
      title: "Recipient",
      description: "Whom",
      secret: false,
      long: false,
      hint: "at least 3 characters, at most 100 characters"
    })
    assert.deepStrictEqual(form.properties[2]!.field, { kind: "number", integer: true, hint: "1 to 9" })
  })

  it("says the bounds of a number", () => {
    const hint = (bounds: Json) => field({ type: "number", ...bounds as object }, "number").hint
    assert.strictEqual(hint({ exclusiveMinimum: 0 }), "more than 0")
    assert.strictEqual(hint({ minimum: 0 }), "0 or more")
    assert.strictEqual(hint({ exclusiveMaximum: 1 }), "less than 1")
    assert.strictEqual(hint({ maximum: 1 }), "1 or less")
    assert.isUndefined(hint({}))
  })

  it("offers constants, enumerations and unions of them as one choice", () => {
    assert.deepStrictEqual(field({ const: 1 }, "choice").options, [1])
    assert.deepStrictEqual(field({ type: "null" }, "choice").options, [null])
    assert.deepStrictEqual(
      field({ anyOf: [{ enum: ["a", "b"] }, { const: "c" }, { type: "null" }] }, "choice").options,
      ["a", "b", "c", null]
    )
  })

  it("tells alternatives apart by title, tag, properties or kind", () => {
    const { options } = field({
      oneOf: [
        { title: "Plain", type: "string" },
        { type: "object", properties: { _tag: { const: "Circle" }, radius: { type: "number" } } },
        { type: "object", properties: { x: { type: "number" }, y: { type: "number" } } },
        { type: "array", items: { type: "string" } },
        { type: "number" },
        {}
      ]
    }, "union")
    assert.deepStrictEqual(options.map(({ label }) => label), ["Plain", "Circle", "x, y", "list", "number", "JSON"])
  })

  it("takes the list of types of a nullable value as alternatives", () => {
    const { options } = field({ type: ["string", "null"] }, "union")
    assert.deepStrictEqual(options.map(({ field }) => field.kind), ["text", "choice"])
  })

  it("does not ask whether what can be left out is null", () => {
    const schema = { anyOf: [{ type: "string" }, { type: "null" }] }
    const form = field(
      { type: "object", required: ["a"], properties: { a: schema, b: schema, c: { anyOf: [] } } },
      "object"
    )
    assert.strictEqual(property(form, "a").field.kind, "union")
    assert.strictEqual(property(form, "b").field.kind, "text")
    assert.isFalse(Form.covers(form, { a: null, b: null }), "a null that is there is shown as JSON")
  })

  it("has a list also for one that must not be empty", () => {
    const item = { type: "string" }
    field({ type: "array", minItems: 1, prefixItems: [item], items: item }, "list")
    field({ type: "array", prefixItems: [{ type: "number" }], items: item }, "raw")
  })

  it("follows references, also escaped ones, and merges allOf", () => {
    const form = field({
      $defs: { "a/b~c": { type: "object", required: ["x"], properties: { x: { type: "string" } } } },
      allOf: [
        { $ref: "#/$defs/a~1b~0c" },
        { type: "object", required: ["y"], properties: { y: { type: "integer" } } }
      ]
    }, "object")
    assert.deepStrictEqual(form.properties.map(({ name, required }) => [name, required]).toSorted(), [
      ["x", true],
      ["y", true]
    ])
  })

  it("gives JSON for what contains itself, and a form for the rest", () => {
    const form = field({
      $ref: "#/$defs/node",
      $defs: {
        node: {
          type: "object",
          properties: { name: { type: "string" }, children: { type: "array", items: { $ref: "#/$defs/node" } } }
        }
      }
    }, "object")
    assert.strictEqual(property(form, "name").field.kind, "text")
    assert.deepStrictEqual(property(form, "children").field, { kind: "list", item: { kind: "raw" } })
  })

  it("gives JSON for references that lead nowhere, tuples, records and what is no schema", () => {
    for (
      const schema of [
        { $ref: "#/$defs/none" },
        { $ref: "https://example.com/schema" },
        { type: "array", prefixItems: [{ type: "string" }], items: false },
        { type: "object", additionalProperties: { type: "string" } },
        {},
        true,
        null
      ]
    ) field(schema as Json, "raw")
  })

  it("is made from what Effect writes for the payload of a task", () => {
    const { definitions, schema } = Schema.toJsonSchemaDocument(AiResponse.AiResponse.payloadSchema)
    const form = Form.fromSchema({ ...schema, $defs: definitions } as unknown as Json)
    assert.deepStrictEqual(
      ["prompt", "messages", "maxOutputTokens"].map((name) => property(form, name).field.kind),
      ["text", "list", "number"]
    )
    assert.isTrue(
      Form.covers(form, { prompt: "Hello", messages: [{ role: "user", content: "?" }], maxOutputTokens: 10 })
    )
  })
})

describe("what a form begins with", () => {
  it("is what a reader would have to leave anyway", () => {
    const form = Form.fromSchema({
      type: "object",
      required: ["text", "count", "flag", "kind", "list", "nested"],
      properties: {
        text: { type: "string" },
        count: { type: "number" },
        flag: { type: "boolean" },
        kind: { enum: ["b", "a"] },
        list: { type: "array", items: { type: "string" } },
        nested: { type: "object", required: ["in"], properties: { in: { type: "string", default: "x" } } },
        left: { type: "string" }
      }
    })
    assert.deepStrictEqual(Form.initial(form), { text: "", flag: false, kind: "b", list: [], nested: { in: "x" } })
  })

  it("is the first of the alternatives, and nothing where only JSON will do", () => {
    assert.strictEqual(Form.initial(Form.fromSchema({ anyOf: [{ type: "string" }, { type: "number" }] })), "")
    assert.isUndefined(Form.initial(Form.fromSchema({})))
  })
})

describe("what is told of a text", () => {
  it("names no source of a pattern", () => {
    assert.deepStrictEqual(field({ type: "string", pattern: "^[^@]+@[^@]+$" }, "text").hint, "in a form of its own")
    assert.strictEqual(
      Form.plainly(`Expected a string matching the RegExp ^[^\\s@]+$, got "a b"`),
      `Expected a text of another form, got "a b"`
    )
    assert.strictEqual(Form.plainly("Missing key"), "It is missing.")
  })

  it("has lines only where it is written in lines", () => {
    const text = { long: true, secret: false }
    for (const name of ["prompt", "systemPrompt", "body"]) assert.isTrue(Form.hasLines(text, name, ""), name)
    for (const name of ["model", "to", "url"]) assert.isFalse(Form.hasLines(text, name, "x"), name)
    assert.isTrue(Form.hasLines(text, "model", "a\nb"), "what is there is not lost")
    assert.isFalse(Form.hasLines({ long: false, secret: false }, "prompt", ""))
  })
})

describe("what the server refuses", () => {
  it("is told where it is, or with its way where only JSON is shown", () => {
    const problems = new Map([["payload/to", "a"], ["payload/list/0/name", "b"], ["payloads", "c"]])
    assert.deepStrictEqual(Form.problemsBelow(problems, "payload"), ["to: a", "list.0.name: b"])
    assert.deepStrictEqual(Form.problemsBelow(problems, "payload/to"), ["a"])
  })
})

describe("whether a form fits a value", () => {
  const form = Form.fromSchema({
    anyOf: [
      { type: "object", required: ["a"], properties: { a: { type: "string" } } },
      { type: "array", items: { type: "number" } },
      { enum: [null, "x"] }
    ]
  })

  it("decides between alternatives", () => {
    for (const value of [{ a: "" }, [1], null, "x"]) assert.isTrue(Form.fits(form, value), JSON.stringify(value))
    for (const value of [{ a: 1 }, {}, "y", 3, true]) assert.isFalse(Form.fits(form, value), JSON.stringify(value))
    assert.isFalse(Form.fits(form, undefined))
  })

  it("does not cover a value with members that have no field", () => {
    assert.isTrue(Form.covers(form, { a: "1" }))
    assert.isFalse(Form.covers(form, { a: "1", b: "lost" }))
    assert.isFalse(Form.covers(form, [1, "2"]))
  })
})

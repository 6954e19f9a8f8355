import { assert, describe, it } from "@effect/vitest"
import type { Schema } from "effect"
import * as fc from "fast-check"
import * as ListReader from "../../src/ai/ListReader.ts"
import * as Documents from "./documents.ts"

const read = (...pieces: ReadonlyArray<string>) => {
  const reader = ListReader.make("records")
  const elements = pieces.flatMap((piece) => reader.read(piece))
  return { elements, state: reader.state() }
}

const others = fc.dictionary(fc.constantFrom("a", "records2", "é", "title"), fc.jsonValue({ maxDepth: 2 }), {
  maxKeys: 2,
  noNullPrototype: true
}) as fc.Arbitrary<Schema.JsonObject>

/** What was given must equal the elements, and each must come with the piece that completes it. */
const checkPieces = ({ elements, ends }: Documents.Document, pieces: ReadonlyArray<string>, offset = 0) => {
  const reader = ListReader.make("records")
  const seen: Array<Schema.Json> = []
  let position = -offset
  for (const piece of pieces) {
    seen.push(...reader.read(piece))
    position += piece.length
    assert.strictEqual(seen.length, ends.filter((end) => end <= position).length)
  }
  assert.deepStrictEqual(seen, elements)
  return reader.state()
}

describe("ListReader", () => {
  it("gives every element, in order, with the piece that completes it", () => {
    fc.assert(
      fc.property(
        fc.array(Documents.object, { maxLength: 6 }),
        others,
        Documents.hand,
        Documents.places,
        (elements, others, hand, places) => {
          const document = Documents.document("records", elements, others, hand())
          const state = checkPieces(document, Documents.cut(document.text, places))
          assert.strictEqual(state, elements.length === 0 ? "empty" : "closed")
        }
      ),
      { numRuns: 500 }
    )
  })

  it("gives the same one character at a time, half a character at a time", () => {
    fc.assert(
      fc.property(fc.array(Documents.object, { maxLength: 3 }), Documents.hand, (elements, hand) => {
        const document = Documents.document("records", elements, {}, hand())
        checkPieces(document, document.text.split(""))
      })
    )
  })

  it("finds the document in prose", () => {
    const prose = fc.string({ unit: fc.constantFrom("a", " ", "\n", "[", "{", "]", ":", "1", "é", "`") })
    fc.assert(
      fc.property(
        prose.filter((text) => !text.endsWith("[") && !text.endsWith("{")),
        prose,
        fc.array(Documents.object, { minLength: 1, maxLength: 3 }),
        Documents.hand,
        Documents.places,
        (before, after, elements, hand, places) => {
          const document = Documents.document("records", elements, {}, hand())
          const text = `${before}\n\`\`\`json\n${document.text}\n\`\`\`\n${after}`
          const { elements: seen, state } = read(...Documents.cut(text, places))
          assert.deepStrictEqual(seen, elements)
          assert.strictEqual(state, "closed")
        }
      ),
      { numRuns: 200 }
    )
  })

  it.each<readonly [string, ReadonlyArray<Schema.Json>]>([
    ["[{\"a\": 1}, {\"a\": 2}]", [{ a: 1 }, { a: 2 }]],
    ["Here are [2] of them: [{\"a\": 1}]", [{ a: 1 }]],
    ["For {name} and [\"x\"]: ```json\n{\"records\": [{\"a\": \"}]\"}]}\n``` [1] done", [{ a: "}]" }]],
    ["a [\"false start {\"records\": [1]}", [1]],
    ["{} {\"a\": []} {\"records\": [1, null, \"x\", [2]]}", [1, null, "x", [2]]],
    ["{\"records\": [{\"a\": 1}]} {\"records\": [{\"a\": 2}]}", [{ a: 1 }, { a: 2 }]],
    ["{\"a\": {\"records\": [{\"a\": 1}]}}", []],
    ["{\"records\": {\"a\": {\"b\": 1}}}", []],
    ["{\"records\": []}", []],
    ["I cannot do that.", []],
    ["", []]
  ])("reads %j", (text, expected) => {
    for (const pieces of [[text], text.split("")]) {
      const { elements, state } = read(...pieces)
      assert.deepStrictEqual(elements, expected)
      assert.strictEqual(state, expected.length === 0 ? "empty" : "closed")
    }
  })

  const list = "{\"records\": [{\"a\": 1}]}"
  it.each<readonly [string, number]>([
    [`<think>Perhaps {"records": [{"a": 9}]}? No: {"a": [</think>${list}`, 1],
    [`\n <thinking>[{"a": 9}]</think></thinking>\n\n${list}`, 1],
    [`<think></think><think>[{"a": 9}]</think> [{"a": 1}]`, 1],
    [`<th${list}`, 1],
    [`<thinker>${list}</thinker>`, 1],
    [`I <think>${list}`, 1],
    [`<think>${list}`, 0],
    ["<thi", 0]
  ])("passes over thoughts: %s", (text, count) => {
    for (const pieces of [[text], text.split("")]) {
      const { elements, state } = read(...pieces)
      assert.deepStrictEqual(elements, [{ a: 1 }].slice(0, count))
      assert.strictEqual(state, count === 0 ? "empty" : "closed")
    }
  })

  it.each<readonly [string, ListReader.State]>([
    ["{\"records\": [{\"a\": 1}, {\"a\":", "open"],
    ["{\"records\": [{\"a\": 1}", "open"],
    ["{\"records\": [{\"a\": 1}]", "open"],
    ["{\"records\": [{\"a\": 1},]}", "broken"],
    ["{\"records\": [{\"a\": 1} {\"a\": 2}]}", "broken"],
    ["{\"records\": [{\"a\": 1}, {\"a\": oops}, {\"a\": 3}]}", "broken"],
    ["[{\"a\": 1}, {a: 2}]", "broken"]
  ])("keeps what is complete of %j: %s", (text, expected) => {
    for (const pieces of [[text], text.split("")]) {
      const { elements, state } = read(...pieces)
      assert.deepStrictEqual(elements, [{ a: 1 }])
      assert.strictEqual(state, expected)
    }
  })

  it("rounds what a double cannot hold", () => {
    assert.deepStrictEqual(read("[{\"a\": 12345678901234567890, \"b\": 1e999}]").elements, [
      { a: 12345678901234567000, b: Infinity }
    ])
  })

  it("leaves U+FEFF out, however it is written", () => {
    const text = "[{\"a\": \"\uFEFFx\uFEFFé\uFEFF\\ufeff\\uFEFFé\"}]"
    for (const pieces of [[text], text.split("")]) assert.deepStrictEqual(read(...pieces).elements, [{ a: "xéé" }])
  })

  it("takes __proto__ for a key like any other", () => {
    const { elements } = read("{\"__proto__\": {\"x\": 1}, \"records\": [{\"__proto__\": {\"polluted\": true}}]}")
    assert.strictEqual(Object.getPrototypeOf(elements[0]), Object.prototype)
    assert.deepStrictEqual(Object.keys(elements[0]!), ["__proto__"])
    assert.notProperty({}, "polluted")
  })

  it("stops where an answer is nested too deep", () => {
    const nested = (depth: number) => `{"records": [{"a": 1}, ${"[".repeat(depth - 2)}${"]".repeat(depth - 2)}]}`
    assert.strictEqual(read(nested(ListReader.limits.depth)).state, "closed")
    const { elements, state } = read(nested(ListReader.limits.depth + 1))
    assert.lengthOf(elements, 1)
    assert.strictEqual(state, "broken")
  })

  it("stops where an answer is too long", () => {
    const reader = ListReader.make("records")
    assert.lengthOf(reader.read("{\"records\": [{\"a\": 1}, \""), 1)
    const piece = "x".repeat(1024 * 1024)
    const states = [1, 2, 3, 4].map(() => (reader.read(piece), reader.state()))
    assert.deepStrictEqual(states, ["open", "open", "open", "broken"])
  })

  it.each(["[", "{\"", "[\""])("gives up on an answer of %j alone", (text) => {
    assert.deepStrictEqual(read(text.repeat(ListReader.limits.falseStarts * 100)), { elements: [], state: "broken" })
  })
})

import { assert, describe, it } from "@effect/vitest"
import * as Json from "../../src/dashboard/json.ts"
import * as internalJson from "../../src/internal/Json.ts"
import * as Masking from "../../src/server/Masking.ts"

describe("json", () => {
  it("shows a text as it is, and control characters escaped", () => {
    assert.strictEqual(Json.quoted(String.raw`C:\new\table`), String.raw`"C:\new\table"`)
    assert.strictEqual(Json.quoted("a\nb \"c\""), "\"a\nb \"c\"\"")
    assert.strictEqual(Json.quoted("\\\n"), "\"\\\n\"")
    assert.strictEqual(Json.quoted("tab\t, bell\u0007"), String.raw`"tab\t, bell\u0007"`)
  })

  it("sums a closed branch up", () => {
    assert.deepStrictEqual(
      [[], [1], [1, 2], {}, { a: 1 }, { a: 1, b: 2, c: 3, d: 4, e: 5 }, { ["x".repeat(30)]: 1 }].map(Json.summary),
      ["[ ]", "[ 1 item ]", "[ 2 items ]", "{ }", "{ a }", "{ a, b, c, d, … }", `{ ${"x".repeat(23)}… }`]
    )
  })

  it("names the members of arrays by their index", () => {
    assert.deepStrictEqual(Json.entries(["a", null]), [["0", "a"], ["1", null]])
    assert.deepStrictEqual(Json.entries({ a: 1 }), [["a", 1]])
  })

  it("refuses a number that would be another one on its way", () => {
    assert.deepStrictEqual(Json.parse("[1, 2.5, 9007199254740991]"), { ok: true, value: [1, 2.5, 9007199254740991] })
    assert.deepStrictEqual(Json.parse(`{"id": 9007199254740993}`), {
      ok: false,
      message: "The number 9007199254740993 at id would become 9007199254740992: it has to be a text"
    })
  })

  it("keeps a number that JavaScript does not have", () => {
    const stored = (internalJson.parse(`{"id": [1970670598291982290], "key": "${Masking.mask}"}`)) as Json.JsonObject
    const unmasked = Json.unmasked(stored) as Json.JsonObject
    assert.isTrue(Json.isContainer(unmasked.id!))
    assert.isFalse(Json.isContainer((unmasked.id as ReadonlyArray<Json.Json>)[0]!))
    assert.deepStrictEqual(Json.maskedPaths(stored), ["key"])
    assert.strictEqual(
      Json.pretty(unmasked),
      "{\n  \"id\": [\n    1970670598291982290\n  ],\n  \"key\": \"\"\n}"
    )
    assert.include(Json.inexactIn(unmasked, "") ?? "", "The number 1970670598291982290 at id[0] would become")
  })

  it("says what is wrong with what is not JSON", () => {
    const parsed = Json.parse("{a: 1}")
    assert.isFalse(parsed.ok)
    assert.match(parsed.ok ? "" : parsed.message, /JSON/)
  })

  it("knows the server's mask", () => {
    assert.strictEqual(Json.mask, Masking.mask)
  })

  it("finds every masked value, wherever it is", () => {
    const shown = Masking.masked({
      url: "https://example.com",
      apiKey: "k",
      headers: [{ authorization: "Bearer x" }],
      tokens: ["a", "b"],
      maxTokens: 5
    }) as Json.Json
    assert.deepStrictEqual(Json.maskedPaths(shown), ["apiKey", "headers[0].authorization", "tokens[0]", "tokens[1]"])
    assert.deepStrictEqual(Json.maskedPaths(Json.mask), [""])
    assert.deepStrictEqual(Json.maskedPaths({ odd: { "a key": { "": Json.mask } } }), [`odd["a key"][""]`])
    assert.deepStrictEqual(Json.maskedPaths([1, null, "x"]), [])
  })

  it("empties what is masked, and says which of it is still empty", () => {
    const empty = Json.unmasked({ apiKey: Json.mask, list: [Json.mask, "kept"], n: 1 })
    assert.deepStrictEqual(empty, { apiKey: "", list: ["", "kept"], n: 1 })
    const paths = ["apiKey", "list[0]"]
    assert.deepStrictEqual(Json.unfilled(empty, paths), paths)
    assert.deepStrictEqual(Json.unfilled({ apiKey: "new", list: [Json.mask] }, paths), ["list[0]"])
    assert.deepStrictEqual(Json.unfilled({ list: [] }, paths), [], "what was taken out needs no value")
  })
})

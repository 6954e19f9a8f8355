import { assert, describe, it } from "@effect/vitest"
import { Result, Schema } from "effect"
import * as FastCheck from "fast-check"
import * as Json from "../../src/internal/Json.ts"

const nested = (depth: number) => `${"[".repeat(depth)}${"]".repeat(depth)}`

/** As JSON has them and JavaScript has not. */
const inexact: ReadonlyArray<readonly [number: string, becomes: string]> = [
  ["1970670598291982290", "1970670598291982300"],
  ["-9007199254740993", "-9007199254740992"],
  ["9007199254740993.0", "9007199254740992"],
  ["0.1000000000000000055", "0.1"],
  ["1.0000000000000001", "1"],
  ["12345678901234567.89", "12345678901234568"],
  ["1e400", "Infinity"],
  ["-1E+400", "-Infinity"],
  ["1e-400", "0"],
  ["1".repeat(400), "Infinity"],
  ["123456789012345678e0", "123456789012345680"]
]

const exact = [
  "0",
  "-0",
  "0e5",
  "1.10",
  "9007199254740991",
  "9007199254740992",
  "100000000000000000000000",
  "1e23",
  "1E+23",
  "10e22",
  "5e-324",
  "0.30000000000000004",
  "0.00000000000000000000000000000000000000000000000000001",
  "1000000000000000.0000000000000000",
  "1.7976931348623157e308"
]

describe("a number", () => {
  it("is exact if JavaScript has its decimal value", () => {
    for (const number of exact) assert.isTrue(Json.isExact(number), number)
    for (const [number] of inexact) assert.isFalse(Json.isExact(number), number)
    FastCheck.assert(FastCheck.property(
      FastCheck.double({ noDefaultInfinity: true, noNaN: true }),
      (n) => Json.isExact(JSON.stringify(n)) && Json.isExact(n === 0 ? "0" : n.toExponential())
    ))
    FastCheck.assert(FastCheck.property(
      FastCheck.bigInt({ min: -(10n ** 30n), max: 10n ** 30n }),
      (n) => Json.isExact(String(n)) === (written(Number(n)) === n)
    ))
  })

  it("is judged in a moment, however long it is", () => {
    assert.isFalse(Json.isExact(`1${"0".repeat(500_000)}1`))
    assert.isFalse(Json.isExact(`0.${"0".repeat(500_000)}1`))
    assert.isTrue(Json.isExact("1".concat(".", "0".repeat(500_000))))
  })
})

// as JavaScript writes it
const written = (n: number) => {
  const [digits = "", exponent = "0"] = String(n).split("e+")
  const [whole = "", fraction = ""] = digits.split(".")
  return BigInt(whole + fraction.padEnd(Number(exponent), "0"))
}

describe("what somebody writes", () => {
  it("has no number that would be another one, and its place is told", () => {
    for (const [number, becomes] of inexact) {
      const shown = number.length > 40 ? `${number.slice(0, 40)}…` : number
      const message = (path: string) => `The number ${shown} at ${path} would become ${becomes}: it has to be a text`
      const text = `{"a b":[1,{"id":[]},{"id":\n ${number}}]}`
      assert.strictEqual(Json.issue(text, "payload"), message("payload[\"a b\"][2].id"))
      assert.deepStrictEqual(Json.read(text), Result.fail(message("[\"a b\"][2].id")))
      assert.strictEqual(Json.issue(number, "payload"), message("payload"))
      assert.strictEqual(Json.issue(`{"n\\u0061":${number}}`), message("na"))
    }
    assert.strictEqual(
      Json.issue("1e400"),
      "The number 1e400 would become Infinity: it has to be a text"
    )
    for (const number of [...exact, `"${inexact[0]![0]}"`, `"\\"${inexact[0]![0]}"`]) {
      assert.isUndefined(Json.issue(`{"a":${number}}`), number)
    }
  })

  it("has every name once", () => {
    assert.strictEqual(Json.issue(`{"a":{"b":1,"\\u0062":2}}`, "payload"), "The name at payload.a.b is given twice")
    assert.strictEqual(Json.issue(`{"__proto__":1,"__proto__":2}`), "The name at __proto__ is given twice")
    assert.isUndefined(Json.issue(`[{"a":1},{"a":{"a":2}},"a","a",["a","a"]]`))
  })

  it("has no character that PostgreSQL does not store", () => {
    for (const text of ["\\u0000", "\\ud800", "\\udc00\\ud800", "\ud800"]) {
      const message = "has a NUL character or a lone surrogate, which PostgreSQL does not store"
      assert.strictEqual(Json.issue(`{"a":["${text}"]}`, "payload"), `The text at payload.a[0] ${message}`)
      assert.include(Json.issue(`{"${text}":1}`) ?? "", message)
    }
    assert.isUndefined(Json.issue(`["\\ud83d\\ude00", "😀", "\\\\u0000", "\\\\ud800"]`))
  })

  it("is not nested deeper than a task may be", () => {
    assert.isUndefined(Json.issue(nested(200)))
    assert.strictEqual(Json.issue(nested(201)), "The JSON is nested deeper than 200")
    assert.isDefined(Json.issue("[{\"a\":".repeat(200_000)))
    assert.isUndefined(Json.issue(`[${"[],".repeat(1000)}"${"[".repeat(1000)}"]`))
  })

  it("can be whatever JavaScript writes", () => {
    FastCheck.assert(FastCheck.property(FastCheck.json(), (json) => Json.issue(json) === undefined))
    FastCheck.assert(FastCheck.property(
      FastCheck.jsonValue(),
      (json) =>
        Json.read(JSON.stringify(json)).pipe(Result.map(JSON.stringify), Result.getOrThrow) === JSON.stringify(json)
    ))
  })

  it("is left to the parser where it is no JSON", () => {
    for (const text of ["", "{", "]", "\"abc", "\"abc\\", "\"\\x\"", "nul", "1.2.3.4.5.6.7.8.9.0.1", "{:1,:2}", ",,"]) {
      assert.isUndefined(Json.issue(text), text)
      assert.isTrue(Result.isFailure(Json.read(text)), text)
    }
  })
})

describe("what is stored", () => {
  it("is read and written as it is", () => {
    for (const number of [...inexact.map(([number]) => number), ...exact].filter((number) => !/e/i.test(number))) {
      const text = `{"a":[${number},"${number}",{"b":${number}}],"__proto__":{"c":${number}}}`
      const json = Json.parse(text)
      const same = Json.isExact(number) ? JSON.stringify(JSON.parse(text)) : text
      assert.strictEqual(Json.stringify(json), same)
      // whoever writes it
      assert.strictEqual(JSON.stringify(json), same)
      assert.isTrue(Schema.is(Schema.Json)(json))
      assert.strictEqual(
        JSON.stringify(Schema.encodeSync(Schema.Json)(Schema.decodeSync(Schema.Json)(json))),
        same
      )
      const issue = `The number ${number.slice(0, 40)}`
      for (const found of [Json.inexact(text, "payload"), Json.inexactIn(json, "payload")]) {
        if (Json.isExact(number)) assert.isUndefined(found)
        else assert.isTrue(found?.startsWith(issue) === true && found.includes(" at payload.a[0] would become "), found)
      }
    }
    assert.strictEqual(`${Json.parse("1970670598291982290")}`, "1970670598291982290")
    assert.strictEqual(Json.parse("\"1970670598291982290\""), "1970670598291982290")
    for (const before of ["\"1970670598291982290\",", "\"a 1970670598291982290\",", " ", "\n", "-", "0,"]) {
      const text = `[${before}1970670598291982290]`
      assert.strictEqual(
        Json.stringify(Json.parse(text)),
        text.replace(/\s(?=1)/, (space) => before === space ? "" : space)
      )
    }
  })

  it("is found wherever a long number is", () => {
    FastCheck.assert(FastCheck.property(
      FastCheck.string({ maxLength: 40 }),
      FastCheck.bigInt({ min: 10n ** 15n, max: 10n ** 22n }),
      (before, n) => {
        const text = JSON.stringify([before, "x"]).replace("\"x\"", `${n}`)
        return Json.stringify(Json.parse(text)) === (Json.isExact(`${n}`) ? JSON.stringify(JSON.parse(text)) : text)
      }
    ))
  })

  it("can be deeper than any stack", () => {
    const text = `${"[".repeat(20_000)}1970670598291982290${"]".repeat(20_000)}`
    assert.include(Json.inexact(text, "payload") ?? "", "1970670598291982290")
    assert.isDefined(Json.parse(text))
  })

  it("is written by a browser that has no raw JSON, too", () => {
    const json = Json.parse(`{"a":[1970670598291982290],"b":"\\"\\\\u0000#1"}`)
    const { rawJSON } = JSON as { rawJSON?: unknown }
    Object.assign(JSON, { rawJSON: undefined })
    try {
      assert.strictEqual(
        Json.stringify(json, 1),
        "{\n \"a\": [\n  1970670598291982290\n ],\n \"b\": \"\\\"\\\\u0000#1\"\n}"
      )
    } finally {
      Object.assign(JSON, { rawJSON })
    }
  })
})

it("names a number that JSON does not have", () => {
  assert.strictEqual(Json.notFinite({ a: [1, { b: Number.NaN }] }, "payload"), "The number at payload.a[1].b is NaN")
  assert.isUndefined(Json.notFinite({ a: [1, null, "NaN"] }, "payload"))
})

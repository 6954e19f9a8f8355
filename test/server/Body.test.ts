import { assert, describe, it } from "@effect/vitest"
import * as FastCheck from "fast-check"
import * as Body from "../../src/server/Body.ts"

const nested = (depth: number) => `${"[".repeat(depth)}${"]".repeat(depth)}`

describe("a body", () => {
  it("has no integer that would be another one", () => {
    for (const digits of ["9007199254740993", "-9007199254740993", "12345678901234567890", "1".repeat(400)]) {
      assert.include(Body.issue(`{"a":[1,${digits}]}`) ?? "", digits.slice(0, 40), digits)
    }
    assert.strictEqual(
      Body.issue("[9007199254740993]"),
      "The integer 9007199254740993 would be stored as 9007199254740992: send a text, or a number that JavaScript has"
    )
    for (
      const fine of [
        "9007199254740992",
        "9007199254740993.0",
        "1e30",
        "\"9007199254740993\"",
        "\"\\\"9007199254740993\""
      ]
    ) {
      assert.isUndefined(Body.issue(`{"a":${fine}}`), fine)
    }
  })

  it("can be whatever JavaScript writes", () => {
    FastCheck.assert(FastCheck.property(FastCheck.json(), (json) => Body.issue(json) === undefined))
    FastCheck.assert(
      FastCheck.property(
        FastCheck.double({ noDefaultInfinity: true, noNaN: true }),
        (n) => Body.issue(JSON.stringify([n])) === undefined
      )
    )
  })

  it("is not nested deeper than a task may be", () => {
    assert.isUndefined(Body.issue(nested(201)))
    assert.strictEqual(Body.issue(nested(202)), "The JSON is nested deeper than 200")
    assert.isDefined(Body.issue("[{\"a\":".repeat(200_000)))
    assert.isUndefined(Body.issue(`[${"[],".repeat(1000)}"${"[".repeat(1000)}"]`))
  })

  it("is left to the parser where it is no JSON", () => {
    for (const text of ["", "{", "]", "\"abc", "\"abc\\", "nul"]) assert.isUndefined(Body.issue(text))
  })
})

import { assert, describe, it } from "@effect/vitest"
import { refusal } from "../../src/dashboard/refusal.ts"

describe("a sign-in that is refused", () => {
  it("says why, and how long to wait", () => {
    assert.strictEqual(refusal(401, null), "This is not the token.")
    assert.strictEqual(refusal(429, "6"), "Too many wrong tokens came from here: wait 6 seconds, then try again.")
    assert.strictEqual(refusal(429, "1"), "Too many wrong tokens came from here: wait 1 second, then try again.")
    assert.strictEqual(refusal(429, null), "Too many wrong tokens came from here: wait a while, then try again.")
    assert.strictEqual(refusal(503, "1"), "The server answered with 503.")
  })
})

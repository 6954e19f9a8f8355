import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Schema } from "effect"
import { AiError } from "effect/ai"
import * as ModelError from "../../src/ai/ModelError.ts"
import * as RetryPolicy from "../../src/RetryPolicy.ts"

const network = (reason: AiError.NetworkError["reason"]) =>
  new AiError.NetworkError({ reason, method: "POST", url: "https://example.com" })

const unknown = (status?: number) =>
  new AiError.UnknownError(status === undefined ? {} : { http: { response: { status, headers: {} } } })

const description = "d"
const toolName = "t"

// each reason, the tag it becomes, and whether that tag is tried again
const cases: ReadonlyArray<readonly [AiError.AiErrorReason, ModelError.ModelError["_tag"], "Retry" | "Fail"]> = [
  [new AiError.RateLimitError({}), "RateLimited", "Retry"],
  [new AiError.InternalProviderError({ description }), "ModelUnavailable", "Retry"],
  [network("TransportError"), "ModelUnavailable", "Retry"],
  [unknown(), "ModelUnavailable", "Retry"],
  [unknown(408), "ModelUnavailable", "Retry"],
  [unknown(409), "ModelUnavailable", "Retry"],
  [unknown(425), "ModelUnavailable", "Retry"],
  [unknown(500), "ModelUnavailable", "Retry"],
  [unknown(302), "ModelUnavailable", "Retry"],
  [unknown(404), "InvalidRequest", "Fail"],
  [network("EncodeError"), "InvalidRequest", "Fail"],
  [network("InvalidUrlError"), "InvalidRequest", "Fail"],
  [new AiError.InvalidRequestError({}), "InvalidRequest", "Fail"],
  [new AiError.InvalidUserInputError({ description }), "InvalidRequest", "Fail"],
  [new AiError.UnsupportedSchemaError({ description }), "InvalidRequest", "Fail"],
  [new AiError.ToolConfigurationError({ toolName, description }), "InvalidRequest", "Fail"],
  [new AiError.ToolkitRequiredError({ pendingApprovals: [] }), "InvalidRequest", "Fail"],
  [new AiError.InvalidToolResultError({ toolName, description }), "InvalidRequest", "Fail"],
  [new AiError.ToolResultEncodingError({ toolName, toolResult: 1, description }), "InvalidRequest", "Fail"],
  [new AiError.ContentPolicyError({ description }), "ContentFiltered", "Fail"],
  [new AiError.AuthenticationError({ kind: "InvalidKey" }), "AuthenticationFailed", "Fail"],
  [new AiError.QuotaExhaustedError({}), "AuthenticationFailed", "Fail"],
  [new AiError.InvalidResponseError({ description }), "MalformedOutput", "Retry"],
  [new AiError.InvalidOutputError({ description: "d\n  at [1]" }), "MalformedOutput", "Retry"],
  [new AiError.StructuredOutputError({ description, responseText: "" }), "MalformedOutput", "Retry"],
  [new AiError.ToolNotFoundError({ toolName, availableTools: [] }), "MalformedOutput", "Retry"],
  [new AiError.ToolParameterValidationError({ toolName, description }), "MalformedOutput", "Retry"]
]

const decide = (error: ModelError.ModelError) =>
  RetryPolicy.decide(ModelError.retry, {
    attempt: 1,
    maxAttempts: 3,
    failure: RetryPolicy.Failed.Failure({ error })
  })

describe("ModelError", () => {
  it.effect.each(cases)("%s becomes %s: %s", ([reason, tag, decision]) =>
    Effect.gen(function*() {
      const error = ModelError.fromReason(reason)
      assert.strictEqual(error._tag, tag)
      assert.strictEqual(error.message, reason.message.split("\n")[0])
      assert.strictEqual((yield* decide(error))._tag, decision)
    }))

  it("names every reason in the table above", () => {
    assert.deepStrictEqual(
      new Set(cases.map(([reason]) => reason._tag)),
      new Set(AiError.AiErrorReason.members.map((member) => member.fields._tag.schema.literal))
    )
  })

  it.each([
    [new AiError.RateLimitError({ metadata: { some: { message: "too fast" } } }), "Rate limit exceeded: too fast"],
    [
      new AiError.QuotaExhaustedError({ metadata: { none: null, some: { message: "no credit" } } }),
      "Quota exhausted. Check your account billing and usage limits: no credit"
    ]
  ])("has the provider's own words: $0._tag", (reason, message) => {
    assert.strictEqual(ModelError.fromReason(reason).message, message)
  })

  it.effect("waits as long as the provider says", () =>
    Effect.gen(function*() {
      const error = ModelError.fromReason(new AiError.RateLimitError({ retryAfter: Duration.seconds(7) }))
      assert.deepStrictEqual(yield* decide(error), RetryPolicy.Decided.Retry({ delay: Duration.seconds(7) }))
    }))

  it.effect("waits for the backoff where the provider says less than a second, and for an hour at most", () =>
    Effect.gen(function*() {
      const delay = Effect.fnUntraced(function*(millis: number) {
        const retryAfter = Duration.millis(millis)
        const decided = yield* decide(new ModelError.RateLimited({ message: "slow down", retryAfter }))
        return decided._tag === "Retry" ? Duration.toMillis(decided.delay) : undefined
      })
      for (const millis of [0, 1, 999]) assert.isAtLeast((yield* delay(millis)) ?? 0, 800)
      assert.strictEqual(yield* delay(1000), 1000)
      assert.strictEqual(yield* delay(3_600_000), 3_600_000)
      for (const millis of [3_600_001, 2 ** 50, Infinity]) assert.strictEqual(yield* delay(millis), 3_600_000)
    }))

  it.effect("stores the wait in milliseconds", () =>
    Effect.gen(function*() {
      const error = new ModelError.RateLimited({ message: "slow down", retryAfter: Duration.seconds(7) })
      const stored = yield* Schema.encodeEffect(Schema.toCodecJson(ModelError.ModelError))(error)
      assert.deepStrictEqual(stored, { _tag: "RateLimited", message: "slow down", retryAfter: 7000 })
    }))
})

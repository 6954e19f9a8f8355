import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Logger, Option, Random, Schedule, Schema } from "effect"
import { TestClock } from "effect/testing"
import * as RetryPolicy from "../src/RetryPolicy.ts"

class Busy extends Schema.TaggedError<Busy>()("Busy", { seconds: Schema.Int }) {}
class Refused extends Schema.TaggedError<Refused>()("Refused", {}) {}
// named like what every object inherits
class Constructor extends Schema.TaggedError<Constructor>()("constructor", { retryAfter: Schema.Int }) {}

const { Failed } = RetryPolicy
const busy = (seconds = 1) => Failed.Failure({ error: new Busy({ seconds }) })
const timeout = Failed.Timeout()

/** The delay in milliseconds, or `"fail"`. */
const decide = (
  policy: RetryPolicy.Any | undefined,
  failure: RetryPolicy.Failed,
  attempt = 1,
  maxAttempts = 1_000_000
) =>
  Effect.map(
    RetryPolicy.decide(policy, { attempt, maxAttempts, failure }),
    RetryPolicy.Decided.$match({ Retry: ({ delay }) => Duration.toMillis(delay), Fail: () => "fail" as const })
  )

const delays = (backoff: RetryPolicy.Backoff, attempts: number) =>
  Effect.forEach(Array.from({ length: attempts }, (_, i) => i + 1), (attempt) => decide({ backoff }, timeout, attempt))

const withoutJitter = (options?: Omit<RetryPolicy.Exponential, "_tag" | "jitter">) =>
  RetryPolicy.exponential({ ...options, jitter: 0 })

const withLogs = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.suspend(() => {
    const logs: Array<unknown> = []
    const logger = Logger.make(({ logLevel, message }) => void logs.push([logLevel, message]))
    return Effect.map(Effect.provide(effect, Logger.layer([logger])), (value) => ({ value, logs }))
  })

describe("RetryPolicy", () => {
  describe("backoff", () => {
    it.effect("fixed", () =>
      Effect.gen(function*() {
        assert.deepStrictEqual(yield* delays(RetryPolicy.fixed("30 seconds"), 3), [30_000, 30_000, 30_000])
      }))

    it.effect("exponential doubles from 1 second to 1 hour", () =>
      Effect.gen(function*() {
        assert.deepStrictEqual(
          yield* delays(withoutJitter(), 14),
          [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 3600, 3600].map((seconds) => seconds * 1000)
        )
      }))

    it.effect("exponential with a base, a factor and a cap", () =>
      Effect.gen(function*() {
        const backoff = withoutJitter({ base: "500 millis", factor: 3, cap: "10 seconds" })
        assert.deepStrictEqual(yield* delays(backoff, 5), [500, 1500, 4500, 10_000, 10_000])
      }))

    it.effect("the default strays by 20 % to either side", () =>
      Effect.gen(function*() {
        const at = (random: number) =>
          Effect.provideService(decide(undefined, timeout, 3), Random.Random, {
            nextDoubleUnsafe: () => random,
            nextIntUnsafe: () => 0
          })
        assert.strictEqual(yield* at(0), 3200)
        assert.strictEqual(yield* at(0.5), 4000)
        assert.strictEqual(yield* at(1 - Number.EPSILON), 4800)
      }))

    it.effect.prop("jitter stays within its share, and the delay is storable", {
      attempt: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 100_000 })),
      base: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 1e9 })),
      cap: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 1e15 })),
      factor: Schema.Finite.check(Schema.isBetween({ minimum: 1, maximum: 100 })),
      jitter: Schema.Finite.check(Schema.isBetween({ minimum: 0, maximum: 1 }))
    }, ({ attempt, base, cap, factor, jitter }) =>
      Effect.gen(function*() {
        const delay = yield* decide(
          { backoff: RetryPolicy.exponential({ base, cap, factor, jitter }) },
          timeout,
          attempt
        )
        const exact = base === 0 ? 0 : Math.min(base * factor ** (attempt - 1), cap)
        const max = Duration.toMillis(RetryPolicy.maxDelay)
        assert(delay !== "fail" && Number.isInteger(delay))
        assert.isAtLeast(delay, Math.floor(Math.min(exact * (1 - jitter), max)))
        assert.isAtMost(delay, Math.ceil(Math.min(exact * (1 + jitter), max)))
      }))

    it.effect("a schedule is stepped to the attempt, and fails the task when it ends", () =>
      Effect.gen(function*() {
        const schedule = Schedule.exponential("1 second").pipe(Schedule.upTo({ times: 3 }))
        assert.deepStrictEqual(yield* delays(schedule, 5), [1000, 2000, 4000, "fail", "fail"])
        assert.deepStrictEqual(yield* delays(Schedule.recurs(0), 1), ["fail"])
      }))

    it.effect("a schedule's clock advances by its delays", () =>
      Effect.gen(function*() {
        const schedule = Schedule.spaced("10 seconds").pipe(Schedule.upTo({ duration: "25 seconds" }))
        yield* TestClock.adjust("1 day")
        assert.deepStrictEqual(yield* delays(schedule, 5), [10_000, 10_000, 10_000, "fail", "fail"])
      }))

    it.effect("a schedule sees the failure", () =>
      Effect.gen(function*() {
        const backoff = Schedule.spaced("1 second").pipe(Schedule.while(({ input }) => input instanceof Busy))
        assert.strictEqual(yield* decide({ backoff }, busy()), 1000)
        assert.strictEqual(yield* decide({ backoff }, Failed.Defect({ defect: new Error("bug") })), "fail")
      }))

    it.effect("an endless delay is cut to one that a timestamp takes", () =>
      Effect.gen(function*() {
        const max = Duration.toMillis(RetryPolicy.maxDelay)
        assert.strictEqual(yield* decide({ backoff: RetryPolicy.fixed("Infinity") }, timeout), max)
        assert.strictEqual(yield* decide({ backoff: Schedule.spaced("Infinity") }, timeout), max)
        assert.strictEqual(yield* decide({ backoff: withoutJitter({ cap: "Infinity" }) }, timeout, 5000), max)
      }))

    it.effect("a backoff that throws is logged and replaced by the default", () =>
      Effect.gen(function*() {
        const backoff = Schedule.spaced("1 day").pipe(Schedule.while(() => {
          throw new Error("bug")
        }))
        const { logs, value } = yield* withLogs(decide({ backoff }, timeout))
        assert(value !== "fail" && value >= 800 && value <= 1200)
        assert.lengthOf(logs, 1)
      }))
  })

  describe("rules", () => {
    const policy: RetryPolicy.RetryPolicy<Busy | Refused> = {
      backoff: RetryPolicy.fixed("1 minute"),
      on: {
        Busy: ({ seconds }) => seconds > 100 ? "fail" : seconds === 0 ? "retry" : { retryAfter: `${seconds} seconds` },
        Refused: "fail",
        timeout: "fail",
        defect: (defect) => defect instanceof TypeError ? "fail" : "retry",
        interrupted: undefined
      }
    }

    it.effect.each([
      { name: "a function's retryAfter", failure: busy(7), expected: 7000 },
      { name: "a function's fail", failure: busy(101), expected: "fail" },
      { name: "a function's retry", failure: busy(0), expected: 60_000 },
      { name: "an error that is not retried", failure: Failed.Failure({ error: new Refused() }), expected: "fail" },
      {
        name: "an error without a rule",
        failure: Failed.Failure({ error: new Constructor({ retryAfter: 5 }) }),
        expected: 60_000
      },
      { name: "an error without a tag", failure: Failed.Failure({ error: "boom" }), expected: 60_000 },
      { name: "a timeout", failure: timeout, expected: "fail" },
      { name: "a defect, by the defect", failure: Failed.Defect({ defect: new TypeError() }), expected: "fail" },
      { name: "another defect", failure: Failed.Defect({ defect: undefined }), expected: 60_000 },
      { name: "an interruption without a rule", failure: Failed.Interrupted(), expected: 60_000 }
    ])("$name", ({ expected, failure }) =>
      Effect.gen(function*() {
        assert.strictEqual(yield* decide(policy, failure), expected)
      }))

    it.effect("everything is retried without rules", () =>
      Effect.gen(function*() {
        const backoff = RetryPolicy.fixed("1 second")
        for (const failure of [busy(), timeout, Failed.Defect({ defect: "bug" }), Failed.Interrupted()]) {
          assert.strictEqual(yield* decide({ backoff }, failure), 1000)
        }
      }))

    it.effect("the last attempt fails whatever a rule says", () =>
      Effect.gen(function*() {
        assert.strictEqual(yield* decide(policy, busy(7), 2, 3), 7000)
        assert.strictEqual(yield* decide(policy, busy(7), 3, 3), "fail")
        assert.strictEqual(yield* decide(undefined, timeout, 1, 1), "fail")
      }))

    it.effect("a rule that throws is logged and counts as retry", () =>
      Effect.gen(function*() {
        const bug = new Error("bug")
        const throwing: RetryPolicy.RetryPolicy<Busy> = {
          backoff: RetryPolicy.fixed("1 second"),
          on: {
            Busy: () => {
              throw bug
            }
          }
        }
        const { logs, value } = yield* withLogs(decide(throwing, busy()))
        assert.strictEqual(value, 1000)
        assert.deepStrictEqual(logs, [["Warn", ["a retry rule threw", bug]]])
      }))

    it.effect("a retryAfter that is out of range is brought into it, one that is no duration counts as retry", () =>
      Effect.gen(function*() {
        const after = (retryAfter: any) =>
          decide({ backoff: RetryPolicy.fixed("1 second"), on: { Busy: () => ({ retryAfter }) } }, busy())
        assert.strictEqual(yield* after("-5 seconds"), 0)
        assert.strictEqual(yield* after("Infinity"), Duration.toMillis(RetryPolicy.maxDelay))
        assert.strictEqual(yield* after(Number.NaN), 0)
        assert.strictEqual(yield* after("soon"), 1000)
        assert.strictEqual(yield* after(undefined), 1000)
      }))
  })

  it("toDelay", () => {
    assert.deepStrictEqual(RetryPolicy.toDelay("1500 micros"), Option.some(Duration.millis(2)))
    assert.deepStrictEqual(RetryPolicy.toDelay("soon" as any), Option.none())
  })

  it.each([
    [{ backoff: RetryPolicy.fixed("soon" as any) }, /delay is soon/],
    [{ backoff: RetryPolicy.fixed(-1) }, /delay is -1/],
    [{ backoff: RetryPolicy.exponential({ base: "1 sec" as any }) }, /base is 1 sec/],
    [{ backoff: RetryPolicy.exponential({ cap: "-1 second" }) }, /cap is -1 second/],
    [{ backoff: RetryPolicy.exponential({ factor: 0.5 }) }, /factor is 0.5/],
    [{ backoff: RetryPolicy.exponential({ factor: Number.POSITIVE_INFINITY }) }, /factor is Infinity/],
    [{ backoff: RetryPolicy.exponential({ jitter: 1.1 }) }, /jitter is 1.1/],
    [{ backoff: RetryPolicy.exponential({ jitter: Number.NaN }) }, /jitter is NaN/]
  ])("issue %#", (policy, message) => assert.match(RetryPolicy.issue(policy)!, message))

  it("no issue", () => {
    for (const backoff of [undefined, RetryPolicy.fixed(0), RetryPolicy.exponential(), Schedule.recurs(1)]) {
      assert.isUndefined(RetryPolicy.issue({ backoff }))
    }
  })
})

/**
 * From an attempt's failure to a decision: try again, and when, or give up.
 *
 * Whatever the policy says, `maxAttempts` bounds the attempts, and a handler can
 * overrule it with `Task.Retry`, `Task.Snooze` and `Task.Discard`.
 *
 * @since 0.1.0
 */
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Pull from "effect/Pull"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import * as Thrown from "./internal/Thrown.ts"

/**
 * The same delay after every attempt.
 *
 * @since 0.1.0
 * @category backoff
 */
export interface Fixed {
  readonly _tag: "Fixed"
  readonly delay: Duration.Input
}

/**
 * `base * factor ^ (attempt - 1)`, at most `cap`, then spread by `jitter`.
 *
 * @since 0.1.0
 * @category backoff
 */
export interface Exponential {
  readonly _tag: "Exponential"
  /** The delay after the first attempt. Default 1 second. */
  readonly base?: Duration.Input | undefined
  /** What each further attempt multiplies the delay by, at least 1. Default 2. */
  readonly factor?: number | undefined
  /** The longest delay, before jitter. Default 1 hour. */
  readonly cap?: Duration.Input | undefined
  /** How far the delay may stray to either side, as a share of it from 0 to 1. Default 0.2, which is ± 20 %. */
  readonly jitter?: number | undefined
}

/**
 * How long to wait before the next attempt. A schedule is stepped from its start
 * to the current attempt, on whichever worker that is, with a clock that advances
 * by the delays only; its input at every step is the failure at hand. When it
 * ends, the task fails.
 *
 * @since 0.1.0
 * @category backoff
 */
export type Backoff = Fixed | Exponential | Schedule.Schedule<unknown>

/**
 * The same delay after every attempt.
 *
 * @since 0.1.0
 * @category constructors
 */
export const fixed = (delay: Duration.Input): Fixed => ({ _tag: "Fixed", delay })

/**
 * A delay that grows with the attempts.
 *
 * @since 0.1.0
 * @category constructors
 */
export const exponential = (options?: Omit<Exponential, "_tag">): Exponential => ({ _tag: "Exponential", ...options })

/**
 * Try again after the backoff, give up, or try again after a delay of its own
 * (such as an upstream's `Retry-After`).
 *
 * @since 0.1.0
 * @category models
 */
export type Decision = "retry" | "fail" | { readonly retryAfter: Duration.Input }

/**
 * A decision, or how to reach it from the failure. A function that throws, or
 * returns something else, counts as `"retry"`: a bug in a rule loses no task.
 *
 * @since 0.1.0
 * @category models
 */
export type Rule<Failed> = "retry" | "fail" | ((failed: Failed) => Decision)

/**
 * One rule for each tag of the task's errors: leaving one out is a compile error.
 * Timeouts, defects and self-interruptions are retried unless a rule says otherwise;
 * an error that is tagged like one of them takes its key, and its rule is asked
 * about both.
 *
 * @since 0.1.0
 * @category models
 */
export type Rules<Error extends { readonly _tag: string }> =
  & { readonly [Tag in Error["_tag"]]: Rule<Extract<Error, { readonly _tag: Tag }>> }
  & {
    readonly [Other in Exclude<"timeout" | "defect" | "interrupted", Error["_tag"]>]?:
      | Rule<Other extends "defect" ? unknown : void>
      | undefined
  }

/**
 * When to try again, by what went wrong.
 *
 * @since 0.1.0
 * @category models
 * @example
 * ```ts
 * retry: {
 *   backoff: RetryPolicy.exponential({ base: "1 second", cap: "1 minute", jitter: 0.2 }),
 *   on: {
 *     ModelUnavailable: "retry",
 *     RateLimited: ({ retryAfter }) => ({ retryAfter }),
 *     PromptRefused: "fail",
 *     timeout: "fail"
 *   }
 * }
 * ```
 */
export type RetryPolicy<Error extends { readonly _tag: string } = never> =
  & {
    /** Default `exponential()`. */
    readonly backoff?: Backoff | undefined
  }
  & ([Error] extends [never] ? { readonly on?: Rules<never> | undefined } : { readonly on: Rules<Error> })

/**
 * Any policy, whatever its errors.
 *
 * @since 0.1.0
 * @category models
 */
export interface Any {
  readonly backoff?: Backoff | undefined
  readonly on?: object | undefined
}

/**
 * How an attempt ended, as far as a policy is asked about it:
 *
 * - `Failure`: with an error of the task
 * - `Timeout`: it took longer than its timeout
 * - `Defect`: with a bug
 * - `Interrupted`: the handler interrupted itself
 *
 * @since 0.1.0
 * @category models
 */
export type Failed = Data.TaggedEnum<{
  Failure: { readonly error: unknown }
  Timeout: {}
  Defect: { readonly defect: unknown }
  Interrupted: {}
}>

/**
 * Constructors and matchers of `Failed`.
 *
 * @since 0.1.0
 * @category constructors
 */
export const Failed = Data.taggedEnum<Failed>()

/**
 * What becomes of the task: another attempt after `delay`, or none.
 *
 * @since 0.1.0
 * @category models
 */
export type Decided = Data.TaggedEnum<{
  Retry: { readonly delay: Duration.Duration }
  Fail: {}
}>

/**
 * Constructors and matchers of `Decided`.
 *
 * @since 0.1.0
 * @category constructors
 */
export const Decided = Data.taggedEnum<Decided>()

/**
 * The longest delay: 10 years. What is longer is cut to it, so that it can be added to a timestamp.
 *
 * @since 0.1.0
 * @category constants
 */
export const maxDelay: Duration.Duration = Duration.days(3653)

/**
 * A delay as it can be stored: whole milliseconds, not negative, at most
 * `maxDelay`. None if the input is no duration.
 *
 * @since 0.1.0
 * @category delays
 */
export const toDelay = (input: Duration.Input): Option.Option<Duration.Duration> =>
  Option.map(Duration.fromInput(input), (duration) => fromMillis(Duration.toMillis(duration)))

const fromMillis = (millis: number) =>
  Number.isNaN(millis)
    ? Duration.zero
    : Duration.millis(Math.round(Math.min(Math.max(millis, 0), Duration.toMillis(maxDelay))))

/**
 * What is wrong with a policy, if anything. `Task.make` refuses one that has an issue.
 *
 * @since 0.1.0
 * @category validation
 */
export const issue = ({ backoff }: Any): string | undefined => {
  if (backoff === undefined || Schedule.isSchedule(backoff)) return undefined
  if (backoff._tag === "Fixed") return delayIssue("delay", backoff.delay)
  if (backoff.factor !== undefined && !(backoff.factor >= 1 && Number.isFinite(backoff.factor))) {
    return `factor is ${backoff.factor}, expected a finite number of at least 1`
  }
  if (backoff.jitter !== undefined && !(backoff.jitter >= 0 && backoff.jitter <= 1)) {
    return `jitter is ${backoff.jitter}, expected a number from 0 to 1`
  }
  return (backoff.base === undefined ? undefined : delayIssue("base", backoff.base)) ??
    (backoff.cap === undefined ? undefined : delayIssue("cap", backoff.cap))
}

const delayIssue = (name: string, input: Duration.Input) => {
  const duration = Duration.fromInput(input)
  return Option.isSome(duration) && Duration.toMillis(duration.value) >= 0
    ? undefined
    : `${name} is ${String(input)}, expected a duration that is not negative, such as "30 seconds"`
}

/**
 * Decides what becomes of a task whose attempt ended with `failure`. Attempts
 * count from 1; the last of `maxAttempts` fails the task whatever the policy says.
 *
 * Never fails: where a rule or a schedule has a bug, that is logged and the task
 * is tried again after the default backoff.
 *
 * @since 0.1.0
 * @category deciding
 */
export const decide: (policy: Any | undefined, options: {
  readonly attempt: number
  readonly maxAttempts: number
  readonly failure: Failed
}) => Effect.Effect<Decided> = Effect.fnUntraced(function*(policy, { attempt, failure, maxAttempts }) {
  if (attempt >= maxAttempts) return Decided.Fail()
  const decided = yield* Effect.sync(() => decisionOf(ruleFor(policy?.on, failure), failure)).pipe(
    Effect.catchDefect((defect) => Effect.as(threw("a retry rule threw", defect), undefined))
  )
  if (decided !== undefined) return decided
  return yield* delayAfter(policy?.backoff ?? exponential(), attempt, inputOf(failure)).pipe(
    Effect.catchDefect((defect) =>
      Effect.andThen(
        threw("a retry backoff threw", defect),
        Effect.asSome(exponentialDelay(exponential(), attempt))
      )
    ),
    Effect.map(Option.match({ onNone: () => Decided.Fail(), onSome: (delay) => Decided.Retry({ delay }) }))
  )
})

// Undefined leaves it to the backoff.
const decisionOf = (rule: Rule<unknown>, failure: Failed): Decided | undefined => {
  const decision = typeof rule === "function" ? rule(inputOf(failure)) : rule
  if (decision === "fail") return Decided.Fail()
  const delay = Predicate.isObject(decision) ? toDelay(decision.retryAfter) : Option.none()
  return Option.isSome(delay) ? Decided.Retry({ delay: delay.value }) : undefined
}

// What was thrown may throw again in the hands of a logger.
const threw = (message: string, defect: unknown) => Effect.ignoreCause(Effect.logWarning(message, defect))

const ruleFor = (rules: object | undefined, failure: Failed): Rule<unknown> => {
  const key = Failed.$match(failure, {
    Failure: ({ error }) => String(Thrown.property(error, "_tag")),
    Timeout: () => "timeout",
    Defect: () => "defect",
    Interrupted: () => "interrupted"
  })
  return rules !== undefined && Object.hasOwn(rules, key) ? rules[key as keyof typeof rules] : "retry"
}

const inputOf = Failed.$match({
  Failure: ({ error }) => error,
  Timeout: () => undefined,
  Defect: ({ defect }) => defect,
  Interrupted: () => undefined
})

const delayAfter = (
  backoff: Backoff,
  attempt: number,
  input: unknown
): Effect.Effect<Option.Option<Duration.Duration>> =>
  Schedule.isSchedule(backoff)
    ? scheduleDelay(backoff, attempt, input)
    : Effect.asSome(
      backoff._tag === "Fixed"
        ? Effect.sync(() => fromMillis(Duration.toMillis(backoff.delay)))
        : exponentialDelay(backoff, attempt)
    )

const exponentialDelay = (
  { base = "1 second", cap = "1 hour", factor = 2, jitter = 0.2 }: Exponential,
  attempt: number
): Effect.Effect<Duration.Duration> =>
  Effect.map(Random.next, (random) => {
    const exact = Math.min(Duration.toMillis(base) * factor ** (attempt - 1), Duration.toMillis(cap))
    return fromMillis(exact * (1 - jitter + 2 * jitter * random))
  })

const scheduleDelay = Effect.fnUntraced(
  function*(schedule: Schedule.Schedule<unknown>, attempt: number, input: unknown) {
    const step = yield* Schedule.toStep(schedule)
    let now = 0
    let delay = Duration.zero
    for (let i = 0; i < attempt; i++) {
      delay = (yield* step(now, input))[1]
      now += Duration.toMillis(delay)
    }
    return Option.some(fromMillis(Duration.toMillis(delay)))
  },
  Pull.catchDone(() => Effect.succeedNone)
)

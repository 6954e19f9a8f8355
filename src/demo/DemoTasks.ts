/**
 * Tasks to try a worker with: one that waits, one that streams, one that fails
 * and recovers, and one that looks like everyday work.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import * as Random from "effect/Random"
import * as Schema from "effect/Schema"
import * as Monotonic from "../internal/Monotonic.ts"
import * as RetryPolicy from "../RetryPolicy.ts"
import * as Task from "../Task.ts"
import * as TaskEvent from "../TaskEvent.ts"
import * as TaskGroup from "../TaskGroup.ts"

/**
 * Does nothing for `ms` milliseconds, a day at most. The worker's timeout
 * applies: a longer wait needs a `timeout` of its own.
 *
 * @category tasks
 * @since 0.1.0
 */
export class Sleep extends Task.make("demo:sleep", {
  payload: {
    ms: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: Duration.toMillis("1 day") }))
  },
  success: Schema.Struct({ sleptMs: Schema.Int })
}) {}

/**
 * Streams `tokens` pieces of text, evenly spaced, `perSecond` of them a second.
 *
 * @category tasks
 * @since 0.1.0
 */
export class StreamText extends Task.make("demo:stream", {
  payload: {
    tokens: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 100_000 })),
    perSecond: Schema.Finite.check(Schema.isBetween({ minimum: 0.1, maximum: 1000 }))
  },
  success: Schema.Struct({ text: Schema.String, tokens: Schema.Int }),
  event: TaskEvent.TextDelta
}) {}

/**
 * An attempt of `demo:fail` that was meant to fail.
 *
 * @category errors
 * @since 0.1.0
 */
export class FailedOnPurpose extends Schema.TaggedError<FailedOnPurpose>("spindle/demo/FailedOnPurpose")(
  "FailedOnPurpose",
  { message: Schema.String, remaining: Schema.Int }
) {}

/**
 * Fails its first `times` attempts and succeeds with the next one, if it gets that many.
 *
 * @category tasks
 * @since 0.1.0
 */
export class Fail extends Task.make("demo:fail", {
  payload: { times: Schema.Int.check(Schema.isGreaterThanOrEqualTo(0)) },
  success: Schema.Struct({ attempts: Schema.Int }),
  error: FailedOnPurpose,
  maxAttempts: 5,
  retry: {
    backoff: RetryPolicy.exponential({ base: "500 millis", cap: "10 seconds" }),
    on: { FailedOnPurpose: "retry" }
  }
}) {}

/**
 * The simulated mail server had no time for a message.
 *
 * @category errors
 * @since 0.1.0
 */
export class MailServerBusy extends Schema.TaggedError<MailServerBusy>("spindle/demo/MailServerBusy")(
  "MailServerBusy",
  { message: Schema.String }
) {}

/**
 * Pretends to send a message, which takes 200 ms and fails one time in ten. No
 * message leaves the machine: it is logged.
 *
 * @category tasks
 * @since 0.1.0
 */
export class SendEmail extends Task.make("email:send", {
  payload: {
    to: Schema.String.check(Schema.isPattern(/^[^\s@]+@[^\s@]+$/, { expected: "an address such as ada@example.org" })),
    subject: Schema.String,
    body: Schema.String
  },
  success: Schema.Struct({ messageId: Schema.String }),
  error: MailServerBusy,
  retry: {
    backoff: RetryPolicy.exponential({ base: "1 second" }),
    on: { MailServerBusy: "retry" }
  }
}) {}

/**
 * The tasks to try a worker with.
 *
 * @category groups
 * @since 0.1.0
 */
export class DemoTasks extends TaskGroup.make(Sleep, StreamText, Fail, SendEmail) {}

/**
 * Their handlers.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer: Layer.Layer<Task.ToHandler<TaskGroup.Tasks<typeof DemoTasks>>> = DemoTasks.toLayer({
  "demo:sleep": ({ ms }) => Effect.as(Effect.sleep(ms), { sleptMs: ms }),

  "demo:stream": Effect.fnUntraced(function*({ perSecond, tokens }, { emit }) {
    const start = yield* Monotonic.millis
    let text = ""
    for (let index = 1; index <= tokens; index++) {
      const now = yield* Monotonic.millis
      yield* Effect.sleep(Math.max(0, Math.ceil(start + index * 1000 / perSecond) - now))
      const token = `token ${index} `
      text += token
      yield* emit({ _tag: "text_delta", text: token })
    }
    return { text, tokens }
  }),

  "demo:fail": Effect.fnUntraced(function*({ times }, { attempt }) {
    if (attempt <= times) {
      return yield* new FailedOnPurpose({
        message: `Attempt ${attempt} of the ${times} that are meant to fail`,
        remaining: times - attempt
      })
    }
    return { attempts: attempt }
  }),

  "email:send": Effect.fnUntraced(function*({ subject, to }, { task }) {
    yield* Effect.sleep("200 millis")
    if ((yield* Random.next) < 0.1) {
      return yield* new MailServerBusy({ message: "The simulated mail server is busy, which it is one time in ten" })
    }
    yield* Effect.logInfo("Simulated sending of an email").pipe(Effect.annotateLogs({ to, subject }))
    return { messageId: `<${task.id}@demo.spindle>` }
  })
})

/**
 * From a claimed row to an outcome: decodes the payload, runs the handler, and turns how it ended into what is recorded.
 *
 * This is the only place where that is decided, and there is no way around it: the attempt's fiber is uninterruptible
 * but for the handler itself.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import type * as Schema from "effect/Schema"
import * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { Entry } from "../HandlerRegistry.ts"
import * as Json from "../internal/Json.ts"
import * as Thrown from "../internal/Thrown.ts"
import * as RetryPolicy from "../RetryPolicy.ts"
import * as Payload from "../storage/Payload.ts"
import type { StorageError } from "../storage/StorageError.ts"
import * as Task from "../Task.ts"
import * as TaskEvent from "../TaskEvent.ts"
import type { Attempt } from "./Attempt.ts"
import * as Failures from "./Failures.ts"
import type { Journal } from "./Journal.ts"
import { Outcome } from "./Outcome.ts"
import * as Storable from "./Storable.ts"

/**
 * What running needs of its worker.
 *
 * @category models
 * @since 0.1.0
 */
export interface Context {
  readonly workerId: string
  readonly journal: Journal["Service"]
  readonly isShuttingDown: Effect.Effect<boolean>
  /** Reads what the claim was too small for. Never ends when the task is no longer this worker's. */
  readonly bring: (attempt: Attempt) => Effect.Effect<void, StorageError>
}

/**
 * Runs an attempt and returns how it ended. Never fails. Must be run uninterruptibly; the handler alone can be
 * interrupted. The context holds `entry.services` and the attempt's scope, which closes here.
 *
 * @category running
 * @since 0.1.0
 */
export const run = (
  worker: Context,
  attempt: Attempt,
  entry: Entry,
  scope: Scope.Closeable
): Effect.Effect<Outcome, never, Scope.Scope> =>
  Effect.exit(Effect.interruptible(Effect.suspend(() => handle(worker, attempt, entry)))).pipe(
    Effect.flatMap((exit) => close(scope, exit)),
    Effect.flatMap((exit) => conclude(attempt, entry, exit)),
    // A codec, a result or an error that throws when it is used is a bug of the handler's like any other.
    Effect.catchCause((cause) => died(attempt, entry, Cause.squash(cause)))
  )

// A finalizer that dies takes the attempt with it.
const close = <A, E>(scope: Scope.Closeable, exit: Exit.Exit<A, E>): Effect.Effect<Exit.Exit<A, E>> =>
  scope.state._tag === "Empty"
    ? Effect.succeed(exit)
    : Effect.match(Effect.sandbox(Scope.close(scope, exit)), {
      onFailure: (cause) =>
        Exit.isFailure(exit) ? Exit.failCause(Cause.combine(exit.cause, cause)) : Exit.failCause(cause),
      onSuccess: () => exit
    })

/** A payload that cannot be run, whatever the handler. */
class Rejected {
  readonly failure: TaskEvent.Failure
  constructor(failure: TaskEvent.Failure) {
    this.failure = failure
  }
}

const handle = (
  worker: Context,
  attempt: Attempt,
  entry: Entry
): Effect.Effect<unknown, unknown, Scope.Scope> => {
  if (attempt.row.later) {
    return Effect.flatMap(
      Effect.mapError(worker.bring(attempt), (error) => new Rejected(Failures.unreadable(error))),
      () => handle(worker, attempt, entry)
    )
  }
  const { metadata, payload } = attempt.row
  if (payload === undefined) return Effect.fail(new Rejected(Failures.tooLarge("payload", Payload.maxBytes)))
  const issue = Json.inexact(payload, "payload") ?? Json.inexactIn(metadata, "metadata")
  if (issue !== undefined) return Effect.fail(new Rejected(Failures.rejected({ message: issue })))
  return Effect.flatMap(
    Effect.mapError(entry.decodePayload(JSON.parse(payload)), (error) => new Rejected(Failures.rejected(error))),
    (decoded) => entry.run(decoded, execution(worker, attempt, entry))
  )
}

const execution = (worker: Context, attempt: Attempt, entry: Entry): Task.Execution<any> => {
  const emit = (event: unknown) =>
    Effect.flatMap(Effect.orDie(entry.encodeEvent(event)), ({ data, type }) => {
      const { sanitized, text } = Storable.make(data)
      if (text.length > Storable.maxBytes) {
        return Effect.die(
          new Error(`The event ${type} has ${text.length} bytes of JSON, at most ${Storable.maxBytes} fit`)
        )
      }
      return worker.journal.emit(attempt, type, sanitized ? `${text.slice(0, -1)},"sanitized":true}` : text)
    })
  return {
    task: attempt.task,
    attempt: attempt.row.attempts,
    maxAttempts: attempt.row.maxAttempts,
    workerId: worker.workerId,
    isShuttingDown: worker.isShuttingDown,
    emit,
    emitAll: (stream) => Stream.runForEach(stream, emit),
    progress: (fraction, message) =>
      Effect.flatMap(
        Effect.orDie(TaskEvent.Progress.makeEffect({ fraction, ...(message === undefined ? {} : { message }) })),
        emit
      )
  }
}

const conclude = (attempt: Attempt, entry: Entry, exit: Exit.Exit<unknown, unknown>): Effect.Effect<Outcome> => {
  if (Exit.isSuccess(exit)) return complete(attempt, entry, exit.value)
  const { cause } = exit
  // A handler may end with errors of its own while it is interrupted: then the reason for the interruption stands.
  if (Cause.hasInterrupts(cause) && attempt.interruption !== undefined) {
    return interrupted(attempt, entry, attempt.interruption)
  }
  const death = cause.reasons.find(Cause.isDieReason)
  if (death !== undefined) return died(attempt, entry, death.defect)
  const failed = Cause.findErrorOption(cause)
  if (Option.isNone(failed)) {
    return decide(attempt, entry, RetryPolicy.Failed.Interrupted(), Failures.interrupted)
  }
  const error = failed.value
  if (Thrown.isInstance(error, Rejected)) return Effect.succeed(Outcome.Failed({ error: error.failure }))
  if (Thrown.isInstance(error, Task.Discard)) {
    return Effect.succeed(Outcome.Failed({ error: Failures.discarded(Thrown.property(error, "cause")) }))
  }
  if (Thrown.isInstance(error, Task.Snooze)) {
    const delay = delayOf(error)
    return Option.isSome(delay)
      ? Effect.succeed(Outcome.Snoozed({ delay: delay.value }))
      : died(attempt, entry, noDelay("Snooze"))
  }
  if (Thrown.isInstance(error, Task.Retry)) {
    const failure = Failures.retry(Thrown.property(error, "cause"))
    if (attempt.row.attempts >= attempt.row.maxAttempts) return Effect.succeed(Outcome.Failed({ error: failure }))
    const delay = delayOf(error)
    return Option.isSome(delay)
      ? Effect.succeed(Outcome.Retry({ error: failure, delay: delay.value }))
      : died(attempt, entry, noDelay("Retry"))
  }
  return Effect.flatMap(
    Failures.failure(entry, error),
    (failure) => decide(attempt, entry, RetryPolicy.Failed.Failure({ error }), failure)
  )
}

const complete = (attempt: Attempt, entry: Entry, value: unknown): Effect.Effect<Outcome> =>
  Effect.matchEffect(entry.encodeSuccess(value), {
    onFailure: (error) => died(attempt, entry, error),
    onSuccess: (result: Schema.Json) => {
      const stored = Storable.make(result)
      return Effect.succeed(
        stored.text.length > Storable.maxBytes
          ? Outcome.Failed({ error: Failures.tooLarge("result", Storable.maxBytes) })
          : { _tag: "Completed", result, stored }
      )
    }
  })

const interrupted = (attempt: Attempt, entry: Entry, interruption: NonNullable<Attempt["interruption"]>) => {
  switch (interruption) {
    case "cancelled":
      return Effect.succeed(Outcome.Cancelled())
    case "shutdown":
      return Effect.succeed(Outcome.Released({ reason: "shutdown" }))
    case "lost":
      return Effect.succeed(Outcome.Released({ reason: "lease_expired" }))
    case "timeout":
      return decide(
        attempt,
        entry,
        RetryPolicy.Failed.Timeout(),
        Failures.timeout(Math.round(attempt.deadline - attempt.startedAt))
      )
  }
}

const died = (attempt: Attempt, entry: Entry, defect: unknown) =>
  decide(attempt, entry, RetryPolicy.Failed.Defect({ defect }), Failures.defect(defect))

const decide = (
  attempt: Attempt,
  entry: Entry,
  failed: RetryPolicy.Failed,
  failure: TaskEvent.Failure
): Effect.Effect<Outcome> =>
  Effect.map(
    RetryPolicy.decide(entry.task.options.retry, {
      attempt: attempt.row.attempts,
      maxAttempts: attempt.row.maxAttempts,
      failure: failed
    }),
    RetryPolicy.Decided.$match({
      Retry: ({ delay }) => Outcome.Retry({ error: failure, delay }),
      Fail: () => Outcome.Failed({ error: failure })
    })
  )

// Not zero, nor years: a task that is snoozed costs no attempt and would run without end, or be forgotten.
const delayOf = (error: Task.Retry | Task.Snooze) => {
  const delay = Thrown.property(error, "delay")
  return Number.isNaN(delay)
    ? Option.none()
    : Option.flatten(Result.getSuccess(Result.try(() => RetryPolicy.toDelay(delay as Duration.Input))))
}

const noDelay = (control: string) =>
  new TypeError(`The delay of Task.${control} is no duration. Expected milliseconds or a text such as "30 seconds"`)

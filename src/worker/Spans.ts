/**
 * The spans of a worker, by OpenTelemetry's conventions for messaging: one for each attempt, a child of its producer's, and
 * one for each write of events and outcomes.
 *
 * @since 0.1.0
 */
import type * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import type * as Tracer from "effect/Tracer"
import { external, key, system } from "../internal/Tracing.ts"
import type { ClaimedRow } from "../storage/Claim.ts"
import type { Outcome } from "./Outcome.ts"

// What OpenTelemetry's own libraries keep of a span's links.
const maxLinks = 128

/**
 * The span of an attempt. Of a task without the context of a producer it begins a trace; it is sampled if the producer is.
 *
 * @category constructors
 * @since 0.1.0
 */
export const processing = (
  tracer: Tracer.Tracer,
  clock: Clock.Clock,
  workerId: string,
  row: ClaimedRow
): Tracer.Span => {
  const parent = external(row.metadata[key])
  const span = tracer.span({
    name: `process ${row.type}`,
    parent: Option.fromUndefinedOr(parent),
    annotations: Context.empty(),
    links: [],
    startTime: clock.currentTimeNanosUnsafe(),
    kind: "consumer",
    root: parent === undefined,
    sampled: parent?.sampled ?? true
  })
  const attributes = {
    ...system,
    "messaging.operation.name": "process",
    "messaging.operation.type": "process",
    "messaging.destination.name": row.queue,
    "messaging.message.id": String(row.id),
    "messaging.client.id": workerId,
    "spindle.task.type": row.type,
    "spindle.task.attempt": row.attempts,
    "spindle.task.epoch": String(row.epoch),
    ...(row.tag === null ? undefined : { "spindle.task.tag": row.tag })
  }
  for (const [name, value] of Object.entries(attributes)) span.attribute(name, value)
  return span
}

/**
 * A tracer is somebody else's code. What it throws is no reason to stop.
 *
 * @category logging
 * @since 0.1.0
 */
export const threw = (error: unknown): Effect.Effect<void> => Effect.logWarning("the tracer threw an error", error)

/**
 * Ends it as the attempt ended, with the error if it failed.
 *
 * @category combinators
 * @since 0.1.0
 */
export const end = (span: Tracer.Span, clock: Clock.Clock, outcome: Outcome): void => {
  span.attribute("spindle.task.outcome", outcome._tag.toLowerCase())
  const time = clock.currentTimeNanosUnsafe()
  switch (outcome._tag) {
    case "Completed":
    case "Snoozed":
      return span.end(time, Exit.void)
    case "Cancelled":
    case "Released":
      return span.end(time, Exit.interrupt())
    case "Failed":
    case "Retry": {
      const { message, stack, tag } = outcome.error
      span.attribute("error.type", tag)
      return span.end(time, Exit.fail(Object.assign(new Error(message), { name: tag, stack: stack ?? message })))
    }
  }
}

/**
 * A span around a statement that writes for these attempts: a child of the only one, or linked to the first 128 of them.
 * Tracing is off for what else a worker says to its database.
 *
 * The statement is repeated without a span should the tracer throw: it must be one that changes nothing then.
 *
 * @category combinators
 * @since 0.1.0
 */
export const writing = <A, E, R>(
  self: Effect.Effect<A, E, R>,
  spans: Iterable<Tracer.Span | undefined>,
  count: number
): Effect.Effect<A, E, R> => {
  const sampled = new Set<Tracer.Span>()
  for (const span of spans) if (span?.sampled === true) sampled.add(span)
  if (sampled.size === 0) return self
  const [only, ...others] = sampled
  return self.pipe(
    Effect.withSpan("write events and outcomes", {
      kind: "internal",
      ...(others.length === 0
        ? { parent: only }
        : { root: true, links: [...sampled].slice(0, maxLinks).map((span) => ({ span, attributes: {} })) }),
      attributes: { ...system, "spindle.write.entries": count }
    }, { captureStackTrace: false }),
    Effect.withTracerEnabled(true),
    Effect.catchDefect((defect) => Effect.andThen(threw(defect), self))
  )
}

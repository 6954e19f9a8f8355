/**
 * How a trace gets from a producer to the handler: in the task's metadata.
 *
 * There are no spans of ours, and no cost beyond one check, unless a tracer is configured: another than Effect's own, whose
 * spans go nowhere.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Headers from "effect/http/Headers"
import * as HttpTraceContext from "effect/http/HttpTraceContext"
import * as Option from "effect/Option"
import * as References from "effect/References"
import * as Tracer from "effect/Tracer"

/**
 * The key in a task's metadata that has the context of its producer, as W3C Trace Context writes it.
 *
 * @category constants
 * @since 0.1.0
 */
export const key = "traceparent"

/**
 * The tracer, if one is configured.
 *
 * @category getters
 * @since 0.1.0
 */
export const configured: Effect.Effect<Tracer.Tracer | undefined> = Effect.map(
  Tracer.Tracer,
  (tracer) => tracer === Tracer.nativeTracer ? undefined : tracer
)

/**
 * The context of the active span, with whether it is sampled. Without a tracer that is the one which came from outside.
 *
 * @category getters
 * @since 0.1.0
 */
export const traceparent: Effect.Effect<string | undefined> = Effect.withFiber((fiber) => {
  if (!fiber.getRef(References.TracerEnabled)) return Effect.undefined
  let span = Option.getOrUndefined(Context.getOption(fiber.context, Tracer.ParentSpan))
  const stays = ({ annotations }: Tracer.Span) =>
    fiber.getRef(Tracer.Tracer) === Tracer.nativeTracer || Context.get(annotations, Tracer.DisablePropagation)
  while (span?._tag === "Span" && stays(span)) {
    span = Option.getOrUndefined(span.parent)
  }
  return span === undefined
    ? Effect.undefined
    : Effect.succeed(`00-${span.traceId.padStart(32, "0")}-${span.spanId}-${span.sampled ? "01" : "00"}`)
})

/**
 * The span that W3C Trace Context text stands for, if it does.
 *
 * @category constructors
 * @since 0.1.0
 */
export const external = (text: unknown): Tracer.ExternalSpan | undefined =>
  typeof text === "string"
    ? Option.getOrUndefined(HttpTraceContext.w3c(Headers.fromRecordUnsafe({ [key]: text })))
    : undefined

/**
 * What all our spans say.
 *
 * @category attributes
 * @since 0.1.0
 */
export const system = { "messaging.system": "spindle" }

/**
 * Says on the active span, of the producer, what is sent.
 *
 * @category attributes
 * @since 0.1.0
 */
export const sending = (type: string, queue: string, count: number): Effect.Effect<void> =>
  Effect.flatMap(configured, (tracer) =>
    tracer === undefined ? Effect.void : Effect.annotateCurrentSpan({
      ...system,
      "messaging.operation.name": "enqueue",
      "messaging.operation.type": "send",
      "messaging.destination.name": queue,
      "messaging.batch.message_count": count,
      "spindle.task.type": type
    }))

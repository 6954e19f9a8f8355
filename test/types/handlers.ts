// Handlers are a layer; what they need shows up as that layer's requirements.
import { Context, Effect, Layer, Ref, Stream } from "effect"
import * as Task from "../../src/Task.ts"
import { AppTasks, type ModelUnavailable } from "./tasks.ts"

export class Llm extends Context.Service<Llm, {
  stream(prompt: string): Stream.Stream<string, ModelUnavailable>
}>()("app/Llm") {
  static readonly layerFake = Layer.succeed(this, this.of({ stream: (prompt) => Stream.fromIterable([...prompt]) }))
}

export class Mailer extends Context.Service<Mailer, {
  send(to: string, subject: string): Effect.Effect<void>
}>()("app/Mailer") {
  static readonly layerLog = Layer.succeed(this, this.of({ send: (to) => Effect.logInfo(`mail to ${to}`) }))
}

export const AppTasksLive = AppTasks.toLayer(Effect.gen(function*() {
  const llm = yield* Llm // requirement of building
  return AppTasks.of({
    ai_response: Effect.fn(function*({ prompt }, { emit, emitAll }) {
      const text = yield* Ref.make("")
      yield* emitAll(
        llm.stream(prompt).pipe(
          Stream.tap((delta) => Ref.update(text, (_) => _ + delta)),
          Stream.map((delta) => ({ _tag: "text_delta" as const, text: delta }))
        )
      )
      yield* emit({ _tag: "citation", url: "https://example.com" })
      yield* emit({ _tag: "usage", inputTokens: 1, outputTokens: 2, totalTokens: 3 })
      return { text: yield* Ref.get(text), tokens: 3 }
    }),
    send_email: Effect.fn(function*({ to, subject }, { attempt, isShuttingDown, progress, task }) {
      const mailer = yield* Mailer // requirement of handling: also ends up in the layer
      if (task.userId === null) return yield* new Task.Discard({ cause: "nobody to send to" })
      if (to === "later@example.com" && attempt === 1) return yield* new Task.Retry({ delay: "1 second" })
      if (yield* isShuttingDown) return yield* new Task.Snooze({ delay: "10 seconds" })
      yield* progress(0.5, "sending")
      yield* mailer.send(to, subject)
    }),
    charge_card: Effect.fn(function*({ orderId }) {
      yield* Effect.addFinalizer(() => Effect.void) // the attempt's scope is no requirement of the layer
      return { receipt: orderId }
    })
  })
}))

// one file per handler works too
export const AiResponseLive = AppTasks.toLayerHandler(
  "ai_response",
  ({ prompt }) => Effect.succeed({ text: prompt, tokens: 0 })
)
export const SendEmailLive = AppTasks.toLayerHandler(
  "send_email",
  Effect.gen(function*() {
    const mailer = yield* Mailer
    return ({ subject, to }) => mailer.send(to, subject)
  })
)
export const ChargeCardLive = AppTasks.toLayerHandler(
  "charge_card",
  Effect.fn(function*({ orderId }) {
    const mailer = yield* Mailer
    yield* mailer.send("accounting@example.com", orderId)
    return { receipt: orderId }
  })
)

// What is marked must not compile: `tsc` fails if an expectation is unmet. What is not marked must.
// @effect-diagnostics missingEffectError:skip-file missingLayerContext:skip-file
import { Context, Effect, Layer, Schedule, Schema, SchemaGetter } from "effect"
import * as HandlerRegistry from "../../src/HandlerRegistry.ts"
import * as RetryPolicy from "../../src/RetryPolicy.ts"
import * as Task from "../../src/Task.ts"
import * as TaskEvent from "../../src/TaskEvent.ts"
import * as TaskGroup from "../../src/TaskGroup.ts"
import { AiResponseLive, AppTasksLive, ChargeCardLive, Llm, Mailer, SendEmailLive } from "./handlers.ts"
import { AiResponse, AppTasks, ModelUnavailable, PromptRefused, type SendEmail } from "./tasks.ts"

const Unknown = Task.make("unknown")

// payloads

export const payloads: ReadonlyArray<Task.PayloadInput<typeof SendEmail>> = [
  { to: "x", subject: "x" },
  // @ts-expect-error payload field has the wrong type
  { to: 1, subject: "x" },
  // @ts-expect-error payload field is missing
  { to: "x" }
]
export const noPayload: Task.PayloadInput<typeof Unknown> = undefined

const WithDefault = Task.make("with_default", {
  payload: { to: Schema.String, priority: Schema.Int.pipe(Schema.withConstructorDefault(Effect.succeed(0))) }
})
export const leftOut: Task.PayloadInput<typeof WithDefault> = { to: "x" }

// events

Task.make("closing", {
  // @ts-expect-error the name of a closing event
  event: Schema.Union([TaskEvent.TextDelta, Schema.TaggedStruct("done", {})])
})
Task.make("closing", {
  // @ts-expect-error the name of a closing event
  event: Schema.TaggedStruct("released", {})
})
Task.make("untagged", {
  // @ts-expect-error an event without a tag has no type
  event: Schema.Struct({ percent: Schema.Int })
})

// options

Task.make("untagged", {
  // @ts-expect-error a policy tells errors apart by their tag
  error: Schema.String
})
Task.make("unique", {
  payload: { key: Schema.String },
  // @ts-expect-error the payload has no such field
  unique: ({ id }) => ({ key: id })
})
Task.make("unique", {
  payload: { key: Schema.String },
  // @ts-expect-error there is no such mode
  unique: ({ key }) => ({ key, mode: "latest" })
})

// retry policies

Task.make("policy", {
  error: Schema.Union([ModelUnavailable, PromptRefused]),
  // @ts-expect-error the policy leaves an error out
  retry: { on: { ModelUnavailable: "retry" } }
})
Task.make("policy", {
  error: Schema.Union([ModelUnavailable, PromptRefused]),
  // @ts-expect-error the policy leaves all errors out
  retry: { backoff: RetryPolicy.fixed("1 second") }
})
Task.make("policy", {
  error: Schema.Union([ModelUnavailable, PromptRefused]),
  // @ts-expect-error the policy names an error that the task does not have
  retry: { on: { ModelUnavailable: "retry", PromptRefused: ({ reason }) => reason ? "fail" : "retry", Nope: "fail" } }
})
Task.make("policy", {
  error: ModelUnavailable,
  // @ts-expect-error the rule reads a field that this error does not have
  retry: { on: { ModelUnavailable: ({ reason }) => reason ? "fail" : "retry" } }
})
Task.make("policy", {
  error: ModelUnavailable,
  // @ts-expect-error a rule retries or fails
  retry: { on: { ModelUnavailable: "ignore" } }
})
Task.make("policy", {
  error: ModelUnavailable,
  retry: {
    backoff: Schedule.exponential("1 second"),
    on: {
      ModelUnavailable: ({ model }) => model === "" ? "fail" : { retryAfter: "1 second" },
      defect: (defect) => defect instanceof TypeError ? "fail" : "retry",
      interrupted: "fail"
    }
  }
})
Task.make("policy", { retry: { on: { timeout: "fail" } } })

// handlers

// @ts-expect-error a handler is missing
AppTasks.of({ send_email: () => Effect.void, charge_card: () => Effect.succeed({ receipt: "" }) })

const Ai = TaskGroup.make(AiResponse)
Ai.of({
  // @ts-expect-error the result has the wrong type
  ai_response: () => Effect.succeed({ text: 1 })
})
Ai.of({
  // @ts-expect-error the error is not declared by the task
  ai_response: () => Effect.fail("boom" as const)
})
Ai.of({
  // @ts-expect-error the event is not declared by the task
  ai_response: (_, { emit }) => Effect.as(emit({ _tag: "Nope" }), { text: "", tokens: 0 })
})
Ai.of({
  // @ts-expect-error a task cannot emit its own closing event
  ai_response: (_, { emit }) => Effect.as(emit({ _tag: "done" }), { text: "", tokens: 0 })
})
TaskGroup.make(Unknown).of({
  // @ts-expect-error the task declares no events
  unknown: (_, { emit }) => emit({ _tag: "text_delta", text: "" })
})
// @ts-expect-error the group has no such task
AppTasks.toLayerHandler("send_mail", () => Effect.void)

// registries

const launch = <A, E>(_layer: Layer.Layer<A, E>): void => {}
const RegistryLive = HandlerRegistry.layer(AppTasks)

// @ts-expect-error no handler layer at all: Task.Handler<"ai_response"> and the others are unprovided
launch(RegistryLive)
// @ts-expect-error only one of three handlers
launch(RegistryLive.pipe(Layer.provide(SendEmailLive), Layer.provide(Mailer.layerLog)))
// @ts-expect-error what a handler needs (Mailer) is unprovided
launch(RegistryLive.pipe(Layer.provide(AppTasksLive), Layer.provide(Llm.layerFake)))
launch(RegistryLive.pipe(Layer.provide(AppTasksLive), Layer.provide([Llm.layerFake, Mailer.layerLog])))
launch(
  RegistryLive.pipe(
    Layer.provide([AiResponseLive, SendEmailLive, ChargeCardLive]),
    Layer.provide(Mailer.layerLog)
  )
)

const LargerLive = HandlerRegistry.layer(AppTasks.add(Unknown)).pipe(
  Layer.provide(AppTasksLive),
  Layer.provide([Llm.layerFake, Mailer.layerLog])
)
// @ts-expect-error a registry of a larger group needs the larger group's handlers
launch(LargerLive)
launch(LargerLive.pipe(Layer.provide(TaskGroup.make(Unknown).toLayer({ unknown: () => Effect.void }))))

const MergedLive = HandlerRegistry.layer(TaskGroup.make(Unknown).merge(Ai)).pipe(Layer.provide(AiResponseLive))
// @ts-expect-error a registry of merged groups needs the handlers of each
launch(MergedLive)

// services of schemas

class Key extends Context.Service<Key, { readonly shift: number }>()("app/Key") {}
const Sealed = Schema.String.pipe(
  Schema.decodeTo(Schema.String, {
    decode: SchemaGetter.transformEffect((text: string) => Effect.map(Key, ({ shift }) => text.slice(shift))),
    encode: SchemaGetter.passthrough()
  })
)
const WithServices = TaskGroup.make(Task.make("sealed", { payload: { secret: Sealed } }))
const SealedLive = HandlerRegistry.layer(WithServices).pipe(
  Layer.provide(WithServices.toLayer({ sealed: () => Effect.void }))
)
// @ts-expect-error what the payload's schema needs to decode is unprovided
launch(SealedLive)
launch(SealedLive.pipe(Layer.provide(Layer.succeed(Key, { shift: 1 }))))

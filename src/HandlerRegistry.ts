/**
 * The handlers this worker can run, looked up by task type.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Task from "./Task.ts"
import * as TaskEvent from "./TaskEvent.ts"
import * as TaskGroup from "./TaskGroup.ts"

/**
 * A task, how its values are read and written, and what runs it. The codecs are built once; where a schema needs no
 * services they answer with an `Exit`, without a turn of the fiber.
 *
 * @since 0.1.0
 * @category models
 */
export interface Entry {
  readonly task: Task.Any
  /** Whether the task declares events of its own. */
  readonly declaresEvents: boolean
  /**
   * From the column `payload`. Unknown fields are ignored. The error names the first thing that does not fit or, where
   * that is asked for, all: of a large payload that can take seconds.
   */
  readonly decodePayload: (json: Schema.Json, errors?: "first" | "all") => Effect.Effect<unknown, Schema.SchemaError>
  /** To the column `result`. */
  readonly encodeSuccess: (value: unknown) => Effect.Effect<Schema.Json, Schema.SchemaError>
  /** To the field `data` of a stored failure. */
  readonly encodeError: (error: unknown) => Effect.Effect<Schema.Json, Schema.SchemaError>
  /** To the columns `type` and `data`: an event of the task, or `TaskEvent.Progress`. */
  readonly encodeEvent: (event: unknown) => Effect.Effect<EncodedEvent, Schema.SchemaError>
  /** Runs an attempt in the scope given to it. Its context must hold `services`. */
  readonly run: (
    payload: any,
    execution: Task.Execution<any>
  ) => Effect.Effect<unknown, unknown, Scope.Scope>
  /** What the handler and its layer were built with. */
  readonly services: Context.Context<never>
}

/**
 * An event as it is stored.
 *
 * @since 0.1.0
 * @category models
 */
export interface EncodedEvent {
  readonly type: string
  readonly data: Schema.JsonObject
}

/**
 * What Claimer asks for the types and TaskRunner for the handler.
 *
 * @since 0.1.0
 * @category services
 */
export class HandlerRegistry extends Context.Service<HandlerRegistry, {
  readonly types: ReadonlyArray<string>
  readonly get: (type: string) => Option.Option<Entry>
}>()("spindle/HandlerRegistry") {}

/**
 * Requires a handler for every task of the group: a missing one is a compile
 * error where the layer is launched. One worker serves several groups as
 * `layer(A.merge(B))`.
 *
 * @since 0.1.0
 * @category layers
 */
export const layer = <T extends Task.Any>(
  group: TaskGroup.TaskGroup<T>
): Layer.Layer<HandlerRegistry, never, Task.ToHandler<T> | Task.RunServices<T>> =>
  Layer.effect(
    HandlerRegistry,
    Effect.map(Effect.context<Task.ToHandler<T> | Task.RunServices<T>>(), (context) => {
      const entries = new Map<string, Entry>()
      for (const task of group.tasks.values()) entries.set(task.type, makeEntry(task, context))
      return HandlerRegistry.of({
        types: [...entries.keys()],
        get: (type) => Option.fromUndefinedOr(entries.get(type))
      })
    })
  )

// the layer's signature requires what the codecs and handlers of the group need
const makeEntry = (task: Task.Any, context: Context.Context<any>): Entry => {
  const provide = <A>(effect: Effect.Effect<A, Schema.SchemaError, any>) => Effect.provideContext(effect, context)
  const decodePayload = Schema.decodeUnknownEffect(Task.payloadCodec(task))
  const encodeSuccess = Schema.encodeUnknownEffect(Schema.toCodecJson(task.successSchema))
  const encodeError = Schema.encodeUnknownEffect(Schema.toCodecJson(task.errorSchema))
  const encodeEvent = Schema.encodeUnknownEffect(
    Schema.toCodecJson(Schema.Union([task.eventSchema, TaskEvent.Progress]))
  )
  return {
    task,
    declaresEvents: TaskEvent.declares(task.eventSchema),
    decodePayload: (json, errors = "first") => provide(decodePayload(json, { errors })),
    encodeSuccess: (value) => provide(encodeSuccess(value)),
    encodeError: (error) => provide(encodeError(error)),
    encodeEvent: (event) => Effect.mapEager(provide(encodeEvent(event)), splitTag),
    ...Context.get(context, TaskGroup.Handler(task.type))
  }
}

const splitTag = (json: Schema.Json): EncodedEvent => {
  const { _tag: type, ...data } = json as Schema.JsonObject & { readonly _tag: string }
  return { type, data }
}

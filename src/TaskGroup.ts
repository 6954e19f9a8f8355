/**
 * A set of tasks that is implemented by one layer, modelled on `RpcGroup`.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import { identity } from "effect/Function"
import * as Layer from "effect/Layer"
import * as Predicate from "effect/Predicate"
import * as References from "effect/References"
import * as Scope from "effect/Scope"
import * as Tracer from "effect/Tracer"
import type * as Task from "./Task.ts"

const TypeId = "~spindle/TaskGroup"

/**
 * Tasks that are implemented together.
 *
 * @since 0.1.0
 * @category models
 */
export interface TaskGroup<in out T extends Task.Any> {
  new(_: never): {}
  readonly [TypeId]: typeof TypeId
  readonly tasks: ReadonlyMap<string, T>

  /** Adds tasks. Throws if another task of the same type is in the group. */
  add<const Added extends ReadonlyArray<Task.Any>>(...tasks: Added): TaskGroup<T | Added[number]>

  /** Adds the tasks of other groups, so that one worker serves them all. Throws if two of them share a type. */
  merge<const Groups extends ReadonlyArray<Any>>(...groups: Groups): TaskGroup<T | Tasks<Groups[number]>>

  /** Checks a handler record against the group without building a layer. */
  of<const Handlers extends HandlersContext<T>>(
    handlers: Handlers & Checked<T, Handlers>
  ): [Handlers] extends [HandlersFrom<T>] ? Handlers : HandlersFrom<T> // what is wrong is told once

  /**
   * Implements every task of the group. What the handlers need is taken when the
   * layer is built, except for the attempt's scope, span and log annotations.
   */
  toLayer<Build extends Built<HandlersContext<T>>>(
    build: Build & CheckedBuild<T, Build>
  ): Layer.Layer<Task.ToHandler<T>, BuildError<Build>, BuildServices<Build> | HandlersServices<BuildSuccess<Build>>>

  /** Implements one task of the group, so that handlers can live in their own files. */
  toLayerHandler<
    const Type extends T["type"],
    Build extends Built<HandlerContext<Extract<T, { readonly type: Type }>>>
  >(
    type: Type,
    build: Build & CheckedHandlerBuild<Extract<T, { readonly type: Type }>, Build>
  ): Layer.Layer<
    Task.Handler<Type>,
    BuildError<Build>,
    BuildServices<Build> | HandlersServices<{ readonly [_ in Type]: BuildSuccess<Build> }>
  >
}

/**
 * Any group, whatever its tasks.
 *
 * @since 0.1.0
 * @category models
 */
export interface Any {
  readonly [TypeId]: typeof TypeId
  readonly tasks: ReadonlyMap<string, Task.Any>
}

/**
 * Whether a value is a group.
 *
 * @since 0.1.0
 * @category guards
 */
export const isTaskGroup = (u: unknown): u is Any => Predicate.hasProperty(u, TypeId)

/**
 * The union of a group's tasks.
 *
 * @since 0.1.0
 * @category utility types
 */
export type Tasks<G> = G extends TaskGroup<infer T> ? T : never

/**
 * One handler per task of the group.
 *
 * @since 0.1.0
 * @category utility types
 */
export type HandlersFrom<T extends Task.Any> = {
  readonly [Current in T as Current["type"]]: Task.HandlerFn<Current, any>
}

// What may be given is wider than what is right, so that `Checked` can say what is wrong. It still types the arguments of
// a handler that is written in place, and its results.
type HandlerContext<T extends Task.Any> = (
  payload: Task.Payload<T>,
  execution: Task.Execution<T>
) => Effect.Effect<Task.Success<T>, Task.Error<T> | Task.Control, any> | {} | null | undefined | void

type HandlersContext<T extends Task.Any> = {
  readonly [Current in T | string as Current extends Task.Any ? Current["type"] : string]?: Current extends Task.Any
    ? HandlerContext<Current>
    : any
}

type Built<A> = A | Effect.Effect<A, any, any>
type BuildSuccess<Build> = Build extends Effect.Effect<infer A, infer _E, infer _R> ? A : Build
type BuildError<Build> = Build extends Effect.Effect<infer _A, infer E, infer _R> ? E : never
type BuildServices<Build> = Build extends Effect.Effect<infer _A, infer _E, infer R> ? Exclude<R, Scope.Scope> : never

type CheckedBuild<T extends Task.Any, Build> = Build extends Effect.Effect<infer A, infer E, infer R>
  ? Effect.Effect<Checked<T, A>, E, R>
  : Checked<T, Build>

type CheckedHandlerBuild<T extends Task.Any, Build> = Build extends Effect.Effect<infer A, infer E, infer R>
  ? Effect.Effect<CheckedHandler<T, A>, E, R>
  : CheckedHandler<T, Build>

// An index signature of `any` is that of `HandlersContext`: nothing has been inferred yet.
type Checked<T extends Task.Any, Handlers> = [Handlers] extends [HandlersFrom<T>] ? unknown
  : 0 extends 1 & Handlers[keyof Handlers & string] ? unknown
  :
    & { readonly [Type in Exclude<T["type"], keyof Handlers>]: unknown }
    & {
      readonly [Type in keyof Handlers]: Type extends T["type"]
        ? CheckedHandler<Extract<T, { readonly type: Type }>, Handlers[Type]>
        : UnknownType<Type & string, Exclude<T["type"], keyof Handlers>>
    }

type UnknownType<Type extends string, Missing extends string> = [Missing] extends [never]
  ? `the group has no task "${Type}"`
  : `the group has no task "${Type}", and there is no handler of "${Missing}"`

type CheckedHandler<T extends Task.Any, Handler> = [Handler] extends [Task.HandlerFn<T, any>] ? unknown
  : HandlerContext<T> extends Handler ? unknown
  : Handler extends (...args: any) => infer Returned
    ? [Returned] extends [Effect.Effect<infer _A, infer E, infer _R>]
      ? [E] extends [Task.Error<T> | Task.Control] ? Task.HandlerFn<T, any>
      : Undeclared<Exclude<E, Task.Error<T> | Task.Control>>
    : NoEffect<Exclude<Returned, Effect.Effect<any, any, any>>>
  : Task.HandlerFn<T, any>

type Undeclared<E> = E extends { readonly _tag: infer Tag extends string }
  ? `the task does not declare the error ${Tag}: name it in the task's "error", or catch it`
  : "the handler fails with an error that has no _tag, which a task cannot declare: catch it, or map it to one that has"

type NoEffect<Returned> = Returned extends PromiseLike<any>
  ? "a handler returns an Effect, and this one a Promise: call what is asynchronous with Effect.tryPromise"
  : Returned extends Generator<any, any, any>
    ? "a handler returns an Effect, and this one a generator: wrap the function in Effect.fnUntraced"
  : "a handler returns an Effect: a plain value is Effect.succeed(value)"

/**
 * What the handlers need to run, beside the attempt's scope.
 *
 * @since 0.1.0
 * @category utility types
 */
export type HandlersServices<Handlers> = {
  [Type in keyof Handlers]: Handlers[Type] extends (...args: any) => Effect.Effect<infer _A, infer _E, infer R>
    ? Exclude<R, Scope.Scope>
    : never
}[keyof Handlers]

type AnyHandlerFn = Task.HandlerFn<any, any>

/**
 * What runs an attempt, and the services of the layer that implements it, which
 * must be in the attempt's context beside its scope.
 *
 * @since 0.1.0
 * @category models
 */
export interface Implementation {
  readonly run: Task.HandlerFn<any, any>
  readonly services: Context.Context<never>
}

/**
 * The service that a handler's layer provides.
 *
 * @since 0.1.0
 * @category services
 */
export const Handler = <const Type extends string>(
  type: Type
): Context.Key<Task.Handler<Type>, Implementation> => Context.Service(`spindle/Task/Handler/${type}`)

// the attempt's own, which what was current when the layer was built must not replace
const omitAttempt = Context.omit(
  Scope.Scope,
  Tracer.ParentSpan,
  References.CurrentLogAnnotations,
  References.CurrentLogSpans
)

const implementation = (
  services: Context.Context<never>,
  type: string,
  handler: AnyHandlerFn | undefined
): Implementation => {
  if (typeof handler !== "function") {
    throw new Error(`TaskGroup: the handler of the task "${type}" is ${typeof handler}, expected a function`)
  }
  return { services, run: (payload, execution) => Effect.suspend(() => handler(payload, execution)) }
}

const layerOf = (
  types: Iterable<string>,
  build: Effect.Effect<Readonly<Record<string, AnyHandlerFn>>>
): Layer.Layer<never> =>
  Layer.effectContext(Effect.gen(function*() {
    const services = omitAttempt(yield* Effect.context<never>())
    const handlers = yield* build
    let context = Context.empty() as Context.Context<never>
    for (const type of types) {
      context = Context.add(context, Handler(type), implementation(services, type, handlers[type])) as any
    }
    return context
  }))

const fromBuild = <A>(build: A | Effect.Effect<A>): Effect.Effect<A> =>
  Effect.isEffect(build) ? build : Effect.succeed(build)

const Proto = {
  [TypeId]: TypeId,
  add(this: Any, ...tasks: ReadonlyArray<Task.Any>) {
    return makeProto([...this.tasks.values(), ...tasks])
  },
  merge(this: Any, ...groups: ReadonlyArray<Any>) {
    return makeProto([this, ...groups].flatMap((group) => Array.from(group.tasks.values())))
  },
  of: identity,
  toLayer(this: Any, build: any) {
    return layerOf([...this.tasks.keys()], fromBuild(build))
  },
  toLayerHandler(this: Any, type: string, build: AnyHandlerFn | Effect.Effect<AnyHandlerFn>) {
    return layerOf([type], Effect.map(fromBuild(build), (handler) => ({ [type]: handler })))
  }
}

const makeProto = (tasks: ReadonlyArray<Task.Any>): TaskGroup<any> => {
  const byType = new Map<string, Task.Any>()
  for (const task of tasks) {
    if ((byType.get(task.type) ?? task) !== task) {
      throw new Error(`TaskGroup: two tasks have the type "${task.type}", expected each type once`)
    }
    byType.set(task.type, task)
  }
  return Object.assign(function() {}, Proto, { tasks: byType }) as any
}

/**
 * Groups tasks. Extend the result to name it: `class Mail extends TaskGroup.make(SendEmail) {}`.
 *
 * Throws if two tasks share a type; the same task twice counts once.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = <const Tasks extends ReadonlyArray<Task.Any>>(...tasks: Tasks): TaskGroup<Tasks[number]> =>
  makeProto(tasks)

import { assert, describe, it } from "@effect/vitest"
import { Cause, Context, Effect, Exit, Layer, Option, Ref, References, Schema } from "effect"
import * as HandlerRegistry from "../src/HandlerRegistry.ts"
import * as Task from "../src/Task.ts"
import * as TaskGroup from "../src/TaskGroup.ts"

const Greet = Task.make("greet", { payload: { name: Schema.String }, success: Schema.String })
const Tick = Task.make("tick")
const Tock = Task.make("tock")
const Group = TaskGroup.make(Greet, Tick)

class Greeting extends Context.Service<Greeting, { readonly text: string }>()("test/Greeting") {
  static readonly layer = (text: string) => Layer.succeed(this, { text })
}

const execution = {} as Task.Execution<any>

/** Runs a task of a group as the worker does. */
const run = <T extends Task.Any>(
  group: TaskGroup.TaskGroup<T>,
  live: Layer.Layer<Task.ToHandler<T>>,
  type: T["type"],
  payload: unknown
) =>
  Effect.gen(function*() {
    const registry = yield* HandlerRegistry.HandlerRegistry
    const entry = Option.getOrThrow(registry.get(type))
    return yield* Effect.provideContext(entry.run(payload, execution), entry.services)
  }).pipe(
    Effect.provide(
      HandlerRegistry.layer(group).pipe(Layer.provide(live)) as Layer.Layer<HandlerRegistry.HandlerRegistry>
    )
  )

describe("TaskGroup", () => {
  it("make, add and merge collect tasks", () => {
    class Named extends TaskGroup.make(Greet) {}
    const types = (group: TaskGroup.Any) => [...group.tasks.keys()]
    assert.deepStrictEqual(types(Named), ["greet"])
    assert.deepStrictEqual(types(Named.add(Tick, Tock)), ["greet", "tick", "tock"])
    assert.deepStrictEqual(types(Named.merge(TaskGroup.make(Tick), TaskGroup.make(Tock))), ["greet", "tick", "tock"])
    assert.deepStrictEqual(types(Named), ["greet"])
    assert.strictEqual(Named.tasks.get("greet"), Greet)
  })

  it("two tasks of one type are refused, the same task twice is not", () => {
    const message = /two tasks have the type "tick"/
    assert.throws(() => TaskGroup.make(Tick, Task.make("tick")), message)
    assert.throws(() => Group.add(Task.make("tick")), message)
    assert.throws(() => Group.merge(TaskGroup.make(Task.make("tick"))), message)
    assert.strictEqual(Group.merge(TaskGroup.make(Tick, Tock)).tasks.size, 3)
  })

  it.effect("toLayer takes a record", () =>
    Effect.gen(function*() {
      const live = Group.toLayer({ greet: ({ name }) => Effect.succeed(`Hello ${name}`), tick: () => Effect.void })
      assert.strictEqual(yield* run(Group, live, "greet", { name: "Ada" }), "Hello Ada")
    }))

  it.effect("toLayer takes an effect, run once", () =>
    Effect.gen(function*() {
      const builds = yield* Ref.make(0)
      const live = Group.toLayer(Effect.gen(function*() {
        const { text } = yield* Greeting
        yield* Ref.update(builds, (n) => n + 1)
        return Group.of({ greet: ({ name }) => Effect.succeed(`${text} ${name}`), tick: () => Effect.void })
      })).pipe(Layer.provide(Greeting.layer("Good morning")))
      const twice = Effect.gen(function*() {
        const registry = yield* HandlerRegistry.HandlerRegistry
        const { run } = Option.getOrThrow(registry.get("greet"))
        return [yield* run({ name: "Ada" }, execution), yield* run({ name: "Bob" }, execution)]
      })
      const results = yield* Effect.provide(twice, HandlerRegistry.layer(Group).pipe(Layer.provide(live)))
      assert.deepStrictEqual(results, ["Good morning Ada", "Good morning Bob"])
      assert.strictEqual(yield* Ref.get(builds), 1)
    }))

  it.effect("a handler has the services of its layer, whatever the worker's own are", () =>
    Effect.gen(function*() {
      const live = TaskGroup.make(Greet).toLayer({
        greet: ({ name }) => Effect.map(Greeting, ({ text }) => `${text} ${name}`)
      }).pipe(Layer.provide(Greeting.layer("Hello")))
      const result = yield* run(TaskGroup.make(Greet), live, "greet", { name: "Ada" }).pipe(
        Effect.provideService(Greeting, { text: "Begone" })
      )
      assert.strictEqual(result, "Hello Ada")
    }))

  it.effect("the attempt's scope, span and log annotations are its own", () =>
    Effect.gen(function*() {
      const closed = yield* Ref.make(false)
      const live = TaskGroup.make(Greet).toLayer({
        greet: Effect.fnUntraced(function*() {
          yield* Effect.addFinalizer(() => Ref.set(closed, true))
          const annotations = yield* References.CurrentLogAnnotations
          const span = yield* Effect.orDie(Effect.currentParentSpan)
          return `${annotations.taskId} ${span._tag === "Span" ? span.name : ""}`
        })
      })
      const context = yield* Layer.build(live).pipe(
        Effect.annotateLogs({ taskId: "build" }),
        Effect.withSpan("build")
      )
      const { run, services } = Context.get(context, TaskGroup.Handler("greet"))
      const result = yield* run({ name: "" }, execution).pipe(
        Effect.provideContext(services),
        Effect.annotateLogs({ taskId: "attempt" }),
        Effect.withSpan("attempt"),
        Effect.scoped
      )
      assert.strictEqual(result, "attempt attempt")
      assert.isTrue(yield* Ref.get(closed))
    }))

  it.effect("toLayerHandler implements one task at a time", () =>
    Effect.gen(function*() {
      const live = Layer.mergeAll(
        Group.toLayerHandler("greet", ({ name }) => Effect.map(Greeting, ({ text }) => `${text} ${name}`)),
        Group.toLayerHandler("tick", Effect.succeed(() => Effect.void))
      ).pipe(Layer.provide(Greeting.layer("Hi")))
      assert.strictEqual(yield* run(Group, live, "greet", { name: "Ada" }), "Hi Ada")
      assert.isUndefined(yield* run(Group, live, "tick", undefined))
    }))

  it.effect("a handler that throws before it returns an effect is a defect of the attempt", () =>
    Effect.gen(function*() {
      const bug = new Error("bug")
      const live = TaskGroup.make(Tick).toLayer({
        tick: (): Effect.Effect<void> => {
          throw bug
        }
      })
      const { run } = Context.get(yield* Layer.build(live), TaskGroup.Handler("tick"))
      assert.doesNotThrow(() => run(undefined, execution))
      assert.deepStrictEqual(yield* Effect.exit(run(undefined, execution)), Exit.die(bug))
    }))

  it.effect("a handler that is missing at run time is named when the layer is built", () =>
    Effect.gen(function*() {
      const tick = undefined as unknown as () => Effect.Effect<void>
      const exit = yield* Effect.exit(Layer.build(Group.toLayer({ greet: () => Effect.succeed(""), tick })))
      assert(Exit.isFailure(exit))
      assert.match(String(Cause.squash(exit.cause)), /the handler of the task "tick" is undefined/)
    }))
})

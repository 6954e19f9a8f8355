import { assert, describe, it } from "@effect/vitest"
import { Effect, Logger, Schema } from "effect"
import * as Task from "../../src/Task.ts"
import * as TaskGroup from "../../src/TaskGroup.ts"
import * as Harness from "../support/WorkerHarness.ts"

const thrower = (): never => {
  throw new Error("thrown in its reader's face")
}

const revoked = () => {
  const { proxy, revoke } = Proxy.revocable({}, {})
  revoke()
  return proxy
}

const cyclic = () => {
  const self: Record<string, unknown> = { message: "round" }
  self.self = self
  return self
}

const withProperty = (name: string, descriptor: PropertyDescriptor) =>
  Object.defineProperty(new Error("fine"), name, { configurable: true, ...descriptor })

/** What a handler may throw, or fail with, and what is known of it: its tag and its message. */
const values: Record<string, { readonly make: () => unknown; readonly tag: string; readonly message: string }> = {
  "a message that throws": {
    make: () => ({
      get message() {
        throw this
      }
    }),
    tag: "Error",
    message: "[object Object]"
  },
  "a revoked proxy": { make: revoked, tag: "Error", message: "a value that cannot be read" },
  "a proxy that throws": {
    make: () => new Proxy({}, { get: thrower, has: thrower, getPrototypeOf: thrower, ownKeys: thrower }),
    tag: "Error",
    message: "a value that cannot be read"
  },
  "no name": { make: () => withProperty("name", { value: undefined }), tag: "Error", message: "fine" },
  "a stack of numbers": { make: () => withProperty("stack", { value: 7 }), tag: "Error", message: "fine" },
  "a stack that throws": { make: () => withProperty("stack", { get: thrower }), tag: "Error", message: "fine" },
  "a message that is a symbol": {
    make: () => withProperty("message", { value: Symbol("m") }),
    tag: "Error",
    message: "Error"
  },
  "a tag that throws": { make: () => withProperty("_tag", { get: thrower }), tag: "Error", message: "fine" },
  "a tag that is a symbol": { make: () => withProperty("_tag", { value: Symbol("t") }), tag: "Error", message: "fine" },
  "a cycle": { make: cyclic, tag: "Error", message: "round" },
  "no prototype": { make: () => Object.create(null), tag: "Error", message: "[object Object]" },
  "a toString and a toJSON that throw": {
    make: () => ({ toString: thrower, toJSON: thrower, [Symbol.toPrimitive]: thrower }),
    tag: "Error",
    message: "[object Object]"
  },
  "a toStringTag that throws": {
    make: () => Object.defineProperty({}, Symbol.toStringTag, { get: thrower }),
    tag: "Error",
    message: "a value that cannot be read"
  },
  "nothing": { make: () => undefined, tag: "Error", message: "[object Undefined]" }
}

const names = Object.keys(values)

const payload = { which: Schema.String, how: Schema.Literals(["die", "throw", "fail"]) }

class Hostile extends Task.make("hostile", {
  payload,
  error: Schema.Any as unknown as typeof Harness.Refused,
  retry: { backoff: { _tag: "Fixed", delay: 0 }, on: { Refused: "retry" } }
}) {}

/** Its codecs and rules are hostile, too. */
class Codecs extends Task.make("codecs", {
  payload: { which: Schema.String },
  success: Schema.Any,
  error: Schema.declare((_): _ is Harness.Refused => thrower()) as unknown as typeof Harness.Refused,
  event: Schema.TaggedStruct("said", { data: Schema.Any }),
  retry: {
    backoff: { _tag: "Fixed", delay: 0 },
    on: { Refused: () => ({ retryAfter: Symbol("soon") as never }), defect: () => revoked() as never }
  }
}) {}

class Group extends TaskGroup.make(Hostile, Codecs, Harness.Plain) {}

type Emit = (event: { _tag: "said"; data: any }) => Effect.Effect<void>

const codecs: Record<
  string,
  { readonly run: (emit: Emit) => Effect.Effect<any, any>; readonly kind: string; readonly attempts?: number }
> = {
  "an error whose schema throws": { run: () => Effect.fail(new Harness.Refused({ why: "no" })), kind: "failure" },
  "a result that throws when it is written": { run: () => Effect.succeed({ toJSON: thrower }), kind: "defect" },
  "a result with a cycle": { run: () => Effect.sync(cyclic), kind: "defect" },
  "a result that is a bigint": { run: () => Effect.succeed(1n), kind: "defect" },
  "a result that is a revoked proxy": { run: () => Effect.sync(revoked), kind: "defect" },
  "an event that throws when it is written": {
    run: (emit) => emit({ _tag: "said", data: { toJSON: thrower } }),
    kind: "defect"
  },
  "a finalizer that dies of something hostile": {
    run: () => Effect.scoped(Effect.addFinalizer(() => Effect.die(revoked()))),
    kind: "defect"
  },
  "a discard of something hostile": {
    run: () => Effect.fail(new Task.Discard({ cause: revoked() })),
    kind: "discarded",
    attempts: 1
  }
}

const run = Effect.suspend(() =>
  Harness.launch(
    Group,
    Group.toLayer({
      plain: () => Effect.succeed(1),
      hostile: ({ how, which }): Effect.Effect<never, any> => {
        const value = values[which]!.make()
        if (how === "throw") throw value
        return how === "die" ? Effect.die(value) : Effect.fail(value)
      },
      codecs: ({ which }, { emit }) => codecs[which]!.run(emit)
    }),
    { concurrency: 3 }
  )
)

describe("an attempt that ends with something hostile", () => {
  it.live("is described, retried and recorded as what it was, and its slot is free", () =>
    Effect.gen(function*() {
      yield* run
      const hows = ["die", "throw", "fail"] as const
      const cases = names.flatMap((which) => hows.map((how) => ({ which, how })))
      const ids = yield* Effect.forEach(cases, (payload) =>
        Harness.insert("hostile", { payload: JSON.stringify(payload), max_attempts: 2 }))
      for (const [n, { how, which }] of cases.entries()) {
        const { attempts, error } = yield* Harness.awaitRow(ids[n]!, Harness.isOver)
        const { message, tag } = values[which]!
        assert.deepInclude(error, { kind: how === "fail" ? "failure" : "defect", tag, message }, `${how}: ${which}`)
        assert.strictEqual(attempts, 2, `${how}: ${which}`)
      }
      yield* Harness.assertContract
      yield* Harness.awaitOver(yield* Harness.insert("plain"))
    }).pipe(Harness.onDatabase))

  it.live("because of a codec, a rule or a finalizer, too", () =>
    Effect.gen(function*() {
      yield* run
      const cases = Object.keys(codecs)
      const ids = yield* Effect.forEach(cases, (which) =>
        Harness.insert("codecs", { payload: JSON.stringify({ which }), max_attempts: 2 }))
      for (const [n, which] of cases.entries()) {
        const { attempts, error, status } = yield* Harness.awaitRow(ids[n]!, Harness.isOver)
        const { attempts: expected = 2, kind } = codecs[which]!
        assert.deepStrictEqual(
          { status, kind: error.kind, attempts },
          { status: "failed", kind, attempts: expected },
          which
        )
      }
      yield* Harness.assertContract
      yield* Harness.awaitOver(yield* Harness.insert("plain"))
    }).pipe(Harness.onDatabase))

  it.live("is recorded, too, where a logger throws", () =>
    Effect.gen(function*() {
      const logger = Logger.make(({ message }) => {
        if (String(message).includes("failed")) thrower()
      })
      yield* Harness.launch(
        Group,
        Group.toLayer({
          plain: () => Effect.succeed(1),
          hostile: () => Effect.die("a bug"),
          codecs: () => Effect.void
        }),
        { concurrency: 1 },
        { references: Logger.layer([logger]) }
      )
      const ids = yield* Harness.insertMany("hostile", 2)
      yield* Effect.forEach(ids, (id) => Harness.awaitRow(id, ({ status }) => status === "failed"))
      yield* Harness.awaitOver(yield* Harness.insert("plain"))
    }).pipe(Harness.onDatabase))
})

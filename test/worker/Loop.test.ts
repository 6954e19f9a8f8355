import { assert, describe, it } from "@effect/vitest"
import { Clock, Deferred, Effect, Fiber, Latch } from "effect"
import { TestClock } from "effect/testing"
import { StorageError } from "../../src/storage/StorageError.ts"
import { monotonicMillis } from "../../src/worker/Attempt.ts"
import * as Loop from "../../src/worker/Loop.ts"
import { Pulses } from "../../src/worker/Pulse.ts"

const away = new StorageError({ operation: "look", transient: true, cause: new Error("away") })

const pulseOf = Effect.fnUntraced(function*(interval?: number) {
  const pulse = (yield* Pulses).make("looking", interval)
  const clock = yield* Clock.Clock
  return { pulse, stands: () => pulse.stands(monotonicMillis(clock)) }
})

describe("a loop", () => {
  it.effect("stands still when a turn does not come back", () =>
    Effect.gen(function*() {
      const { pulse, stands } = yield* pulseOf(1000)
      let stuck = false
      yield* Effect.forkChild(Loop.every(pulse, Effect.suspend(() => stuck ? Effect.never : Effect.void)))
      yield* TestClock.adjust("1 minute")
      assert.isFalse(stands())
      assert.isDefined(pulse.lastTurnAt)
      stuck = true
      yield* TestClock.adjust("10 seconds")
      assert.isFalse(stands())
      yield* TestClock.adjust("10 seconds")
      assert.isTrue(stands())
    }).pipe(Effect.provide(Pulses.layer)))

  it.effect("does not stand still while it rests, but when it does not go on from there", () =>
    Effect.gen(function*() {
      const { pulse, stands } = yield* pulseOf()
      const something = Latch.makeUnsafe()
      yield* Effect.forkChild(Loop.turns(pulse, Effect.andThen(pulse.rest(something.await), Effect.never)))
      yield* TestClock.adjust("1 hour")
      assert.isFalse(stands())
      yield* something.open
      yield* TestClock.adjust("1 second")
      assert.isFalse(stands())
      yield* TestClock.adjust("20 seconds")
      assert.isTrue(stands())
    }).pipe(Effect.provide(Pulses.layer)))

  it.effect("fails from the first turn that does until one succeeds, and then stands still, too", () =>
    Effect.gen(function*() {
      const { pulse, stands } = yield* pulseOf(1000)
      let failing = true
      yield* Effect.forkChild(Loop.every(pulse, Effect.suspend(() => failing ? Effect.fail(away) : Effect.void)))
      yield* TestClock.adjust("2 seconds")
      assert.deepInclude(pulse.failure, { message: "Could not look: away", transient: true })
      const since = pulse.failure!.since
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(pulse.failure!.since, since)
      assert.isTrue(stands())
      failing = false
      yield* TestClock.adjust("10 seconds")
      assert.isUndefined(pulse.failure)
      assert.isFalse(stands())
    }).pipe(Effect.provide(Pulses.layer)))

  it.effect("tries a turn that failed again before its interval is over", () =>
    Effect.gen(function*() {
      const { pulse } = yield* pulseOf(3_600_000)
      let turns = 0
      yield* Effect.forkChild(Loop.every(pulse, Effect.suspend(() => ++turns < 3 ? Effect.fail(away) : Effect.void)))
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(turns, 1)
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(turns, 3)
      assert.isUndefined(pulse.failure)
    }).pipe(Effect.provide(Pulses.layer)))

  it.effect("tries a turn that fails as often as it turns, however long it has failed", () =>
    Effect.gen(function*() {
      const { pulse } = yield* pulseOf(500)
      const turns: Array<number> = []
      yield* Effect.forkChild(Loop.every(
        pulse,
        Effect.flatMap(Clock.currentTimeMillis, (now) => {
          turns.push(now)
          return Effect.fail(away)
        })
      ))
      yield* TestClock.adjust("1 minute")
      const pauses = turns.slice(1).map((at, n) => at - turns[n]!)
      // its interval, and a fifth of that for the jitter
      assert.isAtMost(Math.max(...pauses), 600)
      assert.isAbove(turns.at(-1)!, 59_000)
    }).pipe(Effect.provide(Pulses.layer)))

  it.effect("fails by a turn that was not answered, and goes on", () =>
    Effect.gen(function*() {
      const { pulse } = yield* pulseOf(1000)
      const answers = [Loop.unanswered, Loop.unanswered, undefined] as const
      let turns = 0
      yield* Effect.forkChild(Loop.every(pulse, Effect.sync(() => answers[turns++])))
      yield* TestClock.adjust("2 seconds")
      assert.deepInclude(pulse.failure, { message: "no answer in time", transient: true })
      yield* TestClock.adjust("1 second")
      assert.isUndefined(pulse.failure)
    }).pipe(Effect.provide(Pulses.layer)))

  it.effect("says so when it dies", () =>
    Effect.gen(function*() {
      const { pulse } = yield* pulseOf()
      const told = yield* Deferred.make<unknown>()
      yield* Loop.fork("looker", [Loop.turns(pulse, Effect.die("a bug"))], (cause) =>
        Effect.asVoid(Deferred.succeed(told, cause)))
      assert.strictEqual(yield* Deferred.await(told), "a bug")
      assert.isTrue(pulse.died)
      const { pulse: interrupted } = yield* pulseOf()
      yield* Fiber.interrupt(yield* Effect.forkChild(Loop.turns(interrupted, Effect.never)))
      assert.isFalse(interrupted.died)
    }).pipe(Effect.scoped, Effect.provide(Pulses.layer)))
})

import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Latch, Layer, Logger, Option, Queue } from "effect"
import { TestClock } from "effect/testing"
import { HandlerRegistry } from "../../src/HandlerRegistry.ts"
import { Stats } from "../../src/Stats.ts"
import type { ClaimedRow, ClaimRequest } from "../../src/storage/Claim.ts"
import { StorageError } from "../../src/storage/StorageError.ts"
import { type Claimed, TaskStore } from "../../src/storage/TaskStore.ts"
import { CancelWatcher } from "../../src/worker/CancelWatcher.ts"
import { Claimer } from "../../src/worker/Claimer.ts"
import { Measures } from "../../src/worker/Measures.ts"
import { Problems } from "../../src/worker/Problems.ts"
import { Pulses } from "../../src/worker/Pulse.ts"
import { Settings } from "../../src/worker/Settings.ts"
import { Supervisor } from "../../src/worker/Supervisor.ts"
import { WakeUps } from "../../src/worker/WakeUps.ts"

const nothing: Claimed = {
  tasks: [],
  nextDueMillis: undefined,
  cursor: undefined,
  several: false,
  crowded: false,
  blocked: false,
  waiting: undefined
}

const row = (id: bigint) => ({ id, epoch: 1n, type: "t", queue: "q", priority: 0, runAt: 0 }) as ClaimedRow

/** A claimer whose database answers as the test says, and what it asked for. */
const make = Effect.fnUntraced(function*(
  answer: (request: ClaimRequest, nth: number) => Effect.Effect<Claimed, StorageError>,
  store: Partial<typeof TaskStore.Service> = {}
) {
  const requests: Array<ClaimRequest> = []
  const accepted: Array<bigint> = []
  const queued = Latch.makeUnsafe()
  const cancelled = yield* Queue.unbounded<bigint | undefined>()
  const context = yield* Claimer.layer.pipe(
    Layer.provideMerge(Layer.mergeAll(Stats.layer, Measures.layer, Problems.layer, Pulses.layer)),
    Layer.provide(Layer.mergeAll(
      Layer.succeed(
        TaskStore,
        {
          ...store,
          claim: (request: ClaimRequest) =>
            Effect.suspend(() => {
              requests.push(request)
              return answer(request, requests.length)
            })
        } as typeof TaskStore.Service
      ),
      Layer.succeed(
        Supervisor,
        {
          demand: () => ({ slots: 8, ahead: 0, queues: undefined }),
          quickTypes: () => new Set<string>(),
          accept: (rows: ReadonlyArray<ClaimedRow>) => accepted.push(...rows.map(({ id }) => id)),
          running: () => 0,
          freed: Latch.makeUnsafe()
        } as unknown as typeof Supervisor.Service
      ),
      Layer.succeed(CancelWatcher, { run: [], claimed: () => {} }),
      Layer.succeed(HandlerRegistry, { types: ["t"], get: () => Option.none() }),
      Layer.succeed(WakeUps, {
        queued,
        named: () => ({ all: false, queues: new Set<string>() }),
        cancelled,
        lostSince: () => undefined,
        run: Effect.never
      }),
      Layer.succeed(
        Settings,
        {
          leaseMillis: 30_000,
          pollMillis: 150_000,
          queues: undefined,
          taskTypes: ["*"],
          workerId: "w"
        } as unknown as typeof Settings.Service
      )
    )),
    Layer.provide(Logger.layer([])),
    Layer.build
  )
  const claimer = Context.get(context, Claimer)
  yield* Effect.forkScoped(claimer.run)
  yield* TestClock.adjust(0)
  return {
    requests,
    accepted,
    queued,
    doubt: claimer.doubt,
    pulse: Context.get(context, Pulses).all[0]!,
    pulses: Context.get(context, Pulses),
    problems: Context.get(context, Problems)
  }
})

const refusal = (sqlState: string) =>
  new StorageError({ operation: "claim tasks", transient: false, sqlState, cause: new Error("refused") })

describe("a claimer", () => {
  it.effect("looks before a task is due that was due too late to be announced, however seldom it polls", () =>
    Effect.gen(function*() {
      const { requests } = yield* make(() => Effect.succeed(nothing))
      assert.lengthOf(requests, 1)
      yield* TestClock.adjust("61 seconds")
      assert.lengthOf(requests, 2)
    }))

  it.effect("asks for less after a claim that is not answered, and is not well before one has brought something", () =>
    Effect.gen(function*() {
      const { accepted, doubt, pulse, requests } = yield* make((_, nth) =>
        nth <= 2
          ? Effect.never
          : Effect.succeed(nth === 5 ? { ...nothing, tasks: [row(1n)] } : nothing)
      )
      yield* TestClock.adjust("3 seconds")
      yield* TestClock.adjust("3 seconds")
      assert.deepStrictEqual(requests.map(({ slots }) => slots), [8, 4, 2])
      assert.deepStrictEqual(requests.map(({ inlineBytes }) => inlineBytes), [8192, 0, 0])
      const isWell = () => pulse.failure === undefined
      assert.isFalse(isWell())
      yield* TestClock.adjust("60 seconds")
      assert.lengthOf(requests, 4)
      assert.isFalse(isWell(), "it found nothing, as what it may have taken is locked")
      assert.strictEqual(doubt.value, "unanswered")
      yield* TestClock.adjust("60 seconds")
      assert.deepStrictEqual(accepted, [1n])
      yield* TestClock.adjust("60 seconds")
      assert.isTrue(isWell())
    }))

  it.effect("is well with nothing to do once somebody has looked at what it holds", () =>
    Effect.gen(function*() {
      const { doubt, pulse } = yield* make((_, nth) => nth === 1 ? Effect.never : Effect.succeed(nothing))
      yield* TestClock.adjust("3 seconds")
      assert.isDefined(pulse.failure)
      doubt.value = "none"
      yield* TestClock.adjust("60 seconds")
      assert.isUndefined(pulse.failure)
    }))

  it.effect("claims nothing while a write is unanswered for half a lease", () =>
    Effect.gen(function*() {
      const { pulse, pulses, requests } = yield* make(() => Effect.succeed(nothing))
      const writes = pulses.make("writing events and outcomes")
      writes.begin()
      yield* TestClock.adjust("60 seconds")
      yield* TestClock.adjust("60 seconds")
      assert.lengthOf(requests, 1)
      assert.isDefined(pulse.failure)
      writes.turned()
      yield* Effect.forkScoped(writes.rest(Effect.never))
      yield* TestClock.adjust("1 second")
      assert.lengthOf(requests, 2)
      assert.isUndefined(pulse.failure)
    }))

  it.effect("finds the one task that is refused, goes on with the others, and tries that again later", () =>
    Effect.gen(function*() {
      const these: Array<ReadonlyArray<bigint>> = []
      const { accepted, problems, requests } = yield* make(
        (_, nth) => nth === 1 ? Effect.fail(refusal("P0001")) : Effect.succeed(nothing),
        {
          claimable: () => Effect.succeed([1n, 2n, 3n, 4n]),
          claimThese: (_, ids) =>
            Effect.suspend(() => {
              these.push(ids)
              return ids.includes(2n) && these.length < 7
                ? Effect.fail(refusal("P0001"))
                : Effect.succeed(ids.map(row))
            })
        }
      )
      assert.deepStrictEqual(these, [[1n, 2n, 3n, 4n], [1n, 2n], [1n], [2n], [3n, 4n]])
      assert.deepStrictEqual(accepted, [1n, 3n, 4n])
      assert.match(problems.all()[0]!.message, /^task 2 cannot be claimed: .*refused/)
      assert.deepStrictEqual(requests.at(-1)!.setAside, [2n])
      yield* TestClock.adjust("60 seconds")
      assert.deepStrictEqual(these.slice(5), [[2n]])
      yield* TestClock.adjust("60 seconds")
      assert.deepStrictEqual(these.slice(5), [[2n], [2n]])
      assert.deepStrictEqual(accepted, [1n, 3n, 4n, 2n])
      assert.isEmpty(problems.all())
      assert.isEmpty(requests.at(-1)!.setAside)
    }))

  it.effect("fails what can never be claimed, and takes a missing right for no matter of one task", () =>
    Effect.gen(function*() {
      const failed: Array<bigint> = []
      const { problems } = yield* make(
        (_, nth) => nth === 1 ? Effect.fail(refusal("22003")) : Effect.succeed(nothing),
        {
          claimable: () => Effect.succeed([7n]),
          claimThese: () => Effect.fail(refusal("22003")),
          failUnclaimable: (id) => Effect.sync(() => void failed.push(id))
        }
      )
      assert.deepStrictEqual(failed, [7n])
      assert.isEmpty(problems.all())
      const { pulse } = yield* make(() => Effect.fail(refusal("42501")))
      assert.include(pulse.failure!.message, "refused")
    }))

  it.effect("tells of a type whose tasks it cannot have although it is idle", () =>
    Effect.gen(function*() {
      let waiting: string | undefined = "t"
      const { problems } = yield* make(() => Effect.succeed({ ...nothing, waiting }))
      assert.isEmpty(problems.all())
      yield* TestClock.adjust("60 seconds")
      assert.match(problems.all()[0]!.message, /^tasks of type t are due, and this worker/)
      waiting = undefined
      yield* TestClock.adjust("60 seconds")
      assert.isEmpty(problems.all())
    }))

  it.effect("lets others look first after it was woken in vain, by a moment", () =>
    Effect.gen(function*() {
      const { queued, requests } = yield* make(() => Effect.succeed(nothing))
      queued.openUnsafe()
      yield* TestClock.adjust(0)
      assert.lengthOf(requests, 2)
      queued.openUnsafe()
      yield* TestClock.adjust(0)
      assert.lengthOf(requests, 2)
      yield* TestClock.adjust(20)
      assert.lengthOf(requests, 3)
    }))
})

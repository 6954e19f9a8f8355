import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, Layer, type Scope } from "effect"
import { TestClock } from "effect/testing"
import { HandlerRegistry } from "../../src/HandlerRegistry.ts"
import { batch } from "../../src/storage/Hold.ts"
import { StorageError } from "../../src/storage/StorageError.ts"
import { type Expiring, type Held, TaskStore } from "../../src/storage/TaskStore.ts"
import { monotonicMillis } from "../../src/worker/Attempt.ts"
import { Connection } from "../../src/worker/Connection.ts"
import { Problems } from "../../src/worker/Problems.ts"
import { Pulses } from "../../src/worker/Pulse.ts"
import { Settings } from "../../src/worker/Settings.ts"
import { Sweeper } from "../../src/worker/Sweeper.ts"

const away = (transient: boolean) => new StorageError({ operation: "sweep", transient, cause: new Error("away") })

/** A statement that is refused with the rows `bad`, and takes the others out of `rows`. */
const refusing = (rows: Set<bigint>, bad: bigint) => (ids: ReadonlyArray<bigint>) =>
  Effect.suspend(() => {
    if (ids.includes(bad)) return Effect.fail(away(false))
    return Effect.sync(() => ids.filter((id) => rows.delete(id)))
  })

interface Row extends Held {
  /** In seconds. */
  lease: number
  locked?: boolean
  refused?: boolean
}

/** A table of leases, and a sweeper that runs on it. */
const sweeping = Effect.gen(function*() {
  const clock = yield* Clock.Clock
  const now = () => monotonicMillis(clock) / 1000
  const table = {
    rows: new Map<bigint, Row>(),
    taken: new Map<bigint, number>(),
    takes: [] as Array<number>,
    away: false,
    unclosed: new Set<bigint>(),
    unknown: new Set<bigint>(),
    statements: 0,
    insert: (id: bigint, lease: number) => {
      const row: Row = { id, epoch: 1n, lease }
      table.rows.set(id, row)
      return row
    }
  }
  const answer = <A>(make: () => A) => Effect.suspend(() => table.away ? Effect.fail(away(true)) : Effect.sync(make))
  const store = Layer.mock(TaskStore)({
    expiring: (within, after) =>
      answer(() =>
        [...table.rows.values()].filter(({ id, lease, locked }) =>
          id > after && lease < now() + within / 1000 && locked !== true
        ).toSorted((a, b) => a.id < b.id ? -1 : 1).slice(0, batch).map(({ epoch, id, lease }) => ({
          id,
          epoch,
          lease,
          now: now()
        }))
      ),
    sweep: (found: ReadonlyArray<Expiring>) =>
      Effect.suspend(() => {
        table.takes.push(found.length)
        if (found.some(({ id }) => table.rows.get(id)!.refused === true)) return Effect.fail(away(false))
        return answer(() =>
          found.flatMap(({ id, lease }) => {
            const row = table.rows.get(id)!
            if (row.locked === true || row.lease !== lease || lease >= now()) return []
            table.rows.delete(id)
            table.taken.set(id, now())
            return { id, type: "a", status: "queued", attempts: 1, worker: "dead" } as const
          })
        )
      }),
    // newest first, and 10 with each look
    unclosed: (from = 2n ** 62n) =>
      Effect.sync(() => {
        table.statements++
        return {
          found: [...table.unclosed].filter((id) => id <= from && id > from - 10n).map((id) => ({ id, epoch: 1n })),
          next: from <= 10n ? undefined : from > 1000n ? 1000n : from - 10n
        }
      }),
    close: (found) => Effect.map(refusing(table.unclosed, 995n)(found.map(({ id }) => id)), ({ length }) => length),
    unknown: (_, queues, except) =>
      Effect.sync(() => {
        assert.deepStrictEqual(queues, ["served"])
        return [...table.unknown].filter((id) => !except.includes(id)).slice(0, batch)
      }),
    failUnknown: (ids) =>
      Effect.map(refusing(table.unknown, 1500n)(ids), (failed) => failed.map((id) => ({ id, type: "alien" })))
  })
  const problems = yield* Problems
  const services = Layer.mergeAll(
    store,
    Layer.succeed(Problems, problems),
    Layer.succeed(Connection, { report: { closesCancelled: true } } as Connection["Service"]),
    Layer.succeed(HandlerRegistry, { types: ["a"] } as unknown as HandlerRegistry["Service"]),
    Layer.succeed(
      Settings,
      {
        leaseMillis: 30_000,
        pollMillis: 1000,
        sweepMillis: 5000,
        unknownTypes: "fail",
        queues: new Map([["served", 1]])
      } as unknown as Settings["Service"]
    )
  )
  const { run } = yield* Sweeper.pipe(
    Effect.provide(Sweeper.layer.pipe(Layer.provide(services), Layer.provide(Pulses.layer)))
  )
  yield* Effect.forkScoped(Effect.all(run, { concurrency: "unbounded" }))
  return { table, now, problems }
})

const run = <A, E>(self: Effect.Effect<A, E, Problems | Scope.Scope>) =>
  Effect.scoped(Effect.provide(self, Problems.layer))

describe("a sweep", () => {
  it.effect("takes the tasks of a dead worker within its lease and one sweep", () =>
    run(Effect.gen(function*() {
      const { now, table } = yield* sweeping
      for (let id = 1n; id <= 50n; id++) {
        table.insert(id, now() + 30)
        yield* TestClock.adjust("777 millis")
      }
      const leases = [...table.rows.values()].map(({ id, lease }) => [id, lease] as const)
      yield* TestClock.adjust("40 seconds")
      for (const [id, lease] of leases) {
        assert.isTrue(table.taken.get(id)! >= lease && table.taken.get(id)! <= lease + 5, `task ${id}`)
      }
    })))

  it.effect("takes nothing that is renewed a little late, and nothing half a lease after it has become free", () =>
    run(Effect.gen(function*() {
      const { now, table } = yield* sweeping
      const late = table.insert(1n, now() + 30)
      const locked = table.insert(2n, now() + 30)
      locked.locked = true
      yield* TestClock.adjust("29 seconds")
      late.lease = now() + 30
      yield* TestClock.adjust("29 seconds")
      late.lease = now() + 30
      // somebody let go of it: the next heartbeat comes within a quarter of the lease, and the worker needs some time
      locked.locked = false
      yield* TestClock.adjust("14 seconds")
      assert.strictEqual(table.taken.size, 0)
      locked.lease = now() + 30
      yield* TestClock.adjust("29 seconds")
      assert.deepStrictEqual([...table.taken.keys()], [1n])
    })))

  it.effect("begins anew after a look that failed, and at its own start", () =>
    run(Effect.gen(function*() {
      const { now, table } = yield* sweeping
      // its own start
      table.insert(1n, -1000)
      yield* TestClock.adjust("14 seconds")
      assert.strictEqual(table.taken.size, 0)
      yield* TestClock.adjust("2 seconds")
      assert.strictEqual(table.taken.size, 1)
      // an outage of a minute, and then everybody has half a lease to renew
      const row = table.insert(2n, now() + 18)
      yield* TestClock.adjust("6 seconds")
      table.away = true
      yield* TestClock.adjust("1 minute")
      table.away = false
      yield* TestClock.adjust("14 seconds")
      assert.isTrue(table.rows.has(2n))
      row.lease = now() + 30
      yield* TestClock.adjust("25 seconds")
      assert.isTrue(table.rows.has(2n))
    })))

  it.effect("goes on until nothing is left", () =>
    run(Effect.gen(function*() {
      const { table } = yield* sweeping
      for (let id = 1n; id <= 10_000n; id++) table.insert(id, -1)
      yield* TestClock.adjust("21 seconds")
      assert.strictEqual(table.rows.size, 0)
      assert.strictEqual(new Set(table.taken.values()).size, 1)
    })))

  it.effect("goes on without a row that is refused, names it, and tries it again after growing pauses", () =>
    run(Effect.gen(function*() {
      const { problems, table } = yield* sweeping
      for (let id = 1n; id <= 100n; id++) table.insert(id, -1)
      table.rows.get(37n)!.refused = true
      yield* TestClock.adjust("21 seconds")
      assert.deepStrictEqual([...table.rows.keys()], [37n])
      assert.deepStrictEqual(problems.all().map(({ message }) => message), [
        "task 37 cannot be swept: Could not sweep: away"
      ])
      const tries = () => table.takes.filter((count) => count === 1).length
      const before = tries()
      yield* TestClock.adjust("5 minutes")
      // after 5, 10, 20, 40, 80 and 160 s and the sweep that comes then
      assert.isTrue(tries() - before >= 4 && tries() - before <= 6, `${tries() - before}`)
      table.rows.get(37n)!.refused = false
      yield* TestClock.adjust("6 minutes")
      assert.strictEqual(table.rows.size, 0)
      yield* TestClock.adjust("5 seconds")
      assert.isEmpty(problems.all())
    })))
})

describe("what nobody else does", () => {
  it.effect("is done to the end, in the queues that are served, though one row is refused", () =>
    run(Effect.gen(function*() {
      const { problems, table } = yield* sweeping
      for (let id = 1n; id <= 2500n; id++) table.unknown.add(id)
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual([...table.unknown], [1500n])
      for (const id of [999n, 995n, 991n, 989n, 500n]) table.unclosed.add(id)
      yield* TestClock.adjust("5 seconds")
      // where some are found there may be more, and the older ones have their turn
      assert.deepStrictEqual([...table.unclosed], [995n, 500n])
      assert.sameMembers(problems.all().map(({ message }) => message), [
        "task 1500 cannot be failed for its unknown type: Could not sweep: away",
        "task 995 cannot be closed: Could not sweep: away"
      ])
      const before = table.statements
      yield* TestClock.adjust("250 seconds")
      assert.deepStrictEqual([...table.unclosed], [995n])
      assert.isAtMost(table.statements - before, 101)
    })))
})

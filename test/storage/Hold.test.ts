import { PgClient } from "@effect/sql-pg"
import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import * as Db from "../../src/Db.ts"
import * as Harness from "../support/WorkerHarness.ts"

/** A task held under epoch 1, with a lease that ends so many seconds from now. */
const held = (leaseSeconds: number, columns: Readonly<Record<string, unknown>> = {}) =>
  Harness.insert("a", {
    status: "processing",
    epoch: 1,
    attempts: 1,
    locked_by: "worker",
    lease_expires_at: new Date(Date.now() + leaseSeconds * 1000),
    started_at: new Date(),
    ...columns
  })

// Longer than a server of the tests has been up.
const forEver = 1_000_000_000_000

// A sweep that was asked for just now, however slow the machine is.
const inTime = new Date(Date.now() + 3_600_000)

const clear = Effect.gen(function*() {
  const sql = yield* PgClient.PgClient
  yield* sql`truncate spindle.tasks, spindle.task_events`
  return sql
})

layer(Harness.database, { excludeTestServices: true })("a heartbeat", (it) => {
  it.effect("renews what is its own, and tells all that is", () =>
    Effect.gen(function*() {
      const sql = yield* clear
      const store = yield* Harness.makeStore
      const mine = yield* held(1)
      const unwinding = yield* held(1, { status: "cancelled" })
      const locked = yield* held(1)
      const theirs = yield* held(1, { locked_by: "other" })
      const leaseOf = (id: bigint) => Effect.map(Harness.rowOf(id), (row) => row.lease_expires_at!.getTime())
      const before = [yield* leaseOf(locked), yield* leaseOf(theirs)]
      yield* Db.transaction(
        sql,
        Effect.gen(function*() {
          yield* sql`update spindle.tasks set tag = 'x' where id = ${locked}`
          const all = yield* store.renew("worker", 60_000)
          assert.deepStrictEqual(all.toSorted((a, b) => Number(a.id - b.id)), [
            { id: mine, epoch: 1n },
            { id: unwinding, epoch: 1n },
            { id: locked, epoch: 1n }
          ])
        })
      )
      assert.isAbove(yield* leaseOf(mine), Date.now() + 30_000)
      assert.isAbove(yield* leaseOf(unwinding), Date.now() + 30_000)
      assert.deepStrictEqual([yield* leaseOf(locked), yield* leaseOf(theirs)], before)
    }))

  it.effect("is told which of its tasks are cancelled", () =>
    Effect.gen(function*() {
      yield* clear
      const store = yield* Harness.makeStore
      const running = yield* held(60)
      const mine = yield* held(60)
      const theirs = yield* held(60, { locked_by: "other" })
      const unasked = yield* held(60)
      for (const id of [mine, theirs, unasked]) yield* Harness.cancel(id)
      const found = yield* store.cancelled("worker", [running, mine, theirs])
      assert.deepStrictEqual(found.map(({ epoch, id }) => ({ epoch, id })), [{ epoch: 1n, id: mine }])
      assert.isAtLeast(found[0]!.cancelledForMillis!, 0)
    }))
})

layer(Harness.database, { excludeTestServices: true })("a sweep", (it) => {
  it.effect("queues what has attempts left, charged; fails what has none; closes what was cancelled", () =>
    Effect.gen(function*() {
      yield* clear
      const store = yield* Harness.makeStore
      const alive = yield* held(60)
      const again = yield* held(-1, { attempts: 2 })
      const last = yield* held(-1, { attempts: 3 })
      const cancelled = yield* held(-1)
      yield* Harness.cancel(cancelled)
      const swept = yield* store.sweep(1, inTime)
      assert.deepStrictEqual(
        swept.map(({ attempts, id, status, type, worker }) => ({ attempts, id, status, type, worker }))
          .toSorted((a, b) => Number(a.id - b.id)),
        [
          { attempts: 2, id: again, status: "queued", type: "a", worker: "worker" },
          { attempts: 3, id: last, status: "failed", type: "a", worker: "worker" },
          { attempts: 1, id: cancelled, status: "cancelled", type: "a", worker: "worker" }
        ]
      )
      assert.deepInclude(yield* Harness.rowOf(alive), { status: "processing", epoch: 1n, locked_by: "worker" })
      const row = yield* Harness.rowOf(again)
      assert.deepInclude(row, { status: "queued", attempts: 2, epoch: 2n, locked_by: null })
      assert.deepInclude(row.error, { kind: "lease_expired" })
      const [released, ...rest] = yield* Harness.eventsOf(again)
      assert.isEmpty(rest)
      assert.deepInclude(released, { epoch: 2n, seq: 1, type: "released" })
      assert.deepInclude(released!.data, { reason: "lease_expired", worker: "worker" })
      const failed = yield* Harness.rowOf(last)
      assert.deepInclude(failed, { status: "failed", attempts: 3, epoch: 2n, locked_by: null })
      assert.deepInclude(failed.error, { kind: "lease_expired", tag: "LeaseExpired" })
      const [error] = yield* Harness.eventsOf(last)
      assert.deepInclude(error, { epoch: 2n, seq: 1, type: "error" })
      assert.deepInclude(error!.data, { ...failed.error, willRetry: false })
      assert.deepInclude(yield* Harness.rowOf(cancelled), {
        status: "cancelled",
        epoch: 2n,
        locked_by: null,
        error: null
      })
      assert.deepStrictEqual((yield* Harness.eventsOf(cancelled)).map(({ type }) => type), ["cancelled"])
      assert.isEmpty(yield* store.sweep(1, inTime))
      yield* Harness.assertContract
    }))

  it.effect("lets go of what somebody has set by hand, as it is", () =>
    Effect.gen(function*() {
      yield* clear
      const store = yield* Harness.makeStore
      const ids = yield* Effect.forEach(["completed", "failed", "queued"], (status) => held(-1, { status }))
      yield* store.sweep(0, inTime)
      const rows = yield* Effect.forEach(ids, Harness.rowOf)
      assert.deepStrictEqual(
        rows.map(({ epoch, locked_by, status }) => [status, locked_by, epoch]),
        [["completed", null, 2n], ["failed", null, 2n], ["queued", null, 2n]]
      )
      const events = yield* Effect.forEach(ids, Harness.eventsOf)
      assert.deepStrictEqual(events.map((of) => of.map(({ type }) => type)), [["done"], ["error"], ["released"]])
    }))

  it.effect("takes nothing within a lease of the server's start", () =>
    Effect.gen(function*() {
      yield* clear
      const store = yield* Harness.makeStore
      const id = yield* held(-1)
      assert.isEmpty(yield* store.sweep(forEver, inTime))
      assert.strictEqual((yield* Harness.rowOf(id)).status, "processing")
      assert.lengthOf(yield* store.sweep(1, inTime), 1)
    }))

  it.effect("takes nothing when it was held up for half a lease on its way", () =>
    Effect.gen(function*() {
      yield* clear
      const store = yield* Harness.makeStore
      const id = yield* held(-1)
      const now = yield* store.now
      assert.isEmpty(yield* store.sweep(100, new Date(now.getTime() - 50)))
      // one of them is not held up
      const swept = yield* Effect.repeat(Effect.flatMap(store.now, (asked) => store.sweep(1000, asked)), {
        until: (swept) => swept.length > 0
      })
      assert.deepStrictEqual(swept.map((swept) => swept.id), [id])
    }))

  it.effect("passes over a row that another transaction locks, and one whose worker has just renewed", () =>
    Effect.gen(function*() {
      const sql = yield* clear
      const store = yield* Harness.makeStore
      const locked = yield* held(-1)
      const free = yield* held(-1)
      yield* Db.transaction(
        sql,
        Effect.gen(function*() {
          yield* sql`update spindle.tasks set lease_expires_at = now() + interval '1 minute' where id = ${locked}`
          assert.deepStrictEqual((yield* store.sweep(1, inTime)).map(({ id }) => id), [free])
        })
      )
      assert.isEmpty(yield* store.sweep(1, inTime))
    }))
})

layer(Harness.database, { excludeTestServices: true })("what nobody else does", (it) => {
  it.effect("closes what was cancelled while queued, where no trigger does", () =>
    Effect.gen(function*() {
      const sql = yield* clear
      const store = yield* Harness.makeStore
      yield* sql`alter table spindle.tasks disable trigger user`
      const queued = yield* Harness.insert("a")
      const running = yield* held(60)
      yield* Harness.cancel(queued)
      yield* Harness.cancel(running)
      yield* sql`alter table spindle.tasks enable trigger user`
      assert.strictEqual(yield* store.closeCancelled, 1)
      assert.strictEqual(yield* store.closeCancelled, 0)
      const row = yield* Harness.rowOf(queued)
      assert.deepInclude(row, { status: "cancelled", epoch: 1n })
      assert.isNotNull(row.finished_at)
      assert.deepStrictEqual(yield* Harness.eventsOf(queued), [{ epoch: 1n, seq: 1, type: "cancelled", data: {} }])
      assert.deepInclude(yield* Harness.rowOf(running), { status: "cancelled", epoch: 1n, locked_by: "worker" })
    }))

  it.effect("fails due tasks of types that are not known, and no others", () =>
    Effect.gen(function*() {
      yield* clear
      const store = yield* Harness.makeStore
      const known = yield* Harness.insert("known")
      const alien = yield* Harness.insert("alien")
      const odd = yield* Harness.insert("odd", { queue: "other", priority: -4 })
      const later = yield* Harness.insert("alien", { run_at: new Date(Date.now() + 60_000) })
      const failed = yield* store.failUnknown(["known", "unused"])
      assert.deepStrictEqual(failed.map(({ id, type }) => ({ id, type })).toSorted((a, b) => Number(a.id - b.id)), [
        { id: alien, type: "alien" },
        { id: odd, type: "odd" }
      ])
      for (const id of [known, later]) assert.strictEqual((yield* Harness.rowOf(id)).status, "queued")
      assert.isEmpty(yield* store.failUnknown(["known"]))
      yield* Harness.assertContract
    }))
})

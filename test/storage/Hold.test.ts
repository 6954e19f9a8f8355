import { PgClient } from "@effect/sql-pg"
import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import * as Db from "../../src/Db.ts"
import type { Held, TaskStore } from "../../src/storage/TaskStore.ts"
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

/** What the store finds to sweep, and takes. */
const sweepAll = Effect.fnUntraced(function*(store: TaskStore["Service"]) {
  return yield* store.sweep(yield* store.expiring(0, 0n))
})

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
          const all = yield* store.renew("worker", 60_000, [])
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
      const swept = yield* sweepAll(store)
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
      assert.isEmpty(yield* sweepAll(store))
      yield* Harness.assertContract
    }))

  it.effect("lets go of what somebody has set by hand, as it is", () =>
    Effect.gen(function*() {
      yield* clear
      const store = yield* Harness.makeStore
      const ids = yield* Effect.forEach(["completed", "failed", "queued"], (status) => held(-1, { status }))
      yield* sweepAll(store)
      const rows = yield* Effect.forEach(ids, Harness.rowOf)
      assert.deepStrictEqual(
        rows.map(({ epoch, locked_by, status }) => [status, locked_by, epoch]),
        [["completed", null, 2n], ["failed", null, 2n], ["queued", null, 2n]]
      )
      const events = yield* Effect.forEach(ids, Harness.eventsOf)
      assert.deepStrictEqual(events.map((of) => of.map(({ type }) => type)), [["done"], ["error"], ["released"]])
    }))

  it.effect("finds what ends within a time, page by page, with its lease and the server's time", () =>
    Effect.gen(function*() {
      const sql = yield* clear
      const store = yield* Harness.makeStore
      yield* sql`insert into spindle.tasks (type, status, epoch, locked_by, lease_expires_at)
        select 'a', 'processing', 1, 'worker', now() + interval '5 seconds' from generate_series(1, 1001)`
      const soon = yield* held(-1)
      yield* held(3600)
      const first = yield* store.expiring(10_000, 0n)
      assert.lengthOf(first, 1000)
      const second = yield* store.expiring(10_000, first.at(-1)!.id)
      assert.deepStrictEqual(second.map(({ epoch, id }) => ({ epoch, id })), [
        { epoch: 1n, id: soon - 1n },
        { epoch: 1n, id: soon }
      ])
      assert.isTrue(second[0]!.lease > second[0]!.now && second[1]!.lease < second[1]!.now)
      assert.deepStrictEqual((yield* store.expiring(0, 0n)).map(({ id }) => id), [soon])
    }))

  it.effect("takes nothing whose lease has changed since it was found, or has not ended", () =>
    Effect.gen(function*() {
      const sql = yield* clear
      const store = yield* Harness.makeStore
      const renewed = yield* held(-1)
      const again = yield* held(-1)
      const alive = yield* held(60)
      const handmade = yield* held(0, { lease_expires_at: "-infinity" })
      const found = yield* store.expiring(120_000, 0n)
      assert.lengthOf(found, 4)
      yield* sql`update spindle.tasks set lease_expires_at = now() - interval '1 millisecond' where id = ${renewed}`
      yield* sql`update spindle.tasks set epoch = 2 where id = ${again}`
      assert.deepStrictEqual((yield* store.sweep(found)).map(({ id }) => id), [handmade])
      assert.strictEqual((yield* Harness.rowOf(alive)).status, "processing")
    }))

  it.effect("fails what cannot have another epoch", () =>
    Effect.gen(function*() {
      yield* clear
      const store = yield* Harness.makeStore
      const last = 2n ** 63n - 1n
      const id = yield* held(-1, { epoch: last, attempts: 2_147_483_646, max_attempts: 2_147_483_647 })
      assert.lengthOf(yield* sweepAll(store), 1)
      assert.deepInclude(yield* Harness.rowOf(id), { status: "failed", epoch: last, locked_by: null })
      assert.deepStrictEqual((yield* Harness.eventsOf(id)).map(({ type }) => type), ["error"])
    }))

  it.effect("passes over a row that another transaction locks, and one whose worker has just renewed", () =>
    Effect.gen(function*() {
      const sql = yield* clear
      const store = yield* Harness.makeStore
      const locked = yield* held(-1)
      const free = yield* held(-1)
      const found = yield* store.expiring(0, 0n)
      yield* Db.transaction(
        sql,
        Effect.gen(function*() {
          yield* sql`update spindle.tasks set lease_expires_at = now() + interval '1 minute' where id = ${locked}`
          assert.deepStrictEqual((yield* store.expiring(0, 0n)).map(({ id }) => id), [free])
          assert.deepStrictEqual((yield* store.sweep(found)).map(({ id }) => id), [free])
        })
      )
      assert.isEmpty(yield* sweepAll(store))
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
      const { found, next } = yield* store.unclosed(undefined)
      assert.deepStrictEqual(found, [{ id: queued, epoch: 0n }])
      assert.isUndefined(next)
      assert.strictEqual(yield* store.close(found), 1)
      assert.strictEqual(yield* store.close(found), 0)
      assert.isEmpty((yield* store.unclosed(undefined)).found)
      const row = yield* Harness.rowOf(queued)
      assert.deepInclude(row, { status: "cancelled", epoch: 1n })
      assert.isNotNull(row.finished_at)
      assert.deepStrictEqual(yield* Harness.eventsOf(queued), [{ epoch: 1n, seq: 1, type: "cancelled", data: {} }])
      assert.deepInclude(yield* Harness.rowOf(running), { status: "cancelled", epoch: 1n, locked_by: "worker" })
    }))

  for (const indexed of [true, false]) {
    it.effect(`finds what was run again and cancelled, ${indexed ? "with" : "without"} the index of ended tasks`, () =>
      Effect.gen(function*() {
        const sql = yield* clear
        const ended = (type: string, columns: Readonly<Record<string, unknown>> = {}, closing?: string) =>
          Effect.gen(function*() {
            const id = yield* Harness.insert(type, {
              status: "failed",
              epoch: 1,
              run_at: new Date(Date.now() - 60_000),
              started_at: new Date(Date.now() - 40_000),
              finished_at: new Date(Date.now() - 20_000),
              ...columns
            })
            if (closing !== undefined) {
              yield* sql`insert into spindle.task_events (task_id, epoch, seq, type, data)
                values (${id}, 1, 1, 'text_delta', '{}'), (${id}, 1, 2, ${closing}, '{}')`
            }
            return id
          })
        const failed = yield* ended("a", {}, "error")
        const plain = yield* ended("a", { status: "completed" })
        const cancelled = yield* ended("a", { status: "cancelled" }, "cancelled")
        const pruned = yield* ended("a", { status: "cancelled" })
        const scheduled = yield* ended("a", {
          status: "cancelled",
          started_at: null,
          run_at: new Date(Date.now() + 60_000)
        })
        yield* sql`alter table spindle.tasks disable trigger user`
        yield* sql`update spindle.tasks set status = 'queued', attempts = 0, run_at = now()
          where id in (${failed}, ${plain})`
        for (const id of [failed, plain]) yield* Harness.cancel(id)
        yield* sql`alter table spindle.tasks enable trigger user`
        // more than one look finds
        yield* sql`insert into spindle.tasks (type, status, finished_at)
          select 'z', 'cancelled', now() from generate_series(1, 6000)`
        if (!indexed) yield* sql`drop index spindle.tasks_ended_idx`
        const store = yield* Harness.makeStore
        const found: Array<bigint> = []
        let looks = 0
        for (let from: bigint | undefined; looks === 0 || from !== undefined; looks++) {
          const look: { readonly found: ReadonlyArray<Held>; readonly next: bigint | undefined } = yield* store
            .unclosed(from)
          found.push(...look.found.map(({ id }) => id))
          yield* store.close(look.found)
          from = look.next
        }
        assert.sameMembers(found, [failed, plain])
        assert.strictEqual(looks, indexed ? 13 : 2)
        for (const id of found) {
          assert.deepInclude(yield* Harness.rowOf(id), { status: "cancelled", epoch: 2n })
          assert.deepInclude((yield* Harness.eventsOf(id)).at(-1), { epoch: 2n, seq: 1, type: "cancelled" })
        }
        for (const id of [cancelled, pruned, scheduled]) assert.strictEqual((yield* Harness.rowOf(id)).epoch, 1n)
      }))
  }

  it.effect("fails due tasks of types that are not known, and no others", () =>
    Effect.gen(function*() {
      yield* clear
      const store = yield* Harness.makeStore
      const known = yield* Harness.insert("known")
      const alien = yield* Harness.insert("alien")
      const odd = yield* Harness.insert("odd", { queue: "other", priority: -4 })
      const later = yield* Harness.insert("alien", { run_at: new Date(Date.now() + 60_000) })
      const due = yield* store.unknown(["known", "unused"], undefined, [])
      assert.sameMembers([...due], [alien, odd])
      assert.deepStrictEqual(yield* store.unknown(["known"], ["other", "third"], []), [odd])
      assert.deepStrictEqual(yield* store.unknown(["known"], undefined, [odd]), [alien])
      const failed = yield* store.failUnknown([...due, later])
      assert.deepStrictEqual(failed.map(({ id, type }) => ({ id, type })).toSorted((a, b) => Number(a.id - b.id)), [
        { id: alien, type: "alien" },
        { id: odd, type: "odd" }
      ])
      for (const id of [known, later]) assert.strictEqual((yield* Harness.rowOf(id)).status, "queued")
      assert.isEmpty(yield* store.unknown(["known"], undefined, []))
      yield* Harness.assertContract
    }))
})

import { PgClient } from "@effect/sql-pg"
import { assert, layer } from "@effect/vitest"
import { Effect, Queue } from "effect"
import * as Db from "../../src/Db.ts"
import type { EventEntry, OutcomeEntry } from "../../src/storage/Write.ts"
import * as Harness from "../support/WorkerHarness.ts"

/** A task that the worker holds under epoch 1. */
const held = Effect.fnUntraced(function*(columns: Readonly<Record<string, unknown>> = {}) {
  return yield* Harness.insert("a", {
    status: "processing",
    epoch: 1,
    attempts: 1,
    locked_by: "worker",
    lease_expires_at: new Date(Date.now() + 60_000),
    started_at: new Date(),
    ...columns
  })
})

const outcome = (taskId: bigint, given: Partial<OutcomeEntry> = {}): OutcomeEntry => ({
  taskId,
  epoch: 1n,
  status: "completed",
  result: "1",
  error: null,
  delayMillis: null,
  refund: false,
  closing: "done",
  closingSeq: 1,
  closingData: "{}",
  announce: true,
  ...given
})

const event = (taskId: bigint, given: Partial<EventEntry> = {}): EventEntry => ({
  taskId,
  epoch: 1n,
  seq: 1,
  type: "said",
  data: "{\"n\": 1}",
  ...given
})

const typesOf = (id: bigint) => Effect.map(Harness.eventsOf(id), (events) => events.map(({ type }) => type))

const emptyStore = Effect.gen(function*() {
  const sql = yield* PgClient.PgClient
  yield* sql`truncate spindle.tasks, spindle.task_events`
  return yield* Harness.makeStore
})

const none = { accepted: [], cancelled: [], overruled: [], refused: [], blocked: [] }

layer(Harness.database, { excludeTestServices: true })("write", (it) => {
  it.effect("stores events, then the outcome with what closes the claim", () =>
    Effect.gen(function*() {
      const store = yield* emptyStore
      const id = yield* held()
      assert.deepStrictEqual(
        yield* store.write("worker", [event(id), event(id, { seq: 2, type: "more" })], [
          outcome(id, { result: "{\"a\": [2]}", closingSeq: 3, closingData: "{\"x\": 1}" })
        ]),
        { ...none, accepted: [id] }
      )
      const row = yield* Harness.rowOf(id)
      assert.deepInclude(row, { status: "completed", result: { a: [2] }, attempts: 1, locked_by: null })
      const [said, more, done] = yield* Harness.eventsOf(id)
      assert.deepStrictEqual(said, { epoch: 1n, seq: 1, type: "said", data: { n: 1 } })
      assert.deepInclude(more, { seq: 2, type: "more" })
      assert.deepInclude(done, { seq: 3, type: "done" })
      assert.strictEqual(done!.data.x, 1)
      assert.strictEqual(done!.data.worker, "worker")
      assert.strictEqual(new Date(done!.data.startedAt).getTime(), row.started_at!.getTime())
      yield* Harness.assertContract
    }))

  it.effect("tells how long a handler took to unwind only where the task stays cancelled", () =>
    Effect.gen(function*() {
      const store = yield* emptyStore
      const [undone, cancelled] = [yield* held(), yield* held()]
      yield* Harness.cancel(cancelled)
      const closingData = "{\"unwoundMs\":5}"
      yield* store.write("worker", [], [outcome(undone, { closingData }), outcome(cancelled, { closingData })])
      const dataOf = (id: bigint) => Effect.map(Harness.eventsOf(id), ([event]) => event!.data)
      assert.notProperty(yield* dataOf(undone), "unwoundMs")
      assert.propertyVal(yield* dataOf(cancelled), "unwoundMs", 5)
    }))

  it.effect("leaves out a done that nobody waits for", () =>
    Effect.gen(function*() {
      const store = yield* emptyStore
      const id = yield* held()
      yield* store.write("worker", [], [outcome(id, { announce: false })])
      assert.strictEqual((yield* Harness.rowOf(id)).status, "completed")
      assert.isEmpty(yield* typesOf(id))
    }))

  it.effect("lets a task go without a closing event where that is asked for, cancelled or not", () =>
    Effect.gen(function*() {
      const store = yield* emptyStore
      const [done, cancelled] = [yield* held(), yield* held()]
      yield* Harness.cancel(cancelled)
      const outcomes = [outcome(done, { closing: null }), outcome(cancelled, { closing: null })]
      assert.lengthOf((yield* store.write("worker", [], outcomes)).accepted, 2)
      assert.deepInclude(yield* Harness.rowOf(done), { status: "completed", locked_by: null })
      assert.deepInclude(yield* Harness.rowOf(cancelled), { status: "cancelled", locked_by: null })
      assert.isEmpty([...yield* typesOf(done), ...yield* typesOf(cancelled)])
    }))

  it.effect("closes a claim behind all that is stored of it, whatever the worker knows of that", () =>
    Effect.gen(function*() {
      const store = yield* emptyStore
      const id = yield* held()
      yield* store.write("worker", [event(id), event(id, { seq: 2 })], [])
      // the server has lost the outcome, and the worker has forgotten the task: it puts it back
      yield* store.write("worker", [], [
        outcome(id, { status: "queued", result: null, refund: true, closing: "released" })
      ])
      assert.deepStrictEqual(yield* typesOf(id), ["said", "said", "released"])
      yield* Harness.assertContract
    }))

  it.effect("puts a task back with its delay, its error and its attempt", () =>
    Effect.gen(function*() {
      const store = yield* emptyStore
      const retried = yield* held({ attempts: 2 })
      const released = yield* held({ attempts: 2, run_at: new Date(0) })
      yield* store.write("worker", [], [
        outcome(retried, {
          status: "queued",
          result: null,
          error: "{\"kind\": \"failure\"}",
          delayMillis: 60_000,
          closing: "retry"
        }),
        outcome(released, { status: "queued", result: null, refund: true, closing: "released" })
      ])
      const row = yield* Harness.rowOf(retried)
      assert.deepInclude(row, { status: "queued", attempts: 2, error: { kind: "failure" }, finished_at: null })
      const [retry] = yield* Harness.eventsOf(retried)
      assert.strictEqual(retry!.type, "retry")
      assert.strictEqual(new Date(retry!.data.runAt).getTime(), row.run_at.getTime())
      assert.isAbove(row.run_at.getTime() - row.started_at!.getTime(), 50_000)
      const back = yield* Harness.rowOf(released)
      assert.deepInclude(back, { status: "queued", attempts: 1, run_at: new Date(0) })
      assert.notProperty((yield* Harness.eventsOf(released))[0]!.data, "runAt")
      yield* Harness.assertContract
    }))

  it.effect("takes nothing from a worker that lost the task", () =>
    Effect.gen(function*() {
      const store = yield* emptyStore
      const newer = yield* held({ epoch: 2 })
      const taken = yield* held({ locked_by: "other" })
      const released = yield* held({ status: "queued", locked_by: null, lease_expires_at: null })
      const ids = [newer, taken, released]
      const before = yield* Effect.forEach(ids, Harness.rowOf)
      assert.deepStrictEqual(
        yield* store.write("worker", ids.map((id) => event(id)), ids.map((id) => outcome(id, { closingSeq: 2 }))),
        { ...none, refused: [1, 2, 3] }
      )
      assert.deepStrictEqual(yield* store.write("worker", [], [outcome(999_999n)]), none)
      assert.deepStrictEqual(yield* Effect.forEach(ids, Harness.rowOf), before)
      for (const id of ids) assert.isEmpty(yield* typesOf(id))
    }))

  for (const [status, closing] of [["completed", "done"], ["failed", "error"], ["queued", "released"]] as const) {
    it.effect(`lets go of a task that somebody else has set to ${status}`, () =>
      Effect.gen(function*() {
        const store = yield* emptyStore
        const sql = yield* PgClient.PgClient
        const id = yield* held()
        yield* sql`update spindle.tasks set status = ${status} where id = ${id}`
        assert.deepStrictEqual(yield* store.write("worker", [], [outcome(id, { closingSeq: 1 })]), {
          ...none,
          accepted: [id],
          overruled: [id]
        })
        assert.deepInclude(yield* Harness.rowOf(id), { status, locked_by: null, result: null })
        assert.deepStrictEqual(yield* typesOf(id), [closing])
      }))
  }

  for (
    const [name, given] of Object.entries<Partial<OutcomeEntry>>({
      completion: {},
      failure: { status: "failed", result: null, error: "{\"kind\": \"defect\"}", closing: "error" },
      retry: { status: "queued", result: null, error: "{}", delayMillis: 5000, closing: "retry" },
      release: { status: "queued", result: null, refund: true, closing: "released" },
      "plain completion": { announce: false }
    })
  ) {
    it.effect(`lets a cancel win over a ${name}, and says so`, () =>
      Effect.gen(function*() {
        const store = yield* emptyStore
        const id = yield* held()
        assert.isTrue(yield* Harness.cancel(id))
        const cancelled = yield* Harness.rowOf(id)
        assert.deepInclude(cancelled, { status: "cancelled", locked_by: "worker" })
        assert.deepStrictEqual(yield* store.write("worker", [event(id)], [outcome(id, { ...given, closingSeq: 2 })]), {
          ...none,
          accepted: [id],
          cancelled: [id]
        })
        const row = yield* Harness.rowOf(id)
        assert.deepInclude(row, {
          status: "cancelled",
          result: null,
          error: null,
          attempts: 1,
          locked_by: null,
          run_at: cancelled.run_at,
          finished_at: cancelled.finished_at
        })
        assert.deepStrictEqual(yield* typesOf(id), ["said", "cancelled"])
        yield* Harness.assertContract
      }))
  }

  it.effect("changes nothing when it is repeated", () =>
    Effect.gen(function*() {
      const store = yield* emptyStore
      const id = yield* held()
      const retried = yield* held({ attempts: 2 })
      const again = store.write("worker", [event(id)], [
        outcome(id, { closingSeq: 2 }),
        outcome(retried, { status: "queued", refund: true, closing: "released" })
      ])
      yield* again
      const before = [yield* Harness.rowOf(id), yield* Harness.rowOf(retried), yield* Harness.eventsOf(id)]
      assert.deepStrictEqual(yield* again, none)
      assert.deepStrictEqual(
        [yield* Harness.rowOf(id), yield* Harness.rowOf(retried), yield* Harness.eventsOf(id)],
        before
      )
    }))

  it.effect("stores the events again that are missing, and no others", () =>
    Effect.gen(function*() {
      const store = yield* emptyStore
      const id = yield* held()
      const lost = yield* held({ locked_by: "other" })
      yield* store.write("worker", [event(id)], [])
      assert.deepStrictEqual(
        yield* store.write("worker", [event(lost), event(id, { data: "{\"n\": 2}" }), event(id, { seq: 2 })], []),
        { ...none, refused: [1] }
      )
      assert.deepStrictEqual((yield* Harness.eventsOf(id)).map(({ data }) => data.n), [1, 1])
    }))

  it.effect("passes over a row that another transaction locks", () =>
    Effect.gen(function*() {
      const store = yield* emptyStore
      const sql = yield* PgClient.PgClient
      const locked = yield* held()
      const free = yield* held()
      yield* Db.transaction(
        sql,
        Effect.gen(function*() {
          yield* sql`update spindle.tasks set status = 'cancelled' where id = ${locked}`
          assert.deepStrictEqual(yield* store.write("worker", [], [outcome(locked), outcome(free)]), {
            ...none,
            accepted: [free]
          })
        })
      )
      assert.deepStrictEqual(yield* store.write("worker", [], [outcome(locked)]), {
        ...none,
        accepted: [locked],
        cancelled: [locked]
      })
      yield* Harness.assertContract
    }))

  it.effect("notifies once for all it wrote, and for queues that have something again", () =>
    Effect.gen(function*() {
      const store = yield* emptyStore
      const sql = yield* PgClient.PgClient
      const told = yield* sql.listen("spindle_task_events")
      const woken = yield* sql.listen("spindle_task_queued")
      const payloads = (channel: string, queue: typeof told) =>
        Effect.gen(function*() {
          yield* sql.notify(channel, "end")
          const all: Array<string> = []
          for (let { payload } = yield* Queue.take(queue); payload !== "end"; { payload } = yield* Queue.take(queue)) {
            all.push(payload)
          }
          return all
        })
      const toldIds = payloads("spindle_task_events", told)
      const said = yield* held()
      const done = yield* held()
      const soon = yield* held({ queue: "soon" })
      const soonToo = yield* held({ queue: "soon" })
      const later = yield* held({ queue: "later" })
      const keyed = yield* held({ queue: "keyed", unique_key: "k" })
      yield* Harness.cancel(keyed)
      yield* store.write("worker", [event(said), event(said, { seq: 2 }), event(done)], [
        outcome(done, { closingSeq: 2 }),
        outcome(soon, { status: "queued", closing: "released" }),
        outcome(soonToo, { status: "queued", closing: "retry", delayMillis: 59_000 }),
        outcome(later, { status: "queued", closing: "retry", delayMillis: 3_600_000 }),
        outcome(keyed)
      ])
      const [ids, ...others] = yield* toldIds
      assert.isEmpty(others)
      assert.deepStrictEqual(
        ids!.split(",").toSorted(),
        [said, done, soon, soonToo, later, keyed].map(String).toSorted()
      )
      assert.deepStrictEqual((yield* payloads("spindle_task_queued", woken)).toSorted(), ["keyed", "soon"])

      const many: Array<bigint> = []
      for (let n = 0; n < 900; n++) many.push(10_000_000_000n + BigInt(n))
      yield* sql`insert into spindle.tasks (id, type, status, epoch, locked_by, lease_expires_at)
        select id, 'a', 'processing', 1, 'worker', now() from unnest(${many}::bigint[]) id`
      yield* store.write("worker", many.map((id) => event(id)), [])
      assert.deepStrictEqual(yield* toldIds, ["*"])
      yield* store.write("worker", [event(1n)], [])
      assert.isEmpty(yield* toldIds)
    }))
})

import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Task from "../../src/Task.ts"
import * as TaskGroup from "../../src/TaskGroup.ts"
import * as Harness from "../support/WorkerHarness.ts"

// Nothing that these tests wait for may come from a poll.
const neverPolls = { pollInterval: "1 hour" } as const

describe("a worker that hardly ever polls", () => {
  it.live("starts a delayed task when it is due, also one that waits behind others", () =>
    Effect.gen(function*() {
      const script = Harness.script()
      const sql = yield* PgClient.PgClient
      const [now, soon, late] = yield* sql<{ readonly id: bigint; readonly run_at: Date }>`
        insert into spindle.tasks (type, run_at) values
          ('plain', now()), ('plain', now() + interval '700 ms'), ('plain', now() + interval '900 ms')
        returning id, run_at`
      yield* Harness.launch(Harness.Tasks, script.handlers, { ...neverPolls, notifications: "off" })
      yield* Harness.awaitOver(now!.id)
      for (const { id, run_at } of [soon!, late!]) {
        const row = yield* Harness.awaitOver(id)
        assert.isAtLeast(row.started_at!.getTime(), run_at.getTime())
      }
    }).pipe(Harness.onDatabase))

  it.live("is woken by a notification of a new task, a retry and a run again", () =>
    Effect.gen(function*() {
      const script = Harness.script()
      yield* Harness.launch(Harness.Tasks, script.handlers, { ...neverPolls, notifications: "on" })
      const id = yield* Harness.insert("scripted")
      const first = yield* script.next(id)
      yield* first.proceed(Effect.fail(new Harness.Refused({ why: "busy" })))
      const second = yield* script.next(id)
      yield* second.proceed(Effect.succeed(1))
      yield* Harness.awaitOver(id)
      const sql = yield* PgClient.PgClient
      yield* sql`update spindle.tasks set status = 'queued', attempts = 0, run_at = now() where id = ${id}`
      const third = yield* script.next(id)
      yield* third.proceed(Effect.succeed(2))
      assert.deepInclude(yield* Harness.awaitOver(id), { status: "completed", result: 2, epoch: 3n })
    }).pipe(Harness.onDatabase))

  it.live("goes on while anything is queued, whether its tasks are quick or slow", () =>
    Effect.gen(function*() {
      class Uneven extends Task.make("uneven") {}
      class Group extends TaskGroup.make(Uneven) {}
      const sql = yield* PgClient.PgClient
      yield* sql`insert into spindle.tasks (type) select 'uneven' from generate_series(1, 600)`
      yield* Harness.launch(
        Group,
        Group.toLayer({
          uneven: (_, { task }) => Number(task.id) % 100 < 60 ? Effect.void : Effect.sleep(Number(task.id) % 10)
        }),
        { ...neverPolls, notifications: "off", concurrency: 5 }
      )
      yield* Harness.awaitAllOver
    }).pipe(Harness.onDatabase))

  it.live("runs the other tasks of a queue whose bound is reached as slots are freed", () =>
    Effect.gen(function*() {
      const script = Harness.script()
      const ids: Array<bigint> = []
      for (let n = 0; n < 3; n++) ids.push(yield* Harness.insert("scripted", { queue: "narrow" }))
      yield* Harness.launch(Harness.Tasks, script.handlers, {
        ...neverPolls,
        notifications: "off",
        queues: { narrow: { concurrency: 1 } }
      })
      for (const id of ids) yield* Effect.flatMap(script.next(id), ({ proceed }) => proceed(Effect.succeed(1)))
      yield* Harness.awaitAllOver
      assert.deepStrictEqual(script.started, ids)
    }).pipe(Harness.onDatabase))
})

describe("a worker with very many queues or priorities", () => {
  it.live("drains them in turn, in the order of each queue", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      yield* sql`insert into spindle.tasks (type, queue, priority, payload)
        select 'plain', 'queue ' || n % 150, n / 150, '{}' from generate_series(0, 449) n`
      yield* Harness.launch(Harness.Tasks, Harness.script().handlers, { ...neverPolls, notifications: "off" })
      yield* Harness.awaitAllOver
      assert.deepStrictEqual(
        yield* sql`select count(*)::int as wrong
                     from spindle.tasks higher join spindle.tasks lower using (queue)
                    where higher.priority > lower.priority and higher.started_at > lower.started_at`,
        [{ wrong: 0 }]
      )
    }).pipe(Harness.onDatabase))

  it.live("starts at once what is due among thousands that are not, and later what is due later", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      yield* sql`insert into spindle.tasks (type, queue, priority, run_at)
        select 'plain', 'queue ' || least(n, 2000), greatest(n, 2000), now() + interval '1 hour'
          from generate_series(0, 4000) n`
      const soon = yield* Harness.insert("plain", { queue: "queue 1234", run_at: new Date(Date.now() + 1500) })
      yield* Harness.launch(Harness.Tasks, Harness.script().handlers, { ...neverPolls, notifications: "on" })
      yield* Harness.awaitOver(yield* Harness.insert("plain", { queue: "queue 77" }))
      yield* Harness.awaitOver(yield* Harness.insert("plain", { queue: "queue 2000", priority: -5 }))
      const again = yield* Harness.insert("plain", { queue: "another" })
      yield* Harness.awaitOver(again)
      yield* sql`update spindle.tasks set status = 'queued', attempts = 0, run_at = now() where id = ${again}`
      assert.strictEqual((yield* Harness.awaitOver(again)).epoch, 2n)
      const { run_at, started_at } = yield* Harness.awaitOver(soon)
      assert.isAtLeast(started_at!.getTime(), run_at.getTime())
    }).pipe(Harness.onDatabase))
})

describe("what was claimed ahead for a type that turns slow", () => {
  it.live("goes back uncharged, to be run by whoever has a slot", () =>
    Effect.gen(function*() {
      class Turning extends Task.make("turning") {}
      class Group extends TaskGroup.make(Turning) {}
      const sql = yield* PgClient.PgClient
      let count = 0
      yield* sql`insert into spindle.tasks (type) select 'turning' from generate_series(1, 2000)`
      yield* Harness.launch(
        Group,
        Group.toLayer({ turning: () => Effect.suspend(() => ++count > 1000 ? Effect.never : Effect.void) }),
        neverPolls
      )
      yield* Harness.eventually(
        "no more tasks than slots",
        sql<{ held: number; back: number }>`
          select count(*) filter (where locked_by is not null)::int as held,
                 count(*) filter (where status = 'queued' and epoch > 0)::int as back from spindle.tasks`,
        ([row]) => count > 1000 && row!.held === 5 && row!.back > 0
      )
      assert.deepStrictEqual(
        yield* sql`select distinct attempts from spindle.tasks where status = 'queued'`,
        [{ attempts: 0 }]
      )
    }).pipe(Harness.onDatabase))
})

describe("the bounds of a worker", () => {
  it.live("of a full queue take no slot from another, whatever was claimed ahead for it", () =>
    Effect.gen(function*() {
      class Turning extends Task.make("turning") {}
      class Group extends TaskGroup.make(Turning) {}
      const sql = yield* PgClient.PgClient
      let slow = false
      const started: Array<string> = []
      yield* Harness.launch(
        Group,
        Group.toLayer({
          turning: (_, { task }) =>
            Effect.suspend(() => {
              started.push(task.queue)
              return slow ? Effect.never : Effect.void
            })
        }),
        { concurrency: 6, queues: { full: { concurrency: 1 }, free: {} } }
      )
      yield* sql`insert into spindle.tasks (type, queue) select 'turning', 'full' from generate_series(1, 400)`
      yield* Harness.eventually("many that ran", Effect.sync(() => started.length), (count) => count > 100)
      slow = true
      yield* sql`insert into spindle.tasks (type, queue) select 'turning', 'free' from generate_series(1, 5)`
      yield* Harness.eventually(
        "the other queue's tasks",
        Effect.sync(() => started.filter((queue) => queue === "free").length),
        (count) => count === 5
      )
    }).pipe(Harness.onDatabase))

  it.live("are never exceeded, neither in all nor in a queue", () =>
    Effect.gen(function*() {
      class Counted extends Task.make("counted") {}
      class Group extends TaskGroup.make(Counted) {}
      const sql = yield* PgClient.PgClient
      const running = new Map<string, number>()
      const most = new Map<string, number>()
      const change = (key: string, by: number) => {
        const now = (running.get(key) ?? 0) + by
        running.set(key, now)
        most.set(key, Math.max(most.get(key) ?? 0, now))
      }
      const worker = yield* Harness.launch(
        Group,
        Group.toLayer({
          counted: (_, { task }) =>
            Effect.acquireUseRelease(
              Effect.sync(() => {
                for (const key of ["all", task.queue]) change(key, 1)
              }),
              // quick ones are claimed ahead of a slot, slow ones hold it
              () => Number(task.id) % 50 < 40 ? Effect.void : Effect.sleep(Number(task.id) % 7),
              () =>
                Effect.sync(() => {
                  for (const key of ["all", task.queue]) change(key, -1)
                })
            )
        }),
        { concurrency: 4, queues: { one: { concurrency: 1 }, two: { concurrency: 2 }, free: {} } }
      )
      yield* sql`insert into spindle.tasks (type, queue)
        select 'counted', (array['one', 'two', 'free'])[1 + n % 3] from generate_series(1, 900) n`
      yield* Harness.awaitAllOver
      const { free, ...bounded } = Object.fromEntries(most)
      assert.deepStrictEqual(bounded, { all: 4, one: 1, two: 2 })
      assert.isAtMost(free!, 4)
      assert.deepStrictEqual([...running.values()], [0, 0, 0, 0])
      assert.strictEqual(yield* worker.running, 0)
    }).pipe(Harness.onDatabase))
})

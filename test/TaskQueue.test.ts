import { PgClient } from "@effect/sql-pg"
import { assert, describe, layer } from "@effect/vitest"
import {
  Array,
  Context,
  DateTime,
  Duration,
  Effect,
  Fiber,
  Layer,
  Option,
  PubSub,
  Redacted,
  Schema,
  String as Str
} from "effect"
import { SqlClient } from "effect/sql"
import * as Db from "../src/Db.ts"
import * as Lifecycle from "../src/Lifecycle.ts"
import * as Ddl from "../src/storage/Ddl.ts"
import * as Task from "../src/Task.ts"
import * as TaskGroup from "../src/TaskGroup.ts"
import * as TaskQueue from "../src/TaskQueue.ts"
import { TestDatabase } from "./support/TestDatabase.ts"

const nested = (depth: number): Schema.Json => JSON.parse(`${"[".repeat(depth)}${"]".repeat(depth)}`)

class Mail extends Task.make("mail", {
  payload: {
    to: Schema.String,
    copies: Schema.Int.pipe(Schema.withConstructorDefault(Effect.succeed(1))),
    at: Schema.optionalKey(Schema.DateTimeUtc)
  },
  queue: "letters",
  maxAttempts: 7,
  timeout: "1 minute"
}) {}

class Report extends Task.make("report", {
  payload: { month: Schema.String },
  unique: ({ month }) => ({ key: month })
}) {}

class Tick extends Task.make("tick") {}

const database = TaskQueue.layer.pipe(
  Layer.provideMerge(TestDatabase.layerSql({ maxConnections: 25 }))
)

const id = (n: bigint) => n as Task.TaskId

const claim = Effect.fnUntraced(function*(id: Task.TaskId) {
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    update spindle.tasks
       set status = 'processing', epoch = epoch + 1, attempts = attempts + 1, started_at = now(),
           locked_by = 'worker', lease_expires_at = now() + interval '1 minute'
     where id = ${id} and status = 'queued'`
})

const settle = Effect.fnUntraced(function*(id: Task.TaskId, status = "completed") {
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    update spindle.tasks
       set status = case when status = 'cancelled' then status else ${status} end,
           locked_by = null, lease_expires_at = null, finished_at = now()
     where id = ${id} and status in ('processing', 'cancelled') and locked_by = 'worker'`
})

const reasonOf = <A, R>(effect: Effect.Effect<A, TaskQueue.TaskQueueError, R>) =>
  Effect.map(Effect.flip(effect), ({ reason }) => reason)

const countOf = Effect.fnUntraced(function*(type: string) {
  const sql = yield* SqlClient.SqlClient
  const [row] = yield* sql<{ readonly n: bigint }>`select count(*) as n from spindle.tasks where type = ${type}`
  return Number(row!.n)
})

describe("enqueue", () => {
  layer(database)((it) => {
    it.effect("takes from the definition what the options leave out", () =>
      Effect.gen(function*() {
        const queue = yield* TaskQueue.TaskQueue
        const enqueued = yield* queue.enqueue(Mail, { to: "a" })
        assert.isFalse(enqueued.duplicate)
        const task = Option.getOrThrow(yield* queue.get(enqueued.id))
        assert.deepInclude(task, {
          id: enqueued.id,
          type: "mail",
          queue: "letters",
          status: "queued",
          priority: 0,
          payload: { to: "a", copies: 1 },
          result: null,
          error: null,
          attempts: 0,
          maxAttempts: 7,
          timeout: null,
          epoch: 0n,
          lockedBy: null,
          uniqueKey: null,
          tag: null,
          userId: null,
          metadata: {},
          startedAt: null,
          finishedAt: null
        })
        assert.deepStrictEqual(task.runAt, task.createdAt)
      }))

    it.effect("stores every option", () =>
      Effect.gen(function*() {
        const queue = yield* TaskQueue.TaskQueue
        const at = DateTime.makeUnsafe("2026-01-02T03:04:05Z")
        const { id } = yield* queue.enqueue(Mail, { to: "b", at }, {
          priority: -32768,
          maxAttempts: 1,
          timeout: "1.5 seconds",
          queue: "other",
          unique: { key: "k" },
          tag: "t",
          userId: "u",
          metadata: { trace: ["x", null, 1.5] },
          runAt: "2100-01-01T00:00:00Z"
        })
        const task = Option.getOrThrow(yield* queue.get(id))
        assert.deepInclude(task, {
          payload: { to: "b", copies: 1, at: "2026-01-02T03:04:05.000Z" },
          queue: "other",
          priority: -32768,
          maxAttempts: 1,
          timeout: Duration.millis(1500),
          uniqueKey: "k",
          tag: "t",
          userId: "u",
          metadata: { trace: ["x", null, 1.5] }
        })
        assert.strictEqual(DateTime.formatIso(task.runAt), "2100-01-01T00:00:00.000Z")
      }))

    it.effect("adds a delay to the time of the database", () =>
      Effect.gen(function*() {
        const queue = yield* TaskQueue.TaskQueue
        const { id } = yield* queue.enqueue(Tick, undefined, { delay: "90 minutes" })
        const { createdAt, payload, runAt } = Option.getOrThrow(yield* queue.get(id))
        assert.strictEqual(Duration.toMinutes(DateTime.distance(createdAt, runAt)), 90)
        assert.deepStrictEqual(payload, {})
      }))

    it.effect("without a definition stores what it is given", () =>
      Effect.gen(function*() {
        const queue = yield* TaskQueue.TaskQueue
        const { id } = yield* queue.enqueueRaw("alien", ["any", { json: true }], { priority: 3 })
        assert.deepInclude(Option.getOrThrow(yield* queue.get(id)), {
          type: "alien",
          queue: "default",
          priority: 3,
          maxAttempts: 3,
          payload: ["any", { json: true }]
        })
      }))

    it.effect("refuses a payload that does not fit, with its reason", () =>
      Effect.gen(function*() {
        const queue = yield* TaskQueue.TaskQueue
        const error = yield* Effect.flip(queue.enqueue(Mail, { to: 1 as never }))
        assert.strictEqual(error.reason._tag, "InvalidPayload")
        assert.match(error.message, /The payload does not fit the task "mail": Expected string\n\s+at \["to"\]/)
      }))

    for (
      const [what, text] of [
        ["NUL", "a\0b"],
        ["NUL in a key", { "a\0b": 1 }],
        ["a lone high surrogate", "\ud800"],
        ["a lone low surrogate after a backslash", "\\\udfff"]
      ] as const
    ) {
      it.effect(`refuses ${what} in a payload before the statement is sent`, () =>
        Effect.gen(function*() {
          const queue = yield* TaskQueue.TaskQueue
          assert.deepStrictEqual(yield* reasonOf(queue.enqueueRaw("unstorable", text)), {
            _tag: "InvalidPayload",
            type: "unstorable",
            issue: "PostgreSQL cannot store NUL characters and lone surrogates"
          })
        }))
    }

    it.effect("stores text that only looks like an escape", () =>
      Effect.gen(function*() {
        const queue = yield* TaskQueue.TaskQueue
        const text = "\\u0000 \\\\ud800 😀 \u0001 \\"
        const { id } = yield* queue.enqueueRaw("escapes", text)
        assert.strictEqual(Option.getOrThrow(yield* queue.get(id)).payload, text)
      }))

    it.effect("refuses a payload that is nested deeper than 200, however deep", () =>
      Effect.gen(function*() {
        const queue = yield* TaskQueue.TaskQueue
        for (const depth of [201, 100_000]) {
          const reason = yield* reasonOf(queue.enqueueRaw("deep", nested(depth)))
          assert.deepStrictEqual(reason, {
            _tag: "InvalidPayload",
            type: "deep",
            issue: "it is nested deeper than 200"
          })
        }
        yield* queue.enqueueRaw("deep", nested(200))
      }))

    it.effect("refuses a payload above 16 MiB", () =>
      Effect.gen(function*() {
        const queue = yield* TaskQueue.TaskQueue
        const reason = yield* reasonOf(queue.enqueueRaw("large", "ä".repeat(8 * 1024 * 1024)))
        assert.deepStrictEqual(reason, {
          _tag: "InvalidPayload",
          type: "large",
          issue: "it is 16777218 bytes of JSON, at most 16777216 can be stored"
        })
      }))

    for (
      const [options, issue] of [
        [{ priority: 32768 }, "priority is 32768, expected an integer from -32768 to 32767"],
        [{ priority: 0.5 }, "priority is 0.5, expected an integer from -32768 to 32767"],
        [{ maxAttempts: 0 }, "maxAttempts is 0, expected an integer from 1 to 2147483647"],
        [{ timeout: 0 }, "timeout is 0, expected a positive duration of at most 2147483647 milliseconds"],
        [
          { timeout: "30 days" },
          "timeout is \"30 days\", expected a positive duration of at most 2147483647 milliseconds"
        ],
        [{ timeout: Duration.infinity }, /^timeout is .*nfinity.*, expected a positive duration/],
        [{ timeout: "soon" as never }, /^timeout is "soon", expected a positive duration/],
        [{ delay: Duration.infinity }, /^delay is .*nfinity.*, expected a duration of at most 100 years$/],
        [{ runAt: "tomorrow" }, "runAt is \"tomorrow\", expected a point in time of the years 1 to 9999"],
        [{ runAt: 1e15 }, /^runAt is 1000000000000000, expected/],
        [{ runAt: DateTime.makeUnsafe(8e15) }, /^runAt is \+255479-11-28T14:13:20\.000Z, expected/],
        [{ metadata: { a: nested(200) } }, "metadata is nested deeper than 200"],
        [{ runAt: 0, delay: 1 as never }, /^delay is 1, expected no delay beside runAt$/],
        [{ queue: "" }, "queue is \"\", expected a text of 1 to 200 characters without NUL and lone surrogates"],
        [{ queue: "q".repeat(201) }, /^queue is "q+", expected a text of 1 to 200 characters/],
        [{ tag: "t".repeat(1_000_000) }, /^tag is "t{600}…", expected a text of 1 to 200 characters/],
        [{ tag: "\0" }, /^tag is "\\u0000", expected a text of 1 to 200 characters/],
        [{ userId: "\ud800" }, /^userId is "\\ud800", expected a text of 1 to 200 characters/],
        [{ unique: { key: "k".repeat(501) } }, /^unique\.key is "k+", expected a text of 1 to 500 characters/],
        [{ unique: { key: "k", mode: "replace" as never } }, "unique.mode is \"replace\", expected \"skip\""],
        [{ metadata: [] as never }, /^metadata is .*expected an object of at most 1 MiB/],
        [{ metadata: { a: "\0" } }, /^metadata is .*expected an object of at most 1 MiB/],
        [{ metadata: { a: "x".repeat(1024 * 1024) } }, /^metadata is .*…", expected an object of at most 1 MiB/]
      ] as ReadonlyArray<readonly [TaskQueue.EnqueueOptions, string | RegExp]>
    ) {
      it.effect(`says: ${String(issue)}`, () =>
        Effect.gen(function*() {
          const queue = yield* TaskQueue.TaskQueue
          const reason = yield* reasonOf(queue.enqueueRaw("never", {}, options))
          if (reason._tag !== "InvalidOptions") return assert.fail(reason._tag)
          if (typeof issue === "string") assert.strictEqual(reason.issue, issue)
          else assert.match(reason.issue, issue)
          assert.strictEqual(yield* countOf("never"), 0)
        }))
    }
  })
})

describe("enqueue and transactions", () => {
  layer(database)((it) => {
    it.effect("becomes visible, and is announced, only if the caller's transaction commits", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const queue = yield* TaskQueue.TaskQueue
        const bus = yield* PubSub.unbounded<Lifecycle.Event>()
        const created = yield* PubSub.subscribe(bus)
        const both = Effect.gen(function*() {
          yield* queue.enqueue(Mail, { to: "tx" })
          yield* queue.enqueueMany(Report, [{ payload: { month: "tx1" } }, { payload: { month: "tx2" } }])
        })
        yield* Effect.gen(function*() {
          yield* Effect.flip(sql.withTransaction(Effect.andThen(both, Effect.fail("no"))))
          assert.strictEqual(yield* countOf("mail"), 0)
          assert.strictEqual(yield* countOf("report"), 0)
          yield* sql.withTransaction(Effect.gen(function*() {
            yield* both
            assert.strictEqual(yield* PubSub.remaining(created), 0)
          }))
        }).pipe(Effect.provideService(Lifecycle.Bus, bus))
        assert.strictEqual(yield* countOf("mail"), 1)
        const events = yield* PubSub.takeAll(created)
        assert.deepStrictEqual(events.map(({ _tag, task }) => [_tag, task.type]), [
          ["Created", "mail"],
          ["Created", "report"],
          ["Created", "report"]
        ])
        const { id, ...row } = events[0].task
        assert.deepInclude(Option.getOrThrow(yield* queue.get(id)), row)
      }))

    it.effect("announces what was stored, not its duplicate", () =>
      Effect.gen(function*() {
        const queue = yield* TaskQueue.TaskQueue
        const bus = yield* PubSub.unbounded<Lifecycle.Event>()
        const created = yield* PubSub.subscribe(bus)
        const first = yield* Effect.provideService(
          Effect.tap(queue.enqueue(Report, { month: "announced" }), queue.enqueue(Report, { month: "announced" })),
          Lifecycle.Bus,
          bus
        )
        assert.deepStrictEqual((yield* PubSub.takeAll(created)).map(({ task }) => task.id), [first.id])
      }))

    it.effect("works on a client that transforms names", () =>
      Effect.gen(function*() {
        const { url } = yield* TestDatabase
        const transformed = Layer.fresh(TaskQueue.layer).pipe(Layer.provide(PgClient.layer({
          url,
          transformQueryNames: Str.camelToSnake,
          transformResultNames: Str.snakeToCamel,
          transformJson: true
        })))
        yield* Effect.gen(function*() {
          const queue = yield* TaskQueue.TaskQueue
          const { id } = yield* queue.enqueueRaw("snake", { snake_case: 1 }, { metadata: { snake_case: 1 } })
          assert.deepInclude(Option.getOrThrow(yield* queue.get(id)), {
            payload: { snake_case: 1 },
            metadata: { snake_case: 1 },
            maxAttempts: 3
          })
        }).pipe(Effect.provide(transformed))
      }))

    it.effect("reads what plain SQL has stored", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const queue = yield* TaskQueue.TaskQueue
        const [row] = yield* sql<{ readonly id: Task.TaskId }>`
          insert into spindle.tasks (type, run_at, error) values ('plain', 'infinity', '{"oops": 1}') returning id`
        assert.deepInclude(Option.getOrThrow(yield* queue.get(row!.id)), {
          queue: "default",
          payload: {},
          maxAttempts: 3,
          error: { kind: "failure", tag: "Unknown", message: "{\"oops\":1}" },
          runAt: DateTime.makeUnsafe("9999-12-31T23:59:59.999Z")
        })
      }))
  })
})

describe("enqueueMany", () => {
  layer(database)((it) => {
    it.effect("of nothing is nothing", () =>
      Effect.gen(function*() {
        const queue = yield* TaskQueue.TaskQueue
        assert.deepStrictEqual(yield* queue.enqueueMany(Mail, []), [])
      }))

    it.effect("stores 10,000 in one transaction and answers in their order", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const queue = yield* TaskQueue.TaskQueue
        const items = Array.makeBy(10_000, (n) => ({
          payload: { to: `${n}` },
          options: n % 3 === 0 ? { unique: { key: `${n}` } } : undefined
        }))
        const enqueued = yield* queue.enqueueMany(Mail, items)
        const rows = yield* sql<{ readonly id: Task.TaskId; readonly n: number }>`
          select id, (payload ->> 'to')::int as n from spindle.tasks where type = 'mail' order by n`
        assert.deepStrictEqual(
          rows,
          enqueued.map(({ id }, n) => ({ id, n }))
        )
        const [row] = yield* sql<{ readonly transactions: bigint }>`
          select count(distinct xmin::text) as transactions from spindle.tasks where type = 'mail'`
        assert.strictEqual(row!.transactions, 1n)
      }))

    it.effect("stores the first of those with the same key, and tells which are duplicates of what", () =>
      Effect.gen(function*() {
        const queue = yield* TaskQueue.TaskQueue
        const { id: before } = yield* queue.enqueue(Report, { month: "held" })
        const months = ["new", "held", "new", "other", "held"]
        const enqueued = yield* queue.enqueueMany(Report, months.map((month) => ({ payload: { month } })))
        assert.deepStrictEqual(enqueued.map(({ duplicate }) => duplicate), [false, true, true, false, true])
        assert.deepStrictEqual([enqueued[1]!.id, enqueued[4]!.id, enqueued[2]!.id], [before, before, enqueued[0]!.id])
        assert.deepInclude(Option.getOrThrow(yield* queue.get(enqueued[3]!.id)), { payload: { month: "other" } })
      }))

    it.effect("stores none if one does not fit", () =>
      Effect.gen(function*() {
        const queue = yield* TaskQueue.TaskQueue
        const items = [{ payload: { month: "a" } }, { payload: { month: "b" }, options: { priority: 1e9 } }]
        assert.strictEqual((yield* reasonOf(queue.enqueueMany(Report, items)))._tag, "InvalidOptions")
        assert.deepStrictEqual(
          (yield* queue.list({ type: "report", status: "queued" })).filter(({ uniqueKey }) => uniqueKey === "a"),
          []
        )
      }))

    it.effect("stores none if the database refuses the last of several statements", () =>
      Effect.gen(function*() {
        const queue = yield* TaskQueue.TaskQueue
        class Large extends Task.make("large", { payload: Schema.Json }) {}
        const items = [
          { payload: "x".repeat(6 * 1024 * 1024) },
          { payload: "y".repeat(6 * 1024 * 1024) },
          // 12 MiB of text that are more than 16 MiB as jsonb
          { payload: Array.makeBy(6_000_000, () => 1) }
        ]
        const error = yield* Effect.flip(queue.enqueueMany(Large, items))
        assert.strictEqual(error.reason._tag, "Refused")
        assert.match(error.message, /tasks_size_check/)
        assert.strictEqual(yield* countOf("large"), 0)
        assert.lengthOf(yield* queue.enqueueMany(Large, items.slice(0, 2)), 2)
        assert.strictEqual(yield* countOf("large"), 2)
      }))
  })
})

describe("unique keys", () => {
  layer(database)((it) => {
    it.effect("of 20 at once one is stored", () =>
      Effect.gen(function*() {
        const queue = yield* TaskQueue.TaskQueue
        const enqueued = yield* Effect.all(Array.makeBy(20, () => queue.enqueue(Report, { month: "race" })), {
          concurrency: "unbounded"
        })
        assert.strictEqual(enqueued.filter(({ duplicate }) => !duplicate).length, 1)
        assert.strictEqual(new Set(enqueued.map(({ id }) => id)).size, 1)
        assert.strictEqual((yield* queue.list({ type: "report", limit: 200 })).length, 1)
      }))

    it.effect("are free when the holder has finished, and another type's are others", () =>
      Effect.gen(function*() {
        const queue = yield* TaskQueue.TaskQueue
        const first = yield* queue.enqueue(Report, { month: "free" })
        assert.isFalse((yield* queue.enqueueRaw("other", {}, { unique: { key: "free" } })).duplicate)
        yield* claim(first.id)
        assert.deepStrictEqual(yield* queue.enqueue(Report, { month: "free" }), { id: first.id, duplicate: true })
        yield* settle(first.id)
        const second = yield* queue.enqueue(Report, { month: "free" })
        assert.isFalse(second.duplicate)
        assert.notStrictEqual(second.id, first.id)
      }))

    it.effect("answer rightly while the holder keeps changing", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const queue = yield* TaskQueue.TaskQueue
        const finish = sql`
          update spindle.tasks set status = 'completed' where type = 'report' and unique_key = 'churn' and status = 'queued'`
        const churn = yield* Effect.forkChild(Effect.forever(finish))
        const enqueued = yield* Effect.all(Array.makeBy(300, () => queue.enqueue(Report, { month: "churn" })), {
          concurrency: 15
        })
        yield* Fiber.interrupt(churn)
        const rows = yield* sql<{ readonly id: Task.TaskId }>`
          select id from spindle.tasks where unique_key = 'churn' order by id`
        const stored = enqueued.filter(({ duplicate }) => !duplicate).map(({ id }) => id)
        assert.deepStrictEqual(rows.map(({ id }) => id), stored.toSorted((a, b) => a < b ? -1 : 1))
        assert.isTrue(enqueued.every(({ id }) => stored.includes(id)))
      }))

    it.effect("are stored in their own order, so that opposite orders do not block each other", () =>
      Effect.gen(function*() {
        const queue = yield* TaskQueue.TaskQueue
        const items = Array.makeBy(40, (n) => ({ payload: { month: `cross-${n}` } }))
        const all = yield* Effect.all(
          Array.makeBy(8, (n) => queue.enqueueMany(Report, n % 2 === 0 ? items : items.toReversed())),
          { concurrency: "unbounded" }
        )
        assert.strictEqual(all.flat().filter(({ duplicate }) => !duplicate).length, 40)
        assert.strictEqual(new Set(all.flat().map(({ id }) => id)).size, 40)

        const months = ["order-c", "order-a", "order-b"]
        const stored = yield* queue.enqueueMany(Report, months.map((month) => ({ payload: { month } })))
        const newest = yield* queue.list({ type: "report", limit: 3 })
        assert.deepStrictEqual(newest.map(({ uniqueKey }) => uniqueKey), ["order-c", "order-b", "order-a"])
        assert.deepStrictEqual(stored.map(({ id }) => id), [newest[0]!.id, newest[2]!.id, newest[1]!.id])
      }))
  })
})

describe("cancel", () => {
  layer(database)((it) => {
    it.effect("tells what the task was found to be", () =>
      Effect.gen(function*() {
        const queue = yield* TaskQueue.TaskQueue
        const sql = yield* SqlClient.SqlClient
        const answers: Record<string, TaskQueue.CancelOutcome> = {}
        for (const status of ["queued", "processing", "completed", "failed", "cancelled"]) {
          const { id } = yield* queue.enqueue(Tick, undefined)
          yield* sql`update spindle.tasks set status = ${status} where id = ${id}`
          answers[status] = yield* queue.cancel(id)
        }
        assert.deepStrictEqual(answers, {
          queued: "cancelled",
          processing: "cancelled",
          completed: "already_completed",
          failed: "already_failed",
          cancelled: "already_cancelled"
        })
        assert.strictEqual(yield* queue.cancel(id(2n ** 62n)), "not_found")
        assert.strictEqual(yield* queue.cancel(id(2n ** 80n)), "not_found")
      }))

    it.effect("closes a queued task: finished, an epoch further, with one event", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const queue = yield* TaskQueue.TaskQueue
        const { id } = yield* queue.enqueue(Tick, undefined)
        assert.strictEqual(yield* queue.cancel(id), "cancelled")
        assert.strictEqual(yield* queue.cancel(id), "already_cancelled")
        const task = Option.getOrThrow(yield* queue.get(id))
        assert.deepInclude(task, { status: "cancelled", epoch: 1n, lockedBy: null })
        assert.isNotNull(task.finishedAt)
        assert.deepStrictEqual(
          yield* sql`select epoch, seq, type, data from spindle.task_events where task_id = ${id}`,
          [{ epoch: 1n, seq: 1, type: "cancelled", data: {} }]
        )
      }))

    it.effect("that waited for an outcome answers what the outcome was", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const queue = yield* TaskQueue.TaskQueue
        const { id } = yield* queue.enqueue(Tick, undefined)
        yield* claim(id)
        const cancelling = yield* sql.withTransaction(Effect.gen(function*() {
          yield* settle(id)
          const { transactionService } = sql
          const cancelling = yield* queue.cancel(id).pipe(
            Effect.updateContext((context: Context.Context<never>) =>
              Context.omit(transactionService)(context) as never
            ),
            Effect.forkDetach
          )
          yield* Effect.repeat(
            sql<{ readonly waiting: boolean }>`
              select exists (select from pg_locks where not granted and pid in (
                select pid from pg_stat_activity where datname = current_database())) as waiting`,
            { until: ([row]) => row!.waiting }
          )
          return cancelling
        }))
        assert.strictEqual(yield* Fiber.join(cancelling), "already_completed")
      }))

    it.effect("200 at once against outcomes: every answer is the row's final fact", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const queue = yield* TaskQueue.TaskQueue
        const enqueued = yield* queue.enqueueMany(Mail, Array.makeBy(200, (n) => ({ payload: { to: `${n}` } })))
        yield* Effect.forEach(enqueued, ({ id }) => claim(id), { concurrency: 10 })
        const [answers] = yield* Effect.all([
          Effect.forEach(enqueued, ({ id }) => queue.cancel(id), { concurrency: 12 }),
          Effect.forEach(enqueued, ({ id }, n) => settle(id, n % 2 === 0 ? "completed" : "failed"), { concurrency: 12 })
        ], { concurrency: 2 })
        const rows = yield* sql<{ readonly id: bigint; readonly status: string; readonly locked: boolean }>`
          select id, status, locked_by is not null as locked from spindle.tasks where type = 'mail' order by id`
        assert.deepStrictEqual(
          answers.map((answer) => answer.replace("already_", "")),
          rows.map(({ status }) => status)
        )
        assert.isFalse(rows.some(({ locked }) => locked))
        assert.isTrue(answers.includes("cancelled"))
      }))
  })
})

describe("retry", () => {
  layer(database)((it) => {
    it.effect("tells what became of the task", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const queue = yield* TaskQueue.TaskQueue
        const answer = Effect.fnUntraced(function*(status: string, lockedBy: string | null = null) {
          const { id } = yield* queue.enqueue(Tick, undefined)
          yield* sql`update spindle.tasks set status = ${status}, locked_by = ${lockedBy}::text where id = ${id}`
          return yield* queue.retry(id)
        })
        assert.deepStrictEqual({
          completed: yield* answer("completed"),
          failed: yield* answer("failed"),
          cancelled: yield* answer("cancelled"),
          unwinding: yield* answer("cancelled", "worker"),
          queued: yield* answer("queued"),
          processing: yield* answer("processing", "worker"),
          missing: yield* queue.retry(id(2n ** 62n))
        }, {
          completed: "queued",
          failed: "queued",
          cancelled: "queued",
          unwinding: "still_stopping",
          queued: "not_finished",
          processing: "not_finished",
          missing: "not_found"
        })
      }))

    it.effect("runs at once, and leaves the attempts charged but for the one it needs", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const queue = yield* TaskQueue.TaskQueue
        const attempts = Effect.fnUntraced(function*(had: number, options?: { readonly resetAttempts: boolean }) {
          const { id } = yield* queue.enqueue(Tick, undefined, { delay: "1 day", maxAttempts: 5 })
          yield* sql`update spindle.tasks set status = 'failed', attempts = ${had}, epoch = 9 where id = ${id}`
          assert.strictEqual(yield* queue.retry(id, options), "queued")
          const task = Option.getOrThrow(yield* queue.get(id))
          assert.strictEqual(task.epoch, 9n)
          assert.isBelow(Math.abs(Duration.toMillis(DateTime.distance(task.createdAt, task.runAt))), 60_000)
          return task.attempts
        })
        assert.strictEqual(yield* attempts(2), 2)
        assert.strictEqual(yield* attempts(5), 4)
        assert.strictEqual(yield* attempts(5, { resetAttempts: true }), 0)
      }))

    it.effect("is a duplicate where another holds the key, and the caller's transaction goes on", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const queue = yield* TaskQueue.TaskQueue
        const first = yield* queue.enqueue(Report, { month: "taken" })
        yield* queue.cancel(first.id)
        yield* queue.enqueue(Report, { month: "taken" })
        const inside = yield* sql.withTransaction(Effect.gen(function*() {
          const outcome = yield* queue.retry(first.id)
          yield* queue.enqueue(Tick, undefined, { tag: "after the duplicate" })
          return outcome
        }))
        assert.strictEqual(inside, "duplicate")
        assert.strictEqual(yield* queue.retry(first.id), "duplicate")
        assert.lengthOf(yield* queue.list({ tag: "after the duplicate" }), 1)
      }))
  })
})

describe("get, list, stats", () => {
  layer(database)((it) => {
    it.effect("list what was asked for, newest first, page by page, and count it", () =>
      Effect.gen(function*() {
        const queue = yield* TaskQueue.TaskQueue
        const ids: Array<Task.TaskId> = []
        for (let n = 0; n < 12; n++) {
          const { id } = yield* queue.enqueueRaw(n % 2 === 0 ? "even" : "odd", n, {
            queue: n < 6 ? "low" : "high",
            ...(n === 3 ? { tag: "three", userId: "u3" } : {})
          })
          ids.unshift(id)
        }
        yield* queue.cancel(ids[0]!)
        yield* claim(ids[1]!)
        yield* claim(ids[2]!)
        yield* settle(ids[2]!)
        yield* claim(ids[3]!)
        yield* settle(ids[3]!, "failed")
        const list = (filter?: TaskQueue.Filter) => Effect.map(queue.list(filter), Array.map(({ payload }) => payload))

        assert.deepStrictEqual(yield* list(), [11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0])
        assert.deepStrictEqual(yield* list({ limit: 3 }), [11, 10, 9])
        const [bare] = yield* queue.list({ limit: 1, values: false })
        const [whole] = yield* queue.list({ limit: 1 })
        assert.deepStrictEqual(bare, { ...whole!, payload: null, result: null, metadata: {} })
        assert.deepStrictEqual(yield* list({ limit: 3, before: ids[2]! }), [8, 7, 6])
        assert.deepStrictEqual(yield* list({ type: "odd", queue: "low" }), [5, 3, 1])
        assert.deepStrictEqual(yield* list({ tag: "three" }), [3])
        assert.deepStrictEqual(yield* list({ userId: "u3" }), [3])
        assert.deepStrictEqual(yield* list({ status: "failed" }), [8])
        assert.deepStrictEqual(yield* queue.stats, {
          queued: 8,
          processing: 1,
          completed: 1,
          failed: 1,
          cancelled: 1,
          total: 12
        })
        assert.isTrue(Option.isNone(yield* queue.get(id(2n ** 62n))))
        for (const limit of [0, 201, 1.5, Number.NaN]) {
          const issue = `limit is ${limit}, expected an integer from 1 to 200`
          assert.deepStrictEqual(yield* reasonOf(queue.list({ limit })), { _tag: "InvalidOptions", issue })
        }
      }))

    it.effect("a client has the methods of each task of the group", () =>
      Effect.gen(function*() {
        const queue = yield* TaskQueue.TaskQueue
        const tasks = yield* TaskQueue.client(TaskGroup.make(Mail, Report))
        const { id } = yield* tasks.mail.enqueue({ to: "client" }, { priority: 2 })
        assert.deepInclude(Option.getOrThrow(yield* queue.get(id)), { type: "mail", priority: 2 })
        assert.deepStrictEqual(
          (yield* tasks.report.enqueueMany([{ payload: { month: "c" } }, { payload: { month: "c" } }])).map(
            ({ duplicate }) => duplicate
          ),
          [false, true]
        )
        assert.deepStrictEqual(yield* reasonOf(tasks.report.await(id)), {
          _tag: "WrongType",
          id,
          expected: "report",
          actual: "mail"
        })
      }))
  })
})

describe("what goes wrong", () => {
  layer(database)((it) => {
    it.effect("a producer with exactly its grants can enqueue, cancel, run again and read", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const { name, url } = yield* TestDatabase
        const role = `producer_of_${name}`
        yield* Effect.acquireRelease(
          sql.unsafe(`create role "${role}"`),
          () => Effect.orDie(Effect.andThen(sql.unsafe(`drop owned by "${role}"`), sql.unsafe(`drop role "${role}"`)))
        )
        for (const grant of Ddl.grants("spindle", "producer", role)) yield* sql.unsafe(grant)
        yield* Effect.gen(function*() {
          const queue = yield* TaskQueue.TaskQueue
          const { id } = yield* queue.enqueue(Report, { month: "granted" })
          assert.isTrue((yield* queue.enqueue(Report, { month: "granted" })).duplicate)
          assert.strictEqual(yield* queue.cancel(id), "cancelled")
          assert.strictEqual(yield* queue.retry(id, { resetAttempts: true }), "queued")
          assert.lengthOf(yield* queue.list({ type: "report" }), 1)
          assert.strictEqual((yield* queue.stats).queued, 1)
          const own = yield* SqlClient.SqlClient
          const [row] = yield* own<{ readonly role: string }>`select current_user as role`
          assert.strictEqual(row!.role, role)
          assert.strictEqual(
            (yield* Effect.flip(own`update spindle.tasks set max_attempts = 9`)).reason._tag,
            "AuthorizationError"
          )
        }).pipe(
          Effect.provide(
            Layer.fresh(TaskQueue.layer).pipe(Layer.provideMerge(PgClient.layer({ url, startupParameters: { role } })))
          )
        )
      }))

    it.effect("a schema without tables is refused with what to do", () =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(
          Effect.provide(
            Effect.flatMap(TaskQueue.TaskQueue, (queue) => queue.enqueue(Tick, undefined)),
            Layer.provide(Layer.fresh(TaskQueue.layer), Layer.succeed(Db.Schema, "elsewhere"))
          )
        )
        assert.strictEqual(error.reason._tag, "Refused")
        assert.match(error.message, /no tables for tasks yet: start a worker once, or run `spindle migrate`/)
        assert.match(error.message, /elsewhere\.tasks/)
      }))

    it.effect("a broken transaction is refused", () =>
      Effect.gen(function*() {
        const sql = yield* SqlClient.SqlClient
        const queue = yield* TaskQueue.TaskQueue
        const error = yield* Effect.flip(sql.withTransaction(
          Effect.andThen(Effect.ignore(sql`select 1 / 0`), queue.stats)
        ))
        assert.strictEqual(error._tag === "TaskQueueError" && error.reason._tag, "Refused")
      }))
  })

  layer(Layer.provide(
    TaskQueue.layer,
    PgClient.layer({ url: Redacted.make("postgres://nobody@127.0.0.1:1/nothing"), minConnections: 0 })
  ))((it) => {
    it.effect("a database that is away is unavailable", () =>
      Effect.gen(function*() {
        const queue = yield* TaskQueue.TaskQueue
        const error = yield* Effect.flip(queue.enqueue(Tick, undefined))
        assert.strictEqual(error.reason._tag, "Unavailable")
        assert.match(error.message, /the same call can succeed later/)
      }))
  })
})

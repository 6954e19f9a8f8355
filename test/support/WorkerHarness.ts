/**
 * Workers in the test's own process whose handlers wait for the test, tasks by plain SQL, and the promises of the
 * database contract as assertions.
 */
import { PgClient } from "@effect/sql-pg"
import { assert } from "@effect/vitest"
import { Context, Deferred, Effect, Exit, Latch, Layer, Logger, Queue, References, Schema, Scope } from "effect"
import type { Redacted } from "effect"
import type { SqlError } from "effect/sql"
import * as Db from "../../src/Db.ts"
import * as HandlerRegistry from "../../src/HandlerRegistry.ts"
import * as Contract from "../../src/storage/Contract.ts"
import { TaskStore } from "../../src/storage/TaskStore.ts"
import * as Task from "../../src/Task.ts"
import * as TaskEvent from "../../src/TaskEvent.ts"
import * as TaskGroup from "../../src/TaskGroup.ts"
import * as Worker from "../../src/Worker.ts"
import { TestDatabase } from "./TestDatabase.ts"

export class Refused extends Schema.TaggedError<Refused>()("Refused", { why: Schema.String }) {}

/** A task that ends when, and how, the test says. */
export class Scripted extends Task.make("scripted", {
  success: Schema.Json,
  error: Refused,
  event: TaskEvent.TextDelta,
  retry: { backoff: { _tag: "Fixed", delay: 0 }, on: { Refused: "retry" } }
}) {}

/** A task without events that ends at once, with its payload's `n`. */
export class Plain extends Task.make("plain", {
  payload: { n: Schema.optionalKey(Schema.Int) },
  success: Schema.Int
}) {}

export class Tasks extends TaskGroup.make(Scripted, Plain) {}

type Body = Effect.Effect<Schema.Json, Refused | Task.Control>

/** One attempt of a `Scripted` task, from the start of its handler. */
export interface Attempt {
  readonly execution: Task.Execution<typeof Scripted>
  /** Lets the handler go on with this body, and so end. */
  readonly proceed: (body: Body) => Effect.Effect<void>
  /** Closed by a test that wants the handler's finalizer to take its time. */
  readonly unwind: Latch.Latch
  /** How the body ended, when the finalizer begins. */
  readonly ended: Deferred.Deferred<Exit.Exit<Schema.Json, Refused | Task.Control>>
}

export interface Script {
  /** The next attempt of the task that starts, or has started already. */
  readonly next: (id: bigint) => Effect.Effect<Attempt>
  /** The ids of the attempts that have started, in order. */
  readonly started: ReadonlyArray<bigint>
  readonly handlers: Layer.Layer<Task.ToHandler<typeof Scripted | typeof Plain>>
}

export const script = (): Script => {
  const queues = new Map<bigint, Queue.Queue<Attempt>>()
  const started: Array<bigint> = []
  const of = (id: bigint) => {
    const queue = queues.get(id) ?? Effect.runSync(Queue.unbounded<Attempt>())
    queues.set(id, queue)
    return queue
  }
  return {
    next: (id) => Queue.take(of(id)),
    started,
    handlers: Tasks.toLayer({
      plain: ({ n = 0 }, { task }) =>
        Effect.sync(() => {
          started.push(task.id)
          return n
        }),
      scripted: (_, execution) =>
        Effect.gen(function*() {
          const body = yield* Deferred.make<Body>()
          const ended = yield* Deferred.make<Exit.Exit<Schema.Json, Refused | Task.Control>>()
          const unwind = Latch.makeUnsafe(true)
          started.push(execution.task.id)
          Queue.offerUnsafe(of(execution.task.id), {
            execution,
            proceed: (self) => Effect.asVoid(Deferred.succeed(body, self)),
            unwind,
            ended
          })
          return yield* Effect.flatten(Deferred.await(body)).pipe(
            Effect.onExit((exit) => Effect.andThen(Deferred.succeed(ended, exit), unwind.await))
          )
        })
    })
  }
}

export interface LogLine {
  readonly message: string
  readonly annotations: Readonly<Record<string, unknown>>
}

/** A logger that keeps what it is given. */
export const keepLogs = (lines: Array<LogLine>) =>
  Logger.layer([Logger.make(({ fiber, message }) => {
    lines.push({
      message: String(Array.isArray(message) ? message[0] : message),
      annotations: fiber.getRef(References.CurrentLogAnnotations)
    })
  })])

export interface Launched extends Context.Service.Shape<typeof Worker.Worker> {
  /** Closes the worker's scope: an orderly shutdown. */
  readonly stop: Effect.Effect<void>
}

/**
 * What a worker in a test differs in from one in production: it finds things out sooner. A lease that a machine under load
 * could let expire would give tasks back in the middle of a test: who waits for one to expire gives a shorter one.
 */
export const quick: Partial<Worker.Options> = {
  pollInterval: "100 millis",
  lease: "10 seconds",
  staleCheckInterval: "200 millis",
  shutdownGrace: 0,
  migrations: "verify"
}

/** Starts a worker that stops with the test. */
export const launch = Effect.fnUntraced(function*<T extends Task.Any>(
  group: TaskGroup.TaskGroup<T>,
  handlers: Layer.Layer<Task.ToHandler<T>>,
  options: Partial<Worker.Options> = {},
  environment: { readonly url?: Redacted.Redacted; readonly references?: Layer.Layer<never> } = {}
) {
  const url = environment.url ?? (yield* TestDatabase).url
  const scope = yield* Scope.fork(yield* Effect.scope)
  const registry = HandlerRegistry.layer(group as unknown as TaskGroup.TaskGroup<Task.Any>).pipe(
    Layer.provide(handlers)
  ) as Layer.Layer<
    HandlerRegistry.HandlerRegistry
  >
  const context = yield* Worker.layer({ ...quick, ...options }).pipe(
    Layer.provide([registry, PgClient.layer({ url, maxConnections: 2 })]),
    Layer.provide(Layer.mergeAll(Logger.layer([]), environment.references ?? Layer.empty)),
    Layer.buildWithScope(scope)
  )
  return { ...Context.get(context, Worker.Worker), stop: Scope.close(scope, Exit.void) } satisfies Launched
})

export interface Row {
  readonly id: bigint
  readonly type: string
  readonly status: string
  readonly result: any
  readonly error: any
  readonly attempts: number
  readonly epoch: bigint
  readonly locked_by: string | null
  readonly lease_expires_at: Date | null
  readonly run_at: Date
  readonly started_at: Date | null
  readonly finished_at: Date | null
}

export interface EventRow {
  readonly epoch: bigint
  readonly seq: number
  readonly type: string
  readonly data: any
}

/** Stores a task by plain SQL and returns its id. */
export const insert = Effect.fnUntraced(function*(type: string, columns: Readonly<Record<string, unknown>> = {}) {
  const sql = yield* PgClient.PgClient
  const [row] = yield* sql<{ readonly id: bigint }>`
    insert into spindle.tasks ${sql.insert({ type, ...columns })} returning id`
  return row!.id
})

/** Stores many tasks in one statement. */
export const insertMany = (type: string, count: number) =>
  Effect.gen(function*() {
    const sql = yield* PgClient.PgClient
    const rows = yield* sql<{ readonly id: bigint }>`
      insert into spindle.tasks (type) select ${type} from generate_series(1, ${count}::int) returning id`
    return rows.map(({ id }) => id)
  })

export const rowOf = Effect.fnUntraced(function*(id: bigint) {
  const sql = yield* PgClient.PgClient
  const [row] = yield* sql<Row>`select * from spindle.tasks where id = ${id}`
  return row!
})

export const eventsOf = Effect.fnUntraced(function*(id: bigint) {
  const sql = yield* PgClient.PgClient
  return yield* sql<EventRow>`
    select epoch, seq, type, data from spindle.task_events where task_id = ${id} order by epoch, seq`
})

/** Cancels as any other program would; tells whether there was something to cancel. */
export const cancel = Effect.fnUntraced(function*(id: bigint) {
  const sql = yield* PgClient.PgClient
  const rows = yield* sql`
    update spindle.tasks set status = 'cancelled' where id = ${id} and status in ('queued', 'processing') returning id`
  return rows.length === 1
})

/** Repeats a query until what it brings satisfies the predicate, for at least 25 seconds. */
export const eventually = Effect.fnUntraced(function*<A, E, R>(
  what: string,
  query: Effect.Effect<A, E, R>,
  predicate: (a: A) => boolean
) {
  let value = yield* query
  for (let tries = 0; !predicate(value); tries++) {
    if (tries === 1000) return yield* Effect.die(new Error(`${what} never came: ${show(value)}`))
    yield* Effect.sleep("25 millis")
    value = yield* query
  }
  return value
})

const show = (value: unknown) => JSON.stringify(value, (_, inner) => typeof inner === "bigint" ? String(inner) : inner)

/** Waits until a task's row satisfies the predicate. */
export const awaitRow = (id: bigint, predicate: (row: Row) => boolean) =>
  eventually(`task ${id} as awaited`, rowOf(id), predicate)

const finals = new Set(["completed", "failed", "cancelled"])

/** Whether nothing more happens to a task by itself. */
export const isOver = ({ locked_by, status }: Row) => finals.has(status) && locked_by === null

/** Waits until a task is over and checks what it left behind. */
export const awaitOver = Effect.fnUntraced(function*(id: bigint) {
  const row = yield* awaitRow(id, isOver)
  yield* assertContract
  return row
})

/** Waits until all tasks are over. */
export const awaitAllOver = Effect.gen(function*() {
  const sql = yield* PgClient.PgClient
  yield* eventually(
    "the end of all tasks",
    sql<{ readonly id: bigint; readonly status: string; readonly locked_by: string | null }>`
      select id, status, locked_by from spindle.tasks
       where status in ('queued', 'processing') or locked_by is not null order by id limit 3`,
    (rows) => rows.length === 0
  )
})

const closingOf: Readonly<Record<string, string>> = { completed: "done", failed: "error", cancelled: "cancelled" }

/**
 * What holds for every task at any moment:
 *
 * - `seq` counts from 1 without gaps in every epoch
 * - nothing follows a closing event, so an epoch has at most one
 * - every ended claim has one: in its own epoch, or as the only event of the next if somebody else ended it; only the
 *   `done` of a task without events on its first claim is left out
 * - the last one fits a final status
 * - `locked_by` and the lease are set while it is held and never else, `finished_at` with a final status
 */
export const assertContract = Effect.gen(function*() {
  const sql = yield* PgClient.PgClient
  const rows = yield* sql<
    Row & { readonly events: ReadonlyArray<{ epoch: number; seq: number; type: string }> | null }
  >`
    select t.*, e.events from spindle.tasks t left join lateral (
      select jsonb_agg(jsonb_build_object('epoch', epoch, 'seq', seq, 'type', type) order by epoch, seq) as events
        from spindle.task_events where task_id = t.id) e on true`
  for (const row of rows) {
    const about = `task ${row.id}: ${show(row)}`
    const byEpoch = new Map<number, Array<string>>()
    for (const { epoch, seq, type } of row.events ?? []) {
      const types = byEpoch.get(epoch) ?? []
      byEpoch.set(epoch, types)
      types.push(type)
      assert.strictEqual(seq, types.length, `seq has a gap; ${about}`)
      assert.isAtMost(epoch, Number(row.epoch), `an event of an epoch to come; ${about}`)
    }
    const closed = (epoch: number) => {
      const types = byEpoch.get(epoch) ?? []
      const closings = types.filter((type) => TaskEvent.closingTypes.has(type))
      assert.isAtMost(closings.length, 1, `two closing events; ${about}`)
      if (closings.length === 1) assert.strictEqual(types.at(-1), closings[0], `events after the closing one; ${about}`)
      return closings[0]
    }
    const last = Number(row.epoch)
    const final = finals.has(row.status)
    for (let epoch = 1; epoch <= last; epoch++) {
      const closing = closed(epoch)
      if (closing !== undefined) continue
      const byAnother = epoch < last && byEpoch.get(epoch + 1)?.length === 1 && closed(epoch + 1) !== undefined
      const plain = epoch === 1 && !byEpoch.has(1) && (epoch < last || row.status === "completed")
      const held = epoch === last && row.locked_by !== null
      assert.isTrue(byAnother || plain || held, `epoch ${epoch} was not closed; ${about}`)
    }
    if (row.locked_by !== null) {
      assert.include(["processing", "cancelled"], row.status, `locked_by; ${about}`)
      assert.isNotNull(row.lease_expires_at, `lease; ${about}`)
      assert.isUndefined(closed(last), `closed although held; ${about}`)
    } else {
      assert.notStrictEqual(row.status, "processing", `processing by nobody; ${about}`)
      assert.isNull(row.lease_expires_at, `lease; ${about}`)
      const closing = closed(last)
      if (final && closing !== undefined) assert.strictEqual(closing, closingOf[row.status], `closing event; ${about}`)
    }
    assert.strictEqual(row.finished_at !== null, final, `finished_at; ${about}`)
    assert.isAtLeast(row.attempts, 0, `attempts; ${about}`)
  }
})

/** A database of the test's own with the tables in it, and a pool on it. */
export const database: Layer.Layer<PgClient.PgClient | TestDatabase, SqlError.SqlError> = TestDatabase.layerSql({
  maxConnections: 5
})

/** Runs a test on a database of its own. Its workers stop before that goes. */
export const onDatabase = <A, E, R>(self: Effect.Effect<A, E, R>) => Effect.provide(Effect.scoped(self), database)

/** The worker's statements, on a pool like a worker's own. */
export const makeStore = Effect.gen(function*() {
  const sql = yield* Db.controlPool(yield* PgClient.PgClient)
  return TaskStore.make({ sql, schema: "spindle", ...(yield* Contract.check(sql, "spindle")) })
})

/** Every task completed with its own result, none was charged twice, and each has one `done`. */
export const assertAllOnce = Effect.fnUntraced(function*(count: number) {
  const sql = yield* PgClient.PgClient
  yield* awaitAllOver
  yield* assertContract
  assert.deepStrictEqual(
    yield* sql`select status, attempts, count(*)::int as count from spindle.tasks
                where result = payload -> 'n' group by 1, 2`,
    [{ status: "completed", attempts: 1, count }]
  )
  assert.deepStrictEqual(
    yield* sql`select count(*)::int as outcomes, count(distinct task_id)::int as tasks
                 from spindle.task_events where type = 'done'`,
    [{ outcomes: count, tasks: count }]
  )
})

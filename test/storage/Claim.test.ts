import { PgClient } from "@effect/sql-pg"
import { assert, layer } from "@effect/vitest"
import { Effect, Fiber, Latch } from "effect"
import * as Db from "../../src/Db.ts"
import * as Claim from "../../src/storage/Claim.ts"
import * as Harness from "../support/WorkerHarness.ts"

const request = (given: Partial<Claim.ClaimRequest>): Claim.ClaimRequest => ({
  workerId: "worker",
  leaseMillis: 60_000,
  types: ["a"],
  quickTypes: new Set(),
  slots: 10,
  ahead: 0,
  queues: undefined,
  afterQueue: "",
  reach: "all",
  setAside: [],
  inlineBytes: 8192,
  ...given
})

const claimer = Effect.map(
  Harness.makeStore,
  (store) => (given: Partial<Claim.ClaimRequest>) =>
    store.claim(request({ reach: "one", ...given })).pipe(
      Effect.flatMap((claimed) => {
        if (!claimed.several) return Effect.succeed(claimed)
        assert.isEmpty(claimed.tasks)
        return store.claim(request(given))
      }),
      Effect.map(({ tasks }) => tasks.map(({ id }) => id))
    )
)

const insert = (type: string, columns: Readonly<Record<string, unknown>> = {}) => Harness.insert(type, columns)

const minutesFromNow = (minutes: number) => new Date(Date.now() + minutes * 60_000)

const sortIds = (ids: ReadonlyArray<bigint>) => ids.toSorted((a, b) => Number(a - b))

layer(Harness.database, { excludeTestServices: true })("claim", (it) => {
  it.effect("takes over the row: a new epoch, an attempt, a lease, and nothing of an earlier run", () =>
    Effect.gen(function*() {
      const claim = yield* claimer
      const id = yield* insert("fields", {
        epoch: 4,
        attempts: 1,
        result: "1",
        error: "{}",
        finished_at: new Date(),
        run_at: minutesFromNow(-1)
      })
      assert.deepStrictEqual(yield* claim({ types: ["fields"] }), [id])
      const row = yield* Harness.rowOf(id)
      assert.deepInclude(row, {
        status: "processing",
        epoch: 5n,
        attempts: 2,
        locked_by: "worker",
        result: null,
        error: null,
        finished_at: null
      })
      assert.strictEqual(row.lease_expires_at!.getTime() - row.started_at!.getTime(), 60_000)
      assert.isEmpty(yield* claim({ types: ["fields"] }))
    }))

  it.effect("brings what a handler is told", () =>
    Effect.gen(function*() {
      const store = yield* Harness.makeStore
      const id = yield* insert("told", {
        priority: -3,
        payload: "{\"a\": [1, null]}",
        metadata: "{\"trace\": \"x\"}",
        max_attempts: 9,
        timeout_ms: 1234,
        tag: "t",
        user_id: "u"
      })
      const { tasks: [task] } = yield* store.claim(request({ types: ["told"] }))
      const { created_at, run_at, started_at } = yield* Effect.map(Harness.rowOf(id), (row) => row as any)
      const toDate = (millis: number) => new Date(Math.floor(millis))
      const { claimedAt, createdAt, runAt, ...rest } = task!
      assert.deepStrictEqual([createdAt, runAt, claimedAt].map(toDate), [created_at, run_at, started_at])
      assert.deepStrictEqual(rest, {
        id,
        epoch: 1n,
        type: "told",
        queue: "default",
        priority: -3,
        payload: "{\"a\": [1, null]}",
        metadata: { trace: "x" },
        later: false,
        attempts: 1,
        maxAttempts: 9,
        timeoutMillis: 1234,
        tag: "t",
        userId: "u"
      })
    }))

  it.effect("goes by priority, then by time, then by age, across types", () =>
    Effect.gen(function*() {
      const claim = yield* claimer
      const early = minutesFromNow(-10)
      const late = minutesFromNow(-5)
      const last = yield* insert("order:b", { priority: -1, run_at: early })
      const fourth = yield* insert("order:a", { run_at: late })
      const fifth = yield* insert("order:b", { run_at: late })
      const third = yield* insert("order:b", { run_at: early })
      const second = yield* insert("order:a", { priority: 1, run_at: late })
      const first = yield* insert("order:b", { priority: 2, run_at: late })
      const types = ["order:a", "order:b"]
      const expected = [first, second, third, fourth, fifth, last]
      const taken: Array<bigint> = []
      for (const slots of [1, 2, 1, 1, 1]) taken.push(...(yield* claim({ types, slots })))
      assert.deepStrictEqual(taken, expected)

      const sql = yield* PgClient.PgClient
      yield* sql`update spindle.tasks set status = 'queued', locked_by = null where type like 'order:%'`
      assert.deepStrictEqual(yield* claim({ types, slots: 5 }), expected.slice(0, 5))
    }))

  it.effect("takes nothing before it is due, and tells when the next is", () =>
    Effect.gen(function*() {
      const store = yield* Harness.makeStore
      yield* insert("due", { priority: 9, run_at: minutesFromNow(60) })
      yield* insert("due", { run_at: minutesFromNow(10) })
      yield* insert("due", { queue: "other", run_at: minutesFromNow(20) })
      const { nextDueMillis, tasks } = yield* store.claim(request({ types: ["due", "nothing"] }))
      assert.isEmpty(tasks)
      assert.closeTo(nextDueMillis!, 600_000, 30_000)
      assert.isUndefined((yield* store.claim(request({ types: ["nothing"] }))).nextDueMillis)
    }))

  it.effect("serves no other type and no other queue", () =>
    Effect.gen(function*() {
      const claim = yield* claimer
      yield* insert("served:not", { priority: 5 })
      const default_ = yield* insert("served")
      const mail = yield* insert("served", { queue: "mail" })
      const other = yield* insert("served", { queue: "other", priority: 5 })
      assert.deepStrictEqual(yield* claim({ types: ["served"], queues: new Map([["mail", 10]]) }), [mail])
      assert.deepStrictEqual(sortIds(yield* claim({ types: ["served"] })), [default_, other])
    }))

  it.effect("keeps to the bound of each queue", () =>
    Effect.gen(function*() {
      const claim = yield* claimer
      for (const queue of ["one", "two", "full"]) {
        for (let n = 0; n < 5; n++) yield* insert("bound", { queue })
      }
      const sql = yield* PgClient.PgClient
      const queues = new Map([["one", 1], ["two", 3], ["full", 0]])
      yield* claim({ types: ["bound"], queues })
      assert.deepStrictEqual(
        yield* sql`select queue, count(*)::int as count from spindle.tasks
                    where type = 'bound' and status = 'processing' group by 1 order by 1`,
        [{ queue: "one", count: 1 }, { queue: "two", count: 3 }]
      )
    }))

  it.effect("lets queues take turns, beginning after the last", () =>
    Effect.gen(function*() {
      const store = yield* Harness.makeStore
      for (const queue of ["x", "y", "z"]) {
        for (let n = 0; n < 10; n++) yield* insert("turns", { queue, priority: queue === "x" ? 9 : 0 })
      }
      const queuesOf = (slots: number, afterQueue: string) =>
        Effect.map(store.claim(request({ types: ["turns"], slots, afterQueue })), ({ tasks }) =>
          tasks.map(({ queue }) => queue).toSorted())
      assert.deepStrictEqual(yield* queuesOf(3, ""), ["x", "y", "z"])
      assert.deepStrictEqual(yield* queuesOf(1, "x"), ["y"])
      assert.deepStrictEqual(yield* queuesOf(1, "y"), ["z"])
      assert.deepStrictEqual(yield* queuesOf(1, "z"), ["x"])
      assert.deepStrictEqual(yield* queuesOf(6, ""), ["x", "x", "y", "y", "z", "z"])
    }))

  it.effect("takes more than there are slots of quick types only", () =>
    Effect.gen(function*() {
      const store = yield* Harness.makeStore
      const sql = yield* PgClient.PgClient
      const typesOf = (slots: number, ahead: number) =>
        Effect.gen(function*() {
          yield* sql`update spindle.tasks set status = 'queued', locked_by = null where type like 'ahead:%'`
          const { tasks } = yield* store.claim(request({
            types: ["ahead:quick", "ahead:slow"],
            quickTypes: new Set(["ahead:quick"]),
            slots,
            ahead
          }))
          return ["ahead:quick", "ahead:slow"].map((type) => tasks.filter((task) => task.type === type).length)
        })
      for (let n = 0; n < 10; n++) yield* insert("ahead:quick", { run_at: minutesFromNow(-1) })
      assert.deepStrictEqual(yield* typesOf(2, 5), [7, 0])
      assert.deepStrictEqual(yield* typesOf(0, 3), [3, 0])
      for (let n = 0; n < 10; n++) yield* insert("ahead:slow", { run_at: minutesFromNow(-2) })
      assert.deepStrictEqual(yield* typesOf(2, 5), [0, 2])
      assert.deepStrictEqual(yield* typesOf(0, 3), [0, 0])
      yield* sql`update spindle.tasks set run_at = now() where type = 'ahead:slow'`
      yield* sql`update spindle.tasks set priority = 1 where id = any(array(
        select id from spindle.tasks where type = 'ahead:slow' limit 1))`
      assert.deepStrictEqual(yield* typesOf(2, 5), [6, 1])
    }))

  it.effect("passes over what another transaction locks, without waiting", () =>
    Effect.gen(function*() {
      const claim = yield* claimer
      const sql = yield* PgClient.PgClient
      const ids = yield* Harness.insertMany("locked", 10)
      yield* Db.transaction(
        sql,
        Effect.gen(function*() {
          yield* sql`select from spindle.tasks where id = any(${ids.slice(0, 5)}) for no key update`
          assert.deepStrictEqual(yield* claim({ types: ["locked"], slots: 3 }), ids.slice(5, 8))
        })
      )
      assert.deepStrictEqual(yield* claim({ types: ["locked"] }), [...ids.slice(0, 5), ...ids.slice(8)])
    }))

  it.effect("says when others have locked what it wanted, and then takes what they have not", () =>
    Effect.gen(function*() {
      const store = yield* Harness.makeStore
      const sql = yield* PgClient.PgClient
      const locked = yield* insert("blocked:a", { priority: 2 })
      const free = yield* insert("blocked:b", { priority: 1 })
      const ask = { types: ["blocked:a", "blocked:b"], slots: 1 }
      yield* Db.transaction(
        sql,
        Effect.gen(function*() {
          yield* sql`select from spindle.tasks where id = ${locked} for no key update`
          const modest = yield* store.claim(request(ask))
          assert.deepStrictEqual([modest.tasks.length, modest.blocked], [0, true])
          const greedy = yield* store.claim(request({ ...ask, reach: "greedy" }))
          assert.deepStrictEqual(greedy.tasks.map(({ id }) => id), [free])
          assert.isFalse((yield* store.claim(request({ types: ["nothing"] }))).blocked)
          // all that is due is locked: whoever looked again would find nothing either
          const idle = yield* store.claim(request({ ...ask, slots: 5 }))
          assert.deepInclude(idle, { tasks: [], blocked: false, waiting: "blocked:a" })
        })
      )
    }))

  it.effect("by two workers at once gives every task to one of them", () =>
    Effect.gen(function*() {
      const claim = yield* claimer
      const ids = yield* Harness.insertMany("shared", 400)
      const both = Latch.makeUnsafe()
      let begun = 0
      const all = (workerId: string) =>
        Effect.gen(function*() {
          const mine: Array<bigint> = []
          for (let empty = 0; empty < 3;) {
            const taken = yield* claim({ types: ["shared"], workerId, slots: 7 })
            // neither goes on before the other has something: its connection may be new
            if (mine.length === 0 && taken.length > 0 && ++begun === 2) both.openUnsafe()
            mine.push(...taken)
            if (mine.length > 0) yield* both.await
            empty = taken.length === 0 && mine.length > 0 ? empty + 1 : 0
          }
          return mine
        })
      const [one, two] = yield* Fiber.joinAll([
        yield* Effect.forkChild(all("one")),
        yield* Effect.forkChild(all("two"))
      ])
      assert.isAbove(one!.length, 0)
      assert.isAbove(two!.length, 0)
      assert.deepStrictEqual(sortIds([...one!, ...two!]), ids)
      const sql = yield* PgClient.PgClient
      assert.deepStrictEqual(
        yield* sql`select min(epoch)::int as min, max(epoch)::int as max from spindle.tasks where type = 'shared'`,
        [{ min: 1, max: 1 }]
      )
    }))

  it.effect("waits for a cancelled task of the same key to unwind", () =>
    Effect.gen(function*() {
      const claim = yield* claimer
      const old = yield* insert("key", { unique_key: "k" })
      yield* claim({ types: ["key"] })
      yield* Harness.cancel(old)
      const next = yield* insert("key", { unique_key: "k" })
      const another = yield* insert("key", { unique_key: "l" })
      const elsewhere = yield* insert("key:other", { unique_key: "k" })
      assert.deepStrictEqual(yield* claim({ types: ["key", "key:other"] }), [another, elsewhere])
      const sql = yield* PgClient.PgClient
      yield* sql`update spindle.tasks set locked_by = null, lease_expires_at = null where id = ${old}`
      assert.deepStrictEqual(yield* claim({ types: ["key"] }), [next])
    }))

  it.effect("does not bring a payload that is larger than a worker takes, nor one that is large along with the claim", () =>
    Effect.gen(function*() {
      const store = yield* Harness.makeStore
      const sql = yield* PgClient.PgClient
      yield* sql`alter table spindle.tasks drop constraint tasks_size_check`
      yield* sql`insert into spindle.tasks (type, payload)
        select 'large', to_jsonb(string_agg(md5(n::text), '')) from generate_series(1, 540000) n`
      yield* sql`insert into spindle.tasks (type, payload) values ('large', to_jsonb(repeat('x', 16777215)))`
      yield* sql`insert into spindle.tasks (type, payload) values ('large', to_jsonb(repeat('x', 16777214)))`
      yield* sql`insert into spindle.tasks (type, payload)
        values ('large', jsonb_build_array(repeat('x', 20000), 1e300, 0.5, null))`
      const { tasks } = yield* store.claim(request({ types: ["large"] }))
      assert.deepStrictEqual(tasks.map(({ later }) => later), [true, true, true, false])
      const brought = yield* Effect.forEach(tasks.slice(0, 3), (task) => store.readPayload("worker", task))
      assert.deepStrictEqual(brought.map((one) => one!.payload === undefined), [true, true, false])
      assert.deepStrictEqual(JSON.parse(tasks[3]!.payload!), ["x".repeat(20000), 1e300, 0.5, null])
      assert.isUndefined(yield* store.readPayload("another", tasks[2]!))
    }))

  it.effect("brings no payload whose text would be long, however little is stored of it", () =>
    Effect.gen(function*() {
      const store = yield* Harness.makeStore
      const sql = yield* PgClient.PgClient
      const expressions = [
        "(select jsonb_agg('1e131071'::numeric) from generate_series(1, 700))",
        "(select jsonb_agg('-1e131071'::numeric) from generate_series(1, 700))",
        "(select jsonb_agg(round(0::numeric, 16383)) from generate_series(1, 1100))",
        "(select jsonb_agg('1e400'::numeric) from generate_series(1, 700))"
      ]
      for (const expression of expressions) {
        yield* sql.unsafe(`insert into spindle.tasks (type, payload) values ('wide', ${expression})`)
      }
      const { tasks } = yield* store.claim(request({ types: ["wide"] }))
      assert.deepStrictEqual(tasks.map(({ later }) => later), [true, true, true, true])
      const brought = yield* Effect.forEach(tasks, (task) => store.readPayload("worker", task))
      assert.deepStrictEqual(brought.map((one) => one!.payload === undefined), [true, true, true, false])
    }))
})

interface Explained {
  readonly "QUERY PLAN": ReadonlyArray<{
    readonly Plan: { readonly "Shared Hit Blocks": number; readonly "Shared Read Blocks": number }
  }>
}

// The pages that a claim of ten of these types touches, under a worker's own plan; what it changes is rolled back.
const pages = Effect.fnUntraced(function*(types: ReadonlyArray<string>) {
  const sql = yield* Db.controlPool(yield* PgClient.PgClient)
  const columns = { timeout: true, uniqueKey: true, tag: true, userId: true, metadata: true, completedBy: true }
  const measured = yield* Effect.flip(Db.transaction(
    sql,
    Effect.gen(function*() {
      yield* sql.unsafe(
        `prepare claim as ${Claim.statement("spindle", columns, true, types.length === 1 ? "one" : "all")}`
      )
      const list = types.map((type) => `'${type}'`).join()
      const [row] = yield* sql.unsafe<Explained>(`
        explain (analyze, buffers, format json)
        execute claim('worker', 30000, array[${list}], array[${types.map(() => "false").join()}], 10, 0, '{}', 8192${
        types.length === 1 ? "" : ", ''"
      })`)
      yield* sql`deallocate claim`
      const { Plan } = row!["QUERY PLAN"][0]!
      return yield* Effect.fail(Plan["Shared Hit Blocks"] + Plan["Shared Read Blocks"])
    })
  ))
  return measured as number
})

layer(Harness.database, { excludeTestServices: true })("the cost of a claim", (it) => {
  it.effect("does not grow with what it does not take", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      yield* sql`insert into spindle.tasks (type, priority)
        select case when n % 2 = 0 then 'cost:a' else 'cost:b' end, n % 2 from generate_series(1, 20) n`
      const served = [["cost:a"], ["cost:a", "cost:b"]]
      const alone = yield* Effect.forEach(served, pages)
      assert.isAbove(Math.min(...alone), 0)
      const many = 200_000
      const crowds = {
        finished: sql`insert into spindle.tasks (type, status, priority, finished_at)
          select 'cost:a', 'completed', 5, now() from generate_series(1, ${many}::int)`,
        "of higher priority, not due": sql`insert into spindle.tasks (type, priority, run_at)
          select 'cost:a', 7, now() + interval '1 hour' from generate_series(1, ${many}::int)`,
        "of other types and queues": sql`insert into spindle.tasks (type, queue, priority)
          select 'other:' || n % 10, 'queue-' || n % 10, 9 from generate_series(1, ${many}::int) n`,
        waiting:
          sql`insert into spindle.tasks (type, priority) select 'cost:b', 0 from generate_series(1, ${many}::int)`
      }
      for (const [crowd, insertion] of Object.entries(crowds)) {
        yield* insertion
        const crowded = yield* Effect.forEach(served, pages)
        crowded.forEach((now, index) => {
          const before = alone[index]!
          assert.isAtMost(now, 2 * before + 40, `with ${many} tasks ${crowd}: ${before} pages alone, ${now} now`)
        })
      }
    }), 60_000)

  it.effect("does not grow with the queues there are, nor with the priorities", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      const insert = (from: number, to: number) =>
        sql`insert into spindle.tasks (type, queue, priority, run_at)
          select type, case type when 'place:a' then 'q' || n else 'default' end, n - 2000, now() + interval '1 hour'
            from unnest(array['place:a', 'place:b']) type, generate_series(${from}::int, ${to}::int) n`
      yield* insert(1, 60)
      const served = [["place:a"], ["place:b"], ["place:a", "place:b"]]
      const few = yield* Effect.forEach(served, pages)
      yield* insert(61, 4000)
      const many = yield* Effect.forEach(served, pages)
      many.forEach((now, index) =>
        assert.isAtMost(now, 2 * few[index]! + 40, `${served[index]}: ${few[index]} pages, ${now} now`)
      )
    }))
})

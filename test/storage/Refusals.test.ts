import { PgClient } from "@effect/sql-pg"
import { assert, describe, it, layer } from "@effect/vitest"
import { Effect, Redacted } from "effect"
import { inject } from "vitest"
import * as Db from "../../src/Db.ts"
import * as Contract from "../../src/storage/Contract.ts"
import * as Ddl from "../../src/storage/Ddl.ts"
import * as Migrations from "../../src/storage/Migrations.ts"
import { databaseUrl, execute, TestDatabase } from "../support/TestDatabase.ts"
import * as Harness from "../support/WorkerHarness.ts"

class Undo {
  readonly report: Contract.Report
  constructor(report: Contract.Report) {
    this.report = report
  }
}

/** What is found after some statements, which are undone again. */
const found = Effect.fnUntraced(function*(...statements: ReadonlyArray<string>) {
  const sql = yield* PgClient.PgClient
  const { report } = yield* Db.transaction(
    sql,
    Effect.gen(function*() {
      for (const statement of statements) yield* sql.unsafe(statement)
      return yield* Effect.fail(new Undo(yield* Contract.check(sql, "spindle")))
    })
  ).pipe(Effect.catchIf((error) => error instanceof Undo, Effect.succeed))
  return { missing: report.missing, doubts: report.doubts, closesCancelled: report.closesCancelled }
})

const onTasks = (check: string) => `alter table spindle.tasks add constraint ours check (${check})`
const onEvents = (check: string) => `alter table spindle.task_events add constraint ours check (${check})`
const trigger = (body: string, on: string) => [
  `create function public.ours() returns trigger language plpgsql as $$ ${body} $$`,
  `create trigger ours ${on} execute function public.ours()`
]

const tasks = (what: string) => [`spindle.tasks without the constraint ours, which refuses ${what}`]
const events = (what: string) => [`spindle.task_events without the constraint ours, which refuses events: ${what}`]

/** What the owner adds, what a worker then misses, and what is in doubt. */
const cases: ReadonlyArray<
  readonly [
    added: string | ReadonlyArray<string>,
    missing: ReadonlyArray<string>,
    doubts?: ReadonlyArray<string | RegExp>
  ]
> = [
  // statuses
  [
    onTasks("status in ('queued', 'processing', 'completed', 'failed')"),
    tasks(
      "a cancelled task whose handler still runs, a cancelled task"
    )
  ],
  [
    onTasks("status <> 'failed' and priority between 0 and 9"),
    tasks("a failed task")
  ],
  [onTasks("(status = 'processing') = (locked_by is not null)"), tasks("a cancelled task whose handler still runs")],
  [onTasks("(finished_at is null) = (status in ('queued', 'processing'))"), tasks("a task that is run again")],
  [
    onTasks("epoch = 0"),
    tasks(
      "a running task, a completed task, a failed task, a task that waits for its next attempt, a task that was given back, a task that is run again, a cancelled task whose handler still runs, a cancelled task"
    )
  ],
  [onTasks("error ? 'code'"), tasks("a failed task, a task that waits for its next attempt, a task that is run again")],
  // its owner's own business
  [onTasks("type in ('email', 'report') and user_id is not null"), []],
  [[`alter table spindle.tasks add tenant text not null default 'x' constraint ours check (tenant <> '')`], []],
  [onTasks("attempts <= max_attempts and started_at >= created_at and finished_at >= started_at"), []],
  // what depends on the task
  [onTasks("jsonb_typeof(result) = 'object'"), [], [
    "the constraint ours of spindle.tasks may refuse a completed task"
  ]],
  [onTasks("length(locked_by) <= 63"), [], ["the constraint ours of spindle.tasks may refuse a running task"]],
  [onTasks("status <> 'failed' or user_id is not null"), [], [
    "the constraint ours of spindle.tasks may refuse a failed task"
  ]],
  [
    ["create function public.odd(text) returns bool language plpgsql as $$ begin raise 'not you'; end $$"].concat(
      onTasks("public.odd(status)"),
      onTasks("status <> 'cancelled'").replace("ours", "second")
    ),
    [
      "spindle.tasks without the constraint second, which refuses a cancelled task whose handler still runs, a cancelled task"
    ],
    ["the constraint ours of spindle.tasks cannot be judged: not you"]
  ],
  // events
  [onEvents("type in ('text_delta', 'done', 'error')"), events("retry, released, cancelled"), [
    "the constraint ours of spindle.task_events may refuse events: usage, progress, events of a task's own"
  ]],
  [onEvents("data <> '{}'"), [], ["the constraint ours of spindle.task_events may refuse events: cancelled"]],
  [onEvents("data ? 'text'"), events("done, error, retry, released, cancelled"), [
    "the constraint ours of spindle.task_events may refuse events: usage, progress, events of a task's own"
  ]],
  [onEvents("seq > 1000000"), events("done, error, retry, released, cancelled"), [/usage, progress/]],
  [onEvents("seq < 1000 and epoch < 1000"), [], [/may refuse events: done, error, .*text_delta/]],
  [onEvents("jsonb_typeof(data) = 'object' and seq > 0 and length(type) < 200"), []],
  // columns
  ["alter table spindle.task_events add tenant text not null", [
    "a default for column spindle.task_events.tenant, which a worker does not fill"
  ]],
  ["alter table spindle.task_events alter created_at drop default", [
    "a default for column spindle.task_events.created_at, which a worker does not fill"
  ]],
  [
    "alter table spindle.task_events drop seq, add seq int generated always as identity, add primary key (task_id, epoch, seq)",
    [
      "column spindle.task_events.seq as one that can be written, not a generated one"
    ]
  ],
  ["alter table spindle.tasks drop error, add error jsonb generated always as (payload) stored", [
    "column spindle.tasks.error as one that can be written, not a generated one"
  ]],
  ["alter table spindle.tasks alter locked_by set not null", ["column spindle.tasks.locked_by without not null"]],
  ["alter table spindle.tasks add tenant text not null", [], [
    "column spindle.tasks.tenant has no default, and TaskQueue, commands and page leave it to that"
  ]],
  ["alter table spindle.task_events alter type type varchar(6)", [
    "column spindle.task_events.type is character varying, it must be text"
  ]],
  // other constraints
  ["create unique index ours on spindle.task_events (task_id, seq)", [
    "spindle.task_events without the unique index ours on (task_id, seq), which lets a worker write one such row only"
  ]],
  ["create unique index ours on spindle.tasks (locked_by)", [
    "spindle.tasks without the unique index ours on (locked_by), which lets a worker write one such row only"
  ]],
  ["create unique index ours on spindle.tasks (tag, status)", [], [/the unique index ours .* on \(tag, status\)/]],
  ["create unique index ours on spindle.tasks (tag)", []],
  ["create unique index ours on spindle.tasks (status, id)", []],
  [
    ["create table public.kinds (type text primary key)"].concat(
      "alter table spindle.task_events add constraint ours foreign key (type) references public.kinds"
    ),
    [],
    ["the constraint ours of spindle.task_events cannot be judged: it is on type"]
  ],
  ["alter table spindle.task_events add foreign key (task_id) references spindle.tasks", []],
  // what decides row by row
  ["create rule ours as on insert to spindle.task_events do instead nothing", [
    "spindle.task_events without the rule ours, which rewrites each insert"
  ]],
  [trigger("begin return null; end", "before insert on spindle.task_events for each row"), [
    "spindle.task_events without the trigger ours, which returns null: no insert is stored"
  ]],
  [
    trigger(
      "begin if new.status = 'failed' then return null; end if; return new; end",
      "before update on spindle.tasks for each row"
    ),
    [],
    ["the trigger ours of spindle.tasks decides row by row what is stored: it can return another row than the new one, or none"]
  ],
  [
    trigger(
      "begin if new.seq = 3 then raise 'not this'; end if; return null; end",
      "after insert on spindle.task_events for each row"
    ),
    [],
    ["the trigger ours of spindle.task_events decides row by row what is stored: it can raise an error"]
  ],
  [
    ["create trigger ours before update on spindle.tasks for each row execute function suppress_redundant_updates_trigger()"],
    [],
    ["the trigger ours of spindle.tasks decides row by row what is stored: it can do anything"]
  ],
  [
    trigger(
      "begin new.tag := 'seen'; raise notice 'seen'; return new; end",
      "before update on spindle.tasks for each row"
    ),
    []
  ],
  [trigger("begin return null; end", "before update of priority on spindle.tasks for each row"), []],
  [trigger("begin return null; end", "after update on spindle.tasks for each row"), []],
  [
    [...trigger("begin return null; end", "before update on spindle.tasks for each row")].concat(
      "alter table spindle.tasks disable trigger ours"
    ),
    []
  ]
]

layer(Harness.database, { excludeTestServices: true })("what an owner has added", (it) => {
  it.effect("is named where it refuses what a worker writes, and where it may", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* found(), { missing: [], doubts: [], closesCancelled: true })
      for (const [added, missing, doubts = []] of cases) {
        const label = JSON.stringify(added)
        const report = yield* found(...(typeof added === "string" ? [added] : added))
        assert.deepStrictEqual(report.missing, missing, label)
        assert.lengthOf(report.doubts, doubts.length, `${label} ${report.doubts}`)
        for (const [n, doubt] of doubts.entries()) {
          if (typeof doubt === "string") assert.strictEqual(report.doubts[n], doubt, label)
          else assert.match(report.doubts[n]!, doubt, label)
        }
      }
    }))

  it.effect("row-level security is, unless the role is beyond it or all rows are open to it", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      const role = `${(yield* TestDatabase).name}_worker`
      yield* Effect.acquireRelease(
        sql.unsafe(`create role ${role}`),
        () => Effect.orDie(Effect.andThen(sql.unsafe(`drop owned by ${role}`), sql.unsafe(`drop role ${role}`)))
      )
      for (const grant of Ddl.grants("spindle", "worker", role)) yield* sql.unsafe(grant)
      const as = `set local role ${role}`
      const guarded = ["tasks", "task_events"].map((table) => `alter table spindle.${table} enable row level security`)
      const policy = (name: string, rest: string) => `create policy ${name} on spindle.${rest}`
      const none = (what: string) =>
        `a policy by which ${role} may ${what}, or a role with bypassrls: row-level security is on`

      assert.isEmpty((yield* found(as)).missing)
      assert.isEmpty((yield* found(...guarded)).missing)
      assert.deepStrictEqual((yield* found(...guarded, as)).missing, [
        none("select rows of spindle.tasks"),
        none("update rows of spindle.tasks"),
        none("select rows of spindle.task_events"),
        none("insert rows of spindle.task_events")
      ])
      assert.isEmpty((yield* found(...guarded, `alter role ${role} bypassrls`, as)).missing)
      const open = [policy("a", "tasks using (true)"), policy("b", `task_events to ${role} using (true)`)]
      assert.deepInclude(yield* found(...guarded, ...open, as), { missing: [], doubts: [] })
      assert.deepInclude(
        yield* found(
          ...guarded,
          policy("a", "tasks for select using (true)"),
          policy("b", "task_events using (task_id < 5)"),
          policy("c", "task_events to pg_monitor using (true)"),
          as
        ),
        {
          missing: [none("update rows of spindle.tasks")],
          doubts: ["select", "insert"].map((command) =>
            `row-level security of spindle.task_events decides row by row what ${role} may ${command}, by b: ` +
            "of what it hides nothing is heard"
          )
        }
      )
      const { doubts } = yield* found(...guarded, ...open, policy("c", "tasks as restrictive using (tag is null)"), as)
      assert.lengthOf(doubts, 2)
      assert.include(doubts[0], "may select, by a, c")
    }).pipe(Effect.scoped))

  it.effect("a session in which the usual triggers do not run is", () =>
    Effect.gen(function*() {
      const replica = "set local session_replication_role = replica"
      assert.deepStrictEqual(yield* found(replica), {
        missing: [],
        doubts: ["session_replication_role is replica for postgres: the usual triggers do not run for what it changes"],
        closesCancelled: false
      })
      const always = "alter table spindle.tasks enable always trigger tasks_cancel"
      assert.isTrue((yield* found(always, replica)).closesCancelled)
    }))
})

describe("a database that cannot store every text", () => {
  it.live("is refused", () =>
    Effect.gen(function*() {
      const url = Redacted.make(inject("testDatabase").admin)
      const name = `${(yield* TestDatabase).name}_latin`
      yield* Effect.acquireRelease(
        execute(url, `create database ${name} encoding 'LATIN1' template template0 locale 'C'`),
        () => Effect.orDie(execute(url, `drop database ${name} with (force)`))
      )
      const missing = Effect.gen(function*() {
        yield* Migrations.run
        return (yield* Contract.check(yield* PgClient.PgClient, "spindle")).missing
      }).pipe(Effect.provide(PgClient.layer({ url: databaseUrl(url, name), maxConnections: 1 })))
      assert.deepStrictEqual(yield* missing, [`a database with the encoding UTF8, ${name} has LATIN1`])
    }).pipe(Effect.scoped, Effect.provide(TestDatabase.layerEmpty)))
})

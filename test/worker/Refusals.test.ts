import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect } from "effect"
import * as Harness from "../support/WorkerHarness.ts"

const delta = (text: string) => ({ _tag: "text_delta", text }) as const

/** An owner's trigger that raises this code while there is a row in the table `refusing`. */
const trigger = Effect.fnUntraced(function*(code: string, on: string) {
  const sql = yield* PgClient.PgClient
  yield* sql.unsafe(`create table refusing as select 1 as one`)
  yield* sql.unsafe(`
    create function refuse() returns trigger language plpgsql as $$ begin
      if exists (select from refusing) then raise 'not now' using errcode = '${code}'; end if;
      return new;
    end $$`)
  yield* sql.unsafe(`create trigger refuse before ${on} execute function refuse()`)
  return { allow: sql.unsafe("truncate refusing") }
})

const refusal = (worker: Harness.Launched) =>
  Harness.eventually(
    "the refusal",
    worker.health,
    ({ problems }) =>
      problems.some((problem) => /^the database refuses what task \d+ has to say: .*not now/.test(problem))
  )

const textsOf = (id: bigint) =>
  Effect.map(
    Harness.eventsOf(id),
    (events) => events.flatMap(({ data, type }) => type === "text_delta" ? data.text : [])
  )

describe("an owner's trigger that refuses", () => {
  it.live("an event for a moment changes no order, and holds up no other task", () =>
    Effect.gen(function*() {
      const { allow } = yield* trigger(
        "P0001",
        "insert on spindle.task_events for each row when (new.data ->> 'text' = '3')"
      )
      const script = Harness.script()
      const worker = yield* Harness.launch(Harness.Tasks, script.handlers)
      const id = yield* Harness.insert("scripted")
      const { ended, execution, proceed } = yield* script.next(id)
      const texts = Array.from({ length: 15 }, (_, n) => String(n + 1))
      yield* proceed(Effect.as(
        Effect.forEach(texts, (text) => Effect.andThen(execution.emit(delta(text)), Effect.sleep(5))),
        null
      ))
      yield* refusal(worker)
      yield* Harness.awaitOver(yield* Harness.insert("plain"))
      assert.deepStrictEqual(yield* textsOf(id), ["1", "2"])
      yield* allow
      yield* Deferred.await(ended)
      assert.strictEqual((yield* Harness.awaitOver(id)).status, "completed")
      assert.deepStrictEqual(yield* textsOf(id), texts)
    }).pipe(Harness.onDatabase))

  for (const code of ["22P02", "22P05", "23514", "54000", "54001", "42501"]) {
    it.live(`an outcome for a moment fails nothing, whatever it calls that (${code})`, () =>
      Effect.gen(function*() {
        const { allow } = yield* trigger(code, "update on spindle.tasks for each row when (new.status = 'completed')")
        const script = Harness.script()
        const worker = yield* Harness.launch(Harness.Tasks, script.handlers)
        const id = yield* Harness.insert("scripted")
        const { execution, proceed } = yield* script.next(id)
        yield* proceed(Effect.as(execution.emit(delta("said")), "kept"))
        yield* refusal(worker)
        yield* allow
        assert.deepInclude(yield* Harness.awaitOver(id), { status: "completed", result: "kept", attempts: 1 })
        assert.deepStrictEqual(yield* textsOf(id), ["said"])
      }).pipe(Harness.onDatabase))
  }
})

describe("an owner's constraint that forbids", () => {
  it.live("closing events lets the tasks go without them", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      const script = Harness.script()
      const worker = yield* Harness.launch(Harness.Tasks, script.handlers)
      yield* sql`alter table spindle.task_events add check (type in ('text_delta', 'done'))`
      const [retried, cancelled] = yield* Harness.insertMany("scripted", 2)
      const first = yield* script.next(retried!)
      yield* first.proceed(Effect.andThen(
        first.execution.emit(delta("a")),
        Effect.fail(new Harness.Refused({ why: "busy" }))
      ))
      const unwinding = yield* script.next(cancelled!)
      yield* unwinding.proceed(Effect.never)
      yield* Harness.cancel(cancelled!)
      const second = yield* script.next(retried!)
      assert.strictEqual(second.execution.attempt, 2)
      yield* second.proceed(Effect.succeed(2))
      assert.deepInclude(yield* Harness.awaitRow(retried!, Harness.isOver), { status: "completed", result: 2 })
      assert.deepInclude(yield* Harness.awaitRow(cancelled!, Harness.isOver), { status: "cancelled" })
      yield* worker.stop
    }).pipe(Harness.onDatabase))

  it.live("every outcome leaves the task to the sweep", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      const lines: Array<Harness.LogLine> = []
      const script = Harness.script()
      const worker = yield* Harness.launch(Harness.Tasks, script.handlers, { lease: "1 second" }, {
        references: Harness.keepLogs(lines)
      })
      yield* sql`alter table spindle.tasks add check (epoch <> 1 or attempts = 0 or status = 'processing')`
      const id = yield* Harness.insert("scripted")
      const first = yield* script.next(id)
      yield* first.proceed(Effect.succeed("lost"))
      yield* Harness.eventually("the problem", worker.health, ({ problems }) =>
        problems.some((problem) =>
          problem.startsWith(`the outcome of task ${id} is given up: `)
        ))
      const second = yield* script.next(id)
      yield* second.proceed(Effect.succeed("kept"))
      const row = yield* Harness.awaitOver(id)
      assert.deepInclude(row, { status: "completed", result: "kept", attempts: 2, epoch: 3n })
      assert.isTrue(lines.some(({ annotations, message }) =>
        message.startsWith("an outcome is given up") && annotations.taskId === String(id)
      ))
    }).pipe(Harness.onDatabase))
})

describe("an owner's trigger that returns null", () => {
  it.live("for an outcome is told, as a refusal is", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      yield* sql.unsafe(`create table swallowing as select 1 as one`)
      yield* sql.unsafe(`
        create function swallow() returns trigger language plpgsql as $$ begin
          if exists (select from swallowing) then return null; end if;
          return new;
        end $$`)
      yield* sql.unsafe(`
        create trigger swallow before update on spindle.tasks for each row
          when (old.locked_by is not null and new.locked_by is null) execute function swallow()`)
      const script = Harness.script()
      const worker = yield* Harness.launch(Harness.Tasks, script.handlers)
      const id = yield* Harness.insert("scripted")
      const { proceed } = yield* script.next(id)
      yield* proceed(Effect.succeed("kept"))
      yield* Harness.eventually("the refusal", worker.health, ({ problems }) =>
        problems.some((problem) =>
          problem.includes("the row stays as it is, and nobody has it locked")
        ))
      yield* sql`truncate swallowing`
      assert.deepInclude(yield* Harness.awaitOver(id), { status: "completed", result: "kept", attempts: 1 })
      const healed = yield* Harness.eventually("the end of it", worker.health, ({ problems }) => problems.length === 0)
      assert.isTrue(healed.ready)
    }).pipe(Harness.onDatabase))
})

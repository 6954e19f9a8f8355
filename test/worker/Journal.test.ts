import { assert, describe, it } from "@effect/vitest"
import { Clock, Duration, Effect, Fiber, Layer } from "effect"
import { TestClock } from "effect/testing"
import type { ClaimedRow } from "../../src/storage/Claim.ts"
import { StorageError } from "../../src/storage/StorageError.ts"
import { TaskStore } from "../../src/storage/TaskStore.ts"
import type { EventEntry, OutcomeEntry } from "../../src/storage/Write.ts"
import { Attempt } from "../../src/worker/Attempt.ts"
import type { Verdict } from "../../src/worker/Backlog.ts"
import * as Journal from "../../src/worker/Journal.ts"
import { Measures } from "../../src/worker/Measures.ts"
import { Outcome, toEntry } from "../../src/worker/Outcome.ts"
import { Problems } from "../../src/worker/Problems.ts"
import { Pulses } from "../../src/worker/Pulse.ts"
import { Settings } from "../../src/worker/Settings.ts"

type Entry = { readonly event: EventEntry } | { readonly outcome: OutcomeEntry }

const error = (fields: Readonly<Record<string, string>>, transient = false) =>
  new StorageError({
    operation: "write events and outcomes",
    transient,
    sqlState: fields.code!,
    cause: Object.assign(new Error(fields.message ?? "no"), fields)
  })

/** What a trigger raises, a constraint says, and PostgreSQL says of a value it cannot store. */
const raised = error({ code: "P0001", routine: "exec_stmt_raise", where: "PL/pgSQL function no() line 1 at RAISE" })
const constrained = error({ code: "23514", constraint: "types", routine: "ExecConstraints" })
const unstorable = error({ code: "22P05", where: "JSON data, line 1: \"\\u0000" })

const attemptOf = (id: number, given: Partial<ClaimedRow> = {}) =>
  new Attempt({
    id: BigInt(id),
    epoch: 1n,
    type: "a",
    queue: "default",
    priority: 0,
    payload: "{}",
    metadata: {},
    later: false,
    attempts: 1,
    maxAttempts: 3,
    timeoutMillis: null,
    tag: null,
    userId: null,
    runAt: 0,
    createdAt: 0,
    claimedAt: 0,
    ...given
  }, 0)

/** A journal that writes to a database which refuses a statement as soon as `refuses` answers for an entry of it. */
const make = Effect.fnUntraced(function*(refuses: (entry: Entry) => StorageError | undefined) {
  const stored: Array<Entry> = []
  let statements = 0
  const write: TaskStore["Service"]["write"] = (_, events, outcomes) =>
    Effect.suspend(() => {
      statements++
      const entries = [...events.map((event) => ({ event })), ...outcomes.map((outcome) => ({ outcome }))]
      for (const entry of entries) {
        const refused = refuses(entry)
        if (refused !== undefined) return Effect.fail(refused)
      }
      stored.push(...entries)
      return Effect.succeed({
        accepted: outcomes.map(({ taskId }) => taskId),
        cancelled: [],
        overruled: [],
        refused: [],
        blocked: []
      })
    })
  const services = yield* Layer.build(
    Journal.Journal.layer.pipe(
      Layer.provideMerge([Measures.layer, Problems.layer, Pulses.layer]),
      Layer.provide([
        Layer.succeed(TaskStore)({ write } as TaskStore["Service"]),
        Layer.succeed(Settings)({ workerId: "worker" } as Settings["Service"])
      ])
    )
  )
  const clock = yield* Clock.Clock
  return yield* Effect.gen(function*() {
    const journal = yield* Journal.Journal
    const problems = yield* Problems
    yield* Effect.forkScoped(journal.run)
    const settle = (attempt: Attempt, outcome: Outcome = completed) => {
      const told: Array<{ readonly verdict: Verdict; readonly recorded: OutcomeEntry }> = []
      journal.settle(attempt, toEntry(outcome, attempt, true), (verdict, recorded) => told.push({ verdict, recorded }))
      return told
    }
    /** What is stored of a task: `seq`, type and data of its events, and its outcomes with what closes them. */
    const storyOf = ({ row }: Attempt): ReadonlyArray<ReadonlyArray<unknown>> =>
      stored.flatMap<ReadonlyArray<unknown>>((entry) =>
        "event" in entry
          ? entry.event.taskId === row.id ? [[entry.event.seq, entry.event.data]] : []
          : entry.outcome.taskId === row.id
          ? [[entry.outcome.closingSeq, entry.outcome.status, entry.outcome.closing]]
          : []
      )
    return {
      journal,
      problems,
      stored,
      settle,
      storyOf,
      now: () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6,
      statements: () => statements,
      say: (attempt: Attempt, ...data: ReadonlyArray<unknown>) =>
        Effect.forEach(data, (value) => journal.emit(attempt, "said", JSON.stringify(value)), { discard: true })
    }
  }).pipe(Effect.provideContext(services))
})

/** Lets time pass, and the writer take its turns. */
const advance = (duration: Duration.Input) =>
  Effect.andThen(TestClock.adjust(duration), Effect.repeat(Effect.yieldNow, { times: 50 }))

const completed: Outcome = { _tag: "Completed", result: 1, stored: { text: "1", sanitized: false } }
const failure = { kind: "failure", tag: "Busy", message: "later" } as const

const isSaid = (entry: Entry, ...data: ReadonlyArray<string>) => "event" in entry && data.includes(entry.event.data)

describe("an entry that is refused for a moment", () => {
  it.effect("is overtaken by nothing of its attempt, and delays nothing of another", () =>
    Effect.gen(function*() {
      let refusing = true
      const { problems, say, settle, storyOf } = yield* make((entry) =>
        refusing && isSaid(entry, "3") ? raised : undefined
      )
      const [attempt, other] = [attemptOf(1), attemptOf(2)]
      yield* say(attempt, 1, 2, 3, 4, 5)
      yield* say(other, 1, 2)
      const others = settle(other)
      yield* advance("10 millis")
      assert.deepStrictEqual(storyOf(attempt), [[1, "1"], [2, "2"]])
      assert.deepStrictEqual(storyOf(other), [[1, "1"], [2, "2"], [3, "completed", "done"]])
      assert.strictEqual(others[0]!.verdict, "accepted")

      const speaking = yield* Effect.forkChild(say(attempt, 6, 7), { startImmediately: true })
      yield* advance("590 millis")
      assert.isUndefined(speaking.pollUnsafe(), "the attempt waits")
      assert.match(problems.all()[0]!.message, /^the database refuses what task 1 has to say: .*no/)
      refusing = false
      yield* advance("1 second")
      yield* Fiber.join(speaking)
      settle(attempt)
      yield* advance("10 millis")
      assert.deepStrictEqual(storyOf(attempt), [
        ...[1, 2, 3, 4, 5, 6, 7].map((n) => [n, String(n)]),
        [8, "completed", "done"]
      ])
      assert.isEmpty(problems.all())
    }))

  it.effect("is as old as its first refusal, whatever else is written", () =>
    Effect.gen(function*() {
      let refusing = true
      const { journal, now, settle } = yield* make((entry) =>
        refusing && "outcome" in entry && entry.outcome.taskId === 1n ? raised : undefined
      )
      const since = now()
      const told = settle(attemptOf(1))
      for (let id = 2; id < 20; id++) {
        const others = settle(attemptOf(id))
        yield* advance("1 second")
        assert.strictEqual(others[0]!.verdict, "accepted")
        assert.deepStrictEqual(journal.unwritten(), { events: 0, outcomes: 1, since })
      }
      refusing = false
      yield* advance("1 second")
      assert.strictEqual(told[0]!.verdict, "accepted")
      assert.deepInclude(told[0]!.recorded, { status: "completed", closing: "done" })
      assert.isUndefined(journal.unwritten())
    }))

  it.effect("because the statement cannot run, whoever's it is, is waited for like a database that is away", () =>
    Effect.gen(function*() {
      let revoked = true
      const denied = error({
        code: "42501",
        message: "permission denied for table task_events",
        routine: "aclcheck_error"
      })
      const { say, settle, storyOf } = yield* make(() => revoked ? denied : undefined)
      const attempt = attemptOf(1)
      yield* say(attempt, 1)
      settle(attempt)
      yield* advance("5 minutes")
      assert.isEmpty(storyOf(attempt))
      revoked = false
      yield* advance("5 seconds")
      assert.deepStrictEqual(storyOf(attempt), [[1, "1"], [2, "completed", "done"]])
    }))
})

describe("an event that stays refused", () => {
  it.effect("for its value is stored as text, at once", () =>
    Effect.gen(function*() {
      const { say, settle, storyOf } = yield* make((entry) => isSaid(entry, "2") ? unstorable : undefined)
      const attempt = attemptOf(1)
      yield* say(attempt, 1, 2, 3)
      settle(attempt)
      yield* advance("10 millis")
      assert.deepStrictEqual(storyOf(attempt), [
        [1, "1"],
        [2, "{\"sanitized\":true,\"json\":\"2\"}"],
        [3, "3"],
        [4, "completed", "done"]
      ])
    }))

  it.effect("as text, too, is stored as a mark", () =>
    Effect.gen(function*() {
      const { say, settle, storyOf } = yield* make((entry) =>
        "event" in entry && entry.event.data.includes("€") ? unstorable : undefined
      )
      const attempt = attemptOf(1)
      yield* say(attempt, "€", 2)
      settle(attempt)
      yield* advance("10 millis")
      assert.deepStrictEqual(storyOf(attempt), [
        [1, "{\"sanitized\":true,\"refused\":\"22P05\"}"],
        [2, "2"],
        [3, "completed", "done"]
      ])
    }))

  it.effect("in every form leaves no gap, and the closing event tells how many there were", () =>
    Effect.gen(function*() {
      const { journal, say, settle, storyOf, stored } = yield* make((entry) =>
        "event" in entry && entry.event.type === "unheard" ? constrained : undefined
      )
      const attempt = attemptOf(1)
      yield* say(attempt, 1)
      yield* journal.emit(attempt, "unheard", "2")
      yield* say(attempt, 3)
      yield* journal.emit(attempt, "unheard", "4")
      yield* say(attempt, 5)
      settle(attempt)
      yield* advance("10 millis")
      assert.deepStrictEqual(storyOf(attempt), [[1, "1"], [2, "3"], [3, "5"], [4, "completed", "done"]])
      assert.deepInclude(outcomes(stored)[0], { closingData: "{\"dropped\":2}" })
      assert.isUndefined(journal.unwritten())
    }))

  it.effect("by a trigger is waited for once for each attempt, not once for each event", () =>
    Effect.gen(function*() {
      const { say, settle, storyOf } = yield* make((entry) =>
        "event" in entry && entry.event.data.includes("no") ? raised : undefined
      )
      const attempt = attemptOf(1)
      yield* say(attempt, "no", 2, "no", 4, "no")
      settle(attempt)
      yield* advance(Journal.patienceMillis - 1)
      assert.isEmpty(storyOf(attempt))
      yield* advance("2 seconds")
      const mark = "{\"sanitized\":true,\"refused\":\"P0001\"}"
      assert.deepStrictEqual(storyOf(attempt), [
        [1, mark],
        [2, "2"],
        [3, mark],
        [4, "4"],
        [5, mark],
        [6, "completed", "done"]
      ])
    }))

  it.effect("among many is found with few statements", () =>
    Effect.gen(function*() {
      const { say, statements } = yield* make((entry) => isSaid(entry, "700") ? unstorable : undefined)
      const attempts = Array.from({ length: 1000 }, (_, n) => attemptOf(n))
      yield* Effect.forEach(attempts, (attempt, n) => say(attempt, n), { discard: true })
      yield* advance("10 millis")
      assert.isBelow(statements(), 30)
    }))
})

const outcomes = (stored: ReadonlyArray<Entry>) => stored.flatMap((entry) => "outcome" in entry ? [entry.outcome] : [])

describe("an outcome that stays refused", () => {
  for (
    const [what, outcome, recorded] of [
      ["a completion", completed, [1, "completed", null]],
      ["a retry", Outcome.Retry({ error: failure, delay: Duration.seconds(5) }), [1, "queued", null]],
      ["a failure", Outcome.Failed({ error: failure }), [1, "failed", null]],
      ["a cancellation", Outcome.Cancelled(), [1, "queued", null]]
    ] as const
  ) {
    it.effect(`because of its closing event, such as ${what}, is recorded without one`, () =>
      Effect.gen(function*() {
        const { settle, storyOf, stored } = yield* make((entry) =>
          "outcome" in entry && entry.outcome.closing !== null ? constrained : undefined
        )
        const attempt = attemptOf(1)
        const told = settle(attempt, outcome)
        yield* advance("10 millis")
        assert.deepStrictEqual(storyOf(attempt), [recorded])
        const given = toEntry(outcome, attempt, true)
        assert.deepStrictEqual(
          { ...outcomes(stored)[0]!, closingData: "" },
          { ...given, closing: null, closingData: "" }
        )
        assert.strictEqual(told[0]!.verdict, "accepted")
      }))
  }

  it.effect("for what its closing event says closes with less", () =>
    Effect.gen(function*() {
      const { settle, storyOf, stored } = yield* make((entry) =>
        "outcome" in entry && entry.outcome.closingData.includes("later") ? constrained : undefined
      )
      const attempt = attemptOf(1)
      settle(attempt, Outcome.Retry({ error: failure, delay: Duration.zero }))
      yield* advance("10 millis")
      assert.deepStrictEqual(storyOf(attempt), [[1, "queued", "retry"]])
      const [{ closingData, error }] = outcomes(stored) as [OutcomeEntry]
      assert.strictEqual(error, JSON.stringify(failure))
      assert.deepInclude(JSON.parse(closingData), { kind: "failure", tag: "Busy", willRetry: true, sanitized: true })
    }))

  it.effect("for its error is a retry all the same", () =>
    Effect.gen(function*() {
      const { settle, stored } = yield* make((entry) =>
        "outcome" in entry && entry.outcome.error?.includes("later") === true ? unstorable : undefined
      )
      const told = settle(attemptOf(1), Outcome.Retry({ error: failure, delay: Duration.seconds(5) }))
      yield* advance("10 millis")
      const [outcome] = outcomes(stored)
      assert.deepInclude(outcome, { status: "queued", delayMillis: 5000, closing: "retry" })
      assert.deepInclude(JSON.parse(outcome!.error!), { kind: "defect", tag: "Unstorable" })
      assert.strictEqual(told[0]!.recorded, outcome)
    }))

  it.effect("whether completed or failed lets the task go back, if it has an attempt left", () =>
    Effect.gen(function*() {
      const { settle, stored } = yield* make((entry) =>
        "outcome" in entry && entry.outcome.status !== "queued" ? constrained : undefined
      )
      settle(attemptOf(1))
      yield* advance("10 millis")
      assert.deepInclude(outcomes(stored)[0], {
        status: "queued",
        delayMillis: 60_000,
        closing: "retry",
        refund: false
      })
    }))

  it.effect("in every form is given up: its lease is left to expire, and health tells until it is recorded or lost", () =>
    Effect.gen(function*() {
      let refusing = true
      const { journal, problems, settle } = yield* make((entry) =>
        refusing && "outcome" in entry && entry.outcome.taskId === 1n ? constrained : undefined
      )
      const attempt = attemptOf(1, { attempts: 3 })
      const told = settle(attempt)
      const other = settle(attemptOf(2))
      yield* advance("1 minute")
      assert.isTrue(attempt.givenUp)
      assert.isEmpty(told)
      assert.strictEqual(other[0]!.verdict, "accepted")
      assert.deepInclude(journal.unwritten(), { events: 0, outcomes: 1 })
      assert.match(problems.all()[0]!.message, /^the outcome of task 1 is given up/)
      refusing = false
      yield* advance("5 seconds")
      assert.deepInclude(told[0]!.recorded, { status: "completed", closing: "done" })
      assert.isEmpty(problems.all())
    }))
})

describe("lone events", () => {
  it.effect("are written within 10 ms, wherever somebody sets the clock of the machine", () =>
    Effect.gen(function*() {
      const clock = yield* Clock.Clock
      let offset = 0
      const set: Clock.Clock = Object.assign(Object.create(clock), {
        currentTimeMillisUnsafe: () => clock.currentTimeMillisUnsafe() + offset
      })
      const { say, storyOf } = yield* make(() => undefined).pipe(Effect.provideService(Clock.Clock, set))
      const attempt = attemptOf(1)
      yield* say(attempt, 1)
      yield* advance("10 millis")
      offset = -3_600_000
      yield* say(attempt, 2)
      yield* advance("10 millis")
      assert.deepStrictEqual(storyOf(attempt), [[1, "1"], [2, "2"]])
    }))
})

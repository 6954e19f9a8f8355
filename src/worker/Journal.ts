/**
 * The one writer of a worker: events while handlers run, outcomes as they end, in order, batched over all its tasks.
 *
 * Outcomes go as soon as the previous write is back; lone events wait at most 10 ms for company. A write whose result is
 * unknown is repeated, for the statement takes nothing twice; one that the database refuses is halved until what is refused
 * is alone. That is tried again for a while, and all that follows of its attempt waits behind it; in the end it is written in
 * another form, or given up.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as Schedule from "effect/Schedule"
import * as Tracing from "../internal/Tracing.ts"
import * as StorageError from "../storage/StorageError.ts"
import { TaskStore } from "../storage/TaskStore.ts"
import type { EventEntry, OutcomeEntry, Written } from "../storage/Write.ts"
import { annotations, type Attempt, keyOf, monotonicMillis } from "./Attempt.ts"
import { Backlog, type Item, type Verdict } from "./Backlog.ts"
import * as Loop from "./Loop.ts"
import { Measures } from "./Measures.ts"
import { Outcome, toEntry } from "./Outcome.ts"
import { Problems } from "./Problems.ts"
import { Pulses } from "./Pulse.ts"
import * as Refusal from "./Refusal.ts"
import { Settings } from "./Settings.ts"
import * as Spans from "./Spans.ts"

const windowMillis = 10
const firstPauseMillis = 2
const lastPauseMillis = 1000

/**
 * For so long a refusal that may pass is waited for, once for each attempt.
 */
export const patienceMillis = 20_000

const problem = "refused writes"

// A trigger that returns null says nothing, and a policy may hide a row from an update alone.
const unchanged = new StorageError.StorageError({
  operation: "write an outcome",
  transient: false,
  cause: new Error("the row stays as it is, and nobody has it locked: does a trigger return null?")
})

const backoff = Schedule.min([Schedule.exponential("50 millis"), Schedule.spaced("2 seconds")]).pipe(Schedule.jittered)

/**
 * @category models
 * @since 0.1.0
 */
export interface Unwritten {
  readonly events: number
  readonly outcomes: number
  /** Of the oldest, in milliseconds of the monotonic clock. */
  readonly since: number
}

/**
 * @category services
 * @since 0.1.0
 */
export class Journal extends Context.Service<Journal, {
  /** Accepts an event, giving it the attempt's next `seq`. Waits while too much is unwritten. */
  readonly emit: (attempt: Attempt, type: string, data: string) => Effect.Effect<void>
  /** Accepts how an attempt ended and tells what became of that. Never waits. */
  readonly settle: (
    attempt: Attempt,
    outcome: OutcomeEntry,
    settled: (verdict: Verdict, recorded: OutcomeEntry) => void
  ) => void
  /** Waits until everything that was accepted is written. */
  readonly flush: Effect.Effect<void>
  /** What is not written yet, and since when it waits or nothing could be written; undefined while all is written. */
  readonly unwritten: () => Unwritten | undefined
  /** What waits for its turn. */
  readonly backlog: () => Backlog["size"]
  /** Writes, for ever. */
  readonly run: Effect.Effect<never>
}>()("spindle/Journal") {
  static readonly layer: Layer.Layer<
    Journal,
    never,
    TaskStore | Measures | Problems | Pulses | Settings
  > = Layer.effect(
    Journal,
    Effect.gen(function*() {
      const store = yield* TaskStore
      const { workerId } = yield* Settings
      const scope = yield* Effect.scope
      const clock = yield* Clock.Clock
      const backlog = new Backlog()
      const written = Latch.makeUnsafe(true)
      const measures = yield* Measures
      const problems = yield* Problems
      const traced = (yield* Tracing.configured) !== undefined
      const pulse = (yield* Pulses).make("writing events and outcomes")
      let unfinished = 0
      let unfinishedOutcomes = 0
      let stuckSince = 0
      let lastWriteAt = 0
      /** Attempts of which something was not accepted, and since when. */
      const heldUp = new Map<Attempt, number>()
      const refused = new Set<Attempt>()
      /** Attempts of which something was given up in this turn. The others' turn is next. */
      const resting: Array<Attempt> = []

      const push = (item: Item) => {
        if (unfinished++ === 0) stuckSince = monotonicMillis(clock)
        if (item.outcome !== undefined) unfinishedOutcomes++
        written.closeUnsafe()
        backlog.push(item)
      }

      const finish = (item: Item, verdict: Verdict) => {
        const { attempt } = item
        if (heldUp.size > 0) passed(item)
        backlog.release(attempt)
        if (item.outcome !== undefined) {
          unfinishedOutcomes--
          item.settled(attempt.refused && verdict === "accepted" ? "stale" : verdict, item.outcome)
        }
        if (--unfinished === 0) written.openUnsafe()
      }

      const passed = ({ attempt, given }: Item) => {
        heldUp.delete(attempt)
        resolve(attempt)
        if (given === undefined && attempt.refusedAt !== -Infinity) attempt.refusedAt = undefined
      }

      const resolve = (attempt: Attempt) => {
        if (refused.delete(attempt) && refused.size === 0) problems.resolve(problem)
        if (attempt.givenUp) problems.resolve(attempt.key)
      }

      // Its claim was lost, be it that the same worker has it again: an outcome would tell of something that nobody can read.
      const lose = ({ attempt, event }: Item) => {
        if (attempt.refused || event === undefined) return
        if (!attempt.closed && attempt.interrupt("lost", monotonicMillis(clock))) measures.leasesLost++
        attempt.refused = true
        attempt.seq = event.seq - 1
      }

      const stillDue = (item: Item): ReadonlyArray<Item> => {
        if (!item.attempt.refused) return [item]
        if (item.outcome !== undefined) return [{ ...item, outcome: withdrawn(item.attempt) }]
        finish(item, "stale")
        return []
      }

      // Off the writer's way, so that what one task waits for does not hold up the outcomes of others.
      const later = (attempt: Attempt, then: () => void) =>
        Effect.suspend(() => {
          if (!heldUp.has(attempt)) heldUp.set(attempt, monotonicMillis(clock))
          const pause = Math.min(firstPauseMillis * 2 ** attempt.postponed++, lastPauseMillis)
          return Effect.forkIn(Effect.delay(Effect.sync(then), pause), scope)
        })

      // A claim that passes by locks a row for a moment, a forgotten transaction for an hour.
      const postpone = (item: Item) => {
        backlog.release(item.attempt)
        return later(item.attempt, () => backlog.push(item))
      }

      const write = (items: ReadonlyArray<Item>): Effect.Effect<Written, StorageError.StorageError> =>
        Effect.suspend(() => {
          const sentAt = monotonicMillis(clock)
          const events = items.flatMap(({ attempt, event }) => event === undefined ? [] : movedUp(attempt, event))
          const outcomes = items.flatMap(({ attempt, outcome }) => outcome === undefined ? [] : told(attempt, outcome))
          const statement = store.write(workerId, events, outcomes)
          return Effect.map(
            traced ? Spans.writing(statement, items.map(({ attempt }) => attempt.span), items.length) : statement,
            (result) => {
              stuckSince = monotonicMillis(clock)
              measures.writeSeconds.observe((stuckSince - sentAt) / 1000)
              measures.writeSizes.observe(items.length)
              measures.eventsWritten += events.length - result.refused.length - result.blocked.length
              return result
            }
          )
        })

      const persist = (items: ReadonlyArray<Item>) =>
        write(items).pipe(
          Effect.tapError((error) => {
            measures.writesFailed++
            if (!passes(error)) return Effect.void
            pulse.failed(error.message, error.transient)
            return Effect.logWarning("a write failed and is repeated", error.message)
          }),
          Effect.retry({ schedule: backoff, while: passes })
        )

      const conclude = Effect.fnUntraced(function*(items: ReadonlyArray<Item>, result: Written) {
        const accepted = new Set(result.accepted)
        const cancelled = new Set(result.cancelled)
        const overruled = new Set(result.overruled)
        const open: Array<Item> = []
        const blocked = new Set<Attempt>()
        if (result.refused.length + result.blocked.length > 0) {
          const said = items.filter(({ event }) => event !== undefined)
          for (const place of result.refused) lose(said[place - 1]!)
          for (const place of result.blocked) {
            const item = said[place - 1]!
            // The others wait behind the first.
            if (!blocked.has(item.attempt)) yield* again(item)
            else backlog.free([item])
            blocked.add(item.attempt)
          }
        }
        for (const item of items) {
          if (blocked.has(item.attempt)) {
            if (item.outcome !== undefined) backlog.free([item])
          } else if (item.outcome === undefined) finish(item, "accepted")
          else if (!accepted.has(item.outcome.taskId)) open.push(item)
          else if (overruled.has(item.outcome.taskId)) finish(item, "stale")
          else finish(item, cancelled.has(item.outcome.taskId) ? "cancelled" : "accepted")
        }
        if (open.length > 0) yield* examine(open)
      })

      // Not accepted: locked by somebody's open transaction, recorded before without our hearing of it, or lost.
      const examine = Effect.fnUntraced(function*(items: ReadonlyArray<Item>) {
        const rows = yield* store.inspect(items.map(({ attempt }) => attempt.row.id)).pipe(
          Effect.tapError((error) => {
            pulse.failed(error.message, error.transient)
            return Effect.logWarning("a look at unaccepted outcomes is repeated", error.message)
          }),
          Effect.retry({ schedule: backoff }),
          Effect.orDie
        )
        const byKey = new Map(rows.map((row) => [keyOf(row), row]))
        const late: Array<string> = []
        for (const item of items) {
          const row = byKey.get(item.attempt.key)
          if (row?.lockedBy === workerId && row.free) yield* refuse(item, unchanged)
          else if (row?.lockedBy === workerId) {
            if (item.attempt.refusedAt !== -Infinity) item.attempt.refusedAt = undefined
            yield* postpone(item)
          } else if (row?.lockedBy === null) finish(item, row.status === "cancelled" ? "cancelled" : "accepted")
          else {
            late.push(String(item.attempt.row.id))
            finish(item, "stale")
          }
        }
        if (late.length > 0) {
          yield* Effect.logWarning("outcomes came too late: somebody else has these tasks by now").pipe(
            Effect.annotateLogs({ taskIds: late.join(",") })
          )
        }
      })

      const record = (items: ReadonlyArray<Item>) => Effect.flatMap(persist(items), (result) => conclude(items, result))

      // What is refused is looked for by halves. What is tried again is of one attempt each, and waits for nothing.
      const settleAll = (given: ReadonlyArray<Item>, again: boolean): Effect.Effect<void> =>
        Effect.suspend(() => {
          const items = (again ? given : backlog.free(given)).flatMap(stillDue)
          if (items.length === 0) return Effect.void
          return Effect.catch(record(items), (error) => {
            if (items.length === 1) return refuse(items[0]!, error)
            const middle = items.length >> 1
            return Effect.andThen(settleAll(items.slice(0, middle), again), settleAll(items.slice(middle), again))
          })
        })

      const refuse = (item: Item, error: StorageError.StorageError): Effect.Effect<void> =>
        Effect.suspend(() => {
          const { attempt } = item
          if (attempt.givenUp) return again(item)
          if (StorageError.scope(error) === "entry") {
            const now = monotonicMillis(clock)
            attempt.refusedAt ??= now
            if (now - attempt.refusedAt < patienceMillis) return tryAgain(item, error)
            attempt.refusedAt = -Infinity
          }
          const other = Refusal.instead(item, error)
          if (other === undefined) return giveUp(item, error)
          return (item.given === undefined ? log(attempt, "the database refused a value", error) : Effect.void).pipe(
            Effect.andThen(record([other])),
            Effect.andThen(rest(attempt)),
            Effect.catch((error) => refuse(other, error))
          )
        })

      const tryAgain = (item: Item, error: StorageError.StorageError) =>
        Effect.suspend(() => {
          const { attempt } = item
          const known = refused.has(attempt)
          refused.add(attempt)
          const others = refused.size === 1 ? "" : ` and ${refused.size - 1} others`
          problems.report(
            problem,
            `the database refuses what task ${attempt.row.id}${others} has to say: ${error.message}`
          )
          return Effect.andThen(
            known ? Effect.void : log(attempt, "the database refuses what a task says: it is tried again", error),
            again(item)
          )
        })

      const again = (item: Item) =>
        Effect.suspend(() => {
          backlog.hold(item.attempt)
          return later(item.attempt, () => backlog.retry(item))
        })

      // What follows an event moves up. A task is left to the sweep, unless its outcome can be written before.
      const giveUp = (item: Item, error: StorageError.StorageError) =>
        Effect.suspend(() => {
          const { attempt } = item
          if (item.event !== undefined) {
            attempt.dropped++
            finish(item, "accepted")
            return Effect.andThen(
              log(attempt, "an event is given up: the database takes it in no form", error),
              rest(attempt)
            )
          }
          resolve(attempt)
          attempt.givenUp = true
          problems.report(attempt.key, `the outcome of task ${attempt.row.id} is given up: ${error.message}`)
          return Effect.andThen(
            log(
              attempt,
              "an outcome is given up, and its lease left to expire: the database takes it in no form",
              error
            ),
            again(item.given ?? item)
          )
        })

      const rest = (attempt: Attempt) =>
        Effect.sync(() => {
          if (attempt.held !== undefined) return
          backlog.hold(attempt)
          resting.push(attempt)
        })

      const log = (attempt: Attempt, message: string, error: StorageError.StorageError) =>
        Effect.annotateLogs(Effect.logError(message, error.message), annotations(attempt))

      const turn = Effect.gen(function*() {
        yield* pulse.rest(backlog.filled.await)
        // Whoever filled it may be in the middle of a burst of quick tasks: theirs goes along.
        yield* Effect.yieldNow
        const waited = monotonicMillis(clock) - lastWriteAt
        if (waited < windowMillis && !backlog.isUrgent) {
          yield* Effect.timeoutOption(backlog.urgent.await, windowMillis - waited)
        }
        lastWriteAt = monotonicMillis(clock)
        yield* settleAll(backlog.takeAgain(), true)
        yield* settleAll(backlog.take(), false)
        while (resting.length > 0) backlog.release(resting.pop()!)
      })

      return Journal.of({
        emit: (attempt, type, data) =>
          Effect.suspend(() => {
            if (attempt.closed) return Effect.void
            const accept = Effect.sync(() => {
              if (attempt.closed) return
              const { epoch, id: taskId } = attempt.row
              push({ attempt, bytes: data.length, event: { taskId, epoch, seq: ++attempt.seq, type, data } })
            })
            const { held } = attempt
            const room = held === undefined
              ? backlog.room.await
              : Effect.andThen(held.passed.await, backlog.room.await)
            return Effect.andThen(room, accept)
          }),
        settle: (attempt, outcome, settled) => {
          attempt.closed = true
          push({
            attempt,
            bytes: (outcome.result?.length ?? 0) + (outcome.error?.length ?? 0) + outcome.closingData.length,
            outcome,
            settled
          })
        },
        flush: written.await,
        unwritten: () =>
          unfinished === 0
            ? undefined
            : {
              events: unfinished - unfinishedOutcomes,
              outcomes: unfinishedOutcomes,
              since: Math.min(stuckSince, ...heldUp.values())
            },
        backlog: () => backlog.size,
        run: Loop.forever(pulse, turn)
      })
    })
  )
}

const passes = (error: StorageError.StorageError) => error.transient || StorageError.scope(error) === "statement"

const movedUp = ({ dropped }: Attempt, event: EventEntry): EventEntry =>
  dropped === 0 ? event : { ...event, seq: event.seq - dropped }

const told = ({ dropped }: Attempt, outcome: OutcomeEntry): OutcomeEntry => {
  if (dropped === 0) return outcome
  const { closingData, closingSeq } = outcome
  return {
    ...outcome,
    closingSeq: closingSeq - dropped,
    closingData: `{"dropped":${dropped}${closingData === "{}" ? "}" : `,${closingData.slice(1)}`}`,
    announce: true
  }
}

const withdrawn = (attempt: Attempt): OutcomeEntry =>
  toEntry(Outcome.Released({ reason: "lease_expired" }), attempt, true)

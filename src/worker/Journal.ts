/**
 * The one writer of a worker: events while handlers run, outcomes as they end, in order, batched over all its tasks.
 *
 * Outcomes go as soon as the previous write is back; lone events wait at most 10 ms for company. A write whose result is
 * unknown is repeated, for the statement takes nothing twice; one that the database refuses is taken apart.
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
import type { StorageError } from "../storage/StorageError.ts"
import { TaskStore } from "../storage/TaskStore.ts"
import type { OutcomeEntry, Written } from "../storage/Write.ts"
import { annotations, type Attempt, keyOf, monotonicMillis } from "./Attempt.ts"
import { Backlog, type Item, type Verdict } from "./Backlog.ts"
import * as Loop from "./Loop.ts"
import { Measures } from "./Measures.ts"
import { Outcome, toEntry } from "./Outcome.ts"
import { Pulses } from "./Pulse.ts"
import { Settings } from "./Settings.ts"
import * as Spans from "./Spans.ts"

const windowMillis = 10
const firstPauseMillis = 2
const lastPauseMillis = 1000

// SQLSTATE classes that speak of the values: data exceptions, violated constraints, exceeded limits.
const refusesValues = ({ sqlState }: StorageError) => sqlState !== undefined && /^(22|23|54)/.test(sqlState)

const backoff = Schedule.min([Schedule.exponential("50 millis"), Schedule.spaced("2 seconds")]).pipe(Schedule.jittered)

/**
 * @category models
 * @since 0.1.0
 */
export interface Unwritten {
  readonly events: number
  readonly outcomes: number
  /** In milliseconds of the monotonic clock. */
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
  /** What is not written yet, and since when nothing could be; undefined while all is. */
  readonly unwritten: () => Unwritten | undefined
  /** What waits for its turn. */
  readonly backlog: () => Backlog["size"]
  /** Writes, for ever. */
  readonly run: Effect.Effect<never>
}>()("spindle/Journal") {
  static readonly layer: Layer.Layer<Journal, never, TaskStore | Measures | Pulses | Settings> = Layer.effect(
    Journal,
    Effect.gen(function*() {
      const store = yield* TaskStore
      const { workerId } = yield* Settings
      const scope = yield* Effect.scope
      const clock = yield* Clock.Clock
      const backlog = new Backlog()
      const written = Latch.makeUnsafe(true)
      const measures = yield* Measures
      const traced = (yield* Tracing.configured) !== undefined
      const pulse = (yield* Pulses).make("writing events and outcomes")
      let unfinished = 0
      let unfinishedOutcomes = 0
      let stuckSince = 0
      let lastWriteAt = 0

      const push = (item: Item) => {
        if (unfinished++ === 0) stuckSince = monotonicMillis(clock)
        if (item.outcome !== undefined) unfinishedOutcomes++
        written.closeUnsafe()
        backlog.push(item)
      }

      const finish = (item: Item, verdict: Verdict) => {
        if (item.outcome !== undefined) {
          unfinishedOutcomes--
          item.settled(item.attempt.refused && verdict === "accepted" ? "stale" : verdict, item.outcome)
        }
        if (--unfinished === 0) written.openUnsafe()
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

      // Off the writer's way, so that one task's lock does not hold up the outcomes of others. A claim that passes by
      // locks a row for a moment, a forgotten transaction for an hour.
      const postpone = (item: Item) =>
        Effect.suspend(() => {
          const pause = Math.min(firstPauseMillis * 2 ** item.attempt.postponed++, lastPauseMillis)
          return Effect.forkIn(Effect.delay(Effect.sync(() => backlog.push(item)), pause), scope)
        })

      const write = (items: ReadonlyArray<Item>): Effect.Effect<Written, StorageError> =>
        Effect.suspend(() => {
          const sentAt = monotonicMillis(clock)
          const events = items.flatMap(({ event }) => event ?? [])
          const statement = store.write(workerId, events, items.flatMap(({ outcome }) => outcome ?? []))
          return Effect.map(
            traced ? Spans.writing(statement, items.map(({ attempt }) => attempt.span), items.length) : statement,
            (result) => {
              stuckSince = monotonicMillis(clock)
              measures.writeSeconds.observe((stuckSince - sentAt) / 1000)
              measures.writeSizes.observe(items.length)
              measures.eventsWritten += events.length - result.refused.length
              return result
            }
          )
        })

      const persist = (items: ReadonlyArray<Item>) =>
        write(items).pipe(
          Effect.tapError((error) => {
            measures.writesFailed++
            if (!error.transient) return Effect.void
            pulse.failed(error.message, true)
            return Effect.logWarning("a write failed and is repeated", error.message)
          }),
          Effect.retry({ schedule: backoff, while: (error) => error.transient })
        )

      const conclude = Effect.fnUntraced(function*(items: ReadonlyArray<Item>, result: Written) {
        const accepted = new Set(result.accepted)
        const cancelled = new Set(result.cancelled)
        const overruled = new Set(result.overruled)
        const open: Array<Item> = []
        if (result.refused.length > 0) {
          const said = items.filter(({ event }) => event !== undefined)
          for (const place of result.refused) lose(said[place - 1]!)
        }
        for (const item of items) {
          if (item.outcome === undefined) finish(item, "accepted")
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
          if (row?.lockedBy === workerId) yield* postpone(item)
          else if (row?.lockedBy === null) finish(item, row.status === "cancelled" ? "cancelled" : "accepted")
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

      const record = (items: ReadonlyArray<Item>) =>
        items.length === 0 ? Effect.void : Effect.flatMap(persist(items), (result) => conclude(items, result))

      // Something in the batch is refused. What is refused for its values is stored in another form; what is refused for
      // any other reason waits on its own until it is accepted.
      const isolate = Effect.fnUntraced(function*(items: ReadonlyArray<Item>) {
        const waiting: Array<string> = []
        for (const given of items) {
          // What was written before it may have told that its claim is lost.
          const [item] = stillDue(given)
          if (item === undefined) continue
          yield* record([item]).pipe(
            Effect.catchIf(refusesValues, (error) =>
              Effect.andThen(
                Effect.logWarning("the database refused a value", error.message).pipe(
                  Effect.annotateLogs(annotations(item.attempt))
                ),
                record([storable(item, error)])
              )),
            Effect.catch((error) => {
              waiting.push(error.message)
              return postpone(item)
            })
          )
        }
        if (waiting.length > 0) {
          yield* Effect.logError("the database refuses what a worker writes: it is tried again", waiting[0]).pipe(
            Effect.annotateLogs({ entries: waiting.length })
          )
        }
      })

      const turn = Effect.gen(function*() {
        yield* pulse.rest(backlog.filled.await)
        // Whoever filled it may be in the middle of a burst of quick tasks: theirs goes along.
        yield* Effect.yieldNow
        const waited = clock.currentTimeMillisUnsafe() - lastWriteAt
        if (waited < windowMillis && !backlog.isUrgent) {
          yield* Effect.timeoutOption(backlog.urgent.await, windowMillis - waited)
        }
        const items = backlog.take().flatMap(stillDue)
        lastWriteAt = clock.currentTimeMillisUnsafe()
        yield* Effect.catch(record(items), () => isolate(items))
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
            return Effect.andThen(backlog.room.await, accept)
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
            : { events: unfinished - unfinishedOutcomes, outcomes: unfinishedOutcomes, since: stuckSince },
        backlog: () => backlog.size,
        run: Loop.forever(pulse, turn)
      })
    })
  )
}

/**
 * What is stored in the place of a value that the database refuses, such as JSON nested deeper than it reads: an event
 * keeps its JSON as text, marked; an outcome becomes a failure that says what was refused.
 */
const storable = (item: Item, error: StorageError): Item =>
  item.event !== undefined
    ? { ...item, event: { ...item.event, data: JSON.stringify({ sanitized: true, json: item.event.data }) } }
    : { ...item, outcome: refused(item.outcome, error) }

const withdrawn = (attempt: Attempt): OutcomeEntry =>
  toEntry(Outcome.Released({ reason: "lease_expired" }), attempt, true)

const refused = (outcome: OutcomeEntry, { message }: StorageError): OutcomeEntry => {
  const error = { kind: "defect", tag: "Unstorable", message: `The outcome could not be stored. ${message}` }
  return {
    ...outcome,
    status: "failed",
    result: null,
    error: JSON.stringify(error),
    delayMillis: null,
    refund: false,
    closing: "error",
    closingData: JSON.stringify({ ...error, willRetry: false }),
    announce: true
  }
}

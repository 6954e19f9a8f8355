/**
 * The running tasks of a worker: a fiber each, within the bounds of the worker and of its queues, with the reason why one
 * is interrupted, until its outcome is recorded.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as References from "effect/References"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import * as Tracer from "effect/Tracer"
import * as HandlerRegistry from "../HandlerRegistry.ts"
import * as Tracing from "../internal/Tracing.ts"
import type * as Lifecycle from "../Lifecycle.ts"
import type { ClaimedRow } from "../storage/Claim.ts"
import { type Held, TaskStore } from "../storage/TaskStore.ts"
import type { OutcomeEntry } from "../storage/Write.ts"
import { annotations, Attempt, type Interruption, keyOf, monotonicMillis } from "./Attempt.ts"
import type { Verdict } from "./Backlog.ts"
import * as Failures from "./Failures.ts"
import { Journal } from "./Journal.ts"
import * as Loop from "./Loop.ts"
import { Outcome, toEntry } from "./Outcome.ts"
import { Pulses } from "./Pulse.ts"
import { QuickTypes } from "./QuickTypes.ts"
import { Settings } from "./Settings.ts"
import * as Spans from "./Spans.ts"
import * as TaskRunner from "./TaskRunner.ts"

/**
 * What may be claimed now.
 *
 * @category models
 * @since 0.1.0
 */
export interface Demand {
  readonly slots: number
  readonly ahead: number
  readonly queues: ReadonlyMap<string, number> | undefined
}

// From due to claimed, by the database's clock.
const waitedMillis = ({ claimedAt, runAt }: ClaimedRow) => Number.isFinite(runAt) ? Math.max(0, claimedAt - runAt) : 0

const timerMillis = 60_000
// What was claimed for a slot that is not there so long after goes back: another worker may have one.
const waitMillis = 100

const backoff = Schedule.min([Schedule.exponential("50 millis"), Schedule.spaced("2 seconds")]).pipe(Schedule.jittered)

const maxUnsettled = (concurrency: number) => 1000 + 4 * concurrency

/**
 * @category services
 * @since 0.1.0
 */
export class Supervisor extends Context.Service<Supervisor, {
  readonly demand: () => Demand
  /** Types whose tasks end within milliseconds. */
  readonly quickTypes: () => ReadonlySet<string>
  /** Takes over what was claimed by a statement sent at `sentAt`; each task runs as soon as there is a slot, or goes back. */
  readonly accept: (rows: ReadonlyArray<ClaimedRow>, sentAt: number) => void
  /**
   * Interrupts a claim that is still held here, with the reason, and tells whether this was what interrupted its handler.
   * Does nothing for another epoch of the task.
   */
  readonly interrupt: (held: Held, reason: Interruption) => boolean
  readonly interruptAll: (reason: Interruption) => void
  /** Gives back a claim that never became an attempt, because its reply did not arrive. */
  readonly giveBack: (held: Held) => void
  /** Every claim whose outcome is not recorded yet. */
  readonly held: () => IterableIterator<Attempt>
  readonly holds: (held: Held) => boolean
  readonly running: () => number
  /** Open whenever a slot was freed since it was last closed. */
  readonly freed: Latch.Latch
  /** From now on nothing starts: what waits is put back, and `accept` puts back what still comes. */
  readonly stop: () => void
  /** Waits until no handler runs. */
  readonly idle: Effect.Effect<void>
  /** Interrupts attempts at their deadlines, for ever. */
  readonly run: Effect.Effect<never>
}>()("spindle/Supervisor") {
  static readonly layer: Layer.Layer<
    Supervisor,
    never,
    Journal | HandlerRegistry.HandlerRegistry | Pulses | Settings | TaskStore
  > = Layer
    .effect(
      Supervisor,
      Effect.gen(function*() {
        const journal = yield* Journal
        const store = yield* TaskStore
        const registry = yield* HandlerRegistry.HandlerRegistry
        const clock = yield* Clock.Clock
        const { concurrency, publish, queues, timeoutMillis: defaultTimeout, workerId } = yield* Settings
        const pulse = (yield* Pulses).make("watching deadlines", timerMillis)
        const tracer = yield* Tracing.configured
        const held = new Map<string, Attempt>()
        const running = new Set<Attempt>()
        const runningByQueue = new Map<string, number>()
        const quick = new QuickTypes()
        let waiting: Array<Attempt> = []
        let stopping = false
        let nextDeadline = Infinity
        const earlierDeadline = Latch.makeUnsafe()
        const freed = Latch.makeUnsafe()
        const idle = Latch.makeUnsafe(true)
        // One at a time: they are large.
        const reading = Semaphore.makeUnsafe(1)

        const bring = (attempt: Attempt) =>
          store.readPayload(workerId, attempt.row).pipe(
            reading.withPermit,
            Effect.retry({ schedule: backoff, while: (error) => error.transient }),
            Effect.flatMap((brought) => {
              if (brought !== undefined) return Effect.sync(() => attempt.bring(brought))
              attempt.interrupt("lost", monotonicMillis(clock))
              return Effect.never
            })
          )

        const worker: TaskRunner.Context = { workerId, journal, isShuttingDown: Effect.sync(() => stopping), bring }

        // Nobody asks for them unless queues have bounds.
        const count = (queue: string, change: 1 | -1) => {
          if (queues !== undefined) runningByQueue.set(queue, (runningByQueue.get(queue) ?? 0) + change)
        }

        const freeIn = (queue: string) =>
          queues === undefined ? Infinity : (queues.get(queue) ?? Infinity) - (runningByQueue.get(queue) ?? 0)

        const settle = (attempt: Attempt, outcome: Outcome, declaresEvents: boolean, duration: number) => {
          const entry = Result.getOrElse(
            Result.try(() => toEntry(outcome, attempt, declaresEvents)),
            (error) => toEntry(Outcome.Failed({ error: Failures.defect(error) }), attempt, declaresEvents)
          )
          journal.settle(attempt, entry, (verdict, recorded) => {
            held.delete(attempt.key)
            tell(attempt, outcome, recorded.error === entry.error ? undefined : recorded, verdict, duration)
            attempt.afterwards?.()
            if (held.size === maxUnsettled(concurrency) - 1) freed.openUnsafe()
          })
        }

        const tell = (
          { row, task }: Attempt,
          outcome: Outcome,
          replaced: OutcomeEntry | undefined,
          verdict: Verdict,
          duration: number
        ) => {
          if (row.attempts === 0) return
          const said = (event: Lifecycle.Event) => publish(event, duration)
          if (verdict === "stale") return said({ _tag: "Released", task })
          if (verdict === "cancelled") return said({ _tag: "Cancelled", task })
          if (replaced !== undefined) {
            const willRetry = replaced.status === "queued"
            return said({ _tag: "Failed", task, error: JSON.parse(replaced.error!), willRetry })
          }
          switch (outcome._tag) {
            case "Completed":
              return said({ _tag: "Completed", task, result: outcome.result, duration: Duration.millis(duration) })
            case "Failed":
              return said({ _tag: "Failed", task, error: outcome.error, willRetry: false })
            case "Retry":
              return said({ _tag: "Failed", task, error: outcome.error, willRetry: true })
            default:
              return said({ _tag: "Released", task })
          }
        }

        // An attempt can start before the worker has heard that the outcome of the one before it is recorded.
        const tellStarted = ({ leasedAt, row, startedAt, task }: Attempt) => {
          const event: Lifecycle.Event = { _tag: "Started", task, attempt: row.attempts }
          const waited = waitedMillis(row) + startedAt - leasedAt
          const before = row.epoch > 1n ? held.get(keyOf({ id: row.id, epoch: row.epoch - 1n })) : undefined
          if (before?.closed === true) before.afterwards = () => publish(event, waited)
          else publish(event, waited)
        }

        const ended = (attempt: Attempt, entry: HandlerRegistry.Entry, outcome: Outcome) => {
          const now = monotonicMillis(clock)
          const { queue, type } = attempt.row
          if (attempt.interruption === "cancelled") attempt.unwoundMillis = now - attempt.interruptedAt
          running.delete(attempt)
          count(queue, -1)
          quick.record(type, now - attempt.startedAt, now)
          settle(attempt, outcome, entry.declaresEvents, now - attempt.startedAt)
          hasFreed = true
          startWaiting()
          if (running.size === 0) idle.openUnsafe()
        }

        const traced = <R>(tracer: Tracer.Tracer, attempt: Attempt, services: Context.Context<R>) => {
          const span = Result.try(() => Spans.processing(tracer, clock, workerId, attempt.row))
          if (Result.isFailure(span)) {
            Effect.runForkWith(services)(Spans.threw(span.failure))
            return services
          }
          attempt.span = span.success
          return Context.add(Context.add(services, Tracer.Tracer, tracer), Tracer.ParentSpan, attempt.span)
        }

        const endSpan = (span: Tracer.Span, outcome: Outcome) =>
          Effect.catchDefect(Effect.sync(() => Spans.end(span, clock, outcome)), Spans.threw)

        const start = (attempt: Attempt) => {
          const { queue, timeoutMillis, type } = attempt.row
          const entry = Option.getOrThrow(registry.get(type))
          const { timeout } = entry.task.options
          running.add(attempt)
          count(queue, 1)
          idle.closeUnsafe()
          attempt.startedAt = monotonicMillis(clock)
          attempt.deadline = attempt.startedAt +
            (timeoutMillis ?? (timeout === undefined ? defaultTimeout : Duration.toMillis(timeout)))
          tellStarted(attempt)
          const scope = Scope.makeUnsafe()
          const services = tracer === undefined ? entry.services : traced(tracer, attempt, entry.services)
          const attemptContext = Context.add(
            Context.add(services, References.CurrentLogAnnotations, annotations(attempt)),
            Scope.Scope,
            scope
          )
          let outcome: Outcome | undefined
          attempt.fiber = Effect.runForkWith(attemptContext)(
            Effect.flatMap(TaskRunner.run(worker, attempt, entry, scope), (known) => {
              outcome = known
              return known._tag === "Failed" || known._tag === "Retry" ? report(known) : Effect.void
            }),
            { uninterruptible: true }
          )
          // Whatever is thrown on the way, even by a logger: the outcome is recorded and the slot is free.
          attempt.fiber.addObserver((exit) => {
            outcome ??= Outcome.Failed({
              error: Failures.defect(Exit.isFailure(exit) ? Cause.squash(exit.cause) : undefined)
            })
            ended(attempt, entry, outcome)
            if (attempt.span !== undefined) {
              Effect.runForkWith(attemptContext)(endSpan(attempt.span, outcome))
            }
          })
          // Only now: whoever waits for it looks at once.
          if (running.has(attempt)) wakeAt(attempt.deadline)
        }

        // A handler that ends at once ends inside `start`: the loop goes on with the slot it left. Opening a latch runs
        // those who wait for it there and then, hence only when all is in order again.
        let starting = false
        let hasFreed = false
        const startWaiting = () => {
          if (starting) return
          starting = true
          for (let i = 0; i < waiting.length && running.size < concurrency;) {
            const attempt = waiting[i]!
            if (freeIn(attempt.row.queue) <= 0) i++
            else {
              waiting.splice(i, 1)
              start(attempt)
            }
          }
          starting = false
          if (!hasFreed) return
          hasFreed = false
          freed.openUnsafe()
        }

        const putBack = (attempt: Attempt, reason: "cancelled" | "shutdown" | "lost" | "unstarted") => {
          const outcome = reason === "cancelled" ? Outcome.Cancelled() : Outcome.Released({ reason: released[reason] })
          settle(attempt, outcome, true, 0)
        }

        const wakeAt = (deadline: number) => {
          if (deadline >= nextDeadline) return
          nextDeadline = deadline
          earlierDeadline.openUnsafe()
        }

        const interrupt = (attempt: Attempt, reason: Interruption): boolean => {
          if (attempt.fiber === undefined && reason !== "timeout") {
            const index = waiting.indexOf(attempt)
            if (index < 0) return false
            waiting.splice(index, 1)
            putBack(attempt, reason)
            return false
          }
          return running.has(attempt) && attempt.interrupt(reason, monotonicMillis(clock))
        }

        const expire = Effect.gen(function*() {
          earlierDeadline.closeUnsafe()
          const wait = nextDeadline - monotonicMillis(clock)
          if (wait > 0) {
            yield* Number.isFinite(wait)
              // A timer cannot be longer than 2^31 ms, and need not be.
              ? Effect.timeoutOption(earlierDeadline.await, Math.min(wait, timerMillis))
              : pulse.rest(earlierDeadline.await)
            return
          }
          const now = monotonicMillis(clock)
          nextDeadline = Infinity
          for (const attempt of running) {
            if (attempt.deadline <= now) interrupt(attempt, "timeout")
            else nextDeadline = Math.min(nextDeadline, attempt.deadline)
          }
          const unstarted = waiting.filter(({ waitsUntil }) => waitsUntil <= now)
          waiting = waiting.filter(({ waitsUntil }) => waitsUntil > now)
          for (const attempt of unstarted) putBack(attempt, "unstarted")
          for (const { waitsUntil } of waiting) nextDeadline = Math.min(nextDeadline, waitsUntil)
        })

        return Supervisor.of({
          demand: () => {
            if (stopping || held.size >= maxUnsettled(concurrency)) return { slots: 0, ahead: 0, queues }
            // What waits beside a free slot waits for one of its own queue.
            const slots = concurrency - running.size
            const ahead = Math.max(0, quick.recent(monotonicMillis(clock)) - waiting.length)
            if (queues === undefined) return { slots, ahead, queues }
            const waitingIn = (queue: string) => waiting.filter(({ row }) => row.queue === queue).length
            return {
              slots,
              ahead,
              queues: new Map(
                [...queues.keys()].map((
                  queue
                ) => [queue, Math.max(0, Math.min(slots, freeIn(queue) - waitingIn(queue)))])
              )
            }
          },
          quickTypes: () => quick.types,
          accept: (rows, sentAt) => {
            const waitsUntil = monotonicMillis(clock) + waitMillis
            for (const row of rows) {
              const attempt = new Attempt(row, sentAt, waitsUntil)
              // A crash of the server can lose a claim. The same one again is the handler's that runs already.
              if (held.has(attempt.key)) continue
              held.set(attempt.key, attempt)
              if (stopping) putBack(attempt, "shutdown")
              else waiting.push(attempt)
            }
            startWaiting()
            if (waiting.length > 0) wakeAt(waitsUntil)
          },
          interrupt: (one, reason) => {
            const attempt = held.get(keyOf(one))
            return attempt !== undefined && interrupt(attempt, reason)
          },
          interruptAll: (reason) => {
            for (const attempt of [...waiting, ...running]) interrupt(attempt, reason)
          },
          giveBack: ({ epoch, id }) => {
            const attempt = new Attempt(ghost(id, epoch), monotonicMillis(clock))
            held.set(attempt.key, attempt)
            putBack(attempt, "lost")
          },
          held: () => held.values(),
          holds: (one) => held.has(keyOf(one)),
          running: () => running.size,
          freed,
          stop: () => {
            stopping = true
            const back = waiting
            waiting = []
            for (const attempt of back) putBack(attempt, "shutdown")
          },
          idle: idle.await,
          run: Loop.forever(pulse, expire)
        })
      })
    )
}

const released = { shutdown: "shutdown", lost: "lease_expired", unstarted: "snooze" } as const

const report = (outcome: Extract<Outcome, { readonly error: unknown }>): Effect.Effect<void> =>
  Effect.logWarning(
    outcome._tag === "Retry" ? "an attempt failed and is tried again" : "a task failed",
    outcome.error.message
  ).pipe(Effect.annotateLogs({
    errorKind: outcome.error.kind,
    errorTag: outcome.error.tag,
    ...(outcome._tag === "Retry" ? { retryInMillis: Duration.toMillis(outcome.delay) } : undefined)
  }))

// All that is known of a claim whose reply was lost. Its outcome needs no more.
const ghost = (id: bigint, epoch: bigint): ClaimedRow => ({
  id,
  epoch,
  type: "",
  queue: "",
  priority: 0,
  payload: undefined,
  metadata: {},
  later: false,
  attempts: 0,
  maxAttempts: 0,
  timeoutMillis: null,
  tag: null,
  userId: null,
  runAt: 0,
  createdAt: 0,
  claimedAt: 0
})

/**
 * What this instance has done since it started, in memory: the counters of row and dashboard, what runs now, and what
 * ended last.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Internal from "./internal/Series.ts"
import * as Tally from "./internal/Tally.ts"
import type * as Lifecycle from "./Lifecycle.ts"
import type * as Task from "./Task.ts"
import type * as TaskEvent from "./TaskEvent.ts"

/**
 * `failed` counts tasks, `retried` failed attempts that are tried again, `released` attempts that were put back
 * uncharged.
 *
 * @category models
 * @since 0.1.0
 */
export interface Counters {
  readonly claimed: number
  readonly completed: number
  readonly failed: number
  readonly cancelled: number
  readonly retried: number
  readonly released: number
}

/**
 * @category models
 * @since 0.1.0
 */
export interface Running {
  readonly task: Task.Row
  readonly attempt: number
  readonly startedAt: DateTime.Utc
}

/**
 * @category models
 * @since 0.1.0
 */
export interface Ended {
  /** Without its metadata. */
  readonly task: Task.Row
  readonly status: "completed" | "failed" | "retried" | "cancelled" | "released"
  readonly endedAt: DateTime.Utc
  /** Absent when its handler never ran here. */
  readonly duration: Duration.Duration | undefined
  /** Without its data. */
  readonly error: TaskEvent.Failure | undefined
}

/**
 * @category models
 * @since 0.1.0
 */
export interface Snapshot {
  readonly startedAt: DateTime.Utc
  readonly counters: Counters
  readonly running: ReadonlyArray<Running>
  /** The last 100 that ended, latest first, with texts of at most 1,000 characters. */
  readonly recent: ReadonlyArray<Ended>
}

/**
 * What happened over the last hour, oldest first; times in which nothing happened are left out.
 *
 * @category models
 * @since 0.1.0
 */
export interface Series {
  /** The length of a bucket. */
  readonly bucketMs: number
  readonly buckets: ReadonlyArray<Internal.Bucket>
}

/**
 * @category models
 * @since 0.1.0
 */
export type EndedLastMinute = Internal.Ended

const capacity = 100
const maxText = 1000

// A part of a text would keep all of it in memory: this is a copy.
const short = (text: string) => text.length <= maxText ? text : Buffer.from(text.slice(0, maxText)).toString()

const shortOrNull = (text: string | null) => text === null ? null : short(text)

const remembered = (task: Task.Row): Task.Row => ({
  ...task,
  queue: short(task.queue),
  tag: shortOrNull(task.tag),
  userId: shortOrNull(task.userId),
  metadata: {}
})

const rememberedFailure = ({ kind, message, stack, tag }: TaskEvent.Failure): TaskEvent.Failure => ({
  kind,
  tag: short(tag),
  message: short(message),
  ...stack === undefined ? undefined : { stack: short(stack) }
})

/**
 * @category services
 * @since 0.1.0
 */
export class Stats extends Context.Service<Stats, {
  readonly snapshot: Effect.Effect<Snapshot>
  /** Counts and times over the last hour. */
  readonly series: Effect.Effect<Series>
  /** What ended within the last minute, per queue; queues of which nothing did are left out. */
  readonly endedLastMinute: Effect.Effect<ReadonlyMap<string, EndedLastMinute>>
  /** @internal */
  readonly claimed: (count: number) => void
  /**
   * `millis` is how long the task had been due when it started, and how long it ran when it ends.
   *
   * @internal
   */
  readonly record: (event: Lifecycle.Event, millis: number) => void
  /** @internal */
  readonly counters: Counters
  /** @internal */
  readonly tallies: Tally.Tallies
}>()("spindle/Stats") {
  static readonly layer: Layer.Layer<Stats> = Layer.effect(
    Stats,
    Effect.gen(function*() {
      const clock = yield* Clock.Clock
      const now = () => clock.currentTimeMillisUnsafe()
      const startedAt = DateTime.makeUnsafe(now())
      const counters = { claimed: 0, completed: 0, failed: 0, cancelled: 0, retried: 0, released: 0 }
      const series = new Internal.Series()
      const lastMinute = new Internal.LastMinute()
      const tallies = new Tally.Tallies()
      // By attempt, each of which has a row of its own: one that was lost may unwind beside its successor.
      const running = new Map<Task.Row, { readonly attempt: number; readonly since: number }>()
      const recent: Array<
        Omit<Ended, "endedAt" | "duration"> & { readonly at: number; readonly millis: number | undefined }
      > = []
      let next = 0

      const end = (task: Task.Row, status: Ended["status"], error: TaskEvent.Failure | undefined, ran: number) => {
        const at = now()
        const millis = running.delete(task) ? ran : undefined
        counters[status]++
        tallies.ended(task, status, millis)
        if (status !== "released") series.ended(at, status, millis)
        if (status !== "released" && status !== "retried") lastMinute.ended(at, task.queue, status)
        recent[next] = {
          task: remembered(task),
          status,
          error: error === undefined ? undefined : rememberedFailure(error),
          at,
          millis
        }
        next = (next + 1) % capacity
      }

      return Stats.of({
        snapshot: Effect.sync(() => ({
          startedAt,
          counters: { ...counters },
          running: [...running].map(([task, { attempt, since }]) => ({
            task,
            attempt,
            startedAt: DateTime.makeUnsafe(since)
          })),
          recent: [...recent.slice(next), ...recent.slice(0, next)].toReversed().map((
            { at, error, millis, status, task }
          ) => ({
            task,
            status,
            error,
            endedAt: DateTime.makeUnsafe(at),
            duration: millis === undefined ? undefined : Duration.millis(millis)
          }))
        })),
        series: Effect.sync(() => ({ bucketMs: series.bucketMillis, buckets: series.read(now()) })),
        endedLastMinute: Effect.sync(() => lastMinute.read(now())),
        counters,
        tallies,
        claimed: (count) => {
          counters.claimed += count
        },
        record: (event, millis) => {
          switch (event._tag) {
            case "Created":
              return
            case "Started": {
              const at = now()
              running.set(event.task, { attempt: event.attempt, since: at })
              series.started(at, millis)
              tallies.started(event.task, millis)
              return
            }
            case "Completed":
              return end(event.task, "completed", undefined, millis)
            case "Failed":
              return end(event.task, event.willRetry ? "retried" : "failed", event.error, millis)
            case "Cancelled":
              return end(event.task, "cancelled", undefined, millis)
            case "Released":
              return end(event.task, "released", undefined, millis)
          }
        }
      })
    })
  )
}

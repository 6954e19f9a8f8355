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
  readonly task: Task.Row
  readonly status: "completed" | "failed" | "retried" | "cancelled" | "released"
  readonly endedAt: DateTime.Utc
  /** Absent when its handler never ran here. */
  readonly duration: Duration.Duration | undefined
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
  /** The last 100 that ended, latest first. */
  readonly recent: ReadonlyArray<Ended>
}

const capacity = 100

/**
 * @category services
 * @since 0.1.0
 */
export class Stats extends Context.Service<Stats, {
  readonly snapshot: Effect.Effect<Snapshot>
  /** @internal */
  readonly claimed: (count: number) => void
  /** @internal */
  readonly record: (event: Lifecycle.Event) => void
}>()("spindle/Stats") {
  static readonly layer: Layer.Layer<Stats> = Layer.effect(
    Stats,
    Effect.gen(function*() {
      const clock = yield* Clock.Clock
      const now = () => clock.currentTimeMillisUnsafe()
      const startedAt = DateTime.makeUnsafe(now())
      const counters = { claimed: 0, completed: 0, failed: 0, cancelled: 0, retried: 0, released: 0 }
      const running = new Map<bigint, { readonly task: Task.Row; readonly attempt: number; readonly since: number }>()
      const recent: Array<
        Omit<Ended, "endedAt" | "duration"> & { readonly at: number; readonly millis: number | undefined }
      > = []
      let next = 0

      const end = (task: Task.Row, status: Ended["status"], error: TaskEvent.Failure | undefined) => {
        // A claim that was lost may unwind beside its successor.
        const own = running.get(task.id)
        const since = own?.task === task ? own.since : undefined
        if (since !== undefined) running.delete(task.id)
        counters[status]++
        recent[next] = { task, status, error, at: now(), millis: since === undefined ? undefined : now() - since }
        next = (next + 1) % capacity
      }

      return Stats.of({
        snapshot: Effect.sync(() => ({
          startedAt,
          counters: { ...counters },
          running: [...running.values()].map(({ attempt, since, task }) => ({
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
        claimed: (count) => {
          counters.claimed += count
        },
        record: (event) => {
          switch (event._tag) {
            case "Created":
              return
            case "Started":
              running.set(event.task.id, { task: event.task, attempt: event.attempt, since: now() })
              return
            case "Completed":
              return end(event.task, "completed", undefined)
            case "Failed":
              return end(event.task, event.willRetry ? "retried" : "failed", event.error)
            case "Cancelled":
              return end(event.task, "cancelled", undefined)
            case "Released":
              return end(event.task, "released", undefined)
          }
        }
      })
    })
  )
}

/**
 * One claim of a task in this process: from the claim's reply until its outcome is recorded.
 *
 * @since 0.1.0
 */
import type * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import type * as Fiber from "effect/Fiber"
import type * as Tracer from "effect/Tracer"
import type { ClaimedRow } from "../storage/Claim.ts"
import type { Held } from "../storage/TaskStore.ts"
import * as Times from "../storage/Times.ts"
import type * as Task from "../Task.ts"
import type { Held as HeldUp } from "./Backlog.ts"

/**
 * Why a handler was interrupted. Effect's interruption carries no reason, hence whoever interrupts leaves it here.
 *
 * - `cancelled`: the row says so
 * - `timeout`: the attempt took longer than it may
 * - `lost`: the lease could not be renewed, or somebody else holds the task
 * - `shutdown`: the worker stops
 *
 * @category models
 * @since 0.1.0
 */
export type Interruption = "cancelled" | "timeout" | "lost" | "shutdown"

/**
 * @category models
 * @since 0.1.0
 */
export class Attempt {
  row: ClaimedRow
  task: Task.Row
  readonly key: string
  /** When the claim was sent, in milliseconds of the monotonic clock. */
  readonly leasedAt: number
  /** Until when it waits for a slot, in milliseconds of the monotonic clock. */
  readonly waitsUntil: number
  /** The `seq` of the last event that was accepted. */
  seq = 0
  /** When the handler started, and when it must have ended, in milliseconds of the monotonic clock. */
  startedAt = 0
  deadline = Infinity
  fiber: Fiber.Fiber<void> | undefined = undefined
  /** Where a tracer is configured. */
  span: Tracer.Span | undefined = undefined
  interruption: Interruption | undefined = undefined
  /** When that was, in milliseconds of the monotonic clock. */
  interruptedAt = 0
  /** How long a cancelled handler and its finalizers took to end. */
  unwoundMillis: number | undefined = undefined
  /** How often something of it was tried again: its row was locked by somebody else, or the database refused it. */
  postponed = 0
  /** What waits behind something of it that the database refuses for now. */
  held: HeldUp | undefined = undefined
  /** Since when that is refused, in milliseconds of the monotonic clock; -Infinity once patience was lost. */
  refusedAt: number | undefined = undefined
  /** How many of its events were given up. Those that followed have moved up. */
  dropped = 0
  /** Whether its outcome was given up: its lease is not renewed, so that a sweep decides. */
  givenUp = false
  /** What is told once it is known what became of it. */
  afterwards: (() => void) | undefined = undefined
  /** Whether nothing more is accepted from it: its outcome is known, or the row is somebody else's. */
  closed = false
  /** Whether one of its events was not stored, as the row was not this claim's: `seq` is then of the last one before. */
  refused = false

  constructor(row: ClaimedRow, leasedAt: number, waitsUntil = Infinity) {
    this.row = row
    this.leasedAt = leasedAt
    this.waitsUntil = waitsUntil
    this.key = keyOf(row)
    this.task = {
      id: row.id as Task.TaskId,
      type: row.type,
      queue: row.queue,
      priority: row.priority,
      tag: row.tag,
      userId: row.userId,
      metadata: row.metadata,
      createdAt: toDateTime(row.createdAt),
      runAt: toDateTime(row.runAt)
    }
  }

  /** What the claim has left behind is here. */
  bring({ metadata, payload }: Pick<ClaimedRow, "payload" | "metadata">): void {
    this.row = { ...this.row, payload, metadata, later: false }
    this.task = { ...this.task, metadata }
  }

  /** Interrupts the handler, and tells whether this was what interrupted it. */
  interrupt(reason: Interruption, now: number): boolean {
    const first = this.interruption === undefined
    if (first) {
      this.interruption = reason
      this.interruptedAt = now
    }
    if (reason === "lost") {
      this.closed = true
      this.held?.passed.openUnsafe()
    }
    if (this.fiber !== undefined) interrupt(this.fiber)
    return first
  }
}

/**
 * What is uninterruptible is finished first. Effect would then throw away what it returned; here that counts, and what
 * goes on after it is interrupted where it waits next.
 */
const interrupt = (fiber: Fiber.Fiber<void>) => {
  const state = fiber as unknown as { readonly interruptible?: boolean }
  if (state.interruptible !== false) return fiber.interruptUnsafe()
  Object.defineProperty(fiber, "interruptible", {
    configurable: true,
    get: () => false,
    set: (value: boolean) => {
      Object.defineProperty(fiber, "interruptible", { configurable: true, enumerable: true, writable: true, value })
      queueMicrotask(() => fiber.interruptUnsafe())
    }
  })
}

const toDateTime = (millis: number) =>
  DateTime.makeUnsafe(
    Math.max(Times.earliest.epochMilliseconds, Math.min(millis, Times.latest.epochMilliseconds))
  )

/**
 * A worker can hold a task twice: a lost claim that still unwinds, and a newer one.
 *
 * @category getters
 * @since 0.1.0
 */
export const keyOf = ({ epoch, id }: Held): string => `${id}:${epoch}`

/**
 * A clock that nobody sets, in milliseconds.
 *
 * @category getters
 * @since 0.1.0
 */
export const monotonicMillis = (clock: Clock.Clock): number => Number(clock.monotonicTimeNanosUnsafe()) / 1e6

/**
 * For log lines about an attempt.
 *
 * @category getters
 * @since 0.1.0
 */
export const annotations = ({ row, span }: Attempt): Record<string, unknown> => ({
  taskId: String(row.id),
  taskType: row.type,
  attempt: row.attempts,
  ...(row.tag === null ? undefined : { tag: row.tag }),
  ...(span === undefined ? undefined : { traceId: span.traceId, spanId: span.spanId })
})

/**
 * What a journal has accepted and not yet written, in order, with the signals that its writer and its callers wait on.
 *
 * @since 0.1.0
 */
import * as Latch from "effect/Latch"
import type { EventEntry, OutcomeEntry } from "../storage/Write.ts"
import type { Attempt } from "./Attempt.ts"

/**
 * An event, or the outcome that ends an attempt.
 *
 * @category models
 * @since 0.1.0
 */
export type Item =
  | { readonly attempt: Attempt; readonly bytes: number; readonly event: EventEntry; readonly outcome?: undefined }
  | {
    readonly attempt: Attempt
    readonly bytes: number
    readonly event?: undefined
    readonly outcome: OutcomeEntry
    readonly settled: (verdict: Verdict, recorded: OutcomeEntry) => void
  }

/**
 * What became of an outcome.
 *
 * - `accepted`: recorded as it was
 * - `cancelled`: the task had been cancelled, and that is what was recorded
 * - `stale`: somebody else holds the task, or wrote its status, or it is gone; the outcome was not recorded
 *
 * @category models
 * @since 0.1.0
 */
export type Verdict = "accepted" | "cancelled" | "stale"

/**
 * What one statement takes, and what may wait before callers do. Larger statements are not faster, and a statement that
 * is refused is taken apart.
 *
 * @category constants
 * @since 0.1.0
 */
export const limits = {
  eventsPerWrite: 1000,
  outcomesPerWrite: 200,
  bytesPerWrite: 4 * 1024 * 1024,
  items: 10_000,
  bytes: 16 * 1024 * 1024
} as const

/**
 * @category models
 * @since 0.1.0
 */
export class Backlog {
  /** Open while something waits to be written. */
  readonly filled = Latch.makeUnsafe()
  /** Open while it is urgent. */
  readonly urgent = Latch.makeUnsafe()
  /** Open while events are accepted. */
  readonly room = Latch.makeUnsafe(true)
  private items: Array<Item> = []
  private bytes = 0
  private outcomes = 0

  /** What waits, in entries and in characters of JSON. */
  get size(): { readonly entries: number; readonly bytes: number } {
    return { entries: this.items.length, bytes: this.bytes }
  }

  /** Whether an outcome, or enough for a full statement, waits. */
  get isUrgent(): boolean {
    return this.outcomes > 0 || this.items.length >= limits.eventsPerWrite || this.bytes >= limits.bytesPerWrite
  }

  push(item: Item): void {
    this.items.push(item)
    this.bytes += item.bytes
    if (item.outcome !== undefined) this.outcomes++
    this.signal()
  }

  /** The next statement's worth: a prefix, because a task's events come before its outcome. */
  take(): ReadonlyArray<Item> {
    const settling = new Set<bigint>()
    let count = 0
    let bytes = 0
    for (const item of this.items) {
      const events = count - settling.size
      const full = item.outcome === undefined
        ? events === limits.eventsPerWrite
        : settling.size === limits.outcomesPerWrite || settling.has(item.outcome.taskId)
      if (full || (count > 0 && bytes + item.bytes > limits.bytesPerWrite)) break
      if (item.outcome !== undefined) settling.add(item.outcome.taskId)
      bytes += item.bytes
      count++
    }
    const batch = this.items.slice(0, count)
    this.items = this.items.slice(count)
    this.bytes -= bytes
    this.outcomes -= settling.size
    this.signal()
    return batch
  }

  private signal(): void {
    set(this.filled, this.items.length > 0)
    set(this.urgent, this.isUrgent)
    // Callers that wait are let in when half of it is free, not one by one.
    if (this.items.length >= limits.items || this.bytes >= limits.bytes) this.room.closeUnsafe()
    else if (this.items.length <= limits.items / 2 && this.bytes <= limits.bytes / 2) this.room.openUnsafe()
  }
}

const set = (latch: Latch.Latch, open: boolean) => open ? latch.openUnsafe() : latch.closeUnsafe()

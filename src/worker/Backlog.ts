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
  & {
    readonly attempt: Attempt
    readonly bytes: number
    /** What it was at first, if the database refused that. */
    readonly given?: Item | undefined
  }
  & ({
    readonly event: EventEntry
    readonly outcome?: undefined
    /** What else to try, if the database refuses this, too. */
    readonly others?: ReadonlyArray<EventEntry> | undefined
  } | {
    readonly event?: undefined
    readonly outcome: OutcomeEntry
    readonly others?: ReadonlyArray<OutcomeEntry> | undefined
    readonly settled: (verdict: Verdict, recorded: OutcomeEntry) => void
  })

/**
 * What waits of an attempt because something of it could not be written: nothing overtakes that.
 */
export interface Held {
  /** Opens when it goes on. */
  readonly passed: Latch.Latch
  readonly behind: Array<Item>
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
  /** What was refused and is to be tried again. */
  private again: Array<Item> = []
  private readonly held = new Set<Attempt>()
  private heldEntries = 0
  private heldBytes = 0

  /** What waits, in entries and in characters of JSON. */
  get size(): { readonly entries: number; readonly bytes: number } {
    return { entries: this.items.length + this.heldEntries, bytes: this.bytes + this.heldBytes }
  }

  /** Whether an outcome, something refused, or enough for a full statement waits. */
  get isUrgent(): boolean {
    return this.outcomes > 0 || this.again.length > 0 || this.items.length >= limits.eventsPerWrite ||
      this.bytes >= limits.bytesPerWrite
  }

  push(item: Item): void {
    this.items.push(item)
    this.bytes += item.bytes
    if (item.outcome !== undefined) this.outcomes++
    this.signal()
  }

  /** What was refused and has paused, as much as one statement takes. */
  takeAgain(): ReadonlyArray<Item> {
    if (this.again.length === 0) return []
    const { count } = prefix(this.again)
    const batch = this.again.slice(0, count)
    this.again = this.again.slice(count)
    this.signal()
    return batch
  }

  /** The next statement's worth: a prefix, because a task's events come before its outcome. */
  take(): ReadonlyArray<Item> {
    const { bytes, count, outcomes } = prefix(this.items)
    const batch = this.items.slice(0, count)
    this.items = this.items.slice(count)
    this.bytes -= bytes
    this.outcomes -= outcomes
    const free = this.free(batch)
    this.signal()
    return free
  }

  /** From now on what comes of an attempt waits. */
  hold(attempt: Attempt): void {
    if (attempt.held !== undefined) return
    attempt.held = { passed: Latch.makeUnsafe(), behind: [] }
    this.held.add(attempt)
  }

  /** Has what an attempt is held for tried again, before anything else. */
  retry(item: Item): void {
    this.again.push(item)
    this.signal()
  }

  /** What waited of an attempt is next. */
  release(attempt: Attempt): void {
    if (attempt.held === undefined) return
    const { behind, passed } = attempt.held
    attempt.held = undefined
    this.held.delete(attempt)
    this.items = [...behind, ...this.items]
    for (const { bytes, outcome } of behind) {
      this.heldEntries--
      this.heldBytes -= bytes
      this.bytes += bytes
      if (outcome !== undefined) this.outcomes++
    }
    this.signal()
    passed.openUnsafe()
  }

  /** Those of the items whose attempt is not held. The others wait, in their order. */
  free(items: ReadonlyArray<Item>): ReadonlyArray<Item> {
    return this.held.size === 0 ? items : items.filter((item) => {
      const { held } = item.attempt
      if (held === undefined) return true
      held.behind.push(item)
      this.heldEntries++
      this.heldBytes += item.bytes
      return false
    })
  }

  private signal(): void {
    set(this.filled, this.items.length > 0 || this.again.length > 0)
    set(this.urgent, this.isUrgent)
    const entries = this.items.length + this.heldEntries
    const bytes = this.bytes + this.heldBytes
    // Callers that wait are let in when half of it is free, not one by one.
    if (entries >= limits.items || bytes >= limits.bytes) this.room.closeUnsafe()
    else if (entries <= limits.items / 2 && bytes <= limits.bytes / 2) this.room.openUnsafe()
  }
}

const prefix = (items: ReadonlyArray<Item>) => {
  const settling = new Set<bigint>()
  let count = 0
  let bytes = 0
  for (const item of items) {
    const events = count - settling.size
    const full = item.outcome === undefined
      ? events === limits.eventsPerWrite
      : settling.size === limits.outcomesPerWrite || settling.has(item.outcome.taskId)
    if (full || (count > 0 && bytes + item.bytes > limits.bytesPerWrite)) break
    if (item.outcome !== undefined) settling.add(item.outcome.taskId)
    bytes += item.bytes
    count++
  }
  return { count, bytes, outcomes: settling.size }
}

const set = (latch: Latch.Latch, open: boolean) => open ? latch.openUnsafe() : latch.closeUnsafe()

/**
 * What a worker did over time, in memory that does not grow: a ring of buckets, and in each a few counts and two small
 * histograms.
 *
 * @since 0.1.0
 */
import * as DateTime from "effect/DateTime"

/**
 * @category models
 * @since 0.1.0
 */
export interface Bucket {
  /** Where it begins. */
  readonly at: DateTime.Utc
  readonly completed: number
  readonly failed: number
  readonly retried: number
  readonly cancelled: number
  /** From due to started, of the attempts started within it; null where there were none. */
  readonly waitP50Ms: number | null
  readonly waitP95Ms: number | null
  /** From started to ended, of the attempts ended within it. */
  readonly runP50Ms: number | null
  readonly runP95Ms: number | null
}

const statuses = ["completed", "failed", "retried", "cancelled"] as const

/**
 * @category models
 * @since 0.1.0
 */
export type Status = typeof statuses[number]

// Each bin is √2 times as wide as the one before: from 1 ms to more than 4 hours.
const bins = 48
const waits = statuses.length
const runs = waits + bins
const width = runs + bins

const binOf = (millis: number) => millis <= 1 ? 0 : Math.min(bins - 1, Math.ceil(2 * Math.log2(millis)))

const edgeOf = (bin: number) => bin < 0 ? 0 : 2 ** (bin / 2)

/**
 * @category models
 * @since 0.1.0
 */
export class Series {
  readonly bucketMillis: number
  private readonly capacity: number
  /** Which bucket, counted from 1970, is in each place. */
  private readonly numbers: Float64Array
  private readonly counts: Uint32Array

  constructor(bucketMillis = 5000, capacity = 720) {
    this.bucketMillis = bucketMillis
    this.capacity = capacity
    this.numbers = new Float64Array(capacity).fill(Number.NaN)
    this.counts = new Uint32Array(capacity * width)
  }

  started(now: number, waitMillis: number): void {
    this.counts[this.place(now) + waits + binOf(waitMillis)]!++
  }

  ended(now: number, status: Status, runMillis: number | undefined): void {
    const place = this.place(now)
    this.counts[place + statuses.indexOf(status)]!++
    if (runMillis !== undefined) this.counts[place + runs + binOf(runMillis)]!++
  }

  /** Oldest first; buckets in which nothing happened are left out. */
  read(now: number): ReadonlyArray<Bucket> {
    const last = Math.floor(now / this.bucketMillis)
    const buckets: Array<Bucket> = []
    for (let number = last - this.capacity + 1; number <= last; number++) {
      const slot = ((number % this.capacity) + this.capacity) % this.capacity
      if (this.numbers[slot] !== number) continue
      const start = slot * width
      const quantile = (first: number, q: number) => this.quantile(start + first, q)
      const [completed, failed, retried, cancelled] = this.counts.subarray(start, start + waits)
      buckets.push({
        at: DateTime.makeUnsafe(number * this.bucketMillis),
        completed: completed!,
        failed: failed!,
        retried: retried!,
        cancelled: cancelled!,
        waitP50Ms: quantile(waits, 0.5),
        waitP95Ms: quantile(waits, 0.95),
        runP50Ms: quantile(runs, 0.5),
        runP95Ms: quantile(runs, 0.95)
      })
    }
    return buckets
  }

  private place(now: number): number {
    const number = Math.floor(now / this.bucketMillis)
    const slot = ((number % this.capacity) + this.capacity) % this.capacity
    if (this.numbers[slot] !== number) {
      this.numbers[slot] = number
      this.counts.fill(0, slot * width, (slot + 1) * width)
    }
    return slot * width
  }

  private quantile(first: number, q: number): number | null {
    let total = 0
    for (let bin = 0; bin < bins; bin++) total += this.counts[first + bin]!
    if (total === 0) return null
    let below = 0
    for (let bin = 0; bin < bins; bin++) {
      const count = this.counts[first + bin]!
      if (count > 0 && below + count >= q * total) {
        const lower = edgeOf(bin - 1)
        const within = (q * total - below) / count
        return Math.round((lower + (edgeOf(bin) - lower) * within) * 10) / 10
      }
      below += count
    }
    return edgeOf(bins - 1)
  }
}

/**
 * What ended of a queue within the last minute.
 *
 * @category models
 * @since 0.1.0
 */
export interface Ended {
  readonly completed: number
  readonly failed: number
  readonly cancelled: number
}

const ends = ["completed", "failed", "cancelled"] as const
const seconds = 60
const maxQueues = 1000

interface Minute {
  /** The second that was counted last. */
  last: number
  /** The second in which something ended last. */
  used: number
  readonly counts: Uint32Array
}

/**
 * What ended within the last minute, per queue, for the 1,000 queues that were busy last.
 *
 * @category models
 * @since 0.1.0
 */
export class LastMinute {
  // Those that were busy last stand at the end.
  private readonly queues = new Map<string, Minute>()

  ended(now: number, queue: string, status: keyof Ended): void {
    const second = Math.floor(now / 1000)
    const minute = this.queues.get(queue) ?? this.add(queue, second)
    if (minute.used !== second) {
      minute.used = second
      this.queues.delete(queue)
      this.queues.set(queue, minute)
    }
    advance(minute, second)
    minute.counts[(second % seconds) * ends.length + ends.indexOf(status)]!++
  }

  read(now: number): ReadonlyMap<string, Ended> {
    const ended = new Map<string, Ended>()
    for (const [queue, minute] of this.queues) {
      advance(minute, Math.floor(now / 1000))
      const totals = { completed: 0, failed: 0, cancelled: 0 }
      minute.counts.forEach((count, i) => totals[ends[i % ends.length]!] += count)
      if (minute.counts.every((count) => count === 0)) this.queues.delete(queue)
      else ended.set(queue, totals)
    }
    return ended
  }

  private add(queue: string, second: number): Minute {
    if (this.queues.size >= maxQueues) {
      for (const idlest of this.queues.keys()) {
        this.queues.delete(idlest)
        break
      }
    }
    const minute = { last: second, used: second, counts: new Uint32Array(seconds * ends.length) }
    this.queues.set(queue, minute)
    return minute
  }
}

const advance = (minute: Minute, second: number) => {
  if (minute.last === second) return
  // A clock that was set back leaves nothing to compare with.
  const passed = second < minute.last ? seconds : Math.min(seconds, second - minute.last)
  for (let i = 0; i < passed; i++) {
    const start = ((second - i) % seconds) * ends.length
    minute.counts.fill(0, start, start + ends.length)
  }
  minute.last = second
}

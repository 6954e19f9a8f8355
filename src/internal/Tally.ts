/**
 * What metrics tell of tasks by their type and queue.
 *
 * Types are those of a worker's handlers. Queues are whatever rows say: the first 50 are told apart, the rest is `other`.
 *
 * @since 0.1.0
 */
import type * as Task from "../Task.ts"
import * as Histogram from "./Histogram.ts"

const maxQueues = 50

/**
 * @category models
 * @since 0.1.0
 */
export type Outcome = "completed" | "failed" | "retried" | "cancelled" | "released"

/**
 * @category models
 * @since 0.1.0
 */
export class Tally {
  readonly type: string
  readonly queue: string
  readonly ended: Record<Outcome, number> = { completed: 0, failed: 0, retried: 0, cancelled: 0, released: 0 }
  /** Of the whole queue. */
  readonly waits: Histogram.Histogram
  /** Of the whole type. */
  readonly runs: Histogram.Histogram

  constructor(type: string, queue: string, waits: Histogram.Histogram, runs: Histogram.Histogram) {
    this.type = type
    this.queue = queue
    this.waits = waits
    this.runs = runs
  }
}

/**
 * @category models
 * @since 0.1.0
 */
export class Tallies {
  /** Told of each that is new, and when it is set, of those that are there. */
  private listener: ((tally: Tally) => void) | undefined = undefined
  private readonly byType = new Map<
    string,
    { readonly runs: Histogram.Histogram; readonly byQueue: Map<string, Tally> }
  >()
  private readonly waits = new Map<string, Histogram.Histogram>()
  // Tasks of a claim mostly are of one kind.
  private last: Tally | undefined = undefined
  private lastQueue = ""

  started(task: Task.Row, waitMillis: number): void {
    this.of(task).waits.observe(waitMillis / 1000)
  }

  ended(task: Task.Row, outcome: Outcome, runMillis: number | undefined): void {
    const tally = this.of(task)
    tally.ended[outcome]++
    if (runMillis !== undefined) tally.runs.observe(runMillis / 1000)
  }

  listen(listener: (tally: Tally) => void): void {
    this.listener = listener
    for (const { byQueue } of this.byType.values()) for (const tally of byQueue.values()) listener(tally)
  }

  private of({ queue, type }: Task.Row): Tally {
    if (this.last !== undefined && this.last.type === type && this.lastQueue === queue) return this.last
    const label = this.waits.has(queue) || this.waits.size < maxQueues ? queue : "other"
    const waits = getOrAdd(this.waits, label, () => new Histogram.Histogram(Histogram.seconds))
    const { byQueue, runs } = getOrAdd(this.byType, type, () => ({
      runs: new Histogram.Histogram(Histogram.seconds),
      byQueue: new Map()
    }))
    this.lastQueue = queue
    return this.last = getOrAdd(byQueue, label, () => {
      const tally = new Tally(type, label, waits, runs)
      this.listener?.(tally)
      return tally
    })
  }
}

const getOrAdd = <A>(map: Map<string, A>, key: string, make: () => A): A => {
  const found = map.get(key)
  if (found !== undefined) return found
  const made = make()
  map.set(key, made)
  return made
}

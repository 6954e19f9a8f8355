/**
 * What a worker remembers of queues and priorities that are too many to look at all of them in every claim: which have
 * something due, and when the others will. What is not remembered is found again by a walk around all of them.
 */
import type { Level } from "../storage/Claim.ts"
import type { Found, Position } from "../storage/Places.ts"

// Of each of the largest, some hundred bytes. Those that are due soonest are kept.
const mostKnown = 200_000
// So many levels of one queue one claim is given, from the highest priority down.
const mostOfQueue = 20
/** How many levels one look takes. */
export const perLook = 1000

interface Known extends Level {
  /** In milliseconds of the monotonic clock. */
  dueAt: number
}

/** What to claim: levels, queue by queue in turn, each with what may be taken of its queue. */
export interface Share extends Level {
  readonly share: number
}

export class KnownPlaces {
  private readonly levels = new Map<string, Known>()
  /** The levels that are due, by queue; a queue that was served goes to the end. */
  private readonly due = new Map<string, Set<Known>>()
  private readonly later = new Heap()
  /** Where the walk around all places stands, and how many it has met. */
  position: Position | undefined = undefined
  private met = 0
  /** Whether the walk has been around once since something may have been missed. */
  complete = false
  /** How many levels the last walk met. */
  size = Infinity

  /** How many queues have something due. */
  get ready(): number {
    return this.due.size
  }

  /** When the next level is due. */
  nextDueAt(): number {
    return this.later.first()
  }

  /** Something may have been stored unseen: goes around again without a pause. */
  startOver(): void {
    this.complete = false
    this.position = undefined
    this.met = 0
  }

  found(levels: ReadonlyArray<Found>, now: number): void {
    for (const { priority, queue, type, waitMillis } of levels) {
      this.set({ type, queue, priority }, now + Math.max(0, waitMillis), now)
    }
  }

  /** The next part of the walk. */
  walked(levels: ReadonlyArray<Found & Position>, now: number): void {
    this.found(levels, now)
    this.met += levels.length
    this.position = levels.at(-1)
    if (levels.length === perLook) return
    this.complete = true
    this.size = this.met
    this.position = undefined
    this.met = 0
  }

  /**
   * What to ask for next: as many queues as tasks are wanted, an equal share of each. A queue without room is left out, and
   * so are types that `serves` refuses.
   */
  next(
    wanted: number,
    now: number,
    room: (queue: string) => number,
    serves: (type: string) => boolean
  ): ReadonlyArray<Share> {
    this.wake(now)
    const queues: Array<readonly [string, ReadonlyArray<Known>]> = []
    for (const [queue, levels] of this.due) {
      if (queues.length >= wanted) break
      if (room(queue) <= 0) continue
      const served = [...levels].filter(({ type }) => serves(type)).toSorted((a, b) => b.priority - a.priority)
      if (served.length > 0) queues.push([queue, served.slice(0, mostOfQueue)])
    }
    const share = Math.ceil(wanted / queues.length)
    return queues.flatMap(([queue, levels]) =>
      levels.map(({ priority, type }) => ({ type, queue, priority, share: Math.min(share, room(queue)) }))
    )
  }

  /**
   * What came of it: when the first tasks of each level are due, those that were taken included. A level of which nothing
   * could be taken, although it has something due and there was room (`retryAt`), is somebody else's until then.
   */
  took(
    asked: ReadonlyArray<Share>,
    tasks: ReadonlyArray<Level>,
    waits: ReadonlyArray<ReadonlyArray<number>>,
    now: number,
    retryAt: number | undefined
  ): void {
    const taken = new Map<string, number>()
    for (const task of tasks) taken.set(keyOf(task), (taken.get(keyOf(task)) ?? 0) + 1)
    const full = new Set<string>()
    for (const { queue } of tasks) full.add(queue)
    asked.forEach((level, index) => {
      const count = taken.get(keyOf(level)) ?? 0
      const wait = waits[index]?.[count]
      if (wait === undefined) this.forget(level)
      // One of a lower priority had no turn, because of those above it.
      else if (retryAt !== undefined && count === 0 && wait <= 0 && !full.has(level.queue)) {
        this.set(level, retryAt, now)
      } else this.set(level, now + Math.max(0, wait), now)
    })
    for (const { queue } of asked) {
      const levels = this.due.get(queue)
      if (levels === undefined) continue
      this.due.delete(queue)
      this.due.set(queue, levels)
    }
  }

  private wake(now: number): void {
    for (let level = this.later.take(now); level !== undefined; level = this.later.take(now)) this.enter(level)
  }

  private enter(level: Known): void {
    const levels = this.due.get(level.queue)
    if (levels === undefined) this.due.set(level.queue, new Set([level]))
    else levels.add(level)
  }

  private leave(level: Known): void {
    const levels = this.due.get(level.queue)
    if (levels?.delete(level) && levels.size === 0) this.due.delete(level.queue)
  }

  // The time it takes to hear of it makes each look find another moment: one that is a little early will do.
  private set(place: Level, dueAt: number, now: number): void {
    if (dueAt === Infinity) return this.forget(place)
    const key = keyOf(place)
    let level = this.levels.get(key)
    if (level === undefined) {
      if (dueAt > now && this.levels.size >= mostKnown) return
      level = { type: place.type, queue: place.queue, priority: place.priority, dueAt }
      this.levels.set(key, level)
    } else if (level.dueAt > now && level.dueAt <= dueAt + 5 && dueAt - level.dueAt < 1000) return
    level.dueAt = dueAt
    if (dueAt <= now) return this.enter(level)
    this.leave(level)
    this.later.add(level)
  }

  private forget(place: Level): void {
    const level = this.levels.get(keyOf(place))
    if (level === undefined) return
    this.levels.delete(keyOf(place))
    level.dueAt = Infinity
    this.leave(level)
  }
}

const keyOf = ({ priority, queue, type }: Level) => `${priority} ${type.length} ${type}${queue}`

/** Levels by when they are due. An entry counts only while the level says the same. */
class Heap {
  private readonly entries: Array<{ readonly level: Known; readonly dueAt: number }> = []

  add(level: Known): void {
    const { entries } = this
    let at = entries.push({ level, dueAt: level.dueAt }) - 1
    for (let parent = (at - 1) >> 1; at > 0 && entries[parent]!.dueAt > entries[at]!.dueAt; parent = (at - 1) >> 1) {
      this.swap(at, parent)
      at = parent
    }
  }

  first(): number {
    while (this.entries.length > 0 && this.entries[0]!.level.dueAt !== this.entries[0]!.dueAt) this.remove()
    return this.entries[0]?.dueAt ?? Infinity
  }

  take(now: number): Known | undefined {
    if (this.first() > now) return undefined
    const { level } = this.entries[0]!
    this.remove()
    return level
  }

  private remove(): void {
    const { entries } = this
    const last = entries.pop()!
    if (entries.length === 0) return
    entries[0] = last
    for (let at = 0;;) {
      const left = 2 * at + 1
      if (left >= entries.length) return
      const child = left + 1 < entries.length && entries[left + 1]!.dueAt < entries[left]!.dueAt ? left + 1 : left
      if (entries[at]!.dueAt <= entries[child]!.dueAt) return
      this.swap(at, child)
      at = child
    }
  }

  private swap(a: number, b: number): void {
    const entry = this.entries[a]!
    this.entries[a] = this.entries[b]!
    this.entries[b] = entry
  }
}

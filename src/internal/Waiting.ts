/** Why a queued task does not run: what its row and a worker's settings say about it, in one place for all who tell it. */
import * as Duration from "effect/Duration"
import * as Schema from "effect/Schema"

/** What is judged. */
export interface Row {
  readonly status: string
  readonly type: string
  readonly queue: string
  /** In milliseconds since 1970. */
  readonly runAt: number
  /** The task of the same type and unique key that a worker still holds, where somebody has looked. */
  readonly heldKey?: bigint | null | undefined
}

/** What a worker takes. */
export interface Serving {
  /** Whether it has a handler. */
  readonly handles: (type: string) => boolean
  /** Whether `WORKER_TASK_TYPES` lets it take the type. */
  readonly takes: (type: string) => boolean
  /** The queues it serves; undefined for all. */
  readonly queues: { readonly has: (queue: string) => boolean } | undefined
  /** Why it has set the task aside, if it has. */
  readonly setAside?: string | undefined
  /** How many tasks it runs, where it has no room for more. */
  readonly full?: number | undefined
}

/**
 * - `Later`: it is not due
 * - `Unhandled`, `Excluded`, `OtherQueue`: the worker that was asked has no handler for the type, is told to leave the type
 *   alone, or serves other queues; others may take it
 * - `HeldBack`: that worker has set it aside, as the database refuses its row
 * - `SameKey`: a cancelled task with its unique key is still unwinding
 * - `Full`: that worker runs as many tasks as it may
 * - `Unclaimed`: none of these, or no worker could be asked; it is due and nobody has taken it
 */
export const Reason = Schema.TaggedUnion({
  Later: { inMs: Schema.Finite },
  Unhandled: { type: Schema.String },
  Excluded: { type: Schema.String },
  OtherQueue: { queue: Schema.String },
  HeldBack: { problem: Schema.String },
  SameKey: { id: Schema.String },
  Full: { running: Schema.Int },
  Unclaimed: { type: Schema.String, forMs: Schema.Finite }
})
export type Reason = typeof Reason.Type

/** A task that has been due for less than this is about to be taken, unless something else is known. */
export const patienceMillis = 5000

/**
 * What stands in its way, the most lasting first; empty for a task that is about to run, or does not wait. `now` is the
 * database's, `serving` a worker's, or undefined where none can be asked.
 */
export const reasons = (row: Row, now: number, serving: Serving | undefined): ReadonlyArray<Reason> => {
  if (row.status !== "queued") return []
  const { heldKey, queue, runAt, type } = row
  const found: Array<Reason> = []
  if (serving !== undefined) {
    if (!serving.handles(type)) found.push({ _tag: "Unhandled", type })
    else if (!serving.takes(type)) found.push({ _tag: "Excluded", type })
    if (serving.queues?.has(queue) === false) found.push({ _tag: "OtherQueue", queue })
    if (serving.setAside !== undefined) found.push({ _tag: "HeldBack", problem: serving.setAside })
  }
  if (runAt > now) return [...found, { _tag: "Later", inMs: runAt - now }]
  if (heldKey !== undefined && heldKey !== null) found.push({ _tag: "SameKey", id: String(heldKey) })
  if (found.length > 0) return found
  if (serving?.full !== undefined) return [{ _tag: "Full", running: serving.full }]
  return now - runAt < patienceMillis ? [] : [{ _tag: "Unclaimed", type, forMs: now - runAt }]
}

/** A task that is due so much later never is: `infinity` is read as the year 9999. */
export const neverMillis = Duration.toMillis(Duration.days(365_000))

/** In the few words that a line of a list has room for. */
export const brief: (reason: Reason) => string = Reason.match({
  Later: () => "not due",
  Unhandled: () => "no worker here handles it",
  Excluded: () => "its type is left alone here",
  OtherQueue: () => "its queue is left alone here",
  HeldBack: () => "set aside: the database refuses it",
  SameKey: ({ id }) => `behind task ${id}: its unique key`,
  Full: () => "the worker here is busy",
  Unclaimed: ({ forMs }) => `not taken for ${span(forMs)}`
})

/** A sentence without its full stop. */
export const words: (reason: Reason) => string = Reason.match({
  Later: ({ inMs }) => inMs >= neverMillis ? "It never becomes due" : `It is due in ${span(inMs)}`,
  Unhandled: ({ type }) => `No worker of this process handles the type ${type}`,
  Excluded: ({ type }) =>
    `The worker of this process leaves the type ${type} alone: WORKER_TASK_TYPES does not name it`,
  OtherQueue: ({ queue }) =>
    `The worker of this process leaves the queue ${queue} alone: WORKER_QUEUES does not name it`,
  HeldBack: ({ problem }) => `The worker of this process has set it aside: ${problem}`,
  SameKey: ({ id }) => `Task ${id}, which has the same unique key, was cancelled and is still stopping`,
  Full: ({ running }) => `The worker of this process is busy with ${running} other ${running === 1 ? "task" : "tasks"}`,
  Unclaimed: ({ forMs, type }) =>
    `It has been due for ${span(forMs)} and no worker has taken it: does one run that handles the type ${type}?`
})

const span = (millis: number) => Duration.format(Duration.seconds(Math.max(1, Math.round(millis / 1000))))

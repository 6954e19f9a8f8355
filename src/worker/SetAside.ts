/**
 * How one row that the database cannot change or read does not stop all others: a batch that is refused is halved until
 * the row is alone, which is then left out with growing pauses.
 */
import type * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import { scope, type StorageError } from "../storage/StorageError.ts"
import { monotonicMillis } from "./Attempt.ts"
import type { Problems } from "./Problems.ts"

const firstPauseMillis = 5000
const lastPauseMillis = 300_000

interface Entry {
  pauseMillis: number
  /** In milliseconds of the monotonic clock. */
  until: number
}

/** Rows that are left out of one statement for now. Health tells of each until the statement takes it again. */
export class SetAside {
  private readonly clock: Clock.Clock
  private readonly problems: Problems["Service"]
  /** What cannot be done, in words that follow "cannot", such as "be claimed". */
  private readonly what: string
  private readonly entries = new Map<bigint, Entry>()

  constructor(clock: Clock.Clock, problems: Problems["Service"], what: string) {
    this.clock = clock
    this.problems = problems
    this.what = what
  }

  /** What to leave out now. */
  ids(): ReadonlyArray<bigint> {
    if (this.entries.size === 0) return []
    const now = monotonicMillis(this.clock)
    return [...this.entries].filter(([, { until }]) => until > now).map(([id]) => id)
  }

  /** All that are left out, or would be if their pause were not over. */
  all(): ReadonlyArray<bigint> {
    return this.entries.size === 0 ? [] : [...this.entries.keys()]
  }

  /** What may be tried again, by itself. */
  over(): ReadonlyArray<bigint> {
    if (this.entries.size === 0) return []
    const now = monotonicMillis(this.clock)
    return [...this.entries].filter(([, { until }]) => until <= now).map(([id]) => id)
  }

  /** It was taken, or is gone. */
  resolve(id: bigint): void {
    this.entries.delete(id)
    this.problems.resolve(this.key(id))
  }

  /** The database refused the row. */
  readonly add = (id: bigint, error: StorageError): Effect.Effect<void> =>
    Effect.suspend(() => {
      const known = this.entries.get(id)
      const pauseMillis = known === undefined ? firstPauseMillis : Math.min(known.pauseMillis * 2, lastPauseMillis)
      this.entries.set(id, { pauseMillis, until: monotonicMillis(this.clock) + pauseMillis })
      this.problems.report(this.key(id), `task ${id} cannot ${this.what}: ${error.message}`)
      return known === undefined
        ? Effect.logError(`a task cannot ${this.what} and is set aside`, error.message).pipe(
          Effect.annotateLogs({ taskId: String(id) })
        )
        : Effect.void
    })

  /** A statement that left out `ids` alone was not refused: the others of them are well, or gone. */
  passed(): void {
    if (this.entries.size === 0) return
    const now = monotonicMillis(this.clock)
    for (const [id, { until }] of this.entries) {
      if (until > now) continue
      this.resolve(id)
    }
  }

  private key(id: bigint): string {
    return `${this.what} ${id}`
  }
}

/**
 * Runs a statement over all of `held`; where it is refused, over each half by itself, until what is refused is alone.
 * Transient errors are the caller's, and so is what any row would be refused for.
 */
export const inHalves = <A, H extends bigint | { readonly id: bigint }>(
  held: ReadonlyArray<H>,
  run: (held: ReadonlyArray<H>) => Effect.Effect<A, StorageError>,
  refused: (id: bigint, error: StorageError) => Effect.Effect<void, StorageError>
): Effect.Effect<ReadonlyArray<A>, StorageError> =>
  held.length === 0 ? Effect.succeed([]) : run(held).pipe(
    Effect.map((answer): ReadonlyArray<A> => [answer]),
    Effect.catchIf(isOfRows, (error) => {
      if (held.length === 1) {
        const [row] = held
        return Effect.as(refused(typeof row === "object" ? row.id : row!, error), [])
      }
      const middle = held.length >> 1
      return Effect.map(
        Effect.all([inHalves(held.slice(0, middle), run, refused), inHalves(held.slice(middle), run, refused)]),
        ([first, second]) => [...first, ...second]
      )
    })
  )

/** Whether a statement may be refused because of one of its rows. */
export const isOfRows = (error: StorageError): boolean => !error.transient && scope(error) !== "statement"

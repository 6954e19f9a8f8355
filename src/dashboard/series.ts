/** The last minutes of this worker as columns for charts. */
import type { Series } from "../server/Views.ts"

export interface Columns {
  /** Where each bucket begins, in seconds. */
  readonly at: Array<number>
  readonly completed: Array<number>
  readonly failed: Array<number>
  readonly retried: Array<number>
  readonly cancelled: Array<number>
  readonly waitP50: Array<number | null>
  readonly waitP95: Array<number | null>
  readonly runP50: Array<number | null>
  readonly runP95: Array<number | null>
  readonly bucketMs: number
}

const most = 90

/**
 * Buckets from `now - rangeMs` to now: those without a sample are there too, and neighbours are joined until there are
 * at most ninety. A joined latency is the largest of its parts.
 */
export const columns = (series: Series, rangeMs: number, now: number): Columns => {
  const joined = Math.max(1, Math.ceil(rangeMs / series.bucketMs / most))
  const bucketMs = series.bucketMs * joined
  const last = Math.floor(now / bucketMs)
  const first = last - Math.ceil(rangeMs / bucketMs) + 1
  const length = last - first + 1
  const zeros = () => Array.from({ length }, () => 0)
  const nulls = () => Array.from<unknown, number | null>({ length }, () => null)
  const result = {
    at: Array.from({ length }, (_, index) => (first + index) * bucketMs / 1000),
    completed: zeros(),
    failed: zeros(),
    retried: zeros(),
    cancelled: zeros(),
    waitP50: nulls(),
    waitP95: nulls(),
    runP50: nulls(),
    runP95: nulls(),
    bucketMs
  }
  for (const bucket of series.buckets) {
    const index = Math.floor(bucket.at.epochMilliseconds / bucketMs) - first
    if (index < 0 || index >= length) continue
    for (const count of ["completed", "failed", "retried", "cancelled"] as const) result[count][index]! += bucket[count]
    for (const latency of ["waitP50", "waitP95", "runP50", "runP95"] as const) {
      const value = bucket[`${latency}Ms`]
      if (value !== null) result[latency][index] = Math.max(value, result[latency][index] ?? 0)
    }
  }
  return result
}

/** Where a value has no neighbour: no line is drawn to it. */
export const lonely = (values: ArrayLike<number | null | undefined>): Array<number> =>
  Array.from(values).flatMap((value, index) =>
    value != null && values[index - 1] == null && values[index + 1] == null ? [index] : []
  )

/** Each column on top of those before it. */
export const stacked = (columns: ReadonlyArray<ReadonlyArray<number>>): Array<Array<number>> => {
  const sums: Array<Array<number>> = []
  for (const column of columns) sums.push(column.map((value, index) => value + (sums.at(-1)?.[index] ?? 0)))
  return sums
}

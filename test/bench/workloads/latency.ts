/**
 * From a commit in this process to what it causes in the worker's handler: what the pickup and the cancel have in common.
 *
 * Both processes read the machine's monotonic clock. The commit counts from the moment its acknowledgement is back.
 */
import type { Goal } from "../goals.ts"
import type { Mark } from "../protocol.ts"
import { type Column, quantile, type Series, significant } from "../report.ts"

/** When a statement was sent, and when its commit was acknowledged. */
export interface Sent {
  readonly task: string
  readonly called: number
  readonly committed: number
}

/** The quantiles of one round, in milliseconds. */
export interface Latency {
  readonly p50: number | undefined
  readonly p95: number | undefined
  readonly p99: number | undefined
  readonly callP50: number | undefined
  readonly callP99: number | undefined
  /** The share of what was sent that the handlers saw. */
  readonly seen: number
}

export const latency = (sent: ReadonlyArray<Sent>, marks: ReadonlyArray<Mark>): Latency => {
  const at = new Map(marks)
  const since = (key: "called" | "committed"): Series =>
    sent.map((one) => {
      const seen = at.get(one.task)
      return seen === undefined ? undefined : seen - one[key]
    })
  const [calls, commits] = [since("called"), since("committed")]
  return {
    p50: quantile(commits, 0.5),
    p95: quantile(commits, 0.95),
    p99: quantile(commits, 0.99),
    callP50: quantile(calls, 0.5),
    callP99: quantile(calls, 0.99),
    seen: commits.filter((value) => value !== undefined).length / sent.length
  }
}

/** The columns of `cells`, with a goal for the 99th percentile if it has one of its own. */
export const columns = (tail?: Goal): ReadonlyArray<Column> => [
  { title: "from commit p50 ms", format: significant },
  { title: "p95 ms", format: significant },
  { title: "p99 ms", format: significant, goal: tail },
  { title: "from call p50 ms", format: significant },
  { title: "from call p99 ms", format: significant },
  { title: "seen", format: (value) => `${significant(value * 100)} %` }
]

export const cells = (rounds: ReadonlyArray<Latency>): ReadonlyArray<Series> => [
  rounds.map(({ p50 }) => p50),
  rounds.map(({ p95 }) => p95),
  rounds.map(({ p99 }) => p99),
  rounds.map(({ callP50 }) => callP50),
  rounds.map(({ callP99 }) => callP99),
  rounds.map(({ seen }) => seen)
]

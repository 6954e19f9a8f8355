/**
 * Counts of values between fixed boundaries, as arrays that a few increments keep.
 *
 * @since 0.1.0
 */
import type * as Metric from "effect/Metric"

/**
 * For times of statements and waits, in seconds.
 *
 * @category constants
 * @since 0.1.0
 */
export const seconds: ReadonlyArray<number> = [
  0.001,
  0.0025,
  0.005,
  0.01,
  0.025,
  0.05,
  0.1,
  0.25,
  0.5,
  1,
  2.5,
  5,
  10,
  30,
  60,
  300,
  1800
]

/**
 * For how much goes into one statement.
 *
 * @category constants
 * @since 0.1.0
 */
export const sizes: ReadonlyArray<number> = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]

/**
 * @category models
 * @since 0.1.0
 */
export class Histogram {
  private readonly boundaries: ReadonlyArray<number>
  private readonly counts: Float64Array
  private count = 0
  private sum = 0
  private min = Infinity
  private max = -Infinity

  constructor(boundaries: ReadonlyArray<number>) {
    this.boundaries = boundaries
    this.counts = new Float64Array(boundaries.length)
  }

  observe(value: number): void {
    this.count++
    this.sum += value
    if (value < this.min) this.min = value
    if (value > this.max) this.max = value
    for (let i = 0; i < this.boundaries.length; i++) {
      if (value <= this.boundaries[i]!) {
        this.counts[i]!++
        return
      }
    }
  }

  get state(): Metric.HistogramState {
    let below = 0
    return {
      buckets: this.boundaries.map((boundary, i) => [boundary, below += this.counts[i]!]),
      count: this.count,
      sum: this.sum,
      min: this.count === 0 ? 0 : this.min,
      max: this.count === 0 ? 0 : this.max
    }
  }
}

import { assert, describe, it } from "@effect/vitest"
import { DateTime } from "effect"
import * as Series from "../../src/dashboard/series.ts"

const bucket = (at: number, completed: number, runP95Ms: number | null = null) => ({
  at: DateTime.makeUnsafe(at),
  completed,
  failed: 1,
  retried: 0,
  cancelled: 0,
  waitP50Ms: null,
  waitP95Ms: null,
  runP50Ms: null,
  runP95Ms
})

describe("the columns of a chart", () => {
  it("have a place for every bucket of the range, also where nothing happened", () => {
    const columns = Series.columns({ bucketMs: 5000, buckets: [bucket(40_000, 3, 7)] }, 20_000, 52_000)
    assert.deepStrictEqual(columns.at, [35, 40, 45, 50])
    assert.deepStrictEqual(columns.completed, [0, 3, 0, 0])
    assert.deepStrictEqual(columns.failed, [0, 1, 0, 0])
    assert.deepStrictEqual(columns.runP95, [null, 7, null, null])
  })

  it("tell where no line would be drawn to a value", () => {
    assert.deepStrictEqual(Series.lonely([3, null, 4, 5, null, 0, null, null, 7]), [0, 5, 8])
    assert.deepStrictEqual(Series.lonely([null, 1, 2]), [])
  })

  it("leave out what is older than the range, or later than now", () => {
    const columns = Series.columns({ bucketMs: 5000, buckets: [bucket(30_000, 3), bucket(55_000, 4)] }, 20_000, 52_000)
    assert.deepStrictEqual(columns.completed, [0, 0, 0, 0])
  })

  it("join neighbours until there are ninety at most: counts add up, the slowest latency stays", () => {
    const hour = 3_600_000
    const columns = Series.columns(
      { bucketMs: 5000, buckets: [bucket(hour - 40_000, 2, 9), bucket(hour - 35_000, 3, 4)] },
      hour,
      hour
    )
    assert.strictEqual(columns.bucketMs, 40_000)
    assert.isAtMost(columns.at.length, 90)
    assert.strictEqual(columns.completed.reduce((sum, value) => sum + value), 5)
    assert.deepStrictEqual(columns.runP95.filter((value) => value !== null), [9])
  })

  it("are stacked one on the other", () => {
    assert.deepStrictEqual(Series.stacked([[1, 2], [10, 20], [100, 200]]), [[1, 2], [11, 22], [111, 222]])
    assert.deepStrictEqual(Series.stacked([]), [])
  })
})

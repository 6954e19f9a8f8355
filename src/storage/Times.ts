/**
 * Points in time as they leave the database: of the years 1 to 9999, which every reader can write and read back. A
 * `timestamptz` goes beyond both ends, and has `infinity`.
 */
import * as DateTime from "effect/DateTime"

/** What stands for everything before it. */
export const earliest = DateTime.makeUnsafe("0001-01-01T00:00:00Z")

/** What stands for everything after it. */
export const latest = DateTime.makeUnsafe("9999-12-31T23:59:59.999Z")

/** The value of an expression within those bounds, in SQL. */
export const bounded = (expression: string): string =>
  `case when ${expression} is not null
            then greatest(least(${expression}, '${DateTime.formatIso(latest)}'), '${DateTime.formatIso(earliest)}') end`

/** A column within those bounds, under its own name; `t.run_at` is `run_at`. */
export const column = (name: string): string => `${bounded(name)} as ${name.slice(name.indexOf(".") + 1)}`

/**
 * Figures to Markdown: every cell is the median over the rounds, with the smallest and the largest.
 */
import { existsSync, readFileSync, writeFileSync } from "node:fs"
import { aimed, due, type Goal, verdict } from "./goals.ts"

/** The values of one figure, one a round; `undefined` where it cannot be measured. */
export type Series = ReadonlyArray<number | undefined>

export interface Column {
  readonly title: string
  readonly format: (value: number) => string
  /** The goal of the product's own rows. */
  readonly goal?: Goal | undefined
}

export interface Row {
  readonly label: string
  /** Whether the goals are meant for it. */
  readonly judged: boolean
  readonly cells: ReadonlyArray<Series>
}

/** What one workload found. */
export interface Section {
  readonly title: string
  readonly text: string
  readonly columns: ReadonlyArray<Column>
  readonly rows: ReadonlyArray<Row>
  /** Cores that foreign programs took, one value a run. */
  readonly others: Series
}

const numbers = (series: Series) => series.filter((value) => value !== undefined)

export const median = (series: Series): number | undefined => quantile(series, 0.5)

/** The value below which the given share of the values lies. */
export const quantile = (series: Series, share: number): number | undefined => {
  const sorted = numbers(series).toSorted((a, b) => a - b)
  const position = (sorted.length - 1) * share
  const low = sorted[Math.floor(position)]
  const high = sorted[Math.ceil(position)]
  return low === undefined || high === undefined ? undefined : low + (high - low) * (position - Math.floor(position))
}

/** Divides round by round. */
export const ratios = (of: Series, by: Series): Series =>
  of.map((value, round) => {
    const divisor = by[round]
    return value === undefined || divisor === undefined ? undefined : value / divisor
  })

export const whole = (value: number): string => Math.round(value).toLocaleString("en")

export const significant = (value: number): string =>
  value >= 100 ? whole(value) : value === 0 ? "0" : String(Number(value.toPrecision(value < 0.1 ? 2 : 3)))

export const times = (value: number): string => `${significant(value)}×`

const cell = (series: Series, format: (value: number) => string) => {
  const values = numbers(series)
  const middle = median(values)
  if (middle === undefined) return "n/a"
  const [low, high] = [format(Math.min(...values)), format(Math.max(...values))]
  return low === high ? format(middle) : `${format(middle)} (${low}–${high})`
}

const line = (cells: ReadonlyArray<string>) => `| ${cells.join(" | ")} |`

const table = (titles: ReadonlyArray<string>, rows: ReadonlyArray<ReadonlyArray<string>>) =>
  [line(titles), line(titles.map((_, index) => index === 0 ? "---" : "---:")), ...rows.map(line)].join("\n")

const heading = ({ goal, title }: Column) =>
  goal === undefined ? title : `${title} (due ${due(goal)}, aimed ${aimed(goal)})`

const section = ({ columns, rows, text, title }: Section) =>
  `### ${title}\n\n${text}\n\n` + table(
    ["system", ...columns.map(heading)],
    rows.map(({ cells, label }) => [label, ...columns.map(({ format }, index) => cell(cells[index] ?? [], format))])
  )

/** A run is fit to judge goals by if foreign programs took less of a core than this. */
const quiet = 0.15

const findings = ({ columns, rows }: Section) =>
  rows.filter(({ judged }) => judged).flatMap(({ cells }) =>
    columns.flatMap(({ goal }, index) => {
      const value = median(cells[index] ?? [])
      return goal === undefined || value === undefined ? [] : [[
        `${goal.id} ${goal.what}`,
        `${significant(value)}${goal.unit}`,
        due(goal),
        aimed(goal),
        verdict(goal, value)
      ]]
    })
  )

const goals = (sections: ReadonlyArray<Section>) => {
  const rows = sections.flatMap(findings)
  if (rows.length === 0) return []
  const others = Math.max(0, ...numbers(sections.flatMap((section) => section.others)))
  const noise = others <= quiet
    ? `Foreign programs took at most ${significant(others)} of a core during any run.`
    : `Not a quiet machine: foreign programs took up to ${
      significant(others)
    } cores during a run, so ratios may be off.`
  return [`### Goals\n\n${noise}\n\n${table(["goal", "measured", "due", "aimed", "verdict"], rows)}`]
}

/** The whole report. */
export const markdown = (machine: ReadonlyArray<string>, sections: ReadonlyArray<Section>): string =>
  [
    machine.map((fact) => `- ${fact}`).join("\n"),
    ...goals(sections),
    ...sections.filter(({ rows }) => rows.length > 0).map(section)
  ].join("\n\n")

const begin = "<!-- bench:begin -->"
const end = "<!-- bench:end -->"

/** Replaces what is between the markers of a file; adds both at its end, or creates it, if they are not there. */
export const writeInto = (path: string, report: string): void => {
  const text = existsSync(path) ? readFileSync(path, "utf8") : ""
  const from = text.indexOf(begin)
  const to = text.indexOf(end)
  const measured = `${begin}\n\n${report}\n\n${end}`
  const changed = from < 0 || to < from
    ? `${text.trimEnd()}\n\n${measured}\n`.trimStart()
    : text.slice(0, from) + measured + text.slice(to + end.length)
  writeFileSync(path, changed)
}

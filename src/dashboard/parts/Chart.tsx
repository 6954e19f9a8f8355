import { useEffect, useLayoutEffect, useRef } from "preact/hooks"
import UPlot from "uplot"
import * as Format from "../format.ts"
import { lonely } from "../series.ts"
import { theme } from "../theme.ts"

export interface Line {
  readonly label: string
  /** The custom property of its colour. */
  readonly color: string
  /** What the reader is told; drawn as it is unless `drawn` says otherwise. */
  readonly values: ReadonlyArray<number | null>
  readonly drawn?: ReadonlyArray<number | null>
}

interface Props {
  readonly title: string
  readonly kind: "bars" | "lines"
  /** In seconds. */
  readonly at: ReadonlyArray<number>
  readonly lines: ReadonlyArray<Line>
  readonly format: (value: number) => string
  /** What the values add up to, in a word or two, beside the title. */
  readonly note: string
}

const height = 132
const counts = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 1e6]
const seconds = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 3e4]
const minutes = [1, 2, 5, 10, 30].map((step) => step * 60_000)
const hours = [1, 2, 6, 12, 24, 48, 240, 1200, 1e4].map((step) => step * 3_600_000)
const spans = [...seconds, ...minutes, ...hours]
const color = (property: string) => getComputedStyle(document.documentElement).getPropertyValue(property).trim()

const data = (kind: Props["kind"], at: Props["at"], lines: Props["lines"]): UPlot.AlignedData => {
  const columns = lines.map(({ drawn, values }) => [...(drawn ?? values)])
  return [[...at], ...(kind === "bars" ? columns.toReversed() : columns)]
}

/** Where there is nothing to see, the axis still has its length. */
const room = (
  _: UPlot,
  __: number,
  max: number | null
): [number, number] => [0, max === null || max <= 0 ? 1 : max * 1.1]

export const Chart = ({ at, format, kind, lines, note, title }: Props) => {
  const frame = useRef<HTMLDivElement>(null)
  const plot = useRef<UPlot>(undefined)
  const readings = useRef<Array<HTMLSpanElement | null>>([])
  const latest = useRef({ at, lines, format })
  latest.current = { at, lines, format }

  const read = (index: number | null | undefined) => {
    const { format, lines } = latest.current
    lines.forEach(({ values }, each) => {
      const value = index == null ? null : values[index]
      const element = readings.current[each]
      if (element != null) element.textContent = value == null ? "" : format(value)
    })
  }

  useEffect(() => {
    const element = frame.current!
    const axis = {
      stroke: () => color("--muted"),
      grid: { stroke: () => color("--line"), width: 1 },
      ticks: { show: false },
      font: "11px system-ui, sans-serif"
    }
    const bars = UPlot.paths.bars!({ size: [0.72, 40] })
    // What stands on top of the others is drawn before them.
    const drawn = kind === "bars" ? lines.toReversed() : lines
    const chart = new UPlot(
      {
        width: element.clientWidth,
        height,
        padding: [8, 4, 0, 0],
        legend: { show: false },
        cursor: { sync: { key: "overview" }, drag: { x: false, y: false }, points: { show: kind === "lines" } },
        scales: {
          x: { range: (_, min, max) => [min, max + (latest.current.at[1]! - latest.current.at[0]!)] },
          y: { range: room }
        },
        axes: [
          {
            ...axis,
            size: 22,
            space: 64,
            grid: { show: false },
            values: (_, splits) => splits.map((split) => Format.clock(new Date(split * 1000)).slice(0, 5))
          },
          {
            ...axis,
            size: 60,
            space: 32,
            incrs: kind === "bars" ? counts : spans,
            values: (_, splits) => splits.map((split) => latest.current.format(split))
          }
        ],
        series: [
          {},
          ...drawn.map(({ color: property, label }) =>
            kind === "bars"
              ? {
                label,
                fill: () => color(property),
                stroke: () => color(property),
                width: 0,
                paths: bars,
                points: { show: false }
              }
              : {
                label,
                stroke: () => color(property),
                width: 1.5,
                spanGaps: false,
                points: {
                  size: 5,
                  width: 0,
                  fill: () => color(property),
                  filter: (self: UPlot, index: number, all: boolean) => all ? null : lonely(self.data[index]!)
                }
              }
          )
        ],
        hooks: { setCursor: [(self) => read(self.cursor.idx)] }
      } as UPlot.Options,
      data(kind, at, lines),
      element
    )
    plot.current = chart
    const observer = new ResizeObserver(() => chart.setSize({ width: element.clientWidth, height }))
    observer.observe(element)
    const repaint = () => chart.redraw(false)
    const dark = matchMedia("(prefers-color-scheme: dark)")
    dark.addEventListener("change", repaint)
    const unsubscribe = theme.subscribe(repaint)
    return () => {
      observer.disconnect()
      dark.removeEventListener("change", repaint)
      unsubscribe()
      chart.destroy()
    }
  }, [kind])

  useLayoutEffect(() => {
    plot.current?.setData(data(kind, at, lines))
    read(plot.current?.cursor.idx)
  }, [at, lines])

  return (
    <figure class="chart">
      <figcaption>
        <b>{title}</b>
        <span class="muted num">{note}</span>
      </figcaption>
      <div class="plot" ref={frame} role="img" aria-label={`${title}: ${note}`} />
      <ul class="legend" aria-hidden="true">
        {lines.map(({ color, label }, index) => (
          <li key={label}>
            <i class={`swatch ${color.slice(2)}`} />
            {label}
            <span
              class="num"
              ref={(element) => {
                readings.current[index] = element
              }}
            />
          </li>
        ))}
      </ul>
    </figure>
  )
}

import type { ComponentChildren } from "preact"
import { useEffect, useMemo, useState } from "preact/hooks"
import type { Count, Health, Overview as View, Series } from "../../server/Views.ts"
import * as Clock from "../clock.ts"
import * as Format from "../format.ts"
import { rowKeys, useKeys } from "../keyboard.ts"
import { useHints } from "../live.ts"
import { Badge } from "../parts/Badge.tsx"
import { Chart, type Line } from "../parts/Chart.tsx"
import { Ago, Moment, Running, Since } from "../parts/Elapsed.tsx"
import { Icon } from "../parts/Icon.tsx"
import { Empty, Panel, Trouble } from "../parts/Panel.tsx"
import { QueueTable } from "../parts/QueueTable.tsx"
import { type Resource, useResource } from "../refresh.ts"
import { href } from "../router.ts"
import * as SeriesColumns from "../series.ts"

const refreshMs = 2500

export const Overview = () => {
  useHints()
  useKeys(rowKeys)
  const overview = useResource("overview", (client) => client.overview.get(), { every: refreshMs, hints: true })
  const health = useResource("health", (client) => client.probes.readyz(), { every: refreshMs })
  const series = useResource("series", (client) => client.overview.series(), { every: refreshMs })
  const view = overview.value
  useEffect(() => {
    if (view !== undefined) Clock.synchronize(Clock.millis(view.started) + view.uptimeMs)
  }, [view])

  if (view === undefined && overview.problem !== undefined) {
    return <Trouble title="There is no overview" message={overview.problem.message} again={overview.reload} />
  }
  return (
    <div class="overview">
      <h1 class="offscreen">Overview</h1>
      <div class="split">
        <Instance view={view} />
        <Warnings view={view} health={health} />
      </div>
      <Depth view={view} />
      <Charts series={series.value} />
      <div class="split">
        <RunningNow view={view} at={overview.at} />
        <Recent view={view} />
      </div>
      <Panel title="Queues" aside={<span class="muted">over all workers</span>}>
        {view === undefined
          ? <Empty>…</Empty>
          : view.queues.length === 0
          ? <Empty>No queue has a task yet.</Empty>
          : <QueueTable queues={view.queues} />}
      </Panel>
    </div>
  )
}

type Given = View | undefined

const Fact = ({ children, name }: { readonly name: string; readonly children: ComponentChildren }) => (
  <div>
    <dt>{name}</dt>
    <dd>{children}</dd>
  </div>
)

const counters = ["completed", "failed", "cancelled", "retried", "released", "claimed"] as const

const Instance = ({ view }: { readonly view: Given }) => (
  <Panel
    title="This instance"
    class="instance"
    aside={<span class="muted num">{view === undefined ? "" : `version ${view.version}`}</span>}
  >
    <dl class="facts line">
      <Fact name="Up for">
        {view === undefined ? "…" : <Since at={view.started} />}
      </Fact>
      <Fact name="Since">{view === undefined ? "…" : <Moment at={view.started} />}</Fact>
      <Fact name="Host">{view?.host ?? "…"}</Fact>
      <Fact name="Process">{view?.pid ?? "…"}</Fact>
      <Fact name="Worker">
        <span title={view?.id ?? undefined}>{view === undefined ? "…" : view.id ?? "none runs here"}</span>
      </Fact>
    </dl>
    <dl class="counters" aria-label="Counted since the start of this instance">
      {counters.map((counter) => (
        <div key={counter} class={counter}>
          <dt>{counter}</dt>
          <dd class="num">{view === undefined ? "–" : Format.count(view.counts[counter])}</dd>
        </div>
      ))}
    </dl>
  </Panel>
)

const Warnings = ({ health, view }: { readonly view: Given; readonly health: Resource<Health> }) => {
  const loops = health.value?.loops ?? []
  const standing = loops.filter(({ ok }) => !ok)
  const lines = [
    ...(health.value?.problems ?? []),
    ...standing
      .filter(({ name }) => !health.value!.problems.some((problem) => problem.includes(name)))
      .map(({ lastTurnAgoMs, name }) =>
        `${name} stands still${lastTurnAgoMs === null ? "" : `: its last turn was ${Format.ago(lastTurnAgoMs)}`}`
      ),
    ...(view?.unhandledTypes ?? []).map((type) =>
      `Tasks of type ${type} wait, and no worker of this process handles it`
    )
  ]
  return (
    <Panel title="Health" class="health" aside={<a href={href("/readyz")} data-external>readyz</a>}>
      {health.value === undefined
        ? <Empty>{health.problem?.message ?? "…"}</Empty>
        : lines.length === 0
        ? (
          <div class="fine">
            <span class="good">
              <Icon name="check" />
            </span>
            <div>
              <b>Everything turns</b>
              <p class="muted">
                {loops.length === 0 ? "No worker runs in this process." : loops.map(({ name }) => name).join(", ")}
              </p>
            </div>
          </div>
        )
        : (
          <ul class="warnings">
            {lines.map((line) => (
              <li key={line}>
                <Icon name="warning" />
                <span>{line}</span>
              </li>
            ))}
          </ul>
        )}
    </Panel>
  )
}

const statuses = ["queued", "processing", "completed", "failed", "cancelled"] as const

const Depth = ({ view }: { readonly view: Given }) => (
  <section class="tiles" aria-label="Tasks over all workers">
    {statuses.map((status) => (
      <a key={status} class={`tile ${status}`} href={href("/tasks", { status })}>
        <span class="name">{status}</span>
        <span class="figure num">{view === undefined ? "–" : counted(view.depth[status])}</span>
        <span class="muted num">
          {status === "queued"
            ? view?.oldestQueuedAgeMs == null ? "none waits" : `oldest ${Format.duration(view.oldestQueuedAgeMs)}`
            : status === "processing" && view !== undefined
            ? `${view.running.length} here`
            : "all workers"}
        </span>
      </a>
    ))}
  </section>
)

const counted = ({ capped, count }: Count) => Format.count(count, capped)

const ranges = [["5 min", 5 * 60_000], ["15 min", 15 * 60_000], ["1 h", 60 * 60_000]] as const

const Charts = ({ series }: { readonly series: Series | undefined }) => {
  const [range, setRange] = useState<number>(ranges[0][1])
  const columns = useMemo(
    () => SeriesColumns.columns(series ?? { bucketMs: 5000, buckets: [] }, range, Clock.now()),
    [series, range]
  )
  const { cancelled, completed, failed, retried } = columns
  const outcomes = useMemo((): ReadonlyArray<Line> => {
    const [a, b] = SeriesColumns.stacked([completed, cancelled])
    return [
      { label: "completed", color: "--completed", values: completed, drawn: a! },
      { label: "cancelled", color: "--cancelled", values: cancelled, drawn: b! }
    ]
  }, [columns])
  const failures = useMemo((): ReadonlyArray<Line> => {
    const [a, b] = SeriesColumns.stacked([failed, retried])
    return [
      { label: "failed", color: "--failed", values: failed, drawn: a! },
      { label: "retried", color: "--retried", values: retried, drawn: b! }
    ]
  }, [columns])
  const wait = useMemo(() => latency(columns.waitP50, columns.waitP95), [columns])
  const run = useMemo(() => latency(columns.runP50, columns.runP95), [columns])
  const ended = sum(completed) + sum(cancelled)
  return (
    <section class="panel charts" aria-label="Charts">
      <header>
        <h2>Over time</h2>
        <span class="muted">{`this instance, a bar for every ${columns.bucketMs / 1000} s`}</span>
        <div class="segments" role="group" aria-label="Range">
          {ranges.map(([name, ms]) => (
            <button
              key={name}
              type="button"
              aria-pressed={range === ms}
              onClick={() => setRange(ms)}
            >
              {name}
            </button>
          ))}
        </div>
      </header>
      <div class="grid">
        <Chart
          title="Throughput"
          kind="bars"
          at={columns.at}
          lines={outcomes}
          format={Format.rate}
          note={`${Format.count(ended)} ended, ${Format.rate(ended / (range / 60_000))} a minute`}
        />
        <Chart
          title="Failures"
          kind="bars"
          at={columns.at}
          lines={failures}
          format={Format.rate}
          note={`${Format.count(sum(failed))} failed, ${Format.count(sum(retried))} retried`}
        />
        <Chart
          title="Waiting"
          kind="lines"
          at={columns.at}
          lines={wait}
          format={Format.duration}
          note={latest("from due to started", columns.waitP95)}
        />
        <Chart
          title="Running"
          kind="lines"
          at={columns.at}
          lines={run}
          format={Format.duration}
          note={latest("from started to ended", columns.runP95)}
        />
      </div>
    </section>
  )
}

const sum = (values: ReadonlyArray<number>) => values.reduce((sum, value) => sum + value, 0)

const latency = (p50: ReadonlyArray<number | null>, p95: ReadonlyArray<number | null>): ReadonlyArray<Line> => [
  { label: "p50", color: "--processing", values: p50 },
  { label: "p95", color: "--scheduled", values: p95 }
]

const latest = (what: string, p95: ReadonlyArray<number | null>) => {
  const value = p95.findLast((value) => value !== null)
  return value == null ? what : `p95 ${Format.duration(value)} last`
}

const RunningNow = ({ at, view }: { readonly view: Given; readonly at: number }) => (
  <Panel
    title="Running now"
    class="fixed"
    aside={<span class="muted num">{view === undefined ? "" : `${view.running.length} here`}</span>}
  >
    <div class="scroll" tabIndex={0}>
      {view === undefined ?
        <Empty>…</Empty> :
        view.running.length === 0 ?
        <Empty>Nothing runs right now.</Empty> :
        (
          <table class="compact">
            <thead>
              <tr>
                <th class="id">Id</th>
                <th>Type</th>
                <th>Queue</th>
                <th class="number">Attempt</th>
                <th class="number">Running for</th>
              </tr>
            </thead>
            <tbody>
              {view.running.map(({ attempt, id, queue, runningForMs, type }) => (
                <tr key={`${id}:${attempt}`} data-row={String(id)} tabIndex={-1}>
                  <td class="id num">
                    <a href={href(`/tasks/${id}`)}>{String(id)}</a>
                  </td>
                  <td title={type}>{type}</td>
                  <td class="muted" title={queue}>{queue}</td>
                  <td class="number num">{attempt}</td>
                  <td class="number">
                    <Running at={at} ms={runningForMs} />
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        )}
    </div>
  </Panel>
)

const Recent = ({ view }: { readonly view: Given }) => (
  <Panel title="Ended last" class="fixed" aside={<span class="muted">here, latest first</span>}>
    <div class="scroll" tabIndex={0}>
      {view === undefined ?
        <Empty>…</Empty> :
        view.recent.length === 0 ?
        <Empty>Nothing has ended here yet.</Empty> :
        (
          <table class="compact recent">
            <thead>
              <tr>
                <th class="id">Id</th>
                <th class="state">Status</th>
                <th>Type</th>
                <th class="number">Took</th>
                <th class="number">Ended</th>
              </tr>
            </thead>
            <tbody>
              {view.recent.map(({ durationMs, endedAt, error, id, status, type }) => (
                <tr key={`${id}:${endedAt.epochMilliseconds}`} data-row={String(id)} tabIndex={-1}>
                  <td class="id num">
                    <a href={href(`/tasks/${id}`)}>{String(id)}</a>
                  </td>
                  <td class="state">
                    <Badge state={status} />
                  </td>
                  <td title={error === null ? type : `${type}\n${error.tag}: ${error.message}`}>
                    {type} {error !== null && <span class="bad">{error.tag}: {error.message}</span>}
                  </td>
                  <td class="number num">{durationMs === null ? "–" : Format.duration(durationMs)}</td>
                  <td class="number muted">
                    <Ago at={endedAt} />
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        )}
    </div>
  </Panel>
)

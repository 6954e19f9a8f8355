import { useEffect, useMemo, useRef, useState } from "preact/hooks"
import type { Count, Filter, Status } from "../../server/Views.ts"
import * as Format from "../format.ts"
import { currentRow, rowKeys, useKeys } from "../keyboard.ts"
import * as Keyset from "../keyset.ts"
import { useHints } from "../live.ts"
import { Bulk } from "../parts/Bulk.tsx"
import { FailureGroups } from "../parts/FailureGroups.tsx"
import { FilterBar } from "../parts/FilterBar.tsx"
import { Empty, Trouble } from "../parts/Panel.tsx"
import { TaskTable } from "../parts/TaskTable.tsx"
import { useResource } from "../refresh.ts"
import { go, href, usePlace } from "../router.ts"
import { useMayAct } from "../session.ts"
import * as Tasks from "../tasks.ts"

const refreshMs = 2500
const pageSize = 50

export const statuses = ["queued", "processing", "completed", "failed", "cancelled"] as const

export const TaskList = () => {
  useHints()
  const { query, state } = usePlace()
  const mayAct = useMayAct()
  const filter = useMemo(() => Tasks.filterOf(query), [query])
  const before = query.get("before") ?? undefined
  const key = Tasks.addressOf(filter, before)
  const trail = Keyset.trailOf(state)
  const [selected, setSelected] = useState<ReadonlySet<string>>(new Set())
  const [everything, setEverything] = useState(false)
  const lastToggled = useRef<string>(undefined)
  const selecting = selected.size > 0
  const { problem, reload, stale, value } = useResource(key, (client) => Tasks.page(client, filter, before, pageSize), {
    every: refreshMs,
    hints: true,
    hold: selecting,
    keep: true
  })
  const { status, ...others } = filter
  const { value: counts } = useResource(
    `counts:${Tasks.addressOf(others, undefined)}`,
    (client) => Tasks.counts(client, others, statuses),
    { every: Object.keys(others).length === 0 ? refreshMs : 10_000, hints: Object.keys(others).length === 0 }
  )
  const total = Tasks.better(stale ? undefined : value?.total, Tasks.countOf(counts, status))

  const deselect = () => {
    setSelected(new Set())
    setEverything(false)
    lastToggled.current = undefined
  }
  useEffect(deselect, [key, stale])

  const ids = (value?.tasks ?? []).map(({ id }) => String(id))
  const toggle = (id: string, range: boolean) => {
    const next = new Set(selected)
    const from = range && lastToggled.current !== undefined ? ids.indexOf(lastToggled.current) : -1
    const to = ids.indexOf(id)
    const touched = from < 0 ? [id] : ids.slice(Math.min(from, to), Math.max(from, to) + 1)
    const add = !selected.has(id)
    for (const each of touched) {
      if (add) next.add(each)
      else next.delete(each)
    }
    lastToggled.current = id
    setSelected(next)
    setEverything(false)
  }
  const all = ids.length > 0 && ids.every((id) => selected.has(id))
  const step = (to: Keyset.Step | undefined) => {
    if (to === undefined) return
    go(href("/tasks", { ...filter, before: to.cursor }), { state: to.trail })
  }
  const toOlder = () => !stale && value?.next != null && step(Keyset.older(trail, before, String(value.next)))
  const toNewer = () =>
    step(Keyset.newer(trail) ?? (before === undefined ? undefined : { cursor: undefined, trail: [] }))

  useKeys([
    ...rowKeys,
    ...(mayAct
      ? [{
        keys: "x",
        says: "Select the row",
        run: (event: KeyboardEvent) => {
          const id = currentRow()?.dataset.row
          if (id !== undefined) toggle(id, event.shiftKey)
        }
      }]
      : []),
    { keys: "n", says: "Older tasks", run: toOlder },
    { keys: "p", says: "Newer tasks", run: toNewer },
    { keys: "Escape", says: "Select nothing", run: deselect }
  ])

  return (
    <>
      <h1>Tasks</h1>
      <StatusTabs filter={filter} counts={counts} total={total} />
      <FilterBar filter={filter} />
      {status === "failed" && <FailureGroups filter={others} />}
      {value === undefined && problem !== undefined
        ? <Trouble title="The tasks cannot be read" message={problem.message} again={reload} />
        : (
          <section class="panel list" aria-label="Tasks found" aria-busy={value === undefined || stale}>
            {mayAct && (
              <Bulk
                filter={filter}
                total={total}
                statuses={everything
                  ? counts && statuses.filter((each) => counts[each].count > 0 || counts[each].capped)
                  : (value?.tasks ?? []).filter(({ id }) => selected.has(String(id))).map(({ status }) => status)}
                ids={everything ? undefined : [...selected]}
                wholePage={all && !everything && Tasks.isNarrow(filter) && total !== undefined &&
                  more(total, selected.size)}
                selectEverything={() => setEverything(true)}
                clear={deselect}
                done={() => {
                  deselect()
                  reload()
                }}
              />
            )}
            {value === undefined ? <Empty>…</Empty> : value.tasks.length > 0
              ? (
                <TaskTable
                  tasks={value.tasks}
                  selection={mayAct
                    ? {
                      has: (id) => everything || selected.has(id),
                      toggle,
                      all,
                      toggleAll: () => {
                        setEverything(false)
                        setSelected(all ? new Set() : new Set(ids))
                      }
                    }
                    : undefined}
                />
              )
              : <Nothing value={value} filter={filter} before={before} older={toOlder} />}
            <footer class="row">
              <span class="muted num">
                {value === undefined || stale || total === undefined
                  ? ""
                  : total.capped && total.count === 0
                  ? "None found so far"
                  : `${Format.count(total.count, total.capped)} in all`}
                {selecting ? " · not refreshed while tasks are selected" : ""}
              </span>
              <nav class="row" aria-label="Pages">
                <button type="button" disabled={before === undefined} onClick={toNewer}>
                  {before !== undefined && trail.length === 0 ? "Newest" : "Newer"}
                </button>
                <button type="button" disabled={stale || value?.next == null} onClick={toOlder}>Older</button>
              </nav>
            </footer>
          </section>
        )}
    </>
  )
}

const more = ({ capped, count }: Count, than: number) => capped || count > than

const Nothing = (
  { before, filter, older, value }: {
    readonly value: Tasks.Page
    readonly filter: Filter
    readonly before: string | undefined
    readonly older: () => void
  }
) => {
  if (value.next !== null) {
    return (
      <Empty>
        Searched from the newest task to {String(value.next)} so far and found nothing.{" "}
        <button type="button" onClick={older}>Search further</button>
      </Empty>
    )
  }
  if (before !== undefined) return <Empty>There are no older tasks.</Empty>
  return Object.keys(filter).length === 0
    ? (
      <Empty>
        There is no task yet. <a href={href("/enqueue")}>Enqueue the first one</a>.
      </Empty>
    )
    : (
      <Empty>
        No task matches. <a href={href("/tasks")}>Show all tasks</a>
      </Empty>
    )
}

/** Live counts by status: those of the tables, or, with other filters, of what these leave. */
const StatusTabs = (
  { counts, filter, total }: {
    readonly filter: Filter
    readonly counts: Tasks.Counts | undefined
    readonly total: Count | undefined
  }
) => {
  const { status: current, ...others } = filter
  const countOf = (status: Status | undefined) => status === current ? total : Tasks.countOf(counts, status)
  const tabs = useRef<HTMLElement>(null)
  useEffect(() => {
    const tab = tabs.current?.querySelector<HTMLElement>("[aria-current]")
    if (tab != null) tabs.current!.scrollLeft = tab.offsetLeft + tab.offsetWidth / 2 - tabs.current!.clientWidth / 2
  }, [current])
  return (
    <nav class="tabs" aria-label="Status" ref={tabs}>
      {[undefined, ...statuses].map((status) => {
        const count = countOf(status)
        return (
          <a
            key={status ?? "all"}
            href={href("/tasks", { ...others, status })}
            class={status ?? "all"}
            aria-current={status === current ? "page" : undefined}
          >
            {status ?? "all"}
            <span class="num count">{count === undefined ? " " : Format.count(count.count, count.capped)}</span>
          </a>
        )
      })}
    </nav>
  )
}

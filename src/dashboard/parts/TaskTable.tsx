import * as Waiting from "../../internal/Waiting.ts"
import type { TaskSummary } from "../../server/Views.ts"
import * as Clock from "../clock.ts"
import * as Format from "../format.ts"
import { go, href } from "../router.ts"
import { stateOf } from "../state.ts"
import { Badge } from "./Badge.tsx"
import { Ago, Since } from "./Elapsed.tsx"

interface Props {
  readonly tasks: ReadonlyArray<TaskSummary>
  /** Absent where nothing can be selected. */
  readonly selection?: {
    readonly has: (id: string) => boolean
    /** `range`: everything between this one and the one before. */
    readonly toggle: (id: string, range: boolean) => void
    readonly all: boolean
    readonly toggleAll: () => void
  } | undefined
}

export const TaskTable = ({ selection, tasks }: Props) => (
  <table class={`tasks ${selection === undefined ? "" : "selectable"}`}>
    <thead>
      <tr>
        {selection !== undefined && (
          <th class="check">
            <input
              type="checkbox"
              aria-label="Select all on this page"
              checked={selection.all}
              onChange={selection.toggleAll}
            />
          </th>
        )}
        <th class="id">Id</th>
        <th class="state">Status</th>
        <th class="type">Type</th>
        <th class="queue">Queue</th>
        <th class="whose">Tag, user</th>
        <th class="priority">Priority</th>
        <th class="attempts">Attempt</th>
        <th class="when">Created</th>
        <th class="took">Took</th>
        <th class="error">Error, or why it waits</th>
      </tr>
    </thead>
    <tbody>{tasks.map((task) => <Row key={String(task.id)} task={task} selection={selection} />)}</tbody>
  </table>
)

const Row = ({ selection, task }: { readonly task: TaskSummary; readonly selection: Props["selection"] }) => {
  const id = String(task.id)
  const selected = selection?.has(id) ?? false
  const open = (event: MouseEvent) => {
    if (event.target instanceof Element && event.target.closest("a, input, label, button") !== null) return
    if (getSelection()?.isCollapsed === false) return
    go(href(`/tasks/${id}`))
  }
  return (
    <tr data-row={id} tabIndex={-1} class={selected ? "selected" : ""} onClick={open}>
      {selection !== undefined && (
        <td class="check">
          <input
            type="checkbox"
            aria-label={`Select task ${id}`}
            checked={selected}
            onClick={(event) => selection.toggle(id, event.shiftKey)}
          />
        </td>
      )}
      <td class="id num">
        <a href={href(`/tasks/${id}`)}>{id}</a>
      </td>
      <td class="state">
        <Badge state={stateOf(task, Clock.now())} />
      </td>
      <td class="type" title={task.type}>{task.type}</td>
      <td class="queue" title={task.queue}>{task.queue}</td>
      <td class="whose" title={[task.tag, task.userId].filter((each) => each !== null).join(" · ")}>
        {task.tag !== null && <span class="chip">{task.tag}</span>}
        {task.userId !== null && <span class="chip user">{task.userId}</span>}
      </td>
      <td class={`priority num ${task.priority === 0 ? "muted" : ""}`}>{task.priority}</td>
      <td class="attempts num">
        {task.attempts}
        <span class="muted">/{task.maxAttempts}</span>
      </td>
      <td class="when">
        <Ago at={task.createdAt} />
      </td>
      <td class="took num">
        <Took task={task} />
      </td>
      <Told task={task} />
      {/* Where there is no room for columns. */}
      <td class="meta num">
        {[
          task.queue,
          `attempt ${task.attempts}/${task.maxAttempts}`,
          ...task.priority === 0 ? [] : [`priority ${task.priority}`]
        ].join(" · ")} <Took task={task} />
      </td>
    </tr>
  )
}

const longTip = 500

const Told = ({ task: { error, waiting } }: { readonly task: TaskSummary }) => {
  // When it is due stands beside it.
  const reason = waiting.find(({ _tag }) => _tag !== "Later")
  if (reason !== undefined) {
    return (
      <td class="error" title={waiting.map(Waiting.words).join("\n").slice(0, longTip)}>{Waiting.brief(reason)}</td>
    )
  }
  return error === null ?
    <td class="error" /> :
    (
      <td class="error" title={`${error.tag}: ${error.message}`.slice(0, longTip)}>
        <b>{error.tag}</b> {error.message}
      </td>
    )
}

const Took = ({ task }: { readonly task: TaskSummary }) => {
  if (task.status === "processing" && task.startedAt !== null) return <Since at={task.startedAt} />
  if (task.status === "queued") {
    return task.runAt.epochMilliseconds > Clock.now()
      ? (
        <span class="muted">
          due <Ago at={task.runAt} />
        </span>
      )
      : null
  }
  if (task.finishedAt === null || task.startedAt === null) return null
  return <>{Format.duration(Clock.millis(task.finishedAt) - Clock.millis(task.startedAt))}</>
}

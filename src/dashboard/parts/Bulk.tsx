import { useEffect, useRef, useState } from "preact/hooks"
import type { BulkOutcome, Count, Filter, Status } from "../../server/Views.ts"
import { type Answer, call } from "../client.ts"
import * as Format from "../format.ts"
import { applies } from "../state.ts"
import { idOf } from "../tasks.ts"
import { confirm } from "./Dialog.tsx"
import { say } from "./Toasts.tsx"

interface Props {
  readonly filter: Filter
  readonly total: Count | undefined
  /** Those that occur among what is selected; undefined where that is not known. */
  readonly statuses: ReadonlyArray<Status> | undefined
  /** Those that are selected; absent for everything that matches the filter. */
  readonly ids: ReadonlyArray<string> | undefined
  /** The whole page is selected, and there is more. */
  readonly wholePage: boolean
  readonly selectEverything: () => void
  readonly clear: () => void
  readonly done: () => void
}

type Verb = "cancel" | "retry"

/** What an action is asked for, one status after the other; undefined is every status it applies to. */
const statusesOf = (action: Verb, chosen: Status | undefined): ReadonlyArray<Status | undefined> =>
  // What has completed runs again only where the reader looks at nothing else.
  action === "retry" && chosen === undefined ? ["failed", "cancelled"] : [chosen]

/** What is done with all selected tasks at once. It is always there, so that nothing moves when a task is selected. */
export const Bulk = ({ clear, done, filter, ids, selectEverything, statuses, total, wholePage }: Props) => {
  const [progress, setProgress] = useState<string>()
  const stopped = useRef(false)
  useEffect(() => () => {
    stopped.current = true
  }, [])
  const everything = ids === undefined
  const none = ids?.length === 0
  const many = everything
    ? total === undefined ? "all matching tasks" : `all ${tasks(total)} that match`
    : Format.plural(ids.length, "task")

  const possible = (action: Verb) =>
    !none && (everything && filter.status !== undefined ? [filter.status] : statuses)
        ?.some((status) => applies(action, status, filter.status)) !== false

  const act = async (action: Verb) => {
    const goAhead = await confirm({
      title: action === "cancel" ? `Cancel ${many}?` : `Run ${many} again?`,
      text: action === "cancel"
        ? "Those that wait never run, and those that run are interrupted. What has ended already stays as it is."
        : filter.status === "completed"
        ? "They have completed, and do all their work once more."
        : "Those that failed or were cancelled are queued again. What has completed, waits or runs stays as it is.",
      action: action === "cancel" ? `Cancel ${many}` : `Run ${many} again`,
      danger: action === "cancel"
    })
    if (!goAhead) return
    stopped.current = false
    const sum = { changed: 0, unchanged: 0, busy: 0 }
    const given = everything ? filter : { ids: ids.flatMap((id) => idOf(id) ?? []) }
    let ending = ""
    setProgress("…")
    for (const status of statusesOf(action, everything || action === "retry" ? filter.status : undefined)) {
      let before: BulkOutcome["next"] = null
      do {
        const from: BulkOutcome["next"] = before
        const answer: Answer<BulkOutcome> = await call((client) =>
          client.tasks.bulk({
            payload: {
              action,
              filter: { ...given, ...(status === undefined ? {} : { status }) },
              ...(from === null ? {} : { before: from })
            }
          })
        )
        if (!answer.ok) {
          ending = `Then it stopped: ${answer.problem.message}`
          break
        }
        sum.changed += answer.value.changed
        sum.unchanged += answer.value.unchanged
        sum.busy += answer.value.busy
        before = answer.value.next
        setProgress(result(action, sum))
        if (stopped.current) ending = "You stopped it there."
      } while (before !== null && ending === "")
      if (ending !== "") break
    }
    if (!everything) sum.unchanged = Math.max(0, ids.length - sum.changed - sum.busy)
    say(`${result(action, sum)} ${ending}`.trim(), ending === "" ? "good" : stopped.current ? "plain" : "bad")
    setProgress(undefined)
    done()
  }

  if (progress !== undefined) {
    return (
      <div class="bulk row" role="status">
        <span class="num">{progress}</span>
        <button
          type="button"
          onClick={() => {
            stopped.current = true
          }}
        >
          Stop
        </button>
      </div>
    )
  }
  return (
    <div class="bulk row">
      <button type="button" disabled={!possible("retry")} onClick={() => void act("retry")}>Run again</button>
      <button
        type="button"
        disabled={!possible("cancel")}
        title={none || possible("cancel") ? undefined : "None of these tasks waits or runs"}
        class={possible("cancel") ? "danger" : ""}
        onClick={() => void act("cancel")}
      >
        Cancel
      </button>
      <span class="muted num">
        {none
          ? "Select tasks to act on many at once"
          : everything
          ? `All ${total === undefined ? "" : tasks(total)} that match`
          : `${Format.plural(ids.length, "task")} selected`}
      </span>
      {wholePage && total !== undefined && (
        <button type="button" class="link" onClick={selectEverything}>{`Select all ${tasks(total)} that match`}</button>
      )}
      {!none && <button type="button" class="link" onClick={clear}>Select nothing</button>}
    </div>
  )
}

const tasks = ({ capped, count }: Count) =>
  `${Format.count(count, capped)} ${count === 1 && !capped ? "task" : "tasks"}`

const result = (
  action: Verb,
  { busy, changed, unchanged }: { readonly changed: number; readonly unchanged: number; readonly busy: number }
) =>
  [
    `${Format.plural(changed, "task")} ${action === "cancel" ? "cancelled" : "queued again"}.`,
    ...(unchanged === 0
      ? []
      : [`${Format.plural(unchanged, "task")} stayed: the action does not apply to their state.`]),
    ...(busy === 0 ? [] : [`${Format.plural(busy, "task")} stayed, as another transaction holds them: try again.`])
  ].join(" ")

import { useEffect, useRef, useState } from "preact/hooks"
import type { BulkOutcome, Count, Filter } from "../../server/Views.ts"
import { type Answer, call } from "../client.ts"
import * as Format from "../format.ts"
import { idOf } from "../tasks.ts"
import { confirm } from "./Dialog.tsx"
import { say } from "./Toasts.tsx"

interface Props {
  readonly filter: Filter
  readonly total: Count | undefined
  /** Those that are selected; absent for everything that matches the filter. */
  readonly ids: ReadonlyArray<string> | undefined
  /** The whole page is selected, and there is more. */
  readonly wholePage: boolean
  readonly selectEverything: () => void
  readonly clear: () => void
  readonly done: () => void
}

type Verb = "cancel" | "retry"

/** What is done with all selected tasks at once. It is always there, so that nothing moves when a task is selected. */
export const Bulk = ({ clear, done, filter, ids, selectEverything, total, wholePage }: Props) => {
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

  const act = async (action: Verb) => {
    const goAhead = await confirm({
      title: action === "cancel" ? `Cancel ${many}?` : `Run ${many} again?`,
      text: action === "cancel"
        ? "Those that wait never run, and those that run are interrupted. What has ended already stays as it is."
        : "Those that failed, were cancelled or completed are queued again. What still waits or runs stays as it is.",
      action: action === "cancel" ? `Cancel ${many}` : `Run ${many} again`,
      danger: action === "cancel"
    })
    if (!goAhead) return
    stopped.current = false
    let changed = 0
    let unchanged = 0
    let busy = 0
    let next: BulkOutcome["next"] = null
    setProgress("…")
    for (;;) {
      const before: BulkOutcome["next"] = next
      const answer: Answer<BulkOutcome> = await call((client) =>
        client.tasks.bulk({
          payload: {
            action,
            filter: everything ? filter : { ids: ids.flatMap((id) => idOf(id) ?? []) },
            ...(before === null ? {} : { before })
          }
        })
      )
      if (!answer.ok) {
        say(`${result(action, changed, unchanged, busy)} Then it stopped: ${answer.problem.message}`, "bad")
        break
      }
      changed += answer.value.changed
      unchanged += answer.value.unchanged
      busy += answer.value.busy
      next = answer.value.next
      if (next === null || stopped.current) {
        say(
          `${result(action, changed, unchanged, busy)}${next === null ? "" : " You stopped it there."}`,
          next === null ? "good" : "plain"
        )
        break
      }
      setProgress(result(action, changed, unchanged, busy))
    }
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
      <button type="button" disabled={none} onClick={() => void act("retry")}>Run again</button>
      <button type="button" disabled={none} class={none ? "" : "danger"} onClick={() => void act("cancel")}>
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

const result = (action: Verb, changed: number, unchanged: number, busy: number) =>
  [
    `${Format.plural(changed, "task")} ${action === "cancel" ? "cancelled" : "queued again"}.`,
    ...(unchanged === 0
      ? []
      : [`${Format.plural(unchanged, "task")} stayed: the action does not apply to their state.`]),
    ...(busy === 0 ? [] : [`${Format.plural(busy, "task")} stayed, as another transaction holds them: try again.`])
  ].join(" ")

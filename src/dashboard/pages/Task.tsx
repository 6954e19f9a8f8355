import type * as Effect from "effect/Effect"
import type { ComponentChildren } from "preact"
import { useEffect, useState } from "preact/hooks"
import type { TaskDetail } from "../../server/Views.ts"
import type * as Ids from "../../Task.ts"
import { call, type Problem } from "../client.ts"
import * as Clock from "../clock.ts"
import * as Format from "../format.ts"
import * as Json from "../json.ts"
import { useKeys } from "../keyboard.ts"
import { Badge } from "../parts/Badge.tsx"
import { Cancelled } from "../parts/Cancelled.tsx"
import { Copy } from "../parts/Copy.tsx"
import { confirm } from "../parts/Dialog.tsx"
import { Ago, Moment } from "../parts/Elapsed.tsx"
import { Failure } from "../parts/Failure.tsx"
import { JsonTree } from "../parts/JsonTree.tsx"
import { Lease } from "../parts/Lease.tsx"
import { Empty, Panel, Trouble } from "../parts/Panel.tsx"
import { StreamView } from "../parts/StreamView.tsx"
import { Timeline } from "../parts/Timeline.tsx"
import { say } from "../parts/Toasts.tsx"
import { useResource } from "../refresh.ts"
import { href } from "../router.ts"
import { useMayAct } from "../session.ts"
import { type Action, isOver, obstacle, stateOf } from "../state.ts"
import { idOf } from "../tasks.ts"

export const TaskPage = ({ id: text }: { readonly id: string }) => {
  const id = idOf(text)
  if (id === undefined) {
    return (
      <Trouble
        title="There is no such task"
        message={`“${text}” is not the id of a task: ids are decimal numbers such as 42.`}
      />
    )
  }
  return <Known key={text} id={id} />
}

const Known = ({ id }: { readonly id: Ids.TaskId }) => {
  const [over, setOver] = useState(false)
  const { problem, reload, value: task } = useResource(
    `task:${id}`,
    (client) => client.tasks.get({ params: { id } }),
    { every: over ? 10_000 : 2000 }
  )
  useEffect(() => {
    if (task === undefined) return
    Clock.synchronize(Clock.millis(task.timing.now))
    setOver(isOver(task))
  }, [task])

  if (task === undefined || problem?.tag === "NotFound") {
    if (problem === undefined) return <Empty>…</Empty>
    return problem.tag === "NotFound"
      ? (
        <Trouble
          title={`There is no task ${id}`}
          message="It was never there, or somebody has deleted it."
        />
      )
      : <Trouble title={`Task ${id} cannot be read`} message={problem.message} again={reload} />
  }
  const state = stateOf(task, Clock.now())
  return (
    <article class="task">
      <header class="title">
        <div>
          <p class="muted">
            <a href={href("/tasks", { type: task.type })}>{task.type}</a>
          </p>
          <h1>
            Task <span class="num">{String(id)}</span>
            <Copy text={() => String(id)} says="Copy the id" />
            <Copy text={() => location.href} says="Copy the link" icon="link" />
          </h1>
        </div>
        <Badge state={state} />
        <Actions task={task} changed={reload} />
      </header>
      <div class="columns">
        <div>
          <StreamView
            id={id}
            story={isOver(task) ? `over at ${task.epoch}` : "open"}
            task={task}
            closed={reload}
          />
          <Values task={task} />
        </div>
        <div>
          <Facts task={task} />
          {task.cancellation !== null && <Cancelled cancellation={task.cancellation} />}
          <Panel
            title="Timeline"
            aside={
              <span class="muted num">{`${task.attempts} of ${Format.plural(task.maxAttempts, "attempt")} used`}</span>
            }
          >
            <Timeline task={task} />
          </Panel>
        </div>
      </div>
    </article>
  )
}

const Values = ({ task }: { readonly task: TaskDetail }) => {
  const payload = task.payload as Json.Json
  const result = task.result as Json.Json
  const metadata = task.metadata as Json.Json
  const omitted = (value: TaskDetail["omitted"][number]["value"]) => {
    const found = task.omitted.find((each) => each.value === value)
    return found && (
      <Empty>
        {`It is ${Format.bytes(found.bytes)} of JSON, too much to be shown here: `}
        <code>{`spindle show ${task.id}`}</code>
      </Empty>
    )
  }
  return (
    <>
      {(task.error !== null || omitted("error")) && (
        <Panel title="Error" class="bad-panel">
          {omitted("error") ?? <Failure error={task.error!} />}
        </Panel>
      )}
      {(result !== null || omitted("result")) && (
        <Panel title="Result">{omitted("result") ?? <JsonTree label="the result" value={result} />}</Panel>
      )}
      <Panel title="Payload">{omitted("payload") ?? <JsonTree label="the payload" value={payload} />}</Panel>
      {(omitted("metadata") || (Json.isObject(metadata) && Object.keys(metadata).length > 0)) && (
        <Panel title="Metadata">{omitted("metadata") ?? <JsonTree label="the metadata" value={metadata} />}</Panel>
      )}
    </>
  )
}

const Fact = (
  { children, name, wide = false }: {
    readonly name: string
    readonly wide?: boolean
    readonly children: ComponentChildren
  }
) => (
  <div class={wide ? "wide" : ""}>
    <dt>{name}</dt>
    <dd>{children}</dd>
  </div>
)

const Facts = ({ task }: { readonly task: TaskDetail }) => (
  <Panel title="Facts">
    <dl class="facts">
      <Fact name="Queue">
        <a href={href("/tasks", { queue: task.queue })}>{task.queue}</a>
      </Fact>
      <Fact name="Priority">{task.priority}</Fact>
      {task.tag !== null && (
        <Fact name="Tag">
          <a href={href("/tasks", { tag: task.tag })}>{task.tag}</a>
        </Fact>
      )}
      {task.userId !== null && (
        <Fact name="User">
          <a href={href("/tasks", { userId: task.userId })}>{task.userId}</a>
        </Fact>
      )}
      {task.uniqueKey !== null && <Fact name="Unique key">{task.uniqueKey}</Fact>}
      {task.timeoutMs !== null && <Fact name="Timeout">{Format.duration(task.timeoutMs)}</Fact>}
      <Fact name="Created">
        <Moment at={task.createdAt} />
      </Fact>
      {task.timing.waitedMs !== null && <Fact name="Waited">{Format.duration(task.timing.waitedMs)}</Fact>}
      {task.timing.ranMs !== null && task.status !== "processing" && (
        <Fact name="Ran">{Format.duration(task.timing.ranMs)}</Fact>
      )}
      {task.finishedAt !== null && task.status !== "queued" && (
        <Fact name="Ended">
          <Ago at={task.finishedAt} />
        </Fact>
      )}
      {task.lockedBy !== null && <Fact name="Held by">{task.lockedBy}</Fact>}
      {task.lockedBy !== null && (
        <Fact name="Lease" wide>
          <Lease task={task} />
        </Fact>
      )}
      <Fact name="Epoch">{task.epoch}</Fact>
    </dl>
  </Panel>
)

const told: Readonly<Record<string, string>> = {
  still_stopping: "It is still stopping: its finalizers are running. Try again in a moment.",
  duplicate: "Another task holds its unique key by now, so it cannot be queued.",
  not_finished: "It is queued or processing by now, and cannot be run again yet.",
  not_queued: "It does not wait any more, so it cannot be run now.",
  already_completed: "It had completed already: there was nothing left to cancel.",
  already_failed: "It had failed already: there was nothing left to cancel.",
  already_cancelled: "It had been cancelled already."
}

const outcomeOf = (problem: Problem) =>
  problem.outcome === undefined ? problem.message : told[problem.outcome] ?? problem.message

const Actions = ({ changed, task }: { readonly task: TaskDetail; readonly changed: () => void }) => {
  const mayAct = useMayAct()
  const [busy, setBusy] = useState(false)
  const id = task.id
  const cannot = (action: Action) => obstacle(action, task, Clock.now())

  const act = async (action: Action) => {
    if (busy || cannot(action) !== undefined) return
    const question = action === "cancel"
      ? {
        title: `Cancel task ${id}?`,
        text: task.status === "processing"
          ? "Its handler is interrupted at once. What it has said and done until then stays."
          : "It will never run.",
        action: "Cancel the task",
        danger: true
      }
      : action === "retry"
      ? {
        title: `Run task ${id} again?`,
        text: "It is queued again with the same payload, and with all its attempts.",
        action: "Run it again",
        danger: false
      }
      : undefined
    if (question !== undefined && !await confirm(question)) return
    setBusy(true)
    const params = { id }
    const answer = await call((client): Effect.Effect<{ readonly outcome: string }, unknown> => {
      switch (action) {
        case "cancel":
          return client.tasks.cancel({ params })
        case "retry":
          return client.tasks.retry({ params, payload: { resetAttempts: true } })
        case "runNow":
          return client.tasks.runNow({ params })
      }
    })
    setBusy(false)
    changed()
    if (!answer.ok) return say(outcomeOf(answer.problem), "bad")
    const { outcome } = answer.value
    if (outcome === "cancelled") return say(`Task ${id} is cancelled.`, "good")
    if (outcome === "queued") {
      return say(action === "retry" ? `Task ${id} is queued again.` : `Task ${id} is due now.`, "good")
    }
    say(told[outcome] ?? outcome)
  }

  useKeys(
    mayAct
      ? [
        { keys: "c", says: "Cancel the task", run: () => void act("cancel") },
        { keys: "r", says: "Run the task again", run: () => void act("retry") }
      ]
      : []
  )

  if (!mayAct) return <span class="muted">This server only shows.</span>
  const button = (action: Action, label: string, style: string) => (
    <button
      type="button"
      class={style}
      disabled={busy || cannot(action) !== undefined}
      title={cannot(action)}
      onClick={() => void act(action)}
    >
      {label}
    </button>
  )
  return (
    <div class="actions row">
      {button("cancel", "Cancel", cannot("cancel") === undefined ? "danger" : "")}
      {button("retry", "Run again", "")}
      {button("runNow", "Run now", "")}
      <a class="button" href={href("/enqueue", { from: String(id) })}>Edit and run again</a>
    </div>
  )
}

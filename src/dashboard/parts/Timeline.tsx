import type { ComponentChildren } from "preact"
import type { Attempt, TaskDetail } from "../../server/Views.ts"
import * as Clock from "../clock.ts"
import * as Format from "../format.ts"
import { Badge } from "./Badge.tsx"
import { Ago, Moment, Since } from "./Elapsed.tsx"
import { Failure } from "./Failure.tsx"

type Instant = { readonly epochMilliseconds: number }

const Entry = (
  { at, children, class: name = "" }: {
    readonly at: Instant | null
    readonly class?: string
    readonly children: ComponentChildren
  }
) => (
  <li class={name}>
    <div class="at">{at === null ? <span class="muted">nobody wrote down when</span> : <Moment at={at} />}</div>
    <div class="what">{children}</div>
  </li>
)

/** From created to its end, oldest first. */
export const Timeline = ({ task }: { readonly task: TaskDetail }) => {
  const { attemptsEnded, createdAt, runAt, startedAt, status, timing } = task
  const later = Clock.millis(runAt) - Clock.millis(createdAt) > 1000
  return (
    <ol class="timeline">
      <Entry at={createdAt}>
        <b>Created</b>
        {later && attemptsEnded.length === 0 && (
          <span class="muted">{` for ${Format.time(new Date(Clock.millis(runAt)))}`}</span>
        )}
      </Entry>
      {attemptsEnded.map((attempt) => <Ended key={attempt.epoch} attempt={attempt} />)}
      {status === "queued" && (
        <Entry at={runAt} class="open">
          <b>{Clock.millis(runAt) > Clock.now() ? "Due" : "Waits"}</b> {Clock.millis(runAt) > Clock.now()
            ? <Ago at={runAt} />
            : (
              <>
                to be claimed for <Since at={runAt} />
              </>
            )}
        </Entry>
      )}
      {status === "processing" && startedAt !== null && (
        <Entry at={startedAt} class="open">
          <b>Attempt {task.attempts}</b> runs for <Since at={startedAt} />
          {timing.waitedMs !== null && (
            <span class="muted">{` after ${Format.duration(timing.waitedMs)} of waiting`}</span>
          )}
          <Worker name={task.lockedBy} />
        </Entry>
      )}
      {attemptsEnded.length === 0 && task.finishedAt !== null && task.lockedBy === null && (
        <>
          {startedAt !== null && (
            <Entry at={startedAt}>
              <b>Claimed</b>
              {timing.waitedMs !== null && (
                <span class="muted">{` after ${Format.duration(timing.waitedMs)} of waiting`}</span>
              )}
            </Entry>
          )}
          <Entry at={task.finishedAt} class={status}>
            <Badge state={status} />
            {timing.ranMs !== null && <span class="muted">{` after ${Format.duration(timing.ranMs)}`}</span>}
            {task.error !== null && <Failure error={task.error} />}
          </Entry>
        </>
      )}
      {status === "cancelled" && task.lockedBy !== null && (
        <Entry at={task.finishedAt} class="open">
          <Badge state="stopping" /> its handler is unwinding
          <Worker name={task.lockedBy} />
        </Entry>
      )}
    </ol>
  )
}

const Ended = ({ attempt }: { readonly attempt: Attempt }) => {
  const { durationMs, endedAt, error, outcome, reason, runAt, startedAt, worker } = attempt
  return (
    <>
      {startedAt !== null && (
        <Entry at={startedAt}>
          <b>Claimed</b>
          <Worker name={worker} />
        </Entry>
      )}
      <Entry at={endedAt} class={outcome}>
        <Badge state={outcome} />
        {durationMs !== null
          ? <span class="muted">{` after ${Format.duration(durationMs)}`}</span>
          : startedAt === null && <span class="muted">{" while nobody held it"}</span>}
        {reason !== null && <span>{` ${reason.replaceAll("_", " ")}`}</span>}
        {runAt !== null && <span class="muted">{`, next at ${Format.time(new Date(Clock.millis(runAt)))}`}</span>}
        {startedAt === null && <Worker name={worker} />}
        {error !== null && <Failure error={error} />}
      </Entry>
    </>
  )
}

const Worker = ({ name }: { readonly name: string | null }) =>
  name === null ? null : <div class="worker muted" title="The worker that held it">{name}</div>

import type { ComponentChildren } from "preact"
import type { Attempt, TaskDetail } from "../../server/Views.ts"
import * as Clock from "../clock.ts"
import * as Format from "../format.ts"
import { entriesOf } from "../timeline.ts"
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
      {entriesOf(task).map((entry, index) =>
        entry.kind === "attempts"
          ? <Ended key={entry.attempts[0].epoch} attempts={entry.attempts} />
          : entry.kind === "again"
          ? (
            <Entry key={index} at={entry.at}>
              <b>Run again</b>
            </Entry>
          )
          : entry.kind === "plain"
          ? <Plain key={index} task={task} />
          : <Entry key={index} at={null}>An earlier run, which left no events</Entry>
      )}
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
      {status === "cancelled" && task.lockedBy !== null && (
        <Entry at={task.finishedAt} class="open">
          <Badge state="stopping" /> its handler is unwinding
          <Worker name={task.lockedBy} />
        </Entry>
      )}
    </ol>
  )
}

/** A run that left no events: what the row says of it. */
const Plain = (
  { task: { completedBy, error, finishedAt, startedAt, status, timing } }: { readonly task: TaskDetail }
) => {
  const ended = status === "queued" ? "completed" : status
  return (
    <>
      {startedAt !== null && (
        <Entry at={startedAt}>
          <b>Claimed</b>
          {timing.waitedMs !== null && status !== "queued" && (
            <span class="muted">{` after ${Format.duration(timing.waitedMs)} of waiting`}</span>
          )}
        </Entry>
      )}
      <Entry at={finishedAt} class={ended}>
        <Badge state={ended} />
        {startedAt !== null && finishedAt !== null && (
          <span class="muted">
            {` after ${Format.duration(Clock.millis(finishedAt) - Clock.millis(startedAt))}`}
          </span>
        )}
        <Worker name={completedBy} />
        {error !== null && <Failure error={error} />}
      </Entry>
    </>
  )
}

const Ended = ({ attempts }: { readonly attempts: readonly [Attempt, ...ReadonlyArray<Attempt>] }) => {
  const last = attempts.at(-1)!
  const { durationMs, endedAt, error, outcome, reason, runAt, startedAt, worker } = last
  const alike = attempts.length > 1
  return (
    <>
      {!alike && startedAt !== null && (
        <Entry at={startedAt}>
          <b>Claimed</b>
          <Worker name={worker} />
        </Entry>
      )}
      <Entry at={endedAt} class={outcome}>
        <Badge state={outcome} />
        {alike
          ? <b>{` ${attempts.length} times alike`}</b>
          : durationMs !== null
          ? <span class="muted">{` after ${Format.duration(durationMs)}`}</span>
          : startedAt === null && <span class="muted">{" while nobody held it"}</span>}
        {reason !== null && <span>{` ${reason.replaceAll("_", " ")}`}</span>}
        {runAt !== null && <span class="muted">{`, next at ${Format.time(new Date(Clock.millis(runAt)))}`}</span>}
        {!alike && startedAt === null && <Worker name={worker} />}
        {error !== null && <Failure error={error} />}
        {alike && (
          <details>
            <summary>{`The ${attempts.length} attempts`}</summary>
            <ol class="alike">
              {attempts.map(({ durationMs, endedAt, epoch, worker }) => (
                <li key={epoch}>
                  <Moment at={endedAt} />
                  {durationMs !== null && <span class="muted">{` after ${Format.duration(durationMs)}`}</span>}
                  <Worker name={worker} />
                </li>
              ))}
            </ol>
          </details>
        )}
      </Entry>
    </>
  )
}

const Worker = ({ name }: { readonly name: string | null }) =>
  name === null ? null : <div class="worker muted" title="The worker that held it">{name}</div>

/** The story of a task as its row and its closing events tell it, also where nobody wrote something down. */
import type { Attempt, TaskDetail } from "../server/Views.ts"

export type Entry =
  /** Claims that ended, one after the other, all with the same failure. */
  | { readonly kind: "attempts"; readonly attempts: readonly [Attempt, ...ReadonlyArray<Attempt>] }
  /** A run without events, of which the row still tells. */
  | { readonly kind: "plain" }
  /** A run without events, of which only its epoch is left. */
  | { readonly kind: "untold" }
  /** Somebody queued it again after it had ended; null where nobody wrote down when. */
  | { readonly kind: "again"; readonly at: TaskDetail["runAt"] | null }

type Told = Pick<TaskDetail, "attemptsEnded" | "epoch" | "finishedAt" | "lockedBy" | "runAt" | "startedAt" | "status">

const isFinal = ({ outcome }: Attempt) => outcome === "done" || outcome === "error" || outcome === "cancelled"

/** Between its creation and what it does now, oldest first. */
export const entriesOf = (task: Told): ReadonlyArray<Entry> => {
  const { attemptsEnded, runAt, status } = task
  const entries: Array<Entry> = []
  // Running again sets when it is due; a retry moves that.
  const again = (after: Instant | null, before: Instant | null): Entry => ({
    kind: "again",
    at: isBefore(after, runAt) && isBefore(runAt, before) ? runAt : null
  })
  const first = attemptsEnded[0]
  const open = status === "queued" || status === "processing" || task.lockedBy !== null
  const claimed = BigInt(task.epoch) - (status === "queued" ? 0n : 1n)
  if (first === undefined ? claimed > 0n : BigInt(first.epoch) > 1n && attemptsEnded.length < mostAttempts) {
    const known = first === undefined && status === "queued" && task.finishedAt !== null
    entries.push({ kind: known ? "plain" : "untold" })
    entries.push(
      again(known ? task.finishedAt : null, first === undefined ? open ? null : task.startedAt : first.startedAt)
    )
  } else if (first === undefined && task.finishedAt !== null && !open) entries.push({ kind: "plain" })

  attemptsEnded.forEach((attempt, index) => {
    const before = attemptsEnded[index - 1]
    const last = entries.at(-1)
    if (before !== undefined && isFinal(before)) entries.push(again(before.endedAt, attempt.startedAt))
    else if (last?.kind === "attempts" && sameFailure(last.attempts[0], attempt)) {
      entries[entries.length - 1] = { kind: "attempts", attempts: [...last.attempts, attempt] }
      return
    }
    entries.push({ kind: "attempts", attempts: [attempt] })
  })
  const latest = attemptsEnded.at(-1)
  if (latest !== undefined && isFinal(latest) && open && status !== "cancelled") {
    entries.push(again(latest.endedAt, null))
  }
  return entries
}

/** As many as the server sends. */
const mostAttempts = 200

type Instant = { readonly epochMilliseconds: number }

const isBefore = (a: Instant | null, b: Instant | null) =>
  a === null || b === null || a.epochMilliseconds <= b.epochMilliseconds

const sameFailure = (a: Attempt, b: Attempt) =>
  a.error !== null && b.error !== null && a.error.kind === b.error.kind && a.error.tag === b.error.tag &&
  a.error.message === b.error.message

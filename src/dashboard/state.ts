/** What a task is doing, and what can be done with it. */
import type { Status } from "../server/Views.ts"

export interface Standing {
  readonly status: Status
  readonly attempts: number
  readonly lockedBy: string | null
  readonly runAt: { readonly epochMilliseconds: number }
}

export type State = Status | "scheduled" | "retrying" | "stopping"

/** The status, told apart further where the row says more. */
export const stateOf = ({ attempts, lockedBy, runAt, status }: Standing, now: number): State => {
  if (status === "cancelled" && lockedBy !== null) return "stopping"
  if (status !== "queued" || runAt.epochMilliseconds <= now) return status
  return attempts > 0 ? "retrying" : "scheduled"
}

export const about: Readonly<Record<State, string>> = {
  queued: "Waits to be claimed",
  processing: "A worker runs it",
  completed: "It succeeded",
  failed: "It failed and is not tried again",
  cancelled: "It was cancelled",
  scheduled: "Waits for its time",
  retrying: "An attempt failed; it is tried again at its time",
  stopping: "It is cancelled and its finalizers are running"
}

/** What an action applies to. What has completed runs again only where nothing else is looked at. */
export const applies = (action: "cancel" | "retry", status: Status, looksAt: Status | undefined): boolean =>
  action === "cancel"
    ? status === "queued" || status === "processing"
    : status === "failed" || status === "cancelled" || (status === "completed" && looksAt === "completed")

export type Action = "cancel" | "retry" | "runNow"

/** Why the action cannot work now; undefined where it can. */
export const obstacle = (action: Action, task: Standing, now: number): string | undefined => {
  const final = task.status !== "queued" && task.status !== "processing"
  switch (action) {
    case "cancel":
      return final ? `It is ${task.status} already` : undefined
    case "retry":
      if (!final) return `It is ${task.status}: only what has ended is run again`
      return task.lockedBy === null ? undefined : "It is still stopping: its finalizers are running"
    case "runNow":
      if (task.status !== "queued") return "Only what waits can be run now"
      return task.runAt.epochMilliseconds > now ? undefined : "It is due already"
  }
}

export const isOver = ({ lockedBy, status }: Standing) =>
  status !== "queued" && status !== "processing" && lockedBy === null

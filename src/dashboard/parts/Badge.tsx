import { about, type State } from "../state.ts"

type Outcome = State | "retried" | "released" | "done" | "error" | "retry"

const shades: Readonly<Record<Outcome, string>> = {
  queued: "queued",
  scheduled: "scheduled",
  retrying: "retried",
  processing: "processing",
  stopping: "stopping",
  completed: "completed",
  done: "completed",
  failed: "failed",
  error: "failed",
  retried: "retried",
  retry: "retried",
  cancelled: "cancelled",
  released: "released"
}

export const Badge = ({ state }: { readonly state: Outcome }) => (
  <span class={`badge ${shades[state]}`} title={state in about ? about[state as State] : undefined}>{state}</span>
)

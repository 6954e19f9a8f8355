import type { Cancellation } from "../../server/Views.ts"
import * as Format from "../format.ts"
import { Moment } from "./Elapsed.tsx"
import { Panel } from "./Panel.tsx"

/** What the cancel took, step by step. */
export const Cancelled = ({ cancellation }: { readonly cancellation: Cancellation }) => {
  const { noticedMs, requestedAt, totalMs, unwoundMs } = cancellation
  const steps = [
    ["Handler interrupted", "+", noticedMs, "from the commit of the cancel, the last write included"],
    ["Finalizers done", "+", unwoundMs, "from the interruption until the handler and its finalizers had ended"],
    ["Closed", "=", totalMs, "from the commit of the cancel to the closing event"]
  ] as const
  return (
    <Panel
      title="Cancel"
      class="cancel"
      aside={totalMs === null
        ? <span class="muted">still going on</span>
        : <span class="num">{exact(totalMs)} in all</span>}
    >
      <ol class="steps">
        <li>
          <b>Requested</b>
          <span>{requestedAt === null ? <span class="muted">not recorded</span> : <Moment at={requestedAt} />}</span>
        </li>
        {steps.map(([name, sign, ms, meaning]) => (
          <li key={name} title={meaning} class={ms === null ? "unknown" : ""}>
            <b>{name}</b>
            <span class="num">
              {ms === null ? <span class="muted">{totalMs === null ? "…" : "–"}</span> : `${sign} ${exact(ms)}`}
            </span>
          </li>
        ))}
      </ol>
    </Panel>
  )
}

const exact = (ms: number) => ms < 10 && ms > 0 ? `${ms.toFixed(1)} ms` : Format.duration(ms)

import type { QueueState } from "../../server/Views.ts"
import * as Format from "../format.ts"
import { href } from "../router.ts"

export const QueueTable = ({ queues }: { readonly queues: ReadonlyArray<QueueState> }) => (
  <table class="queues">
    <thead>
      <tr>
        <th class="name">Queue</th>
        <th>Due</th>
        <th>Scheduled</th>
        <th>Processing</th>
        <th>Oldest due</th>
        <th class="ended">
          Completed<span class="muted">/min</span>
        </th>
        <th class="ended">
          Failed<span class="muted">/min</span>
        </th>
        <th class="ended">
          Cancelled<span class="muted">/min</span>
        </th>
      </tr>
    </thead>
    <tbody>
      {queues.map((queue) => (
        <tr key={queue.name} data-row={queue.name} tabIndex={-1}>
          <td class="name">
            <a href={href("/tasks", { queue: queue.name })}>{queue.name}</a>
          </td>
          <Amount label="Due" of={queue.due} to={href("/tasks", { queue: queue.name, status: "queued" })} />
          <Amount label="Scheduled" of={queue.scheduled} to={href("/tasks", { queue: queue.name, status: "queued" })} />
          <Amount
            label="Processing"
            of={queue.processing}
            to={href("/tasks", { queue: queue.name, status: "processing" })}
          />
          <td class="num" data-label="Oldest due">
            {queue.oldestDueAgeMs === null ? <span class="muted">–</span> : Format.duration(queue.oldestDueAgeMs)}
          </td>
          {([["completed", "Completed"], ["failed", "Failed"], ["cancelled", "Cancelled"]] as const).map((
            [outcome, label]
          ) => (
            <td key={outcome} class="num ended" data-label={`${label}/min`}>
              <span class={queue.endedLastMinute[outcome] === 0 ? "muted" : outcome === "failed" ? "bad" : ""}>
                {Format.count(queue.endedLastMinute[outcome])}
              </span>
            </td>
          ))}
        </tr>
      ))}
    </tbody>
  </table>
)

const Amount = (
  { label, of: { capped, count }, to }: {
    readonly label: string
    readonly of: { readonly count: number; readonly capped: boolean }
    readonly to: string
  }
) => (
  <td class="num" data-label={label}>
    {count === 0 ? <span class="muted">0</span> : <a href={to}>{Format.count(count, capped)}</a>}
  </td>
)

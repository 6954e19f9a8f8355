import { rowKeys, useKeys } from "../keyboard.ts"
import { useHints } from "../live.ts"
import { Empty, Panel, Trouble } from "../parts/Panel.tsx"
import { QueueTable } from "../parts/QueueTable.tsx"
import { useResource } from "../refresh.ts"

export const Queues = () => {
  useHints()
  useKeys(rowKeys)
  const { problem, reload, value } = useResource("queues", (client) => client.overview.queues(), {
    every: 2500,
    hints: true
  })
  return (
    <>
      <h1>Queues</h1>
      {value === undefined && problem !== undefined
        ? <Trouble title="The queues cannot be read" message={problem.message} again={reload} />
        : (
          <Panel title="All queues" aside={<span class="muted">over all workers; what ended, of this instance</span>}>
            {value === undefined
              ? <Empty>…</Empty>
              : value.length === 0
              ? <Empty>No queue has a task yet. A queue is there as soon as a task names it.</Empty>
              : <QueueTable queues={value} />}
          </Panel>
        )}
    </>
  )
}

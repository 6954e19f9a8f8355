/**
 * The drain once more, with a million finished and with a million queued rows in the table.
 */
import { Effect } from "effect"
import * as Goals from "../goals.ts"
import { progress } from "../output.ts"
import { ratios, type Section, significant, times, whole } from "../report.ts"
import type { Settings } from "../settings.ts"
import { insertFinished, insertMany } from "../systems.ts"
import { type Content, freshDatabase } from "../trial.ts"
import { drain, type Drained } from "./drain.ts"

const concurrency = 50
const million = 1_000_000

interface Case {
  readonly label: string
  readonly content?: Content | undefined
  readonly goal?: Goals.Goal | undefined
}

const cases: ReadonlyArray<Case> = [
  { label: "empty" },
  {
    label: "1 M finished",
    content: { name: "1 M finished rows", insert: insertFinished, rows: million },
    goal: Goals.history
  },
  { label: "1 M queued", content: { name: "1 M queued rows", insert: insertMany, rows: million }, goal: Goals.backlog }
]

export const workload = Effect.fnUntraced(function*({ rounds, systems, tasks }: Settings) {
  const results = systems.filter(({ own }) => own === undefined).flatMap((system) =>
    cases.map((one) => ({ ...one, system, all: Array<Drained>() }))
  )
  // All of them first: a disk that still writes a million rows would slow the run that comes next.
  yield* Effect.forEach(results, ({ content, system }) => Effect.scoped(freshDatabase(system, content)))
  for (let round = 1; round <= rounds; round++) {
    for (const { all, content, label, system } of results) {
      const result = yield* drain({ system, concurrency, tasks, content, enqueue: content?.insert !== insertMany })
      yield* progress(`history, round ${round}: ${system.name}, ${label} ${whole(result.rate)}/s`)
      all.push(result)
    }
  }
  return cases.map(({ goal, label }) => {
    const chosen = results.filter((result) => result.label === label)
    return {
      title: `Drain, ${label} rows`.replace("empty rows", "empty table"),
      text: `${
        whole(tasks)
      } no-op tasks, concurrency ${concurrency}; median (min–max) of ${rounds} alternating rounds.`,
      columns: [
        { title: "tasks/s", format: whole },
        { title: "× own empty table", format: times, goal },
        { title: "worker CPU µs/task", format: significant },
        { title: "server CPU µs/task", format: significant },
        { title: "WAL B/task", format: whole, goal: goal === undefined ? undefined : Goals.wal }
      ],
      rows: chosen.map(({ all, system }) => {
        const own = results.find((result) => result.system === system && result.content === undefined)?.all ?? []
        return {
          label: system.name,
          judged: system.name === "spindle",
          cells: [
            all.map(({ rate }) => rate),
            ratios(all.map(({ rate }) => rate), own.map(({ rate }) => rate)),
            all.map(({ workerMicros }) => workerMicros),
            all.map(({ serverMicros }) => serverMicros),
            all.map(({ wal }) => wal)
          ]
        }
      }),
      others: chosen.flatMap(({ all }) => all).map(({ others }) => others)
    } satisfies Section as Section
  })
})

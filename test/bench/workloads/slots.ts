/**
 * Tasks that only wait, at a concurrency of 500: how near a worker comes to having every slot busy all the time.
 */
import { Effect } from "effect"
import * as Goals from "../goals.ts"
import { progress } from "../output.ts"
import { sleepMillis } from "../protocol.ts"
import { type Section, type Series, significant, times, whole } from "../report.ts"
import type { Settings } from "../settings.ts"
import { drain, type Drained } from "./drain.ts"

const concurrency = 500
const tasks = 20_000
const idealSeconds = tasks * sleepMillis / 1000 / concurrency

export const workload = Effect.fnUntraced(function*({ rounds, systems }: Settings) {
  // Two batches of pg-boss are 4,000 jobs at a time: no matter of slots. The loop has ten connections.
  const results = new Map(
    systems.filter(({ name }) => name !== "pg-boss" && name !== "naive").map((system) => [system, Array<Drained>()])
  )
  for (let round = 1; round <= rounds; round++) {
    for (const [system, all] of results) {
      const result = yield* drain({ system, concurrency, tasks, enqueue: true, job: "sleep" })
      yield* progress(`slots, round ${round}: ${system.name} ${significant(tasks / result.rate / idealSeconds)}× ideal`)
      all.push(result)
    }
  }
  return {
    title: `${whole(concurrency)} slots`,
    text:
      `${
        whole(tasks)
      } tasks that wait for ${sleepMillis} ms, concurrency ${concurrency}: with every slot always busy they ` +
      `take ${idealSeconds} s. Systems alternate, median (min–max) of ${rounds} rounds.`,
    columns: [
      { title: "× ideal time", format: times, goal: Goals.slots },
      { title: "tasks/s", format: whole },
      { title: "worker CPU µs/task", format: significant },
      { title: "server CPU µs/task", format: significant },
      { title: "peak RSS MB", format: significant }
    ],
    rows: [...results].map(([system, all]) => {
      const series = (figure: keyof Drained): Series => all.map((result) => result[figure])
      return {
        label: system.name,
        judged: system.name === "spindle",
        cells: [
          all.map(({ rate }) => tasks / rate / idealSeconds),
          series("rate"),
          series("workerMicros"),
          series("serverMicros"),
          series("peak")
        ]
      }
    }),
    others: [...results.values()].flat().map(({ others }) => others)
  } satisfies Section as Section
})

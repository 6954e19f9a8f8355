/**
 * What a producer pays: single calls of 32 at a time, and bulks of 10,000, against a plain insert with its notification.
 */
import { Effect, Redacted } from "effect"
import { BenchError } from "../errors.ts"
import * as Goals from "../goals.ts"
import { progress } from "../output.ts"
import { ratios, type Section, type Series, significant, times, whole } from "../report.ts"
import { connectTo, Server } from "../server.ts"
import type { Settings } from "../settings.ts"
import { naive, spindle, type System } from "../systems.ts"
import { freshDatabase, read, spent } from "../trial.ts"
import { spawn } from "../worker.ts"

const cases = [
  { label: "32 at a time", tasks: 10_000, atOnce: 32, bulk: 1, goal: Goals.enqueue },
  { label: "bulks of 10,000", tasks: 100_000, atOnce: 1, bulk: 10_000, goal: Goals.enqueueBulk }
]

interface Produced {
  readonly rate: number
  readonly producerMicros: number
  readonly serverMicros: number | undefined
  readonly others: number | undefined
}

const produce = Effect.fnUntraced(function*(system: System, { atOnce, bulk, tasks }: typeof cases[number]) {
  const server = yield* Server
  const database = yield* freshDatabase(system)
  const producer = yield* spawn(system)
  const before = yield* read(producer)
  const took = yield* producer.call("produce", {
    url: Redacted.value(server.url(database)),
    tasks,
    atOnce,
    bulk
  })
  const used = spent(before, yield* read(producer))
  const sql = yield* connectTo(server.url(database))
  const [stored] = yield* sql.unsafe<{ rows: number }>(`select count(*)::int as rows from ${system.table}`)
  if ((stored?.rows ?? 0) < tasks) {
    return yield* new BenchError({ message: `${system.name} has stored ${stored?.rows} of ${tasks} tasks` })
  }
  return {
    rate: tasks / took * 1000,
    producerMicros: used.worker / stored!.rows * 1e6,
    serverMicros: used.server === undefined ? undefined : used.server / stored!.rows * 1e6,
    others: used.others === undefined ? undefined : used.others / took * 1000
  } satisfies Produced as Produced
}, Effect.scoped)

export const workload = Effect.fnUntraced(function*({ rounds, systems }: Settings) {
  const compared = [spindle, naive].filter((system) => systems.includes(system))
  return yield* Effect.forEach(cases, (one) =>
    Effect.gen(function*() {
      const results = new Map(compared.map((system) => [system, Array<Produced>()]))
      for (let round = 1; round <= rounds; round++) {
        for (const [system, all] of results) {
          const result = yield* produce(system, one)
          yield* progress(`enqueue ${one.label}, round ${round}: ${system.name} ${whole(result.rate)}/s`)
          all.push(result)
        }
      }
      const plain = results.get(naive)?.map(({ rate }) => rate) ?? []
      return {
        title: `Enqueue, ${one.label}`,
        text:
          `${
            whole(one.tasks)
          } tasks; median (min–max) of ${rounds} alternating rounds. "naive" is a plain insert with a ` +
          `notification in one statement. CPU includes the producer's start-up and warm-up.`,
        columns: [
          { title: "tasks/s", format: whole },
          { title: "× plain insert", format: times, goal: one.goal },
          { title: "producer CPU µs/task", format: significant },
          { title: "server CPU µs/task", format: significant }
        ],
        rows: [...results].map(([system, all]) => {
          const series = (figure: keyof Produced): Series => all.map((result) => result[figure])
          return {
            label: system.name,
            judged: system === spindle,
            cells: [series("rate"), ratios(series("rate"), plain), series("producerMicros"), series("serverMicros")]
          }
        }),
        others: [...results.values()].flat().map(({ others }) => others)
      } satisfies Section as Section
    }))
})

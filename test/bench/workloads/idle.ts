/**
 * A worker with nothing to do: its memory, and what it asks of the server meanwhile.
 */
import { Effect } from "effect"
import * as Goals from "../goals.ts"
import { progress } from "../output.ts"
import { type Section, significant } from "../report.ts"
import { Server } from "../server.ts"
import type { Settings } from "../settings.ts"
import type { System } from "../systems.ts"
import { connectWorker, freshDatabase, read, spent } from "../trial.ts"

const concurrency = 50
const seconds = 15

const idle = Effect.fnUntraced(function*(system: System) {
  const server = yield* Server
  const database = yield* freshDatabase(system)
  yield* server.logStatements(database)
  const worker = yield* connectWorker(system, database, {
    concurrency,
    notifications: system.channels === undefined,
    job: "end",
    expected: Infinity,
    record: false
  })
  yield* worker.call("go")
  yield* Effect.sleep("3 seconds")
  const before = yield* read(worker)
  const [, statements] = yield* server.countStatements(Effect.sleep(`${seconds} seconds`))
  const used = spent(before, yield* read(worker))
  const { rssBytes } = yield* worker.call("usage")
  return {
    rss: rssBytes / 2 ** 20,
    statements: statements === undefined ? undefined : statements / seconds,
    worker: used.worker / seconds * 1000,
    server: used.server === undefined ? undefined : used.server / seconds * 1000,
    others: used.others === undefined ? undefined : used.others / seconds
  }
}, Effect.scoped)

export const workload = Effect.fnUntraced(function*({ rounds, systems }: Settings) {
  const results = new Map(systems.map((system) => [system, Array<Effect.Success<ReturnType<typeof idle>>>()]))
  for (let round = 1; round <= rounds; round++) {
    for (const [system, all] of results) {
      const result = yield* idle(system)
      yield* progress(`idle, round ${round}: ${system.name} ${significant(result.rss)} MB`)
      all.push(result)
    }
  }
  return {
    title: "Idle",
    text:
      `A worker of concurrency ${concurrency} with an empty table, ${seconds} s, after 3 s to settle; median (min–max) of ` +
      `${rounds} rounds. Statements are counted in the server's log.`,
    columns: [
      { title: "RSS MB", format: significant, goal: Goals.idleMemory },
      { title: "statements/s", format: significant, goal: Goals.idleStatements },
      { title: "worker CPU ms/s", format: significant },
      { title: "server CPU ms/s", format: significant }
    ],
    rows: [...results].map(([system, all]) => ({
      label: system.name,
      judged: system.name === "spindle",
      cells: [
        all.map(({ rss }) => rss),
        all.map(({ statements }) => statements),
        all.map(({ worker }) => worker),
        all.map(({ server }) => server)
      ]
    })),
    others: [...results.values()].flat().map(({ others }) => others)
  } satisfies Section as Section
})

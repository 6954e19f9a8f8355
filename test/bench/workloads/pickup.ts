/**
 * An idle system, and now and then a task: how long until its handler starts.
 */
import { Effect } from "effect"
import * as Goals from "../goals.ts"
import { progress } from "../output.ts"
import { now } from "../protocol.ts"
import { ratios, type Section, significant, times } from "../report.ts"
import { connectTo, Server } from "../server.ts"
import type { Settings } from "../settings.ts"
import { insertOne } from "../systems.ts"
import { connectWorker, freshDatabase, read, spent } from "../trial.ts"
import { listening, notified, polling, type Variant } from "../variants.ts"
import { cells, columns, type Latency, latency, type Sent } from "./latency.ts"

const tasks = 400
const interval = "50 millis"
const concurrency = 10

interface Picked extends Latency {
  readonly others: number | undefined
}

const pickup = Effect.fnUntraced(function*({ notifications, system }: Variant) {
  const server = yield* Server
  const database = yield* freshDatabase(system)
  const sql = yield* connectTo(server.url(database))
  const worker = yield* connectWorker(system, database, {
    concurrency,
    notifications,
    job: "end",
    expected: tasks + 1,
    record: true
  })
  yield* worker.call("go")

  const insert = insertOne(system, notifications)
  const send = Effect.gen(function*() {
    const called = now()
    const [added] = yield* sql.unsafe<{ id: bigint }>(insert)
    return { task: String(added?.id), called, committed: now() } satisfies Sent as Sent
  })
  // The first one waits for a start-up to end and warms both sides.
  yield* send
  yield* Effect.sleep("2 seconds")
  const before = yield* read(worker)
  const start = now()
  const sent = yield* Effect.forEach(Array(tasks), () => Effect.delay(send, interval))
  yield* Effect.timeoutOption(worker.call("reached"), "10 seconds")
  const used = spent(before, yield* read(worker))
  const { started } = yield* worker.call("samples")
  return {
    ...latency(sent, started),
    others: used.others === undefined ? undefined : used.others / (now() - start) * 1000
  } satisfies Picked as Picked
}, Effect.scoped)

export const workload = Effect.fnUntraced(function*({ rounds, systems }: Settings) {
  const variants = [notified, listening, polling].filter(({ system }) => systems.includes(system))
  const results = new Map(variants.map((variant) => [variant, Array<Picked>()]))
  for (let round = 1; round <= rounds; round++) {
    for (const [variant, all] of results) {
      const result = yield* pickup(variant)
      yield* progress(`pickup, round ${round}: ${variant.label} p50 ${significant(result.p50 ?? NaN)} ms`)
      all.push(result)
    }
  }
  const bare = results.get(listening) ?? []
  const rows = [...results].map(([variant, all]) => ({
    label: variant.label,
    judged: variant === notified,
    cells: [
      ...cells(all),
      ratios(all.map(({ p50 }) => p50), bare.map(({ p50 }) => p50)),
      ratios(all.map(({ p99 }) => p99), bare.map(({ p99 }) => p99))
    ]
  }))
  return {
    title: "Pickup",
    text:
      `One task every 50 ms on an idle system, concurrency ${concurrency}, ${tasks} tasks a round; median (min–max) of ${rounds} ` +
      `rounds' quantiles. All processes read one clock, the machine's monotonic one. "naive" polls once a second; "naive with LISTEN" ` +
      `is the bare mechanism. The goals are set against graphile-worker, which was 1.12 times (p50) and 1.33 times (p99) the bare ` +
      `mechanism.`,
    columns: [
      ...columns(),
      { title: "p50 × LISTEN", format: times, goal: Goals.pickupMedian },
      { title: "p99 × LISTEN", format: times, goal: Goals.pickupTail }
    ],
    rows,
    others: [...results.values()].flat().map(({ others }) => others)
  } satisfies Section as Section
})

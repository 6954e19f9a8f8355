/**
 * Tasks that wait, cancelled from this process by plain SQL: how long until the handler is interrupted.
 */
import { Effect } from "effect"
import * as Goals from "../goals.ts"
import { progress } from "../output.ts"
import { now } from "../protocol.ts"
import { type Column, ratios, type Section, significant, times } from "../report.ts"
import { connectTo, Server } from "../server.ts"
import type { Settings } from "../settings.ts"
import * as Systems from "../systems.ts"
import { connectWorker, freshDatabase, read, spent } from "../trial.ts"
import { listening, notified, unnotified, type Variant } from "../variants.ts"
import { cells, columns, type Latency, latency, type Sent } from "./latency.ts"

const tasks = 200
const interval = "50 millis"
/** How long a cancel may take before it counts as never seen. */
const patience = "6 seconds"

interface Cancelled extends Latency {
  readonly others: number | undefined
}

const cancel = Effect.fnUntraced(function*({ notifications, system }: Variant) {
  const server = yield* Server
  const database = yield* freshDatabase(system)
  const sql = yield* connectTo(server.url(database))
  yield* sql.unsafe(Systems.insertMany(system), [tasks])
  const worker = yield* connectWorker(system, database, {
    concurrency: tasks,
    notifications,
    job: "wait",
    expected: tasks,
    record: true
  })
  yield* Effect.all([worker.call("reached"), worker.call("go")], { concurrency: "unbounded" })
  const { started } = yield* worker.call("samples")

  const statement = Systems.cancel(system, notifications)
  const send = Effect.fnUntraced(function*(task: string) {
    const called = now()
    yield* sql.unsafe(statement, [BigInt(task)])
    return { task, called, committed: now() } satisfies Sent as Sent
  })
  const before = yield* read(worker)
  const start = now()
  const sent = yield* Effect.forEach(started, ([task]) => Effect.delay(send(task), interval))
  const interrupted = yield* Effect.map(worker.call("samples"), (samples) => samples.interrupted).pipe(
    Effect.delay("100 millis"),
    Effect.repeat({ until: (marks) => marks.length >= tasks }),
    Effect.timeoutOrElse({
      duration: patience,
      orElse: () => Effect.map(worker.call("samples"), (samples) => samples.interrupted)
    })
  )
  const used = spent(before, yield* read(worker))
  return {
    ...latency(sent, interrupted),
    others: used.others === undefined ? undefined : used.others / (now() - start) * 1000
  } satisfies Cancelled as Cancelled
}, Effect.scoped)

export const workload = Effect.fnUntraced(function*({ rounds, systems }: Settings) {
  const variants = [notified, listening, unnotified].filter(({ system }) => systems.includes(system))
  const results = new Map(variants.map((variant) => [variant, Array<Cancelled>()]))
  for (let round = 1; round <= rounds; round++) {
    for (const [variant, all] of results) {
      const result = yield* cancel(variant)
      yield* progress(`cancel, round ${round}: ${variant.label} p50 ${significant(result.p50 ?? NaN)} ms`)
      all.push(result)
    }
  }
  const bare = results.get(listening) ?? []
  const row = (variant: Variant, all: ReadonlyArray<Cancelled>) => ({
    label: variant.label,
    judged: variant.system === Systems.spindle,
    cells: [...cells(all), ratios(all.map(({ callP50 }) => callP50), bare.map(({ callP50 }) => callP50))]
  })
  const section = (title: string, text: string, columns: ReadonlyArray<Column>, notifications: boolean): Section => {
    const chosen = [...results].filter(([variant]) => variant.notifications === notifications)
    return {
      title,
      text,
      columns,
      rows: chosen.map(([variant, all]) => row(variant, all)),
      others: chosen.flatMap(([, all]) => all).map(({ others }) => others)
    }
  }
  const ratio: Column = { title: "from call p50 × LISTEN", format: times, goal: Goals.cancelMedian }
  return [
    section(
      "Cancel",
      `${tasks} running tasks, one cancelled every 50 ms by an \`update\` of another process; until the handler is interrupted. ` +
        `Median (min–max) of ${rounds} rounds' quantiles, one clock for all processes. "naive with LISTEN" aborts an AbortSignal. The ratio is of ` +
        `the times from the call: a notification is often there before the acknowledgement of its commit.`,
      [...columns(), ratio],
      true
    ),
    section(
      "Cancel without notifications",
      "The same with notifications off: the worker finds out by its poll.",
      columns(Goals.cancelUnnotified),
      false
    )
  ]
})

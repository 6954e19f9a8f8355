/**
 * A worker's metrics in Effect's `Metric.MetricRegistry`, where whatever exports metrics finds them beside those of the
 * application. They are read when they are asked for: nothing is registered, looked up or labelled while tasks run.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import type * as Scope from "effect/Scope"
import type * as Histogram from "../internal/Histogram.ts"
import { Stats } from "../Stats.ts"
import { monotonicMillis } from "./Attempt.ts"
import { Journal } from "./Journal.ts"
import { Measures } from "./Measures.ts"
import { Pulses } from "./Pulse.ts"
import { Settings } from "./Settings.ts"
import { Supervisor } from "./Supervisor.ts"
import { WakeUps } from "./WakeUps.ts"

type Labels = Readonly<Record<string, string>>

/**
 * Registers them until the scope closes. Each has the label `worker`: the worker's own, without what is fresh at each
 * start, and numbered if there are several of that name in the process.
 *
 * @category constructors
 * @since 0.1.0
 */
export const register: Effect.Effect<
  void,
  never,
  Journal | Measures | Pulses | Scope.Scope | Settings | Stats | Supervisor | WakeUps
> = Effect.gen(function*() {
  const registry = yield* Metric.MetricRegistry
  const clock = yield* Clock.Clock
  const stats = yield* Stats
  const journal = yield* Journal
  const measures = yield* Measures
  const pulses = yield* Pulses
  const supervisor = yield* Supervisor
  const wakeUps = yield* WakeUps
  const { concurrency, workerId } = yield* Settings
  const keys: Array<string> = []
  const worker = freeName(registry, workerId.slice(0, workerId.lastIndexOf("-")))

  const observe = <T extends Metric.Metric.Type, State>(
    type: T,
    id: string,
    description: string,
    labels: Labels,
    get: () => State
  ) => {
    const attributes = { ...labels, worker }
    const key = JSON.stringify([prefix, id, attributes])
    if (registry.has(key)) return
    keys.push(key)
    registry.set(key, { type, id, description, attributes, hooks: { get, update: ignore, modify: ignore } })
  }
  const counter = (id: string, description: string, get: () => number, labels: Labels = {}) =>
    observe("Counter", id, description, labels, () => ({ count: get(), incremental: true }))
  const gauge = (id: string, description: string, get: () => number, labels: Labels = {}) =>
    observe("Gauge", id, description, labels, () => ({ value: get() }))
  const histogram = (id: string, description: string, of: Histogram.Histogram, labels: Labels = {}) =>
    observe("Histogram", id, description, labels, () => of.state)

  counter("spindle_tasks_claimed_total", "Tasks that this worker has claimed.", () => stats.counters.claimed)
  gauge("spindle_tasks_running", "Handlers that run now.", supervisor.running)
  gauge("spindle_slots", "Handlers that may run at a time.", () => concurrency)
  stats.tallies.listen(({ ended, queue, runs, type, waits }) => {
    for (const outcome of Object.keys(ended) as Array<keyof typeof ended>) {
      counter(
        "spindle_attempts_ended_total",
        "Attempts that ended, by how they did: retried ones failed and run again, released ones were put back uncharged.",
        () => ended[outcome],
        { type, queue, outcome }
      )
    }
    histogram("spindle_attempt_duration_seconds", "From the start of a handler to its end.", runs, { type })
    histogram("spindle_task_wait_seconds", "From when a task was due to the start of its handler.", waits, { queue })
  })
  histogram(
    "spindle_cancel_reaction_seconds",
    "From the begin of a transaction that cancels a running task to the look that finds it and interrupts the handler.",
    measures.cancelSeconds
  )
  histogram("spindle_claim_duration_seconds", "How long claims took to be answered.", measures.claimSeconds)
  histogram("spindle_claim_batch_size", "Tasks per claim that brought any.", measures.claimSizes)
  histogram("spindle_write_duration_seconds", "How long writes of events and outcomes took.", measures.writeSeconds)
  histogram("spindle_write_batch_size", "Events and outcomes per write.", measures.writeSizes)
  counter("spindle_events_written_total", "Events of tasks that were written.", () => measures.eventsWritten)
  counter("spindle_writes_failed_total", "Writes that failed and were repeated.", () => measures.writesFailed)
  gauge("spindle_journal_entries", "Events and outcomes that wait to be written.", () => journal.backlog().entries)
  gauge("spindle_journal_outcomes", "Outcomes that are not written yet.", () => journal.unwritten()?.outcomes ?? 0)
  counter("spindle_heartbeats_missed_total", "Renewals of leases that failed.", () => measures.heartbeatsMissed)
  counter("spindle_leases_lost_total", "Handlers interrupted because of a lost lease.", () => measures.leasesLost)
  gauge(
    "spindle_notifications_up",
    "Whether notifications arrive (1), or the worker polls (0).",
    () => wakeUps.lostSince() === undefined ? 1 : 0
  )
  for (const pulse of pulses.all) {
    gauge(
      "spindle_loop_last_turn_timestamp_seconds",
      "When a background loop last turned; 0 before its first turn.",
      () =>
        pulse.lastTurnAt === undefined
          ? 0
          : (clock.currentTimeMillisUnsafe() - (monotonicMillis(clock) - pulse.lastTurnAt)) / 1000,
      { loop: pulse.name }
    )
    gauge(
      "spindle_loop_up",
      "Whether a background loop turns, or rests because there is nothing to do (1).",
      () => pulse.isWell(monotonicMillis(clock)) ? 1 : 0,
      { loop: pulse.name }
    )
  }
  gauge(
    "spindle_event_loop_lag_seconds",
    "The longest within the last minute that the event loop was held by something that computes without a yield.",
    () => measures.lag.longest.millis / 1000
  )

  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      for (const key of keys) registry.delete(key)
    })
  )
})

const prefix = "spindle/Worker"

const ignore = () => {}

const freeName = (registry: Metric.MetricRegistry, name: string) => {
  const taken = new Set<string | undefined>()
  for (const [key, { attributes }] of registry) {
    if (key.startsWith(`["${prefix}"`)) taken.add(attributes?.["worker"])
  }
  for (let n = 1;; n++) {
    const free = n === 1 ? name : `${name}-${n}`
    if (!taken.has(free)) return free
  }
}

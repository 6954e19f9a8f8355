/**
 * What Prometheus reads: the metrics of the registry (the workers' and the application's own), of the process, and of the
 * queues over all workers.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Metric from "effect/Metric"
import * as PrometheusMetrics from "effect/observability/PrometheusMetrics"
import * as Option from "effect/Option"
import * as Process from "node:process"
import { version } from "../internal/Version.ts"
import { Browse } from "../storage/Browse.ts"
import * as QueueDepth from "../storage/QueueDepth.ts"

const freshness = "5 seconds"
const maxQueues = 100

/**
 * Renders them. The queues are counted at most every 5 seconds, however many ask; while the database is away they are
 * left out, and `spindle_database_up` is 0.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.gen(function*() {
  const browse = yield* Browse
  const registry = yield* Metric.MetricRegistry
  const depths = yield* Effect.cachedWithTTL(
    Effect.option(browse.look("read the queues", QueueDepth.read)),
    freshness
  )
  const render = Effect.map(depths, (found) => {
    const own: Metric.MetricRegistry = new Map()
    const add = (
      type: "Counter" | "Gauge",
      id: string,
      description: string,
      value: number,
      attributes: Readonly<Record<string, string>> = {}
    ) => {
      const state = type === "Counter" ? { count: value, incremental: true } : { value }
      own.set(JSON.stringify([id, attributes]), {
        type,
        id,
        description,
        attributes,
        hooks: { get: () => state, update: () => {}, modify: () => {} }
      })
    }
    describeProcess(add)
    add("Gauge", "spindle_database_up", "Whether the queues could be counted.", Option.isSome(found) ? 1 : 0)
    if (Option.isSome(found)) describeQueues(add, found.value)
    return [registry, own].map((metrics) =>
      PrometheusMetrics.formatUnsafe(Context.make(Metric.MetricRegistry, metrics))
    ).join("")
  })
  return { render }
})

type Add = (
  type: "Counter" | "Gauge",
  id: string,
  description: string,
  value: number,
  attributes?: Readonly<Record<string, string>>
) => void

const describeProcess = (add: Add) => {
  const { system, user } = Process.cpuUsage()
  const { heapTotal, heapUsed, rss } = Process.memoryUsage()
  add("Gauge", "spindle_build_info", "1, with the versions of Spindle and Node.", 1, { version, node: Process.version })
  add("Counter", "process_cpu_seconds_total", "User and system CPU time.", (user + system) / 1e6)
  add("Gauge", "process_resident_memory_bytes", "Resident memory.", rss)
  add("Gauge", "process_start_time_seconds", "When the process started.", startedAt)
  add("Gauge", "nodejs_heap_size_total_bytes", "Heap of the JavaScript engine.", heapTotal)
  add("Gauge", "nodejs_heap_size_used_bytes", "Heap that is in use.", heapUsed)
}

const startedAt = Math.round(performance.timeOrigin) / 1000

const describeQueues = (add: Add, { queues }: QueueDepth.Depths) => {
  for (const { due, name: queue, oldestDueAgeMs, processing, scheduled } of shown(queues)) {
    const states = { due, scheduled, processing }
    for (const [state, { count }] of Object.entries(states)) {
      add(
        "Gauge",
        "spindle_queue_tasks",
        "Unfinished tasks over all workers; counting stops at some thousands of each queue.",
        count,
        { queue, state }
      )
    }
    add(
      "Gauge",
      "spindle_queue_oldest_due_age_seconds",
      "How long the oldest due task has waited; 0 where none is due.",
      (oldestDueAgeMs ?? 0) / 1000,
      { queue }
    )
  }
}

// Queues come from rows: beyond a hundred, the largest are told apart and the rest is one.
const shown = (queues: ReadonlyArray<QueueDepth.QueueDepth>): ReadonlyArray<QueueDepth.QueueDepth> => {
  if (queues.length <= maxQueues) return queues
  const size = ({ due, processing, scheduled }: QueueDepth.QueueDepth) => due.count + processing.count + scheduled.count
  const bySize = queues.toSorted((a, b) => size(b) - size(a))
  const rest = bySize.slice(maxQueues)
  const sum = (of: "due" | "processing" | "scheduled") => ({
    count: rest.reduce((total, queue) => total + queue[of].count, 0),
    capped: false
  })
  return [...bySize.slice(0, maxQueues), {
    name: "other",
    due: sum("due"),
    scheduled: sum("scheduled"),
    processing: sum("processing"),
    oldestDueAgeMs: Math.max(...rest.map(({ oldestDueAgeMs }) => oldestDueAgeMs ?? 0))
  }]
}

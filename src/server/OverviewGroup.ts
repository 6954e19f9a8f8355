/**
 * The group `overview`: this process, and the tables at a glance.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import * as Option from "effect/Option"
import * as Os from "node:os"
import * as Process from "node:process"
import * as Api from "../Api.ts"
import { HandlerRegistry } from "../HandlerRegistry.ts"
import { version } from "../internal/Version.ts"
import type * as Stats from "../Stats.ts"
import { Browse } from "../storage/Browse.ts"
import * as QueueDepth from "../storage/QueueDepth.ts"
import * as TaskPages from "../storage/TaskPages.ts"
import { Worker } from "../Worker.ts"
import * as Streams from "./Streams.ts"
import * as TypeDefinitions from "./TypeDefinitions.ts"
import * as Unavailable from "./Unavailable.ts"
import type * as Views from "./Views.ts"

/**
 * Without a worker in this process it shows the tables, and counters of zero.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = HttpApiBuilder.group(
  Api.Api,
  "overview",
  Effect.fnUntraced(function*(handlers) {
    const browse = yield* Browse
    const worker = yield* Effect.serviceOption(Worker)
    const registry = yield* Effect.serviceOption(HandlerRegistry)
    const start = yield* DateTime.now
    const takes = Option.match(worker, { onNone: () => () => true, onSome: ({ takes }) => takes })
    const types = Option.match(registry, { onNone: () => [], onSome: TypeDefinitions.make })

    const instance = Option.match(worker, {
      onNone: (): Effect.Effect<Instance> =>
        Effect.succeed({ ...idle, snapshot: { ...idle.snapshot, startedAt: start } }),
      onSome: ({ stats }) => Effect.all({ snapshot: stats.snapshot, ended: stats.endedLastMinute })
    })

    return handlers.handleAll({
      get: Effect.fnUntraced(function*() {
        const { depth, depths } = yield* Effect.mapError(
          browse.look(
            "read the queues",
            (tables) => Effect.all({ depth: TaskPages.depth(tables), depths: QueueDepth.read(tables) })
          ),
          Unavailable.fromStorage
        )
        const own = yield* instance
        const now = yield* Clock.currentTimeMillis
        const queues = queueStates(depths, own)
        const ages = queues.flatMap(({ oldestDueAgeMs }) => oldestDueAgeMs ?? [])
        const overview: Views.Overview = {
          id: Option.match(worker, { onNone: () => null, onSome: ({ id }) => id }),
          host: Os.hostname(),
          pid: Process.pid,
          version,
          started: own.snapshot.startedAt,
          uptimeMs: now - DateTime.toEpochMillis(own.snapshot.startedAt),
          counts: own.snapshot.counters,
          running: own.snapshot.running.map(({ attempt, startedAt, task: { id, queue, type } }) => ({
            id,
            type,
            queue,
            attempt,
            runningForMs: now - DateTime.toEpochMillis(startedAt)
          })),
          recent: own.snapshot.recent.map(({ duration, endedAt, error, status, task: { id, queue, type } }) => ({
            id,
            type,
            queue,
            status,
            endedAt,
            durationMs: duration === undefined ? null : Duration.toMillis(duration),
            error: error === undefined ? null : { tag: error.tag, message: error.message }
          })),
          depth,
          queues,
          oldestQueuedAgeMs: ages.length === 0 ? null : Math.max(...ages),
          unhandledTypes: Option.match(registry, {
            onNone: () => [],
            onSome: ({ types }) =>
              [...depths.dueTypes].filter((type) => !types.includes(type) || !takes(type)).toSorted()
          })
        }
        return overview
      }),
      series: () =>
        Option.match(worker, {
          onNone: () => Effect.succeed({ bucketMs: 5000, buckets: [] }),
          onSome: ({ stats }) => stats.series
        }),
      queues: () =>
        Effect.mapBoth(
          Effect.all([browse.look("read the queues", QueueDepth.read), instance]),
          { onSuccess: ([depths, own]) => queueStates(depths, own), onFailure: Unavailable.fromStorage }
        ),
      types: () => Effect.succeed(types)
    }).handleRaw("stream", () => Streams.lifecycle)
  })
)

interface Instance {
  readonly snapshot: Stats.Snapshot
  readonly ended: ReadonlyMap<string, Stats.EndedLastMinute>
}

const idle = {
  snapshot: {
    counters: { claimed: 0, completed: 0, failed: 0, cancelled: 0, retried: 0, released: 0 },
    running: [],
    recent: []
  },
  ended: new Map<string, Stats.EndedLastMinute>()
}

const nothing: Stats.EndedLastMinute = { completed: 0, failed: 0, cancelled: 0 }

// Those with unfinished tasks, and those that this process served a moment ago.
const queueStates = (depths: QueueDepth.Depths, { ended, snapshot }: Instance): ReadonlyArray<Views.QueueState> => {
  const byName = new Map(depths.queues.map((queue) => [queue.name, queue]))
  const names = new Set([
    ...byName.keys(),
    ...ended.keys(),
    ...snapshot.running.map(({ task }) => task.queue),
    ...snapshot.recent.map(({ task }) => task.queue)
  ])
  return Array.from(names, (name) => ({
    ...byName.get(name) ?? QueueDepth.empty(name),
    endedLastMinute: ended.get(name) ?? nothing
  })).toSorted((a, b) => a.name < b.name ? -1 : 1)
}

/**
 * Claims tasks for the free slots: when a slot is freed while there is more, on a notification, when the next task is
 * due, and every poll interval.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Db from "../Db.ts"
import { HandlerRegistry } from "../HandlerRegistry.ts"
import { Stats } from "../Stats.ts"
import type { ClaimedRow, Cursor, Reach } from "../storage/Claim.ts"
import type { StorageError } from "../storage/StorageError.ts"
import { type Claimed, TaskStore } from "../storage/TaskStore.ts"
import { monotonicMillis } from "./Attempt.ts"
import { CancelWatcher } from "./CancelWatcher.ts"
import * as Loop from "./Loop.ts"
import { Measures } from "./Measures.ts"
import { Pulses } from "./Pulse.ts"
import { globs, Settings } from "./Settings.ts"
import { type Demand, Supervisor } from "./Supervisor.ts"
import { WakeUps } from "./WakeUps.ts"

// Less than a worker has to shut down: what a lost reply claimed can still be given back then.
const patience = "3 seconds"
// So long a claim may go on where the last one stopped, before it looks for other places and for what became visible late.
const furtherMillis = 100

/**
 * What is not known of the last claims: of one that `failed`, or was `unanswered` in time, whether it took something.
 *
 * @category models
 * @since 0.1.0
 */
export type Doubt = "none" | "failed" | "unanswered"

/**
 * @category services
 * @since 0.1.0
 */
export class Claimer extends Context.Service<Claimer, {
  /** Claims, until it is stopped. */
  readonly run: Effect.Effect<never>
  /** Waits for the claim under way, if any; after that nothing is claimed. */
  readonly stop: Effect.Effect<void>
  /** Waits for the claim under way, if any. */
  readonly settled: Effect.Effect<void>
  /** Until somebody has looked at what this worker holds. */
  readonly doubt: { value: Doubt }
}>()("spindle/Claimer") {
  static readonly layer: Layer.Layer<
    Claimer,
    never,
    TaskStore | Supervisor | WakeUps | CancelWatcher | HandlerRegistry | Stats | Measures | Pulses | Settings
  > = Layer.effect(
    Claimer,
    Effect.gen(function*() {
      const store = yield* TaskStore
      const clock = yield* Clock.Clock
      const supervisor = yield* Supervisor
      const watcher = yield* CancelWatcher
      const stats = yield* Stats
      const measures = yield* Measures
      const { queued } = yield* WakeUps
      const { leaseMillis, pollMillis, queues: bounds, taskTypes, workerId } = yield* Settings
      const pulse = (yield* Pulses).make("claiming", pollMillis)
      const types = (yield* HandlerRegistry).types.filter(globs(taskTypes))
      const settled = Latch.makeUnsafe(true)
      const doubt: { value: Doubt } = { value: "none" }
      let stopping = false
      let afterQueue = ""
      let reach: Reach = "one"
      let cursor: Cursor | undefined
      let lookAgainAt = 0

      // From the reply to a fiber that owns the row nothing is interruptible. A reply that does not come in time is not
      // waited for: what it claimed is put back by LeaseKeeper.
      const claim = (request: Effect.Effect<Claimed, StorageError>) =>
        Effect.uninterruptibleMask((restore) =>
          Effect.suspend(() => {
            if (stopping) return Effect.succeedNone
            settled.closeUnsafe()
            const sentAt = monotonicMillis(clock)
            return restore(Db.patiently(request, patience)).pipe(
              Effect.tap(Option.match({
                onNone: () => {
                  doubt.value = "unanswered"
                  return Effect.logWarning("a claim was not answered in time")
                },
                onSome: ({ tasks }) =>
                  Effect.sync(() => {
                    measures.claimSeconds.observe((monotonicMillis(clock) - sentAt) / 1000)
                    accept(tasks)
                  })
              })),
              Effect.tapError(() =>
                Effect.sync(() => {
                  if (doubt.value === "none") doubt.value = "failed"
                })
              ),
              Effect.ensuring(settled.open)
            )
          })
        )

      const anywhere = ({ ahead, queues, slots }: Demand) =>
        claim(store.claim({
          workerId,
          leaseMillis,
          types,
          quickTypes: supervisor.quickTypes(),
          slots,
          ahead,
          queues,
          afterQueue,
          reach
        }))

      const limitFor = ({ queue, type }: Cursor, { ahead, queues, slots }: Demand) =>
        (queues === undefined ? slots : queues.get(queue) ?? 0) + (supervisor.quickTypes().has(type) ? ahead : 0)

      const accept = (tasks: ReadonlyArray<ClaimedRow>) => {
        if (tasks.length === 0) return
        measures.claimSizes.observe(tasks.length)
        afterQueue = tasks[tasks.length - 1]!.queue
        supervisor.accept(tasks)
        stats.claimed(tasks.length)
        for (const { id } of tasks) watcher.claimed(id)
      }

      const turn: Loop.Turn<StorageError> = Effect.gen(function*() {
        if (stopping) return yield* pulse.rest(Effect.never)
        supervisor.freed.closeUnsafe()
        const demand = supervisor.demand()
        // Without a slot, queues with bounds have none either.
        if (demand.slots + (bounds === undefined ? demand.ahead : 0) === 0) {
          yield* Effect.timeoutOption(supervisor.freed.await, pollMillis)
          return
        }
        queued.closeUnsafe()
        const limit = cursor === undefined || clock.currentTimeMillisUnsafe() >= lookAgainAt
          ? 0
          : limitFor(cursor, demand)
        if (cursor !== undefined && limit > 0) {
          const claimed = yield* claim(store.claimFurther({ workerId, leaseMillis }, cursor, limit))
          cursor = Option.isSome(claimed) && claimed.value.tasks.length === limit ? claimed.value.cursor : undefined
          return Option.isNone(claimed) ? Loop.unanswered : undefined
        }
        const claimed = yield* anywhere(demand)
        const wanted = demand.slots > 0 ? demand.slots : demand.ahead
        if (Option.isNone(claimed)) return Loop.unanswered
        const { blocked, several, tasks } = claimed.value
        cursor = undefined
        if (reach === "one" && several) {
          reach = "all"
          return
        }
        if (blocked) {
          reach = "greedy"
          return
        }
        if (demand.slots > 0) reach = several ? "all" : "one"
        if (tasks.length < wanted) return yield* wait(demand, claimed.value)
        cursor = claimed.value.cursor
        lookAgainAt = clock.currentTimeMillisUnsafe() + furtherMillis
      })

      const wait = ({ slots }: Demand, { nextDueMillis }: Claimed) => {
        const millis = Math.min(
          pollMillis,
          nextDueMillis === undefined ? Infinity : Math.ceil(nextDueMillis) + 1
        )
        // Without a slot nothing but quick types was asked for, and a full queue was left out: a free slot may have work.
        const woken = slots === 0 || bounds !== undefined
          ? Effect.raceFirst(queued.await, supervisor.freed.await)
          : queued.await
        pulse.turned()
        return Effect.asVoid(Effect.timeoutOption(woken, millis))
      }

      return Claimer.of({
        run: Loop.turns(pulse, turn),
        stop: Effect.suspend(() => {
          stopping = true
          return settled.await
        }),
        settled: settled.await,
        doubt
      })
    })
  )
}

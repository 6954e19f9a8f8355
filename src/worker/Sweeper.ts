/**
 * Takes tasks from workers that are gone, and tidies what nobody else does.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { HandlerRegistry } from "../HandlerRegistry.ts"
import { batch } from "../storage/Hold.ts"
import type { StorageError } from "../storage/StorageError.ts"
import { type Expiring, TaskStore } from "../storage/TaskStore.ts"
import { keyOf, monotonicMillis } from "./Attempt.ts"
import { Connection } from "./Connection.ts"
import * as Loop from "./Loop.ts"
import { Problems } from "./Problems.ts"
import { Pulses } from "./Pulse.ts"
import { inHalves, SetAside } from "./SetAside.ts"
import { Settings } from "./Settings.ts"

// Whoever writes rows by hand can choose their ids.
const minId = -(2n ** 63n)

/**
 * @category services
 * @since 0.1.0
 */
export class Sweeper extends Context.Service<Sweeper, {
  readonly run: ReadonlyArray<Effect.Effect<never>>
}>()("spindle/Sweeper") {
  static readonly layer: Layer.Layer<
    Sweeper,
    never,
    TaskStore | Connection | HandlerRegistry | Problems | Pulses | Settings
  > = Layer.effect(
    Sweeper,
    Effect.gen(function*() {
      const store = yield* TaskStore
      const { report } = yield* Connection
      const { leaseMillis, pollMillis, queues, sweepMillis, unknownTypes } = yield* Settings
      const { types } = yield* HandlerRegistry
      const clock = yield* Clock.Clock
      const pulses = yield* Pulses
      const problems = yield* Problems
      const now = () => monotonicMillis(clock)

      // A living worker renews every quarter of a lease what nobody else has locked. Hence a lease is over for good when two
      // looks, half a lease apart, have found it unlocked and unchanged: not at once after an outage, a pause of this process
      // or a lock that was held for longer than it. The first look may come before the lease ends.
      const apartMillis = leaseMillis / 2
      const aheadMillis = Math.min(apartMillis + sweepMillis, leaseMillis * 0.7)
      const unswept = new SetAside(clock, problems, "be swept")
      let seen = new Map<string, { readonly lease: number; readonly at: number }>()
      let nextLookMillis = 0

      const look = Effect.gen(function*() {
        const rows: Array<Expiring> = []
        let page: ReadonlyArray<Expiring>
        do {
          page = yield* store.expiring(aheadMillis, rows.at(-1)?.id ?? minId)
          rows.push(...page)
        } while (page.length === batch)
        return rows
      })

      const sweep: Effect.Effect<void, StorageError> = Effect.gen(function*() {
        const askedAt = now()
        const before = seen
        // Whatever happens before the next look is complete, no earlier one counts.
        seen = new Map()
        nextLookMillis = sweepMillis
        const rows = yield* look
        const at = now()
        const over: Array<Expiring> = []
        const found = new Map<string, { readonly lease: number; readonly at: number }>()
        for (const row of rows) {
          const known = before.get(keyOf(row))
          const first = known?.lease === row.lease ? known : { lease: row.lease, at }
          found.set(keyOf(row), first)
          const waitMillis = Math.max(first.at + apartMillis - askedAt, (row.lease - row.now) * 1000)
          if (waitMillis <= 0) over.push(row)
          else nextLookMillis = Math.min(nextLookMillis, Math.ceil(waitMillis) + 1)
        }
        seen = found
        const except = unswept.ids()
        const wanted = over.filter(({ id }) => !except.includes(id))
        for (let i = 0; i < wanted.length; i += batch) {
          const answers = yield* inHalves(wanted.slice(i, i + batch), store.sweep, unswept.add)
          for (const { attempts, id, status, type, worker } of answers.flat()) {
            yield* Effect.logWarning("a task was taken from a worker that stopped renewing its lease").pipe(
              Effect.annotateLogs({ taskId: String(id), taskType: type, attempt: attempts, status, worker })
            )
          }
        }
        unswept.passed()
      })

      // The newest with each turn, and of the older ones the next few: however many there are, a look costs the same. Where
      // some are found there may be more.
      const unclosed = new SetAside(clock, problems, "be closed")
      let older: bigint | undefined
      const closeSome = Effect.fnUntraced(function*(from: bigint | undefined) {
        const { found, next } = yield* store.unclosed(from)
        const except = unclosed.ids()
        const closed = yield* inHalves(found.filter(({ id }) => !except.includes(id)), store.close, unclosed.add)
        return { next, some: closed.some((count) => count > 0) }
      })
      const closeCancelled = Effect.gen(function*() {
        const newest = yield* closeSome(undefined)
        older = newest.next === undefined ? undefined : older ?? newest.next
        while (older !== undefined) {
          const { next, some } = yield* closeSome(older)
          older = next
          if (!some) break
        }
        unclosed.passed()
      })

      const unfailed = new SetAside(clock, problems, "be failed for its unknown type")
      const served = queues === undefined ? undefined : [...queues.keys()]
      const failUnknown = Effect.gen(function*() {
        let found: ReadonlyArray<bigint>
        let failed: number
        do {
          found = yield* store.unknown(types, served, unfailed.ids())
          failed = 0
          for (const { id, type } of (yield* inHalves(found, store.failUnknown, unfailed.add)).flat()) {
            failed++
            yield* Effect.logWarning("a task failed: unknown task type").pipe(
              Effect.annotateLogs({ taskId: String(id), taskType: type })
            )
          }
        } while (found.length === batch && failed > 0)
        unfailed.passed()
      })

      // A trigger does not run for who restores or replicates rows.
      const closingMillis = report.closesCancelled ? sweepMillis : pollMillis
      return Sweeper.of({
        run: [
          Loop.every(pulses.make("sweeping", sweepMillis), sweep, () => nextLookMillis),
          Loop.every(pulses.make("closing cancelled tasks", closingMillis), closeCancelled),
          ...(unknownTypes === "fail"
            ? [Loop.every(pulses.make("failing unknown types", pollMillis), failUnknown)]
            : [])
        ]
      })
    })
  )
}

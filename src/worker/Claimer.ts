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
import * as Random from "effect/Random"
import * as Db from "../Db.ts"
import { HandlerRegistry } from "../HandlerRegistry.ts"
import { Stats } from "../Stats.ts"
import * as Claim from "../storage/Claim.ts"
import * as Payload from "../storage/Payload.ts"
import { scope, StorageError } from "../storage/StorageError.ts"
import { TaskStore } from "../storage/TaskStore.ts"
import { monotonicMillis } from "./Attempt.ts"
import { CancelWatcher } from "./CancelWatcher.ts"
import { KnownPlaces, perLook } from "./KnownPlaces.ts"
import * as Loop from "./Loop.ts"
import { Measures } from "./Measures.ts"
import { Problems } from "./Problems.ts"
import { Pulses } from "./Pulse.ts"
import { inHalves, isOfRows, SetAside } from "./SetAside.ts"
import { globs, Settings } from "./Settings.ts"
import { type Demand, Supervisor } from "./Supervisor.ts"
import { WakeUps } from "./WakeUps.ts"

// Less than a worker has to shut down: what a lost reply claimed can still be given back then.
const patience = "3 seconds"
// So long a claim may go on where the last one stopped, before it looks for other places and for what became visible late.
const furtherMillis = 100
// Claims of more are not faster.
const mostRows = 500
// A task that is due later than this from now is not announced when it is stored: somebody has to look before it is.
const unannouncedMillis = 60_000
// A worker that was woken in vain lets others look first, at most so long.
const mostJitterMillis = 20
// With too many places to look at all of them, it is not looked for new ones more often, unless nothing else is to be done.
const lookMillis = 20
const mostSetAside = 1000
// Longer than any claim of somebody else keeps a row locked.
const unclaimableMillis = 10_000

type Answer = typeof Loop.unanswered | undefined

/** The loops whose writes tell whether the database takes any. */
const writing = new Set(["renewing leases", "writing events and outcomes"])

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
    | TaskStore
    | Supervisor
    | WakeUps
    | CancelWatcher
    | HandlerRegistry
    | Stats
    | Measures
    | Problems
    | Pulses
    | Settings
  > = Layer.effect(
    Claimer,
    Effect.gen(function*() {
      const store = yield* TaskStore
      const clock = yield* Clock.Clock
      const supervisor = yield* Supervisor
      const watcher = yield* CancelWatcher
      const stats = yield* Stats
      const measures = yield* Measures
      const problems = yield* Problems
      const { named, queued } = yield* WakeUps
      const { leaseMillis, pollMillis, queues: bounds, taskTypes, workerId } = yield* Settings
      const pulses = yield* Pulses
      const pulse = pulses.make("claiming", pollMillis)
      const types = (yield* HandlerRegistry).types.filter(globs(taskTypes))
      const listed = bounds === undefined ? undefined : [...bounds.keys()]
      const setAside = new SetAside(clock, problems, "be claimed")
      const settled = Latch.makeUnsafe(true)
      const doubt: { value: Doubt } = { value: "none" }
      let stopping = false
      let afterQueue = ""
      let reach: Claim.Reach = "one"
      let cursor: Claim.Cursor | undefined
      let lookAgainAt = 0
      let lookedAt = 0
      // How many rows a claim may take. While it is less than all, none brings its payloads along.
      let cap = mostRows
      // No claim has brought anything since one was not answered, which may hold what the others do not find.
      let suspect = false
      let known: KnownPlaces | undefined
      let newestId: bigint | undefined
      const hinted = new Set<string>()
      let wokenInVain = 0
      let woken = false
      let waiting: { readonly type: string; readonly since: number } | undefined

      const now = () => monotonicMillis(clock)

      const terms = (): Claim.Terms => ({
        workerId,
        leaseMillis,
        setAside: setAside.all(),
        inlineBytes: cap < mostRows ? 0 : Payload.inlineBytes
      })

      // From the reply to a fiber that owns the row nothing is interruptible. A reply that does not come in time is not
      // waited for: what it claimed is put back by LeaseKeeper.
      const claim = <A extends { readonly tasks: ReadonlyArray<Claim.ClaimedRow> }>(
        rows: number,
        request: Effect.Effect<A, StorageError>
      ): Effect.Effect<Option.Option<A>, StorageError> =>
        Effect.uninterruptibleMask((restore) =>
          Effect.suspend(() => {
            if (stopping) return Effect.succeedNone
            settled.closeUnsafe()
            const sentAt = now()
            const trusted = doubt.value === "none"
            return restore(Db.patiently(request, patience)).pipe(
              Effect.tap(Option.match({
                onNone: () => {
                  doubt.value = "unanswered"
                  suspect = true
                  cap = Math.max(1, Math.min(cap, rows) >> 1)
                  return Effect.logWarning("a claim was not answered in time: the next one asks for less").pipe(
                    Effect.annotateLogs({ rows: cap })
                  )
                },
                onSome: ({ tasks }) =>
                  Effect.sync(() => {
                    measures.claimSeconds.observe((now() - sentAt) / 1000)
                    if (tasks.length > 0 || trusted) suspect = false
                    if (!suspect) cap = Math.min(mostRows, cap * 2)
                    accept(tasks, sentAt)
                  })
              })),
              Effect.tapError(({ transient }) =>
                Effect.sync(() => {
                  if (transient && doubt.value === "none") doubt.value = "failed"
                })
              ),
              Effect.ensuring(settled.open)
            )
          })
        )

      const these = (ids: ReadonlyArray<bigint>) =>
        Effect.map(store.claimThese({ ...terms(), inlineBytes: 0 }, ids), (tasks) => ({ tasks }))

      // Something among what this claim would take is refused, or takes too long. Each half of it is claimed by itself,
      // until it is alone.
      const isolate = Effect.fnUntraced(function*(
        request: Claim.ClaimRequest | Claim.KnownRequest,
        error: StorageError
      ) {
        if (setAside.all().length >= mostSetAside) return yield* error
        yield* inHalves(
          yield* store.claimable(request),
          (ids) =>
            Effect.flatMap(
              claim(ids.length, these(ids)),
              (claimed) => Option.isSome(claimed) || stopping ? Effect.void : Effect.fail(unanswered)
            ),
          refused
        )
      })

      // An epoch that cannot be raised never can; anything else may be mended by whoever refuses it.
      const refused = (id: bigint, error: StorageError) =>
        error.sqlState === "22003" && scope(error) === "values"
          ? store.failUnclaimable(id, { kind: "rejected", tag: "Unclaimable", message: error.message }).pipe(
            Effect.andThen(Effect.logError("a task failed: it cannot be claimed", error.message)),
            Effect.annotateLogs({ taskId: String(id) }),
            Effect.tap(() => Effect.sync(() => setAside.resolve(id))),
            Effect.catchIf(({ transient }) => !transient, () => setAside.add(id, error))
          )
          : setAside.add(id, error)

      const tryAgain = (id: bigint) =>
        Effect.asVoid(inHalves(
          [id],
          (ids) =>
            Effect.tap(claim(1, these(ids)), (claimed) =>
              Effect.sync(() => {
                if (Option.isSome(claimed)) setAside.resolve(id)
              })),
          refused
        ))

      const ask = <A extends { readonly tasks: ReadonlyArray<Claim.ClaimedRow> }>(
        request: Claim.ClaimRequest | Claim.KnownRequest,
        statement: Effect.Effect<A, StorageError>
      ): Effect.Effect<Option.Option<A>, StorageError> =>
        Effect.suspend(() => {
          const alone = cap === 1
          return claim(request.slots + request.ahead, statement).pipe(
            Effect.tap((claimed) =>
              Option.isNone(claimed) && alone && !stopping ? isolate(request, unanswered) : Effect.void
            ),
            Effect.catchIf(
              isOfRows,
              (error) => Effect.as(isolate(request, error), Option.none())
            )
          )
        })

      const limited = ({ ahead, queues, slots }: Demand): Demand => ({
        slots: Math.min(slots, cap),
        ahead: Math.min(ahead, Math.max(0, cap - slots)),
        queues
      })

      const limitFor = ({ queue, type }: Claim.Cursor, { ahead, queues, slots }: Demand) =>
        Math.min(cap, queues === undefined ? slots : queues.get(queue) ?? 0) +
        (supervisor.quickTypes().has(type) ? ahead : 0)

      const accept = (tasks: ReadonlyArray<Claim.ClaimedRow>, sentAt: number) => {
        if (tasks.length === 0) return
        wokenInVain = 0
        measures.claimSizes.observe(tasks.length)
        afterQueue = tasks[tasks.length - 1]!.queue
        supervisor.accept(tasks, sentAt)
        stats.claimed(tasks.length)
        for (const { id } of tasks) watcher.claimed(id)
      }

      // What is claimed while nothing that is written comes through would only be started, and lost, over and over.
      const isCutOff = () => {
        const at = now()
        return pulses.all.some((one) => writing.has(one.name) && one.busyMillis(at) > leaseMillis / 2)
      }

      const turn: Loop.Turn<StorageError> = Effect.gen(function*(): Effect.fn.Return<Answer, StorageError> {
        if (stopping) return yield* pulse.rest(Effect.never)
        supervisor.freed.closeUnsafe()
        const demand = limited(supervisor.demand())
        // Without a slot, queues with bounds have none either.
        if (demand.slots + (bounds === undefined ? demand.ahead : 0) === 0) {
          yield* Effect.timeoutOption(supervisor.freed.await, pollMillis)
          return
        }
        if (isCutOff()) {
          yield* Effect.sleep(Math.min(pollMillis, 1000))
          return Loop.unanswered
        }
        queued.closeUnsafe()
        if (demand.slots > 0) { for (const id of setAside.over()) yield* tryAgain(id) }
        return yield* known === undefined ? claimAnywhere(demand) : claimKnown(known, demand)
      })

      const claimAnywhere = Effect.fnUntraced(function*(demand: Demand): Effect.fn.Return<Answer, StorageError> {
        named()
        const limit = cursor === undefined || now() >= lookAgainAt ? 0 : limitFor(cursor, demand)
        if (cursor !== undefined && limit > 0) {
          const from = cursor
          cursor = undefined
          const claimed = yield* claim(limit, store.claimFurther(terms(), from, limit))
          if (Option.isNone(claimed)) return Loop.unanswered
          if (claimed.value.tasks.length === limit) cursor = claimed.value.cursor
          return
        }
        cursor = undefined
        const { ahead, queues, slots } = demand
        const quickTypes = supervisor.quickTypes()
        const request: Claim.ClaimRequest = { ...terms(), types, quickTypes, slots, ahead, queues, afterQueue, reach }
        const claimed = yield* ask(request, store.claim(request))
        if (Option.isNone(claimed)) return suspect ? Loop.unanswered : undefined
        const { blocked, crowded, several, tasks, waiting } = claimed.value
        if (crowded) {
          known = new KnownPlaces()
          newestId = undefined
          return
        }
        if (reach === "one" && several) {
          reach = "all"
          return
        }
        if (blocked) {
          reach = "greedy"
          return
        }
        if (reach === "greedy") reach = "all"
        if (slots > 0 && tasks.length > 0 && !several) reach = "one"
        const wanted = slots > 0 ? slots : ahead
        if (tasks.length < wanted) {
          tellOf(slots > 0 ? waiting : undefined)
          return yield* wait(demand, claimed.value.nextDueMillis)
        }
        cursor = claimed.value.cursor
        lookAgainAt = now() + furtherMillis
      })

      const claimKnown = Effect.fnUntraced(function*(
        known: KnownPlaces,
        demand: Demand
      ): Effect.fn.Return<Answer, StorageError> {
        const lookedBefore = lookedAt
        yield* look(known, demand.slots + demand.ahead)
        if (known.complete && known.size <= Claim.mostPlaces / 2) {
          leaveKnown()
          return
        }
        const { ahead, queues, slots } = demand
        const quickTypes = supervisor.quickTypes()
        const levels = known.next(
          slots + ahead,
          now(),
          (queue) => queues === undefined ? slots + ahead : queues.get(queue) ?? 0,
          (type) => slots > 0 || quickTypes.has(type)
        )
        if (levels.length === 0) {
          if (!known.complete) return
          // What was said since the last look has opened the latch that this turn has closed.
          if (lookedAt === lookedBefore) {
            lookedAt = -Infinity
            return
          }
          tellOf(undefined)
          return yield* wait(demand, known.nextDueAt() - now())
        }
        const request: Claim.KnownRequest = { ...terms(), levels, quickTypes, slots, ahead }
        const claimed = yield* ask(request, store.claimKnown(request))
        if (Option.isNone(claimed)) return suspect ? Loop.unanswered : undefined
        const { tasks, waits } = claimed.value
        const short = tasks.length < (slots > 0 ? slots : ahead)
        known.took(levels, tasks, waits, now(), short ? now() + pollMillis : undefined)
        if (tasks.length === 0) tellOf(levels[waits.findIndex(([first]) => first !== undefined && first <= 0)]?.type)
        return suspect ? Loop.unanswered : undefined
      })

      const leaveKnown = () => {
        known = undefined
        reach = "one"
      }

      // What was stored since, what was said to have something, and a part of all the rest; all of it when something may
      // have been missed, and nothing else is to be done.
      const look = Effect.fnUntraced(function*(known: KnownPlaces, wanted: number) {
        const polls = now() >= lookAgainAt
        if (polls || woken || now() >= lookedAt + lookMillis) {
          lookedAt = now()
          const { all, queues } = named()
          if (all) known.startOver()
          for (const queue of queues) if (bounds === undefined || bounds.has(queue)) hinted.add(queue)
          const { found, last, more } = yield* store.newest(types, newestId, perLook)
          newestId = last
          if (more) known.startOver()
          known.found(bounds === undefined ? found : found.filter(({ queue }) => bounds.has(queue)), now())
          // What is new is there already, and starts first.
          if (hinted.size > 0 && (polls || known.ready === 0)) {
            known.found(yield* store.look({ types, queues: [...hinted] }, undefined, perLook), now())
            hinted.clear()
          }
          if (polls) lookAgainAt = now() + pollMillis
        }
        if (polls || (!known.complete && known.ready < wanted)) {
          known.walked(yield* store.look({ types, queues: listed }, known.position, perLook), now())
        }
      })

      // Whoever waits for a type is told when its tasks are there, and this worker, with nothing else to do, cannot have one.
      const tellOf = (type: string | undefined) => {
        if (type === undefined || supervisor.running() > 0) {
          waiting = undefined
          return problems.resolve("waiting")
        }
        if (waiting?.type !== type) waiting = { type, since: now() }
        if (now() - waiting.since < unclaimableMillis) return
        problems.report(
          "waiting",
          `tasks of type ${type} are due, and this worker, which is idle, can claim none of them: a transaction that was ` +
            "left open locks them, or a policy or a trigger of the table keeps them from it"
        )
      }

      const wait = Effect.fnUntraced(function*(
        { slots }: Demand,
        nextDueMillis: number | undefined
      ): Effect.fn.Return<Answer> {
        const millis = Math.min(
          pollMillis,
          unannouncedMillis,
          nextDueMillis === undefined ? Infinity : Math.max(0, Math.ceil(nextDueMillis)) + 1
        )
        if (woken) wokenInVain++
        woken = false
        const notified = Effect.map(queued.await, () => {
          woken = true
        })
        // Without a slot nothing but quick types was asked for, and a full queue was left out: a free slot may have work.
        const called = slots === 0 || bounds !== undefined
          ? Effect.raceFirst(notified, supervisor.freed.await)
          : notified
        if (!suspect) pulse.turned()
        yield* Effect.timeoutOption(called, millis)
        if (woken && wokenInVain > 0) {
          yield* Effect.sleep(yield* Random.nextBetween(0, Math.min(mostJitterMillis, 2 ** wokenInVain)))
        }
        return suspect ? Loop.unanswered : undefined
      })

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

const unanswered = new StorageError({ operation: "claim a task", transient: false, cause: "no answer in time" })

/**
 * Reads for all who follow a task and wait for its next events.
 *
 * A follower asks when it has passed on what it had, and is read for when its task was heard of since. One statement reads
 * for all that are due; what becomes due meanwhile is the next batch. So a follower that does not ask costs nothing, holds
 * up nobody, and has at most one page in memory. All pages of a read together are bounded too: what they have no room for is
 * read next.
 *
 * Reads have a connection of their own, so that they neither wait for an application's busy pool nor take from a small
 * one. With the one for notifications that makes two, for any number of followers. Notices can be lost or not delivered:
 * one statement looks whether any of the followers has missed something, every second, and every five while notices are
 * seen to arrive. While the database is away followers wait.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Queue from "effect/Queue"
import * as RcRef from "effect/RcRef"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Semaphore from "effect/Semaphore"
import type * as SqlClient from "effect/sql/SqlClient"
import * as Db from "../Db.ts"
import * as StorageError from "../storage/StorageError.ts"
import * as StoryTable from "../storage/StoryTable.ts"
import type * as TaskEvent from "../TaskEvent.ts"
import * as Notices from "./Notices.ts"

/**
 * @category models
 * @since 0.1.0
 */
export interface Followers {
  /** Follows a task until the scope closes. */
  readonly follow: (id: bigint) => Effect.Effect<Follower, StorageError.StorageError, Scope.Scope>
}

/**
 * @category models
 * @since 0.1.0
 */
export interface Follower {
  /**
   * Waits until there is something to tell after the position: events, the end of the story, or undefined, that the task is
   * gone. A task that stays over without an event is told of again with each look.
   */
  readonly next: (
    position: TaskEvent.Position
  ) => Effect.Effect<StoryTable.Page | undefined, StorageError.StorageError>
  /** Waits for the end of the story, and reads how the task ended; undefined tells that it is gone. */
  readonly ended: Effect.Effect<StoryTable.Ended | undefined, StorageError.StorageError>
}

// Behind every event: whoever stands here waits for the end alone.
const last: TaskEvent.Position = { epoch: 2n ** 63n - 1n, seq: 2 ** 31 - 1 }

const maxTasks = 100
const patience = "5 seconds"
const look = { unproven: "1 second", proven: "5 seconds" } as const
const backoff = Schedule.min([Schedule.exponential("50 millis"), Schedule.spaced("2 seconds")]).pipe(Schedule.jittered)

interface Question extends StoryTable.Cursor {
  readonly answer: (page: Effect.Effect<StoryTable.Page | undefined, StorageError.StorageError>) => void
}

interface State {
  /** Whether there may be something after the position it last asked with. */
  due: boolean
  question: Question | undefined
}

interface Hub {
  readonly states: Map<bigint, Set<State>>
  readonly ask: (state: State, question: Question) => void
  readonly forget: (state: State) => void
  readonly ended: (id: bigint) => Effect.Effect<StoryTable.Ended | undefined, StorageError.StorageError>
}

/**
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function*(
  client: SqlClient.SqlClient,
  schema: string,
  notices: Notices.Notices
): Effect.fn.Return<Followers, never, Scope.Scope> {
  const shared = yield* RcRef.make({
    acquire: makeHub(client, schema, notices),
    idleTimeToLive: Notices.idleTimeToLive
  })
  return {
    follow: Effect.fnUntraced(function*(id) {
      const hub = yield* RcRef.get(shared)
      const { ask, forget, states } = hub
      const state = yield* Effect.acquireRelease(
        Effect.sync(() => {
          const state: State = { due: true, question: undefined }
          const others = states.get(id)
          if (others === undefined) states.set(id, new Set([state]))
          else others.add(state)
          return state
        }),
        (state) =>
          Effect.sync(() => {
            const all = states.get(id)!
            all.delete(state)
            if (all.size === 0) states.delete(id)
          })
      )
      const next: Follower["next"] = (position) =>
        Effect.callback((answer) => {
          ask(state, { id, position, answer })
          return Effect.sync(() => forget(state))
        })
      // It may be run again before it is read.
      const ended: Follower["ended"] = Effect.flatMap(
        next(last),
        (page) => page === undefined ? Effect.undefined : hub.ended(id)
      ).pipe(Effect.repeat({ while: (task) => task !== undefined && !task.over }))
      return { next, ended }
    })
  }
})

const makeHub = Effect.fnUntraced(function*(
  client: SqlClient.SqlClient,
  schema: string,
  notices: Notices.Notices
): Effect.fn.Return<Hub, StorageError.StorageError, Scope.Scope> {
  const states = new Map<bigint, Set<State>>()
  const ready = new Set<State>()
  const work = yield* Queue.sliding<void>(1)
  const doubts = yield* Queue.sliding<void>(1)
  let proven = false

  const serve = (state: State) => {
    if (!state.due || state.question === undefined) return
    ready.add(state)
    Queue.offerUnsafe(work, undefined)
  }
  const wake = (id: bigint) => {
    for (const state of states.get(id) ?? []) {
      state.due = true
      serve(state)
    }
  }
  const forget = (state: State) => {
    state.question = undefined
    ready.delete(state)
  }
  const answer = (state: State, page: Parameters<Question["answer"]>[0]) => {
    const { question } = state
    forget(state)
    question?.answer(page)
  }

  yield* notices.subscribe((notice) => {
    proven = notice._tag === "Tasks" || notice._tag === "Any"
    if (notice._tag === "Tasks") return notice.ids.forEach(wake)
    // Who is busy with a page is read for as soon as it asks; who waits is looked for.
    for (const all of states.values()) {
      for (const state of all) state.due ||= state.question === undefined
    }
    Queue.offerUnsafe(doubts, undefined)
  })
  const table = StoryTable.make(yield* connect(client), schema)
  // A result can be large, and thousands of tasks can end together.
  const oneByOne = yield* Semaphore.make(1)

  let failures = 0
  // Less after a read that had no room for all of them: what is unpacked only to be put off is done in vain.
  let size = maxTasks
  const read = Effect.gen(function*() {
    const batch = nextBatch(ready, failures === 0 ? size : 1)
    if (batch.length === 0) return yield* Queue.take(work)
    for (const { askers } of batch) {
      for (const state of askers.keys()) state.due = false
    }
    const pages = yield* Effect.result(answered(table.pages(batch.map(({ cursor }) => cursor))))
    for (const [n, { askers }] of batch.entries()) {
      for (const [state, question] of askers) {
        if (state.question !== question) {
          state.due = true
          serve(state)
        } else if (Result.isFailure(pages)) {
          state.due = true
          if (pages.failure.transient || batch.length > 1) serve(state)
          else answer(state, Effect.fail(pages.failure))
        } else {
          const page = pages.success[n]
          if (page?.more === true) state.due = true
          if (page !== undefined && isPutOff(page)) serve(state)
          else if (page === undefined || page.over || page.events.length > 0) answer(state, Effect.succeed(page))
        }
      }
    }
    if (Result.isSuccess(pages)) {
      failures = 0
      const served = pages.success.filter((page) => page === undefined || !isPutOff(page)).length
      size = served < batch.length ? Math.max(1, served) : Math.min(2 * size, maxTasks)
      return
    }
    failures++
    // one of them may be what fails: next they are read for one by one
    if (!pages.failure.transient) return
    if (failures === 1) yield* Effect.logWarning("events cannot be read: followers wait", pages.failure.message)
    yield* Effect.sleep(Math.min(50 * 2 ** failures, 2000))
  })

  const check = Effect.gen(function*() {
    yield* Effect.timeoutOption(Queue.take(doubts), proven ? look.proven : look.unproven)
    const idle: Array<Question> = []
    for (const all of states.values()) {
      for (const { due, question } of all) {
        if (!due && question !== undefined) idle.push(question)
      }
    }
    if (idle.length === 0) return
    const moved = yield* Effect.result(answered(table.moved(idle)))
    if (Result.isSuccess(moved)) moved.success.forEach(({ id }) => wake(id))
    else if (!moved.failure.transient) idle.forEach(({ id }) => wake(id))
    else proven = false
  })

  yield* Effect.forkScoped(Effect.forever(read))
  yield* Effect.forkScoped(Effect.forever(check))
  return {
    states,
    ask: (state, question) => {
      state.question = question
      serve(state)
    },
    forget,
    ended: (id) =>
      Effect.retry(oneByOne.withPermit(answered(table.ended(id))), {
        schedule: backoff,
        while: ({ transient }) => transient
      })
  }
})

const isPutOff = ({ events, more }: StoryTable.Page) => more && events.length === 0

// No answer is the same as an answer that the database is away. What cannot be decoded ends its follower, not the loop.
const answered = <A>(effect: Effect.Effect<A, StorageError.StorageError>) =>
  Db.patiently(effect, patience).pipe(
    Effect.flatMap(Option.match({
      onNone: () => unreadable(true, new Error("the connection does not answer")),
      onSome: Effect.succeed
    })),
    Effect.catchDefect((defect) => unreadable(false, defect))
  )

const unreadable = (transient: boolean, cause: unknown) =>
  Effect.fail(new StorageError.StorageError({ operation: "read the tasks' events", transient, cause }))

const connect = (client: SqlClient.SqlClient) => {
  const pool = StorageError.refine("connect to the database")(Db.controlPool(client, 1))
  return Effect.catchIf(
    pool,
    ({ transient }) => transient,
    ({ message }) =>
      Effect.andThen(
        Effect.logWarning("events cannot be read: followers wait", message),
        Effect.retry(pool, { schedule: backoff, while: ({ transient }) => transient })
      )
  )
}

// Those that stand at the same place share a cursor.
const nextBatch = (ready: Set<State>, size: number) => {
  const batch = new Map<string, { readonly cursor: StoryTable.Cursor; readonly askers: Map<State, Question> }>()
  for (const state of ready) {
    const { id, position } = state.question!
    const key = `${id} ${position.epoch} ${position.seq}`
    const same = batch.get(key)
    if (same === undefined && batch.size === size) continue
    if (same === undefined) batch.set(key, { cursor: state.question!, askers: new Map([[state, state.question!]]) })
    else same.askers.set(state, state.question!)
    ready.delete(state)
  }
  return [...batch.values()]
}

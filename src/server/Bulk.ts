/**
 * Cancels, or runs again, all tasks that a filter matches: newest first, a batch a transaction, as many as fit into one call.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Api from "../Api.ts"
import * as Monotonic from "../internal/Monotonic.ts"
import type { Browse } from "../storage/Browse.ts"
import * as Steer from "../storage/Steer.ts"
import type { StorageError } from "../storage/StorageError.ts"
import * as TaskPages from "../storage/TaskPages.ts"
import * as Filters from "./Filters.ts"
import type * as Views from "./Views.ts"

const batchSize = 500
const maxBatches = 10
const enoughMillis = 2000
// Claims, heartbeats and outcomes lock a task for a moment; somebody's open transaction for as long as it likes.
const rounds = 5
const betweenRounds = "50 millis"

/**
 * Every call does one batch at least, and goes on to 5,000 tasks or for about two seconds.
 *
 * @category combinators
 * @since 0.1.0
 */
export const run = Effect.fnUntraced(function*(
  browse: Browse["Service"],
  action: "cancel" | "retry",
  filter: TaskPages.Filter,
  before: bigint | undefined
): Effect.fn.Return<Views.BulkOutcome, Api.Unprocessable | StorageError> {
  const issue = issueOf(action, filter)
  if (issue !== undefined) return yield* new Api.Unprocessable({ detail: issue })
  const start = yield* Monotonic.millis
  const outcome = { changed: 0, unchanged: 0, busy: 0 }
  let next = before
  for (let batch = 0; batch < maxBatches; batch++) {
    const page = yield* browse.look(
      "find the tasks",
      (tables) =>
        Effect.andThen(
          Filters.check(tables, filter),
          TaskPages.page(tables, { ...filter, statuses: Steer.applicable[action] }, next, batchSize)
        )
    )
    const ids = page.rows.map(({ id }) => id)
    const { busy, changed } = yield* persistently(browse, action, ids)
    outcome.changed += changed
    outcome.busy += busy
    outcome.unchanged += ids.length - changed - busy
    if (page.next === null) return { ...outcome, next: null }
    next = page.next
    if ((yield* Monotonic.millis) - start >= enoughMillis) break
  }
  return { ...outcome, next: next as Views.BulkOutcome["next"] }
})

const issueOf = (action: "cancel" | "retry", filter: TaskPages.Filter) => {
  if (Object.values(filter).every((value) => value === undefined)) {
    return "filter is empty, which would be every task: give a status at least"
  }
  const allowed = Steer.applicable[action]
  return filter.status === undefined || allowed.includes(filter.status)
    ? undefined
    : `status is "${filter.status}", but ${action} applies to ${allowed.join(", ")}`
}

const persistently = Effect.fnUntraced(function*(
  browse: Browse["Service"],
  action: "cancel" | "retry",
  ids: ReadonlyArray<bigint>
) {
  let changed = 0
  let left = ids
  for (let round = 0; round < rounds && left.length > 0; round++) {
    if (round > 0) yield* Effect.sleep(betweenRounds)
    const done = yield* change(browse, action, left)
    changed += done.changed
    left = done.busy
  }
  return { changed, busy: left.length }
})

type Done = Effect.Success<ReturnType<typeof Steer.change>>

// One task whose unique key is taken refuses the whole statement: halves are tried until it stands alone.
const change = (
  browse: Browse["Service"],
  action: "cancel" | "retry",
  ids: ReadonlyArray<bigint>
): Effect.Effect<Done, StorageError> =>
  ids.length === 0 ? Effect.succeed({ changed: 0, busy: [] }) : Effect.catchIf(
    browse.change(`${action} the tasks`, (tables) => Steer.change(tables, action, ids)),
    ({ sqlState }) => sqlState === "23505",
    () => {
      if (ids.length === 1) return Effect.succeed<Done>({ changed: 0, busy: [] })
      const half = ids.length >> 1
      return Effect.zipWith(
        change(browse, action, ids.slice(0, half)),
        change(browse, action, ids.slice(half)),
        (a, b): Done => ({ changed: a.changed + b.changed, busy: [...a.busy, ...b.busy] })
      )
    }
  )

/**
 * Why a queued task does not run, as far as its row tells: no worker can be asked here.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Waiting from "../internal/Waiting.ts"
import type * as TaskQueue from "../TaskQueue.ts"

/** What its row tells; `now` in milliseconds since 1970. */
export const reasons = (
  { queue, runAt, status, type }: TaskQueue.StoredTask,
  now: number
): ReadonlyArray<Waiting.Reason> =>
  Waiting.reasons({ status, type, queue, runAt: runAt.epochMilliseconds }, now, undefined)

/** A sentence for each reason; none of a task that does not wait. */
export const sentences = (task: TaskQueue.StoredTask): Effect.Effect<ReadonlyArray<string>> =>
  Effect.map(
    Clock.currentTimeMillis,
    (now) =>
      reasons(task, now)
        .map((reason) => `${Waiting.words(reason)}${reason._tag === "Unclaimed" ? "" : "."}`)
  )

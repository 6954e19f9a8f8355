/**
 * The page's changes: what `TaskQueue` does to one task, done to many, and a task that is waiting made due.
 *
 * Row locks are taken in the order of ids, and nobody is waited for.
 *
 * @since 0.1.0
 */
import * as PgTypes from "@effect/sql-pg/PgTypes"
import * as Effect from "effect/Effect"
import type { Status } from "../TaskQueue.ts"
import type { Tables } from "./Browse.ts"
import * as Names from "./Names.ts"
import * as Parameters from "./Parameters.ts"
import { idOf } from "./TaskTable.ts"

/**
 * Makes a queued task due, and wakes the workers. Answers with its status, and whether it still waits for its time
 * because another change came between; undefined if there is no such task.
 *
 * @category statements
 * @since 0.1.0
 */
export const runNow = ({ run, schema }: Tables, id: bigint) =>
  Effect.map(
    run<{ readonly status: Status; readonly waits: boolean }>(
      (s) => `
with due as (
  update ${s}.tasks set run_at = now()
   where id = $1 and status = 'queued' and run_at > now()
  returning queue
), woken as (
  select pg_notify($2, queue) from due
)
select status, status = 'queued' and run_at > now() and not exists (select from woken) as waits
  from ${s}.tasks
 where id = $1`,
      [idOf(id), PgTypes.text(Names.channel(schema, "task_queued"))]
    ),
    ([row]) => row
  )

/**
 * What a bulk action applies to.
 *
 * @category constants
 * @since 0.1.0
 */
export const applicable: { readonly [Action in "cancel" | "retry"]: ReadonlyArray<Status> } = {
  cancel: ["queued", "processing"],
  retry: ["failed", "cancelled", "completed"]
}

/**
 * Changes those of the tasks that the action applies to and that nobody has locked, and returns how many. Those that were
 * locked are `busy`: still such that the action applies to them.
 *
 * Fails as a whole with 23505 if one of them cannot be queued because its unique key is taken.
 *
 * @category statements
 * @since 0.1.0
 */
export const change = Effect.fnUntraced(function*(
  { run }: Tables,
  action: "cancel" | "retry",
  ids: ReadonlyArray<bigint>
) {
  const applies = action === "cancel"
    ? "t.status in ('queued', 'processing')"
    : "t.status in ('failed', 'cancelled', 'completed') and t.locked_by is null"
  const changed = yield* run<{ readonly id: bigint }>(
    (s) => `
with free as (
  select t.id
    from ${s}.tasks t
   where t.id = any($1::bigint[]) and ${applies}
   order by t.id
     for no key update skip locked
)
update ${s}.tasks t
   set ${
      action === "cancel"
        ? "status = 'cancelled'"
        : "status = 'queued', run_at = now(), attempts = least(t.attempts, t.max_attempts - 1)"
    }
  from free
 where t.id = free.id
returning t.id`,
    [Parameters.int8(ids)]
  )
  const done = new Set(changed.map(({ id }) => id))
  const left = ids.filter((id) => !done.has(id))
  const busy = left.length === 0 ? [] : yield* run<{ readonly id: bigint }>(
    (s) => `select t.id from ${s}.tasks t where t.id = any($1::bigint[]) and ${applies}`,
    [Parameters.int8(left)]
  )
  return { changed: changed.length, busy: busy.map(({ id }) => id) }
})

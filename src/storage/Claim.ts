/**
 * The claim: which queued tasks a worker takes, in one statement.
 *
 * @since 0.1.0
 */
import * as PgTypes from "@effect/sql-pg/PgTypes"
import type * as Schema from "effect/Schema"
import type { OptionalColumns } from "./Contract.ts"
import * as Parameters from "./Parameters.ts"

/**
 * What a worker asks for.
 *
 * @category models
 * @since 0.1.0
 */
export interface ClaimRequest {
  readonly workerId: string
  readonly leaseMillis: number
  /** The types it has handlers for. */
  readonly types: ReadonlyArray<string>
  /** Those of them whose tasks end within milliseconds, hence may wait a moment for a slot. */
  readonly quickTypes: ReadonlySet<string>
  /** Free slots. */
  readonly slots: number
  /** How many more, of the quick types only. */
  readonly ahead: number
  /** The queues it serves, with the free slots of each; undefined serves all. */
  readonly queues: ReadonlyMap<string, number> | undefined
  /** Queues take turns, beginning after this one. */
  readonly afterQueue: string
  readonly reach: Reach
}

/**
 * - `one`: takes from the only (type, queue) that has something queued; where there are several, nothing
 * - `all`: takes from all of them
 * - `greedy`: the same, locking more than it takes, because others have locked some of what `all` wanted
 *
 * The first is much the smallest statement, and the others are seldom needed.
 *
 * @category models
 * @since 0.1.0
 */
export type Reach = "one" | "all" | "greedy"

/**
 * A task that now is this worker's, as it came from the table.
 *
 * @category models
 * @since 0.1.0
 */
export interface ClaimedRow {
  readonly id: bigint
  readonly epoch: bigint
  readonly type: string
  readonly queue: string
  readonly priority: number
  /** JSON text. Undefined when it is larger than a worker takes. */
  readonly payload: string | undefined
  readonly metadata: Schema.JsonObject
  readonly attempts: number
  readonly maxAttempts: number
  readonly timeoutMillis: number | null
  readonly tag: string | null
  readonly userId: string | null
  /** Milliseconds since 1970, with the microseconds as their fraction. */
  readonly runAt: number
  readonly createdAt: number
  readonly claimedAt: number
}

/**
 * Where a claim stopped: at the last task it took from the only place that had something.
 *
 * @category models
 * @since 0.1.0
 */
export interface Cursor {
  readonly type: string
  readonly queue: string
  readonly priority: number
  readonly runAt: number
  readonly id: bigint
}

/**
 * The largest payload a worker takes, in bytes of JSON text.
 *
 * @category constants
 * @since 0.1.0
 */
export const maxPayloadBytes = 16 * 1024 * 1024

// Twice what the table takes. A larger one, of a table without that limit, is left behind.
const maxMetadataBytes = 2 * 1024 * 1024

/**
 * Walks the claim index (type, queue, priority, run_at, id) from one distinct (type, queue, priority) to the next
 * instead of scanning it, so that nothing it does not take costs it anything: not other types or queues, not finished
 * tasks, not tasks that are due later, however high their priority.
 *
 * - `served`: the types, and which of them are quick
 * - `places`: the (type, queue) pairs with something queued, found from the far end of the index, where no claim has
 *   left its dead entries
 * - `taken`: locks what is taken, passing over what other workers lock, and re-reads it under the lock
 *
 * Returns one row without a task and with `nextDue` (ms) when there was not enough to take.
 *
 * @category statements
 * @since 0.1.0
 */
export const statement = (s: string, columns: OptionalColumns, allQueues: boolean, reach: Reach): string => `
with recursive served as (
  select * from unnest($3::text[], $4::bool[]) as served(type, quick)
), places as materialized (${allQueues ? queuedPlaces(s) : wantedPlaces(s)}
), ${reach === "one" ? takenFromOne(s, columns) : takenInTurn(s, columns, allQueues ? "$7" : "$9", reach === "greedy")}
), claimed as (${update(s, columns)})
select claimed.*, (select count(*) from places) > 1 as several, null::bool as blocked, null::float8 as next_due
  from claimed
union all
select null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null,
  (select count(*) from places) > 1,
  ${
  reach === "all"
    ? `(select least(coalesce(sum(in_queue.due), 0), $5)
     from (select least(sum(due), max(free)) as due from levels group by queue) in_queue)
    > (select count(*) from claimed)`
    : "false"
},
  (select extract(epoch from min(due.run_at) - now())::float8 * 1000
     from places cross join lateral (${priorities(s, "places")}) walk cross join lateral (
       select t.run_at from ${s}.tasks t
        where t.status = 'queued' and t.type = places.type and t.queue = places.queue
          and t.priority = walk.priority and t.run_at > now() and t.run_at < 'infinity'
        order by t.run_at limit 1) due)
 where (select count(*) from claimed) < $5`

const queuedPlaces = (s: string) => `
  select served.type, served.quick, walk.queue, $5::int as free
    from served cross join lateral (
      with recursive walk(queue) as (
        (select t.queue from ${s}.tasks t
          where t.status = 'queued' and t.type = served.type order by t.type desc, t.queue desc limit 1)
        union all
        select (select t.queue from ${s}.tasks t
                 where t.status = 'queued' and t.type = served.type and t.queue < walk.queue
                 order by t.type desc, t.queue desc limit 1)
          from walk where walk.queue is not null
      )
      select queue from walk where queue is not null
    ) walk`

const wantedPlaces = (s: string) => `
  select served.type, served.quick, wanted.queue, wanted.free
    from served cross join unnest($7::text[], $8::int[]) as wanted(queue, free)
   where wanted.free > 0
     and (select max(t.priority) from ${s}.tasks t
           where t.status = 'queued' and t.type = served.type and t.queue = wanted.queue) is not null`

/** From the only place, from its highest priority down, until there is enough. Where there are several, nothing. */
const takenFromOne = (s: string, columns: OptionalColumns) =>
  `place as (
  select * from places where (select count(*) from places) = 1
), taken as (
  select locked.ctid
    from place cross join lateral (${priorities(s, "place")}
    ) walk cross join lateral (${candidates(s, columns, "place", "walk.priority", "$5 + $6", true)}) locked
   limit (select free + case when quick then $6 else 0 end from place)`

/**
 * From several places: by priority, then `run_at`, then `id` within a queue, queues in turn.
 *
 * - `levels`: the priorities of a place, highest first. `due` counts to the limit, so that no more levels are looked at
 *   than can be of use
 * - `chosen`: what to take, if nobody else locks it
 * - `shares`: how many of each level that is; so many are taken of those that nobody else has locked
 *
 * What others have locked counts for the shares, and could keep a slot from everything else for as long as it is locked.
 * Then `blocked` is returned, and a greedy claim locks what it chooses from, which is more than it takes.
 */
const takenInTurn = (s: string, columns: OptionalColumns, afterQueue: string, greedy: boolean) =>
  `levels as (
  select places.*, walk.priority, walk.due
    from places cross join lateral (
      with recursive walk(priority, due, total) as (
        ${level(s, "")}
        union all
        select next.* from walk cross join lateral (${level(s, "and t.priority < walk.priority", "walk.total +")}) next
         where walk.priority is not null and walk.total < $5 + $6
      )
      select priority, due from walk where priority is not null
    ) walk
), chosen as materialized (
  select type, queue, priority, ctid
    from (
      select ranked.*, count(*) filter (where not quick) over (order by turn, queue <= ${afterQueue}, queue) as slow
        from (
          select levels.*, candidate.ctid, row_number() over (
                   partition by levels.queue order by levels.priority desc, candidate.run_at, candidate.id) as turn
            from levels cross join lateral (${
    candidates(s, columns, "levels", "levels.priority", "$5 + $6", greedy)
  }) candidate
           where levels.due > 0
        ) ranked
       where turn <= free + case when quick then $6 else 0 end
    ) counted
   where quick or slow <= $5
   order by turn, queue <= ${afterQueue}, queue limit $5 + $6
), shares as (
  select type, queue, priority, count(*) as share from chosen group by type, queue, priority
), taken as (
  ${
    greedy
      ? "select ctid from chosen"
      : `select locked.ctid
    from shares cross join lateral (${
        candidates(s, columns, "shares", "shares.priority", "shares.share", true)
      }) locked`
  }`

/**
 * Goes on behind a cursor, without looking anywhere else: the index before it is full of dead entries of what has just
 * been claimed. A due task of higher priority in the same place ends it.
 *
 * Whoever uses it looks at everything again soon: it passes over other places, and over tasks that became visible late.
 *
 * @category statements
 * @since 0.1.0
 */
export const further = (s: string, columns: OptionalColumns): string => `
with taken as (
  select t.ctid from ${s}.tasks t
   where t.status = 'queued' and t.type = $3 and t.queue = $4 and t.priority = $5
     and (t.run_at, t.id) > (timestamptz 'epoch' + $6 * interval '1 microsecond', $7)
     and t.run_at <= now()${unblocked(s, columns)}
     and not exists (
       select from ${s}.tasks higher
        where higher.status = 'queued' and higher.type = $3 and higher.queue = $4 and higher.priority > $5
          and higher.run_at <= now())
   order by t.run_at, t.id limit $8 for no key update skip locked
), claimed as (${update(s, columns)})
select claimed.*, false as several, null::bool as blocked, null::float8 as next_due from claimed`

/**
 * @category statements
 * @since 0.1.0
 */
export const furtherParameters = (
  { leaseMillis, workerId }: Pick<ClaimRequest, "workerId" | "leaseMillis">,
  cursor: Cursor,
  limit: number
): ReadonlyArray<unknown> => [
  workerId,
  leaseMillis,
  cursor.type,
  cursor.queue,
  PgTypes.int2(cursor.priority),
  PgTypes.float8(Math.round(cursor.runAt * 1000)),
  PgTypes.int8(cursor.id),
  PgTypes.int4(limit)
]

/**
 * A claim does not wait for the disk. What its worker writes under it does, and takes it along. Should a crash lose the
 * claim, nothing was stored under it, and the task is claimed again: by another worker, which the first one's late writes
 * cannot reach because they name their worker, or by the same one, which then goes on with the handler that runs.
 */
const update = (s: string, columns: OptionalColumns) => `
  update ${s}.tasks t
     set status = 'processing', attempts = t.attempts + 1, epoch = t.epoch + 1, locked_by = $1,
         lease_expires_at = now() + $2 * interval '1 millisecond', started_at = now(),
         result = null, error = null, finished_at = null
   where t.ctid = any(array(select ctid from taken))
     and (select set_config('synchronous_commit', 'off', true)) = 'off'
  returning t.id, t.epoch, t.type, t.queue, t.priority, t.attempts, t.max_attempts,
    date_part('epoch', t.run_at) * 1000 as run_at, date_part('epoch', t.created_at) * 1000 as created_at,
    date_part('epoch', now()) * 1000 as claimed_at,
    case when pg_column_size(t.payload) < 8192 or octet_length(t.payload::text) <= ${maxPayloadBytes}
      then t.payload::text end as payload,
    pg_column_size(t.payload) >= 8192 and octet_length(t.payload::text) > ${maxPayloadBytes} as oversized,
    ${
  columns.metadata
    ? `case when pg_column_size(t.metadata) < 8192 or octet_length(t.metadata::text) <= ${maxMetadataBytes}
      then t.metadata::text end`
    : "null::text"
} as metadata,
    ${columns.timeout ? "t.timeout_ms" : "null::int"} as timeout_ms,
    ${columns.tag ? "t.tag" : "null::text"} as tag,
    ${columns.userId ? "t.user_id" : "null::text"} as user_id`

/** No task of the same type and key is still held by a worker: a cancelled one may be unwinding. */
const unblocked = (s: string, columns: OptionalColumns) =>
  columns.uniqueKey
    ? `
         and (t.unique_key is null or (t.type, t.unique_key) not in (
           select unwinding.type, unwinding.unique_key from ${s}.tasks unwinding
            where unwinding.locked_by is not null and unwinding.unique_key is not null))`
    : ""

/** The highest priority of a place that also meets `below`, and how much of it is due. */
const level = (s: string, below: string, total = "") => `
        select top.priority, counted.due, ${total} counted.due
          from (select max(t.priority) as priority from ${s}.tasks t
                 where t.status = 'queued' and t.type = places.type and t.queue = places.queue ${below}) top
         cross join lateral (
           select count(*) as due from (
             select from ${s}.tasks t
              where t.status = 'queued' and t.type = places.type and t.queue = places.queue
                and t.priority = top.priority and t.run_at <= now()
              limit $5 + $6) one) counted`

/** The priorities of a place, highest first. */
const priorities = (s: string, place: string) => `
       with recursive walk(priority) as (
         select max(t.priority) from ${s}.tasks t
          where t.status = 'queued' and t.type = ${place}.type and t.queue = ${place}.queue
         union all
         select (select max(t.priority) from ${s}.tasks t
                  where t.status = 'queued' and t.type = ${place}.type and t.queue = ${place}.queue
                    and t.priority < walk.priority)
           from walk where walk.priority is not null
       )
       select priority from walk where priority is not null`

/** The first due tasks of a level; locked, they are those that nobody else has locked. */
const candidates = (
  s: string,
  columns: OptionalColumns,
  place: string,
  priority: string,
  limit: string,
  locked: boolean
) => `
      select t.ctid, t.run_at, t.id from ${s}.tasks t
       where t.status = 'queued' and t.type = ${place}.type and t.queue = ${place}.queue and t.priority = ${priority}
         and t.run_at <= now()${unblocked(s, columns)}
       order by t.run_at, t.id limit ${limit}${locked ? " for no key update skip locked" : ""}`

/**
 * @category statements
 * @since 0.1.0
 */
export const parameters = (request: ClaimRequest): ReadonlyArray<unknown> => [
  request.workerId,
  request.leaseMillis,
  Parameters.text(request.types),
  Parameters.bool(request.types.map((type) => request.quickTypes.has(type))),
  PgTypes.int4(request.slots),
  PgTypes.int4(request.ahead),
  ...(request.queues === undefined
    ? []
    : [Parameters.text([...request.queues.keys()]), Parameters.int4([...request.queues.values()])]),
  ...(request.reach === "one" ? [] : [request.afterQueue])
]

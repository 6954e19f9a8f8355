/**
 * The claim: which queued tasks a worker takes, in one statement.
 *
 * @since 0.1.0
 */
import * as PgTypes from "@effect/sql-pg/PgTypes"
import type * as Schema from "effect/Schema"
import type { OptionalColumns } from "./Contract.ts"
import * as Parameters from "./Parameters.ts"
import * as Payload from "./Payload.ts"

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
  /** Tasks that are left out, because the database refuses to have them changed. */
  readonly setAside: ReadonlyArray<bigint>
  /** How many stored bytes of JSON a task brings along. */
  readonly inlineBytes: number
}

/** What a claim asks for, wherever it looks. */
export type Terms = Pick<ClaimRequest, "workerId" | "leaseMillis" | "setAside" | "inlineBytes">

/** A claim of levels that are known to have something due, each with how much of its queue may be taken, in turn. */
export interface KnownRequest extends Terms, Pick<ClaimRequest, "quickTypes" | "slots" | "ahead"> {
  readonly levels: ReadonlyArray<Level & { readonly share: number }>
}

/** What lies together in the claim index, in the order of `run_at`. */
export interface Level {
  readonly type: string
  readonly queue: string
  readonly priority: number
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
  /** Whether payload and metadata are still to be read: they are too large for a claim. */
  readonly later: boolean
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
export interface Cursor extends Level {
  readonly runAt: number
  readonly id: bigint
}

/** More (type, queue) pairs, or priorities of one, than this are too many to look at in every claim. */
export const mostPlaces = 50

// So long a tag or a user may be, which nothing else bounds. A longer one is left behind.
const maxLabelBytes = 65_536

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
 * Returns one row without a task when there was not enough to take:
 *
 * - `next_due`: milliseconds until the next task is
 * - `crowded`: not all of it was looked at, for there are too many places
 * - `waiting`: a type that has something due, of which nothing could be taken
 *
 * With `only` it takes nothing and returns the ids of what it would have taken.
 */
export const statement = (
  s: string,
  columns: OptionalColumns,
  allQueues: boolean,
  reach: Reach,
  only?: "ids"
): string => `
with recursive served as (
  select * from unnest($3::text[], $4::bool[]) as served(type, quick)
), places as materialized (
  ${allQueues ? queuedPlaces(s) : wantedPlaces(s)}
   limit ${reach === "one" ? 2 : mostPlaces + 1}
), ${
  reach === "one"
    ? takenFromOne(s, columns)
    : `levels as (${queuedLevels(s)}
), ${takenInTurn(s, columns, `queue <= ${allQueues ? "$9" : "$11"}, queue`, "$5 + $6", reach === "greedy")}`
}${only === undefined ? `, claimed as (${update(s, columns, "$8")}\n)${claimedFrom(s, columns, reach)}` : named(s)}`

const claimedFrom = (s: string, columns: OptionalColumns, reach: Reach) =>
  `, walked as (
  select places.*, walk.priority
    from places cross join lateral (${priorities(s, "places")}) walk
   where ${reach === "one" ? "(select count(*) from places) = 1" : "true"}
)
${brought}, (select count(*)::int from places) as places, null::bool as blocked, null::bool as crowded,
       null::text as waiting, null::float8 as next_due
  from claimed
union all
select ${nothing}, (select count(*)::int from places),
  ${
    reach === "all"
      ? `(select least(coalesce(sum(in_queue.due), 0), $5)
     from (select least(sum(due), max(free)) as due from levels group by queue) in_queue)
    > (select count(*) from claimed)
    and (select sum(due) > (select count(*) from chosen) or max(due) >= $5 + $6 from levels)`
      : "false"
  },
  exists (select from walked group by type, queue having count(*) > ${mostPlaces}),
  case when (select count(*) from claimed) = 0 then (
    select walked.type
      from walked cross join lateral (${candidates(s, columns, "walked", "walked.priority", "1", false)}) due
     limit 1) end,
  (select extract(epoch from min(due.run_at) - now())::float8 * 1000
     from walked cross join lateral (
       select t.run_at from ${s}.tasks t
        where t.status = 'queued' and t.type = walked.type and t.queue = walked.queue
          and t.priority = walked.priority and t.run_at > now() and t.run_at < 'infinity'
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
    from served cross join unnest($9::text[], $10::int[]) as wanted(queue, free)
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
    ) walk cross join lateral (${candidates(s, columns, "place", "walk.priority", "$5::int + $6", true)}) locked
   limit (select free + case when quick then $6 else 0 end from place)
)`

// The priorities of the places, highest first. `due` counts to the limit, so that no more are looked at than can be of use.
const queuedLevels = (s: string) => `
  select places.*, walk.priority, walk.due
    from places cross join lateral (
      with recursive walk(priority, due, total) as (
        ${level(s, "")}
        union all
        select next.* from walk cross join lateral (${level(s, "and t.priority < walk.priority", "walk.total +")}) next
         where walk.priority is not null and walk.total < $5 + $6
      )
      select priority, due from walk where priority is not null limit ${mostPlaces}
    ) walk`

/**
 * From several levels: by priority, then `run_at`, then `id` within a queue, queues in turn.
 *
 * - `chosen`: what to take, if nobody else locks it
 * - `shares`: how many of each level that is; so many are taken of those that nobody else has locked
 *
 * What others have locked counts for the shares, and could keep a slot from everything else for as long as it is locked.
 * Then, if there is anything else, `blocked` is returned, and a greedy claim locks what it chooses from, which is more
 * than it takes.
 */
const takenInTurn = (s: string, columns: OptionalColumns, byQueue: string, limit: string, greedy: boolean) =>
  `chosen as materialized (
  select type, queue, priority, ctid
    from (
      select ranked.*, count(*) filter (where not quick) over (order by turn, ${byQueue}) as slow
        from (
          select levels.*, candidate.ctid, row_number() over (
                   partition by levels.queue order by levels.priority desc, candidate.run_at, candidate.id) as turn
            from levels cross join lateral (${
    candidates(s, columns, "levels", "levels.priority", limit, greedy)
  }) candidate
           where levels.due > 0
        ) ranked
       where turn <= ${limit === "$5 + $6" ? "free + case when quick then $6 else 0 end" : "free"}
    ) counted
   where quick or slow <= $5
   order by turn, ${byQueue} limit $5 + $6
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
  }
)`

/**
 * The same from levels that are known, in their order, without looking for others. After what was taken it returns, for
 * each of them, in how many milliseconds its first tasks are due, those just taken included: one more than its share.
 */
export const known = (s: string, columns: OptionalColumns, only?: "ids"): string => `
with levels as materialized (
  select asked.*, (select count(*) from unnest(asked.waits) as wait where wait <= 0) as due
    from (
      select given.*, array(
               select (date_part('epoch', t.run_at) - date_part('epoch', now())) * 1000
                 from ${s}.tasks t
                where t.status = 'queued' and t.type = given.type and t.queue = given.queue
                  and t.priority = given.priority and t.id <> all($7::bigint[])
                order by t.run_at, t.id limit given.free + 1) as waits
        from unnest($3::text[], $4::bool[], $9::text[], $10::int2[], $11::int[]) with ordinality
          as given(type, quick, queue, priority, free, place)) asked
), ${takenInTurn(s, columns, "place", "levels.free", false)}${
  only === undefined
    ? `, claimed as (${update(s, columns, "$8")}
)
${brought}, null::int as place, null::float8[] as waits
  from claimed
union all
select ${nothing}, place::int, waits from levels`
    : named(s)
}`

/** Takes these tasks if they are still due. */
export const these = (s: string, columns: OptionalColumns): string => `
with taken as (
  select t.ctid from ${s}.tasks t
   where t.id = any($3::bigint[]) and t.status = 'queued' and t.run_at <= now()${unblocked(s, columns)}
   order by t.id for no key update skip locked
), claimed as (${update(s, columns, "$4")}
)
${brought} from claimed`

/**
 * Fails the queued task $1 with the error $2, which no claim can take: its epoch cannot be raised, or a value of it is
 * refused. The closing event follows what is there.
 */
export const fail = (s: string): string => `
with failed as (
  update ${s}.tasks
     set status = 'failed', error = $2::jsonb, finished_at = now(),
         epoch = case when epoch < 9223372036854775807 then epoch + 1 else epoch end
   where id = $1 and status = 'queued'
  returning id, epoch, error
), closed as (
  insert into ${s}.task_events (task_id, epoch, seq, type, data)
  select id, epoch,
         coalesce((select max(e.seq) from ${s}.task_events e where e.task_id = failed.id and e.epoch = failed.epoch), 0) + 1,
         'error', error || '{"willRetry": false}'
    from failed
      on conflict do nothing
)
select id from failed`

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
     and (t.run_at, t.id) > (timestamptz 'epoch' + $6 * interval '1 microsecond', $9)
     and t.run_at <= now()${mayBeTaken(s, columns)}
     and not exists (
       with recursive higher(priority) as (
         select max(t.priority) from ${s}.tasks t where t.status = 'queued' and t.type = $3 and t.queue = $4
         union all
         select (select max(t.priority) from ${s}.tasks t
                  where t.status = 'queued' and t.type = $3 and t.queue = $4 and t.priority < higher.priority)
           from higher where higher.priority > $5
       )
       select from higher where higher.priority > $5 and exists (
         select from ${s}.tasks t
          where t.status = 'queued' and t.type = $3 and t.queue = $4 and t.priority = higher.priority
            and t.run_at <= now()))
   order by t.run_at, t.id limit $10 for no key update skip locked
), claimed as (${update(s, columns, "$8")}
)
${brought} from claimed`

/**
 * @category statements
 * @since 0.1.0
 */
export const furtherParameters = (
  { inlineBytes, leaseMillis, setAside, workerId }: Terms,
  cursor: Cursor,
  limit: number
): ReadonlyArray<unknown> => [
  workerId,
  leaseMillis,
  cursor.type,
  cursor.queue,
  PgTypes.int2(cursor.priority),
  PgTypes.float8(Math.round(cursor.runAt * 1000)),
  Parameters.int8(setAside),
  PgTypes.int4(inlineBytes),
  PgTypes.int8(cursor.id),
  PgTypes.int4(limit)
]

/**
 * A claim does not wait for the disk. What its worker writes under it does, and takes it along. Should a crash lose the
 * claim, nothing was stored under it, and the task is claimed again: by another worker, which the first one's late writes
 * cannot reach because they name their worker, or by the same one, which then goes on with the handler that runs.
 */
const update = (s: string, columns: OptionalColumns, inlineBytes: string) => `
  update ${s}.tasks t
     set status = 'processing', attempts = least(t.attempts, 2147483646) + 1, epoch = t.epoch + 1, locked_by = $1,
         lease_expires_at = now() + $2 * interval '1 millisecond', started_at = now(),
         result = null, error = null, finished_at = null${columns.completedBy ? ", completed_by = null" : ""}
   where t.ctid = any(array(select ctid from taken))
     and (select set_config('synchronous_commit', 'off', true)) = 'off'
  returning t.id, t.epoch, t.type, t.queue, t.priority, t.attempts, t.max_attempts,
    date_part('epoch', t.run_at) * 1000 as run_at, date_part('epoch', t.created_at) * 1000 as created_at,
    date_part('epoch', now()) * 1000 as claimed_at,
    case when ${Payload.isInline("t.payload", inlineBytes)} then t.payload::text end as payload,
    ${
  columns.metadata
    ? `case when t.metadata is null then '{}'
         when ${Payload.isInline("t.metadata", inlineBytes)} then t.metadata::text end`
    : "'{}'::text"
} as metadata,
    ${columns.timeout ? "t.timeout_ms" : "null::int"} as timeout_ms,
    ${columns.tag ? label("tag") : "null::text"} as tag,
    ${columns.userId ? label("user_id") : "null::text"} as user_id`

const label = (column: string) => `case when octet_length(t.${column}) <= ${maxLabelBytes} then t.${column} end`

const brought = "select claimed.*, claimed.payload is null or claimed.metadata is null as later"

// One null for each of what `brought` selects.
const nothing = Array.from({ length: 16 }, () => "null").join(", ")

const named = (s: string) => `
select t.id from ${s}.tasks t
 where t.ctid = any(array(select ctid from taken))
   and $1::text is not null and $2 * interval '1 millisecond' is not null and $8::int is not null`

const mayBeTaken = (s: string, columns: OptionalColumns) => `
         and t.id <> all($7::bigint[])${unblocked(s, columns)}`

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
                and t.priority = top.priority and t.run_at <= now() and t.id <> all($7::bigint[])
              limit $5::int + $6) one) counted`

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
       select priority from walk where priority is not null limit ${mostPlaces + 1}`

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
         and t.run_at <= now()${mayBeTaken(s, columns)}
       order by t.run_at, t.id limit ${limit}${locked ? " for no key update skip locked" : ""}`

/**
 * @category statements
 * @since 0.1.0
 */
export const parameters = (request: ClaimRequest): ReadonlyArray<unknown> => [
  ...common(request, request.types),
  ...(request.queues === undefined
    ? []
    : [Parameters.text([...request.queues.keys()]), Parameters.int4([...request.queues.values()])]),
  ...(request.reach === "one" ? [] : [request.afterQueue])
]

export const knownParameters = (request: KnownRequest): ReadonlyArray<unknown> => [
  ...common(request, request.levels.map(({ type }) => type)),
  Parameters.text(request.levels.map(({ queue }) => queue)),
  Parameters.array(request.levels.map(({ priority }) => priority), PgTypes.OID.int2),
  Parameters.int4(request.levels.map(({ share }) => share))
]

const common = (
  request: Terms & Pick<ClaimRequest, "quickTypes" | "slots" | "ahead">,
  types: ReadonlyArray<string>
) => [
  request.workerId,
  request.leaseMillis,
  Parameters.text(types),
  Parameters.bool(types.map((type) => request.quickTypes.has(type))),
  PgTypes.int4(request.slots),
  PgTypes.int4(request.ahead),
  Parameters.int8(request.setAside),
  PgTypes.int4(request.inlineBytes)
]

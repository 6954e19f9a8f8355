/**
 * The one statement by which a worker says anything: events first, then outcomes with their closing events.
 *
 * @since 0.1.0
 */
import type { OptionalColumns } from "./Contract.ts"
import * as Names from "./Names.ts"
import * as Parameters from "./Parameters.ts"
import * as Times from "./Times.ts"

/**
 * Something that a running task said.
 *
 * @category models
 * @since 0.1.0
 */
export interface EventEntry {
  readonly taskId: bigint
  readonly epoch: bigint
  readonly seq: number
  readonly type: string
  /** JSON text. */
  readonly data: string
}

/**
 * How a claim ends, if the task has not been cancelled in the meantime.
 *
 * @category models
 * @since 0.1.0
 */
export interface OutcomeEntry {
  readonly taskId: bigint
  readonly epoch: bigint
  readonly status: "completed" | "failed" | "queued"
  /** JSON text, for `completed`. */
  readonly result: string | null
  /** JSON text, for failed attempts. */
  readonly error: string | null
  /** For `queued`: due so many milliseconds from now; null leaves `run_at` as it is. */
  readonly delayMillis: number | null
  /** Whether the attempt is not charged. */
  readonly refund: boolean
  /** What closes the claim, whatever status stays; null for nothing, where the database refuses it. */
  readonly closing: "done" | "error" | "retry" | "released" | null
  readonly closingSeq: number
  /** With `unwoundMs` where the handler was interrupted because of a cancel. */
  readonly closingData: string
  /** Whether `closing` is written (a plain task's `done` is not). */
  readonly announce: boolean
}

/**
 * What became of a write: the claims that ended by it, which of them found the task cancelled, and which another status
 * that somebody else had written. An outcome that is not in `accepted` found its row locked by somebody else, changed
 * while the statement began, or no longer its own.
 *
 * @category models
 * @since 0.1.0
 */
export interface Written {
  readonly accepted: ReadonlyArray<bigint>
  readonly cancelled: ReadonlyArray<bigint>
  readonly overruled: ReadonlyArray<bigint>
  /** Which of the events are not stored, as the claim was not this worker's: their places in the list, from 1. */
  readonly refused: ReadonlyArray<number>
  /** Which of them are not stored, nor the outcomes of their tasks, as somebody else has locked their tasks. */
  readonly blocked: ReadonlyArray<number>
}

// PostgreSQL takes a notification of less than 8,000 bytes.
const notificationBytes = 7999

/**
 * `held` takes the rows that are still this worker's under their epoch, in id order, and passes over those that somebody
 * else's open transaction locks: nobody waits here. `settled` keeps `cancelled`, or whatever else somebody wrote there, and
 * the closing event follows the status that stays, so that the canceller, the row and the stream always agree.
 *
 * Events of a claim that this worker has lost are not stored, and it is told which. Repeating the statement changes nothing.
 * Rows are looked up one by one from the values given: a plan that began with the rows would walk all that are locked.
 *
 * A closing event comes after whatever is stored: a worker that puts back what it does not know, as the server has lost an
 * outcome, cannot know its events either.
 *
 * @category statements
 * @since 0.1.0
 */
export const statement = (
  s: string,
  schema: string,
  columns: OptionalColumns,
  referencing: boolean
): string => `
with ${referencing ? free(s) : ""}said as (
  insert into ${s}.task_events (task_id, epoch, seq, type, data)
  select event.task_id, event.epoch, event.seq, event.type, event.data::jsonb
    from unnest($2::bigint[], $3::bigint[], $4::int[], $5::text[], $6::text[])
      as event(task_id, epoch, seq, type, data)
   where ${holder(s)} = $1${referencing ? " and event.task_id in (select id from free)" : ""}
      on conflict do nothing
  returning task_id
), held as materialized (
  select outcome.*, mine.found, mine.place
    from (
      select * from unnest($7::bigint[], $8::bigint[], $9::text[], $10::text[], $11::text[], $12::float8[], $13::int[],
                           $14::text[], $15::int[], $16::text[], $17::bool[])
        as given(id, epoch, status, result, error, delay, refund, closing, seq, data, announce)
       order by id
    ) outcome cross join lateral (
      select t.status as found, t.ctid as place from ${s}.tasks t
       where t.id = outcome.id and t.epoch = outcome.epoch and t.locked_by = $1${
  referencing ? "\n         and (t.id <> all($2::bigint[]) or t.id in (select id from free))" : ""
}
         for no key update skip locked
    ) mine
), settled as (
  update ${s}.tasks t
     set status = case when found = 'processing' then held.status else found end,
         result = case when found = 'processing' then held.result::jsonb else t.result end,
         error = case when found = 'processing' then held.error::jsonb else t.error end,${
  columns.completedBy
    ? `
         completed_by = case when found = 'processing' and held.status = 'completed' then $1 end,`
    : ""
}
         attempts = case when found = 'processing' then t.attempts - held.refund else t.attempts end,
         run_at = case when found = 'processing' and held.delay is not null
                       then now() + held.delay * interval '1 millisecond' else t.run_at end,
         finished_at = case when found = 'queued' or found = 'processing' and held.status = 'queued' then null
                            else coalesce(t.finished_at, now()) end,
         locked_by = null, lease_expires_at = null
    from held
   where t.ctid = held.place
  returning t.id, t.epoch, t.status, t.queue, t.started_at, t.run_at, ${
  columns.uniqueKey ? "t.unique_key" : "null::text as unique_key"
},
    t.error, held.found, held.closing, held.seq, held.data, held.announce, held.delay
), closed as (
  insert into ${s}.task_events (task_id, epoch, seq, type, data)
  select id, epoch,
         greatest(seq, (select max(e.seq) + 1 from ${s}.task_events e
                         where e.task_id = settled.id and e.epoch = settled.epoch)),
         case found when 'processing' then closing when 'completed' then 'done' when 'failed' then 'error'
                    when 'queued' then 'released' else found end,
         jsonb_build_object('startedAt', ${Times.bounded("started_at")}, 'worker', $1::text)
           || case found when 'processing' then data::jsonb - 'unwoundMs'
                         when 'failed' then coalesce(error, '{"kind": "failure", "tag": "Unknown", "message": ""}')
                                              || '{"willRetry": false}'
                         when 'queued' then '{"reason": "lease_expired"}'
                         when 'cancelled' then
                           jsonb_strip_nulls(jsonb_build_object('unwoundMs', data::jsonb -> 'unwoundMs'))
                         else '{}' end
           || case when found = 'processing' and delay is not null
                then jsonb_build_object('runAt', run_at) else '{}' end
    from settled
   where closing is not null and (found <> 'processing' or announce)
      on conflict do nothing
)
select (select array_agg(id) from settled) as accepted,
       (select array_agg(id) from settled where found = 'cancelled') as cancelled,
       (select array_agg(id) from settled where found not in ('processing', 'cancelled')) as overruled,
       (select pg_notify(${Names.literal(Names.channel(schema, "task_events"))},
                 case when length(ids) <= ${notificationBytes} then ids else '*' end)
          from (select string_agg(id::text, ',') as ids
                  from (select task_id as id from said union select id from settled) touched) list
         where ids is not null) as told,
       (select count(pg_notify(${Names.literal(Names.channel(schema, "task_queued"))}, queue))
          from (select distinct queue from settled
                 where status = 'queued' and run_at <= now() + interval '1 minute'
                    or status = 'cancelled' and unique_key is not null) freed) as woken,
       (select array_agg(event.place::int order by event.place)
          from unnest($2::bigint[], $3::bigint[], $4::int[]) with ordinality as event(task_id, epoch, seq, place)
         where (select count(*) from said) < cardinality($2::bigint[])
           and ${holder(s)} is distinct from $1
           and (select true from ${s}.task_events e
                 where e.task_id = event.task_id and e.epoch = event.epoch and e.seq = event.seq) is null) as refused,
       ${referencing ? blocked(s) : "null::int[]"} as blocked`

/** Whether all there is to say of a claim is its result. */
export const isPlain = ({ announce, status }: OutcomeEntry): boolean => status === "completed" && !announce

/**
 * Outcomes that are nothing but a result, which nearly all are: a third of the work. What it does not take, because it is
 * locked, cancelled or no longer this worker's, is for the other statement to judge.
 */
export const completions = (s: string, schema: string, columns: OptionalColumns): string => `
with held as materialized (
  select mine.place, outcome.result
    from unnest($2::bigint[], $3::bigint[], $4::text[]) as outcome(id, epoch, result)
   cross join lateral (
      select t.ctid as place from ${s}.tasks t
       where t.id = outcome.id and t.epoch = outcome.epoch and t.locked_by = $1 and t.status = 'processing'
         for no key update skip locked
    ) mine
), settled as (
  update ${s}.tasks t
     set status = 'completed', result = held.result::jsonb, finished_at = now(), locked_by = null,
         lease_expires_at = null${columns.completedBy ? ", completed_by = $1" : ""}
    from held
   where t.ctid = held.place
  returning t.id
)
select array_agg(id) as accepted,
       pg_notify(${Names.literal(Names.channel(schema, "task_events"))},
         case when length(string_agg(id::text, ',')) <= ${notificationBytes} then string_agg(id::text, ',') else '*' end
       ) as told
  from settled having count(*) > 0`

export const completionParameters = (
  workerId: string,
  outcomes: ReadonlyArray<OutcomeEntry>
): ReadonlyArray<unknown> => [
  workerId,
  Parameters.int8(outcomes.map((_) => _.taskId)),
  Parameters.int8(outcomes.map((_) => _.epoch)),
  Parameters.text(outcomes.map((_) => _.result))
]

// Where events refer to tasks by a foreign key, an insert would wait for whoever has locked their task for update.
const free = (s: string) =>
  `free as materialized (
  select task.id
    from (select distinct unnest($2::bigint[]) as id order by id) event
   cross join lateral (select t.id from ${s}.tasks t where t.id = event.id for key share skip locked) task
), `

const blocked = (s: string) =>
  `(
       select array_agg(event.place::int order by event.place)
         from unnest($2::bigint[], $3::bigint[]) with ordinality as event(task_id, epoch, place)
        where ${holder(s)} = $1 and event.task_id not in (select id from free))`

const holder = (s: string) =>
  `(select t.locked_by from ${s}.tasks t where t.id = event.task_id and t.epoch = event.epoch)`

/**
 * @category statements
 * @since 0.1.0
 */
export const parameters = (
  workerId: string,
  events: ReadonlyArray<EventEntry>,
  outcomes: ReadonlyArray<OutcomeEntry>
): ReadonlyArray<unknown> => [
  workerId,
  Parameters.int8(events.map((_) => _.taskId)),
  Parameters.int8(events.map((_) => _.epoch)),
  Parameters.int4(events.map((_) => _.seq)),
  Parameters.text(events.map((_) => _.type)),
  Parameters.text(events.map((_) => _.data)),
  Parameters.int8(outcomes.map((_) => _.taskId)),
  Parameters.int8(outcomes.map((_) => _.epoch)),
  Parameters.text(outcomes.map((_) => _.status)),
  Parameters.text(outcomes.map((_) => _.result)),
  Parameters.text(outcomes.map((_) => _.error)),
  Parameters.float8(outcomes.map((_) => _.delayMillis)),
  Parameters.int4(outcomes.map((_) => _.refund ? 1 : 0)),
  Parameters.text(outcomes.map((_) => _.closing)),
  Parameters.int4(outcomes.map((_) => _.closingSeq)),
  Parameters.text(outcomes.map((_) => _.closingData)),
  Parameters.bool(outcomes.map((_) => _.announce))
]

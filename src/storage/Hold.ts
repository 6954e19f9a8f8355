/**
 * The statements about tasks that are held: heartbeat, cancelled handlers, expired leases.
 *
 * @since 0.1.0
 */
import * as Names from "./Names.ts"
import * as Times from "./Times.ts"

/**
 * How many rows one statement finds at most.
 *
 * @category constants
 * @since 0.1.0
 */
export const batch = 1000

/**
 * Renews the leases of worker $1 by $2 ms, those of the tasks $3 left out, and returns all that is its own, renewed or not:
 * what somebody else's open transaction locks is renewed at the next heartbeat. What is missing has been lost; what the
 * worker does not know came from a claim whose reply never arrived.
 *
 * The rows are found by their place: a join could be planned to look for them again for every row of the table, and would
 * keep them locked from their outcomes meanwhile.
 *
 * @category statements
 * @since 0.1.0
 */
export const renew = (s: string): string => `
with free as materialized (
  select ctid from ${s}.tasks
   where locked_by is not null and locked_by = $1 and id <> all($3::bigint[])
   order by id for no key update skip locked
), renewed as (${renewed(s)})
${own(s)}`

/**
 * What worker $1 holds.
 *
 * @category statements
 * @since 0.1.0
 */
export const own = (s: string): string =>
  `select id, epoch from ${s}.tasks where locked_by is not null and locked_by = $1`

/**
 * Renews the leases of worker $1 by $2 ms for the tasks $3 alone.
 *
 * @category statements
 * @since 0.1.0
 */
export const renewThese = (s: string): string => `
with free as materialized (
  select ctid from ${s}.tasks where id = any($3::bigint[]) and locked_by = $1 order by id for no key update skip locked
)${renewed(s)}`

const renewed = (s: string) => `
  update ${s}.tasks t set lease_expires_at = now() + $2 * interval '1 millisecond'
   where t.ctid = any(array(select ctid from free))`

/**
 * Which of the tasks $2 of worker $1 have been cancelled, and for how long they have been, where that was recorded.
 *
 * @category statements
 * @since 0.1.0
 */
export const cancelled = (s: string): string => `
select id, epoch,
       case when isfinite(finished_at)
            then date_part('epoch', clock_timestamp() - finished_at) * 1000 end as "cancelledForMillis"
  from ${s}.tasks where id = any($2::bigint[]) and status = 'cancelled' and locked_by = $1`

/**
 * What stands in the rows $1, and whether nobody else has them locked.
 *
 * @category statements
 * @since 0.1.0
 */
export const inspect = (s: string): string => `
select t.id, t.epoch, t.status, t.locked_by as "lockedBy", free.id is not null as free
  from ${s}.tasks t
  left join lateral (select l.id from ${s}.tasks l where l.id = t.id for no key update skip locked) free on true
 where t.id = any($1::bigint[])`

/**
 * The tasks after $2 whose lease ends within $1 ms, or has ended, and that nobody else has locked: at most 1,000, in the
 * order of their ids, with the server's time.
 *
 * A task that somebody's open transaction locks cannot be renewed either, hence the lock.
 *
 * @category statements
 * @since 0.1.0
 */
export const expiring = (s: string): string => `
select id, epoch, date_part('epoch', lease_expires_at) as lease, date_part('epoch', now()) as now
  from ${s}.tasks
 where locked_by is not null and lease_expires_at < now() + $1 * interval '1 millisecond' and id > $2
 order by id limit ${batch} for no key update skip locked`

/**
 * Takes the tasks $1, held under the epochs $2 with the leases $3, away from workers that do not renew them: queued again
 * at once, failed when no attempt is left, closed when cancelled, or as whatever somebody wrote by hand. All of it is
 * checked again under the row lock.
 *
 * @category statements
 * @since 0.1.0
 */
export const sweep = (s: string, schema: string): string => `
with expired as materialized (
  select held.*
    from (select * from unnest($1::bigint[], $2::bigint[], $3::float8[]) as given(id, epoch, lease) order by id) found
   cross join lateral (
      select t.ctid as place, t.started_at, t.locked_by
        from ${s}.tasks t
       where t.id = found.id and t.epoch = found.epoch and t.locked_by is not null and t.lease_expires_at < now()
         and date_part('epoch', t.lease_expires_at) = found.lease
         for no key update skip locked
    ) held
), taken as (
  update ${s}.tasks t
     set status = case when t.status <> 'processing' then t.status
                       when ${exhausted} then 'failed' else 'queued' end,
         epoch = ${nextEpoch},
         error = case when t.status <> 'processing' then t.error
                      else jsonb_build_object('kind', 'lease_expired', 'tag', 'LeaseExpired', 'message',
                             'Worker ' || expired.locked_by || ' stopped renewing its lease: it died or lost the database')
                 end,
         finished_at = case when t.status = 'queued' or t.status = 'processing' and not (${exhausted}) then null
                            else coalesce(t.finished_at, now()) end,
         locked_by = null, lease_expires_at = null
    from expired
   where t.ctid = expired.place
  returning t.id, t.epoch, t.type, t.queue, t.status, t.attempts, t.error, expired.started_at, expired.locked_by
), closed as (
  insert into ${s}.task_events (task_id, epoch, seq, type, data)
  select id, epoch, 1,
         case status when 'queued' then 'released' when 'failed' then 'error' when 'completed' then 'done'
                     else status end,
         jsonb_build_object('startedAt', ${Times.bounded("started_at")}, 'worker', locked_by)
           || case status when 'queued' then jsonb_build_object('reason', 'lease_expired')
                          when 'failed' then coalesce(error, '{"kind": "failure", "tag": "Unknown", "message": ""}')
                                               || '{"willRetry": false}'
                          else '{}' end
    from taken
      on conflict do nothing
)
select id, type, status, attempts, locked_by as worker,
       pg_notify(${Names.literal(Names.channel(schema, "task_events"))}, id::text) as told,
       case when status = 'queued'
         then pg_notify(${Names.literal(Names.channel(schema, "task_queued"))}, queue) end as woken
  from taken`

// The last epoch, which no program of ours reaches, has no next one: whoever wrote it cannot have the task run again.
const lastEpoch = "9223372036854775807"
const nextEpoch = `least(t.epoch, ${lastEpoch} - 1) + 1`
const exhausted = `t.attempts >= t.max_attempts or t.epoch = ${lastEpoch}`

/**
 * The tasks that were cancelled while queued and that nobody has closed, among the next cancelled ones from the id $1
 * downwards, and in a row without an epoch where to go on. Without the index `tasks_ended_idx`, among the next of all tasks.
 *
 * What decides is the event that ends the row's epoch: `finished_at` may be of an earlier run. Where there is none, that run
 * was a plain task's, or the events have been removed, which leaves a task that was not to run after it had ended.
 *
 * @category statements
 * @since 0.1.0
 */
export const unclosed = (s: string, indexed: boolean): string => `
with looked as materialized (
  select id, epoch, status, locked_by, run_at, started_at, finished_at
    from ${s}.tasks
   where ${indexed ? "status = 'cancelled' and " : ""}id <= $1
   order by id desc limit ${looked(indexed)}
)
select looked.id, looked.epoch
  from looked left join lateral (
       select type from ${s}.task_events e
        where e.task_id = looked.id and e.epoch = looked.epoch
        order by seq desc limit 1
       ) last on true
 where status = 'cancelled' and locked_by is null
   and (finished_at is null or coalesce(last.type <> 'cancelled', started_at is not null and run_at > finished_at))
 union all
select min(id) - 1, null from looked having count(*) = ${looked(indexed)}`

const looked = (indexed: boolean) => indexed ? 500 : 5000

/**
 * Closes the tasks $1 that were cancelled under the epochs $2 and are held by nobody.
 *
 * @category statements
 * @since 0.1.0
 */
export const close = (s: string, schema: string): string => `
with closing as materialized (
  select held.place
    from (select * from unnest($1::bigint[], $2::bigint[]) as given(id, epoch) order by id) found
   cross join lateral (
      select t.ctid as place
        from ${s}.tasks t
       where t.id = found.id and t.epoch = found.epoch and t.status = 'cancelled' and t.locked_by is null
         for no key update skip locked
    ) held
), closed as (
  update ${s}.tasks t set finished_at = now(), epoch = t.epoch + 1
    from closing where t.ctid = closing.place
  returning t.id, t.epoch
), said as (
  insert into ${s}.task_events (task_id, epoch, seq, type, data)
  select id, epoch, 1, 'cancelled', '{}' from closed on conflict do nothing
)
select id, pg_notify(${Names.literal(Names.channel(schema, "task_events"))}, id::text) as told from closed`

/**
 * The types with something queued that are none of $1, walked one by one.
 *
 * @category statements
 * @since 0.1.0
 */
export const otherTypes = (s: string): string => `
with recursive walk(type) as (
  (select type from ${s}.tasks where status = 'queued' order by type limit 1)
  union all
  select (select t.type from ${s}.tasks t where t.status = 'queued' and t.type > walk.type order by t.type limit 1)
    from walk where walk.type is not null
)
select type from walk where type is not null and type <> all($1::text[]) limit 1000`

/**
 * The due tasks of the types $1, those of $2 left out, in all queues or in the queues $3: at most 1,000.
 *
 * @category statements
 * @since 0.1.0
 */
export const due = (s: string, allQueues: boolean): string => `
select task.id
  from unnest($1::text[]) as wanted(type) cross join lateral (
       select t.id from ${s}.tasks t
        where t.status = 'queued' and t.type = wanted.type and t.run_at <= now() and t.id <> all($2::bigint[])${
  allQueues ? "" : " and t.queue = any($3::text[])"
}
        limit ${batch}
       ) task
 limit ${batch}`

/**
 * Fails the tasks $1, whose types nobody here handles.
 *
 * @category statements
 * @since 0.1.0
 */
export const failUnknown = (s: string, schema: string): string => `
with unknown as materialized (
  select held.place
    from (select * from unnest($1::bigint[]) as given(id) order by id) found
   cross join lateral (
      select t.ctid as place
        from ${s}.tasks t
       where t.id = found.id and t.status = 'queued' and t.run_at <= now()
         for no key update skip locked
    ) held
), failed as (
  update ${s}.tasks t
     set status = 'failed', epoch = ${nextEpoch}, finished_at = now(),
         error = jsonb_build_object('kind', 'rejected', 'tag', 'UnknownTaskType', 'message', 'Unknown task type')
    from unknown where t.ctid = unknown.place
  returning t.id, t.epoch, t.type, t.error
), said as (
  insert into ${s}.task_events (task_id, epoch, seq, type, data)
  select id, epoch, 1, 'error', error || jsonb_build_object('willRetry', false) from failed on conflict do nothing
)
select id, type, pg_notify(${Names.literal(Names.channel(schema, "task_events"))}, id::text) as told from failed`

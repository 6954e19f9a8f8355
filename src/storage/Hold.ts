/**
 * The statements about tasks that are held: heartbeat, cancelled handlers, expired leases.
 *
 * @since 0.1.0
 */
import * as Names from "./Names.ts"
import * as Times from "./Times.ts"

/**
 * Renews the leases of worker $1 by $2 ms and returns all that is its own, renewed or not: what somebody else's open
 * transaction locks is renewed at the next heartbeat. What is missing has been lost; what the worker does not know came
 * from a claim whose reply never arrived.
 *
 * The rows are found by their place: a join could be planned to look for them again for every row of the table, and would
 * keep them locked from their outcomes meanwhile.
 *
 * @category statements
 * @since 0.1.0
 */
export const renew = (s: string): string => `
with free as materialized (
  select ctid from ${s}.tasks where locked_by is not null and locked_by = $1 order by id for no key update skip locked
), renewed as (
  update ${s}.tasks t set lease_expires_at = now() + $2 * interval '1 millisecond'
   where t.ctid = any(array(select ctid from free))
)
select id, epoch from ${s}.tasks where locked_by is not null and locked_by = $1`

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
 * What stands in the rows $1.
 *
 * @category statements
 * @since 0.1.0
 */
export const inspect = (s: string): string => `
select id, epoch, status, locked_by as "lockedBy" from ${s}.tasks where id = any($1::bigint[])`

/**
 * Takes tasks away from workers whose lease has expired: queued again at once, failed when no attempt is left, closed
 * when cancelled, or as whatever somebody wrote by hand. Checked again under the row lock, at most 1,000 at a time.
 *
 * For one lease ($1 ms) after a start of the server nothing is taken: every lease looks expired after an outage, though
 * the workers live. Nor is anything by a statement that was on its way for half a lease since the server's time was $2.
 *
 * @category statements
 * @since 0.1.0
 */
export const sweep = (s: string, schema: string): string => `
with expired as (
  select ctid as place, started_at, locked_by from ${s}.tasks
   where locked_by is not null and lease_expires_at < now()
     and now() > pg_postmaster_start_time() + $1 * interval '1 millisecond'
     and now() < $2::timestamptz + $1 * interval '0.5 milliseconds'
   order by id limit 1000 for no key update skip locked
), taken as (
  update ${s}.tasks t
     set status = case when t.status <> 'processing' then t.status
                       when t.attempts >= t.max_attempts then 'failed' else 'queued' end,
         epoch = t.epoch + 1,
         error = case when t.status <> 'processing' then t.error
                      else jsonb_build_object('kind', 'lease_expired', 'tag', 'LeaseExpired', 'message',
                             'Worker ' || expired.locked_by || ' stopped renewing its lease: it died or lost the database')
                 end,
         finished_at = case when t.status = 'queued' or t.status = 'processing' and t.attempts < t.max_attempts then null
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

/**
 * The server's time.
 *
 * @category statements
 * @since 0.1.0
 */
export const now = "select now() as now"

/**
 * Closes tasks that were cancelled while queued, where no trigger has done it.
 *
 * @category statements
 * @since 0.1.0
 */
export const closeCancelled = (s: string, schema: string): string => `
with closing as (
  select id from ${s}.tasks where status = 'cancelled' and finished_at is null and locked_by is null
   order by id limit 1000 for no key update skip locked
), closed as (
  update ${s}.tasks t set finished_at = now(), epoch = t.epoch + 1
    from closing where t.id = closing.id
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
 * Fails the due tasks of the types $1, which nobody here handles, at most 1,000 at a time.
 *
 * @category statements
 * @since 0.1.0
 */
export const failUnknown = (s: string, schema: string): string => `
with unknown as (
  select task.id
    from unnest($1::text[]) as wanted(type) cross join lateral (
      select t.id from ${s}.tasks t
       where t.status = 'queued' and t.type = wanted.type and t.run_at <= now()
       limit 1000 for no key update skip locked) task
   limit 1000
), failed as (
  update ${s}.tasks t
     set status = 'failed', epoch = t.epoch + 1, finished_at = now(),
         error = jsonb_build_object('kind', 'rejected', 'tag', 'UnknownTaskType', 'message', 'Unknown task type')
    from unknown where t.id = unknown.id
  returning t.id, t.epoch, t.type, t.error
), said as (
  insert into ${s}.task_events (task_id, epoch, seq, type, data)
  select id, epoch, 1, 'error', error || jsonb_build_object('willRetry', false) from failed on conflict do nothing
)
select id, type, pg_notify(${Names.literal(Names.channel(schema, "task_events"))}, id::text) as told from failed`

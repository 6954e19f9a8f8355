/**
 * The systems under test as the bench sees them from outside: a table, and plain SQL to fill and to cancel.
 *
 * Both tables have the columns of the database contract that the bench writes, so that one set of statements serves both.
 */
import type { Implementation } from "./protocol.ts"

export interface System {
  readonly name: "spindle" | "naive"
  readonly table: string
  /** Channels its producer has to notify by itself; a system with triggers has none. */
  readonly channels?: { readonly queued: string; readonly cancelled: string } | undefined
  /** Loaded by the worker process only. */
  readonly load: () => Promise<Implementation>
}

export const spindle: System = {
  name: "spindle",
  table: "spindle.tasks",
  load: async () => (await import("./systems/spindle.ts")).spindle
}

export const naive: System = {
  name: "naive",
  table: "naive.tasks",
  channels: { queued: "naive_queued", cancelled: "naive_cancelled" },
  load: async () => (await import("./systems/naive.ts")).naive
}

export const systems: ReadonlyArray<System> = [spindle, naive]

const payload = (order: string) =>
  `jsonb_build_object('to', 'user' || ${order} || '@example.com', 'subject', 'Your receipt', 'order', ${order})`

/** Queues `$1` tasks that became due one after the other, an hour ago. */
export const insertMany = ({ table }: System): string => `
  insert into ${table} (type, payload, run_at)
  select 'bench', ${payload("i")}, now() - interval '1 hour' + i * interval '1 microsecond'
  from generate_series(1, $1::int) i`

/** Adds `$1` tasks that were completed within the last day. */
export const insertFinished = ({ table }: System): string => `
  insert into ${table} (type, payload, run_at, status, result, attempts, started_at, finished_at)
  select 'bench', ${payload("i")}, at, 'completed', '{"delivered": true}', 1, at, at
  from generate_series(1, $1::int) i, lateral (select now() - i * interval '80 milliseconds' as at) finished`

/** Queues one task and returns its id. */
export const insertOne = ({ channels, table }: System, notifications: boolean): string => {
  const insert = `insert into ${table} (type, payload) values ('bench', ${payload("1")}) returning id`
  return notifications && channels !== undefined
    ? `with added as (${insert}) select id, pg_notify('${channels.queued}', '') from added`
    : insert
}

/** Cancels task `$1`. */
export const cancel = ({ channels, table }: System, notifications: boolean): string => {
  const update = `update ${table} set status = 'cancelled' where id = $1 and status in ('queued', 'processing')`
  return notifications && channels !== undefined
    ? `with cancelled as (${update} returning id) select pg_notify('${channels.cancelled}', id::text) from cancelled`
    : update
}

/** The first of the queued tasks, whose ids have no gaps. */
export const firstQueued = ({ table }: System): string =>
  `select min(id)::text as first from ${table} where status = 'queued'`

/** Whether a task from `$1` to `$2` is unfinished. */
export const unfinished = ({ table }: System): string => `
  select exists (
    select from ${table} where id between $1 and $2 and status in ('queued', 'processing')
  ) as unfinished`

/** How many tasks from `$1` to `$2` are completed with their result kept. */
export const completed = ({ table }: System): string => `
  select count(*)::int as completed from ${table}
  where id between $1 and $2 and status = 'completed' and result is not null`

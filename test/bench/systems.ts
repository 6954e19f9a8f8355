/**
 * The systems under test as the bench sees them from outside: a table, and plain SQL to fill and to cancel.
 *
 * Both tables have the columns of the database contract that the bench writes, so that one set of statements serves both.
 */
import type { Implementation } from "./protocol.ts"

export interface System {
  readonly name: "spindle" | "naive" | "ceiling" | "graphile" | "graphile-5000" | "pg-boss"
  readonly table: string
  /** Has a table of its own making: it is filled through its own bulk call, and asked for what is left and what is done. */
  readonly own?: { readonly first: string; readonly unfinished: string; readonly completed: string } | undefined
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

/** What the same tables allow when nothing but claims and completions is done. */
export const ceiling: System = {
  name: "ceiling",
  table: "ceiling.tasks",
  load: async () => (await import("./systems/ceiling.ts")).ceiling
}

const graphileJobs = {
  table: "graphile_worker._private_jobs",
  // It deletes what is done.
  own: {
    first: "select min(id)::text as first from graphile_worker._private_jobs",
    unfinished: `select exists (
      select from graphile_worker._private_jobs where id between $1 and $2
    ) as unfinished`,
    completed: `select ($2::bigint - $1::bigint + 1 - count(*))::int as completed
      from graphile_worker._private_jobs where id between $1 and $2`
  }
}

export const graphile: System = {
  name: "graphile",
  ...graphileJobs,
  load: async () => (await import("./systems/graphile.ts")).graphile(500)
}

export const graphile5000: System = {
  name: "graphile-5000",
  ...graphileJobs,
  load: async () => (await import("./systems/graphile.ts")).graphile(5000)
}

export const pgBoss: System = {
  name: "pg-boss",
  table: "pgboss.job",
  own: {
    first: "select '1' as first",
    unfinished: `select exists (
      select from pgboss.job where name = 'bench' and state < 'completed' and $1::bigint <= $2::bigint
    ) as unfinished`,
    // A batch keeps no results.
    completed: `select count(*)::int as completed from pgboss.job
      where name = 'bench' and state = 'completed' and $1::bigint <= $2::bigint`
  },
  load: async () => (await import("./systems/pgBoss.ts")).pgBoss
}

export const systems: ReadonlyArray<System> = [spindle, naive, ceiling, graphile, graphile5000, pgBoss]

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
export const firstQueued = ({ own, table }: System): string =>
  own?.first ?? `select min(id)::text as first from ${table} where status = 'queued'`

/** Whether a task from `$1` to `$2` is unfinished. */
export const unfinished = ({ own, table }: System): string =>
  own?.unfinished ?? `
  select exists (
    select from ${table} where id between $1 and $2 and status in ('queued', 'processing')
  ) as unfinished`

/** How many tasks from `$1` to `$2` are completed with their result kept. */
export const completed = ({ own, table }: System): string =>
  own?.completed ?? `
  select count(*)::int as completed from ${table}
  where id between $1 and $2 and status = 'completed' and result is not null`

/**
 * What waits and what runs in each queue, over all workers.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type { Tables } from "./Browse.ts"
import type { Count } from "./TaskPages.ts"
import * as TaskPages from "./TaskPages.ts"
import * as Times from "./Times.ts"

/**
 * @category models
 * @since 0.1.0
 */
export interface QueueDepth {
  readonly name: string
  readonly due: Count
  readonly scheduled: Count
  readonly processing: Count
  /** How long the oldest due task has waited. */
  readonly oldestDueAgeMs: number | null
}

/**
 * The queues with unfinished tasks, by name, and the types of those that are due.
 *
 * @category models
 * @since 0.1.0
 */
export interface Depths {
  readonly queues: ReadonlyArray<QueueDepth>
  readonly dueTypes: ReadonlySet<string>
}

// A place is what one type, queue and priority has queued: it lies together in the claim index, in the order of `run_at`.
const maxPlaces = 1000
// How many entries of that index all places together are counted through, what is due and what is scheduled each.
const maxEntries = 50_000

/**
 * Counts what is queued place by place, each up to its share, so that neither many tasks nor many places make it slow.
 *
 * @category statements
 * @since 0.1.0
 */
export const read = Effect.fnUntraced(function*({ indexes, run }: Tables) {
  const queued = yield* run<Queued>(indexes.claim ? places : newest, [])
  const processing = yield* run<Processing>((s) => running(s, indexes.locked), [])
  const rows = queued.slice(0, maxPlaces)
  const cut = rows.length < queued.length

  const byName = new Map<string, QueueDepth>()
  const change = (name: string, f: (queue: QueueDepth) => Partial<QueueDepth>) => {
    const queue = byName.get(name) ?? empty(name)
    byName.set(name, { ...queue, ...f(queue) })
  }
  for (const { age, due, due_cut, queue, scheduled, scheduled_cut } of rows) {
    change(queue, (before) => ({
      due: add(before.due, due, cut || due_cut),
      scheduled: add(before.scheduled, scheduled, cut || scheduled_cut),
      oldestDueAgeMs: age === null ? before.oldestDueAgeMs : Math.max(age, before.oldestDueAgeMs ?? 0)
    }))
  }
  for (const { count, cut, queue } of processing) {
    change(queue, (before) => ({ processing: add(before.processing, count, cut) }))
  }
  const depths: Depths = {
    queues: [...byName.values()].toSorted((a, b) => a.name < b.name ? -1 : 1),
    dueTypes: new Set(rows.filter(({ due }) => due > 0).map(({ type }) => type))
  }
  return depths
})

/**
 * A queue without tasks.
 *
 * @category constructors
 * @since 0.1.0
 */
export const empty = (name: string): QueueDepth => ({
  name,
  due: { count: 0, capped: false },
  scheduled: { count: 0, capped: false },
  processing: { count: 0, capped: false },
  oldestDueAgeMs: null
})

const add = (before: Count, count: number, cut: boolean): Count => ({
  count: Math.min(before.count + count, TaskPages.cap),
  capped: before.capped || cut || before.count + count > TaskPages.cap
})

interface Queued {
  readonly type: string
  readonly queue: string
  readonly due: number
  readonly due_cut: boolean
  readonly scheduled: number
  readonly scheduled_cut: boolean
  readonly age: number | null
}

interface Processing {
  readonly queue: string
  readonly count: number
  readonly cut: boolean
}

const age = `greatest(extract(epoch from now() - ${
  Times.bounded("greatest(t.run_at, t.created_at)")
}), 0)::float8 * 1000`

const inPlace = `t.status = 'queued' and t.type = places.type and t.queue = places.queue
            and t.priority = places.priority`

// Walks tasks_claim_idx from one distinct (type, queue, priority) to the next.
const places = (s: string) => `
with recursive walk as (
  (select t.type, t.queue, t.priority
     from ${s}.tasks t
    where t.status = 'queued'
    order by t.type, t.queue, t.priority
    limit 1)
  union all
  select following.*
    from walk cross join lateral (
         select t.type, t.queue, t.priority
           from ${s}.tasks t
          where t.status = 'queued' and (t.type, t.queue, t.priority) > (walk.type, walk.queue, walk.priority)
          order by t.type, t.queue, t.priority
          limit 1) following
), places as materialized (
  select * from walk limit ${maxPlaces + 1}
), share as materialized (
  select least(${TaskPages.cap + 1}, ${maxEntries} / greatest(count(*), 1)) as entries from places
)
select places.type, places.queue, oldest.age,
       due.count as due, due.count = share.entries as due_cut,
       scheduled.count as scheduled, scheduled.count = share.entries as scheduled_cut
  from places cross join share
 cross join lateral (
       select count(*)::int as count from (
         select from ${s}.tasks t
          where ${inPlace} and t.run_at <= now()
          limit (select entries from share)) t) due
 cross join lateral (
       select count(*)::int as count from (
         select from ${s}.tasks t
          where ${inPlace} and t.run_at > now()
          limit (select entries from share)) t) scheduled
  left join lateral (
       select ${age} as age
         from ${s}.tasks t
        where ${inPlace} and t.run_at <= now()
        order by t.run_at
        limit 1) oldest on true`

// Without that index, as much as the newest tasks tell.
const newest = (s: string) => `
select t.type, t.queue, max(${age}) filter (where t.run_at <= now()) as age,
       (count(*) filter (where t.run_at <= now()))::int as due, bool_or(t.cut) as due_cut,
       (count(*) filter (where t.run_at > now()))::int as scheduled, bool_or(t.cut) as scheduled_cut
  from (select t.*, count(*) over () = ${TaskPages.window} as cut
          from (select type, queue, status, run_at, created_at
                  from ${s}.tasks
                 order by id desc
                 limit ${TaskPages.window}) t) t
 where t.status = 'queued'
 group by t.type, t.queue`

const running = (s: string, indexed: boolean) => `
select t.queue, count(*)::int as count, bool_or(t.cut) as cut
  from (select t.*, count(*) over () = ${TaskPages.window} as cut
          from (select queue, status
                  from ${s}.tasks
                 where ${indexed ? "locked_by is not null" : "true"}
                 order by id desc
                 limit ${TaskPages.window}) t) t
 where t.status = 'processing'
 group by t.queue`

/**
 * Where something is queued, for workers that have too many queues or priorities to look at all of them in every claim:
 * a part of the claim index at a time, and what was stored since the last look.
 */
import * as PgTypes from "@effect/sql-pg/PgTypes"
import type { Level } from "./Claim.ts"
import * as Parameters from "./Parameters.ts"

/** A level, and when its first task is due. */
export interface Found extends Level {
  readonly waitMillis: number
}

/** Where a look stopped: at a level of the `nth` of the places that it was given. */
export interface Position {
  readonly nth: number
  readonly queue: string
  readonly priority: number
}

/** All queues of the types, or these (type, queue) pairs. */
export interface Where {
  readonly types: ReadonlyArray<string>
  readonly queues: ReadonlyArray<string> | undefined
}

const first = "order by t.queue, t.priority, t.run_at limit 1"
const columns = "t.queue, t.priority, date_part('epoch', t.run_at) as run_at"

/**
 * Walks the claim index from one (type, queue, priority) to the next, from a position ($2, $3, $4) on, for at most $5. `infinity`
 * is a time at which nothing is due.
 */
export const look = (s: string, listed: boolean): string => `
with recursive served as materialized (
  select * from ${
  listed
    ? "unnest($1::text[], $6::text[]) with ordinality as served(type, queue, nth)"
    : "unnest($1::text[]) with ordinality as served(type, nth)"
}
), walk as (
  select $2::bigint as nth, $3::text as queue, $4::int2 as priority, null::float8 as run_at
  union all
  select following.*
    from walk cross join lateral (
      (select served.nth, level.*
         from served cross join lateral (
              select ${columns} from ${s}.tasks t
               where t.status = 'queued' and t.type = served.type
                 and ${
  listed
    ? "t.queue = served.queue and t.priority > walk.priority"
    : "(t.queue, t.priority) > (walk.queue, walk.priority)"
}
               ${first}) level
        where served.nth = walk.nth)
      union all
      (select served.nth, level.*
         from served cross join lateral (
              select ${columns} from ${s}.tasks t
               where t.status = 'queued' and t.type = served.type${listed ? " and t.queue = served.queue" : ""}
               ${first}) level
        where served.nth > walk.nth
        order by served.nth limit 1)
      limit 1) following
)
select nth::int, (select type from served where served.nth = walk.nth) as type, queue, priority,
       (run_at - date_part('epoch', now())) * 1000 as wait
  from walk offset 1 limit $5`

export const lookParameters = (
  { queues, types }: Where,
  from: Position | undefined,
  limit: number
): ReadonlyArray<unknown> => [
  Parameters.text(queues === undefined ? types : types.flatMap((type) => queues.map(() => type))),
  PgTypes.int8(BigInt(from?.nth ?? 0)),
  PgTypes.text(from?.queue ?? ""),
  PgTypes.int2(from?.priority ?? 0),
  PgTypes.int4(limit),
  ...queues === undefined ? [] : [Parameters.text(types.flatMap(() => queues))]
]

/** The levels of tasks of these types with ids above $2, at most $3 of them, and the highest id there is. */
export const newest = (s: string): string => `
with added as materialized (
  select id, status, type, queue, priority, run_at from ${s}.tasks where id > $2 order by id limit $3
)
select type, queue, priority, (date_part('epoch', min(run_at)) - date_part('epoch', now())) * 1000 as wait,
       null::bigint as last, null::bool as more
  from added where status = 'queued' and type = any($1::text[]) group by type, queue, priority
union all
select null, null, null, null, (select max(id) from ${s}.tasks), (select count(*) from added) = $3`

/**
 * Lists and counts of tasks that cost the same whatever the table holds.
 *
 * A page walks an index down from the newest task, or from where the page before ended, and looks at a bounded number of
 * rows. What it finds it returns, with the place where it stopped: a filter that matches rarely in a table of millions
 * brings pages that are short, or empty, and have a next one.
 *
 * @since 0.1.0
 */
import * as PgTypes from "@effect/sql-pg/PgTypes"
import * as Effect from "effect/Effect"
import type * as Schema from "effect/Schema"
import * as Json from "../internal/Json.ts"
import type { Status } from "../TaskQueue.ts"
import type { Tables } from "./Browse.ts"
import type { OptionalColumns } from "./Contract.ts"
import * as Parameters from "./Parameters.ts"
import * as Times from "./Times.ts"

/**
 * Narrows; what is left out matches everything.
 *
 * @category models
 * @since 0.1.0
 */
export interface Filter {
  readonly ids?: ReadonlyArray<bigint> | undefined
  readonly status?: Status | undefined
  /** Any of these. */
  readonly statuses?: ReadonlyArray<Status> | undefined
  readonly type?: string | undefined
  readonly queue?: string | undefined
  readonly tag?: string | undefined
  readonly userId?: string | undefined
  readonly q?: string | undefined
}

/**
 * @category models
 * @since 0.1.0
 */
export interface Count {
  readonly count: number
  readonly capped: boolean
}

/**
 * A task as a line of a list.
 *
 * @category models
 * @since 0.1.0
 */
export interface Row {
  readonly id: bigint
  readonly type: string
  readonly queue: string
  readonly status: Status
  readonly priority: number
  readonly attempts: number
  readonly max_attempts: number
  readonly tag: string | null
  readonly user_id: string | null
  readonly locked_by: string | null
  readonly error: Schema.Json
  readonly created_at: Date
  readonly run_at: Date
  readonly started_at: Date | null
  readonly finished_at: Date | null
  readonly now: Date
  /** Of a queued task: the one with its unique key that a worker still holds. */
  readonly held_key: bigint | null
}

/**
 * Failures that are alike: of one type, with one tag and message, as far as that is shown.
 *
 * @category models
 * @since 0.1.0
 */
export interface FailureGroup {
  readonly type: string
  readonly tag: string
  readonly message: string
  readonly count: number
  /** The newest of them. */
  readonly id: bigint
  readonly finished_at: Date | null
}

/**
 * Where counting stops.
 *
 * @category constants
 * @since 0.1.0
 */
export const cap = 10_000

/**
 * How many rows a page and a count look at, at most: tens of milliseconds, or some hundred where each is on a page of the
 * disk of its own.
 *
 * @category constants
 * @since 0.1.0
 */
export const window = 20_000

/**
 * The same with `q`, which has to read more of each row than its columns.
 *
 * @category constants
 * @since 0.1.0
 */
export const textWindow = 5000

// As stored, hence compressed: at about 50 ns a byte of text this keeps a page below a second.
const maxTextBytes = 4 * 1024 * 1024
const maxValueBytes = 64 * 1024

const maxId = 2n ** 63n - 1n

/**
 * The newest tasks that match, below `before`. Pass `next` as `before` for what follows; null at the end.
 *
 * A task whose id is `q` comes first on the first page, however old it is.
 *
 * @category statements
 * @since 0.1.0
 */
export const page = Effect.fnUntraced(function*(
  tables: Tables,
  filter: Filter,
  before: bigint | undefined,
  limit: number
) {
  const wanted = filter.ids === undefined ? idIn(filter.q) : undefined
  const [exact] = wanted === undefined || before !== undefined
    ? []
    : yield* walk(tables, { ...filter, q: undefined, ids: [wanted] }, everything, maxId, 1, undefined)
  const rest = exact === undefined ? limit : limit - 1
  const source = yield* sourceOf(tables, filter)
  const walked = yield* walk(tables, filter, source, before ?? maxId, rest + 1, wanted)
  const matching = walked.filter(({ matches }) => matches)
  const following = matching[rest]
  const rows: ReadonlyArray<Row> = [...(exact === undefined ? [] : [exact]), ...matching.slice(0, rest)]
  return { rows, next: following === undefined ? walked.find(({ edge }) => edge)?.id ?? null : following.id + 1n }
})

/**
 * How many match at all, as far as one look tells.
 *
 * @category statements
 * @since 0.1.0
 */
export const count = Effect.fnUntraced(function*(tables: Tables, filter: Filter) {
  const source = yield* sourceOf(tables, filter)
  if (source.exactly !== undefined && isPlain(filter)) return source.exactly
  const newest = yield* tally(tables, filter, source, "desc", maxId)
  // While there is a backlog, what has completed is older than all of it.
  if (source !== everything || filter.status !== "completed" || newest.edge === null) return countOf(newest)
  const oldest = yield* tally(tables, filter, source, "asc", newest.edge)
  return countOf({ count: newest.count + oldest.count, edge: oldest.edge })
})

/**
 * How many there are in each status.
 *
 * @category statements
 * @since 0.1.0
 */
export const depth = (tables: Tables) =>
  Effect.all({
    queued: count(tables, { status: "queued" }),
    processing: count(tables, { status: "processing" }),
    completed: count(tables, { status: "completed" }),
    failed: count(tables, { status: "failed" }),
    cancelled: count(tables, { status: "cancelled" })
  })

// Beyond these two nobody reads the groups, or tells two messages apart.
const maxGroups = 50
const maxGroupedMessage = 300

/**
 * What fails alike, the most frequent first, among the newest that match; at most 50.
 *
 * @category statements
 * @since 0.1.0
 */
export const failures = Effect.fnUntraced(function*(tables: Tables, given: Filter) {
  const filter: Filter = { ...given, status: "failed" }
  const source = yield* sourceOf(tables, filter)
  const { add, parameters } = makeParameters()
  const { from, matches } = looking(tables.columns, filter, source, "desc", maxId, undefined, add)
  return yield* tables.run<FailureGroup>(
    (s) => `
select type, coalesce(tag, '') as tag, coalesce(message, '') as message, count(*)::int as count, max(id) as id,
       ${Times.bounded("max(finished_at)")} as finished_at
  from (select t.id, t.type, t.finished_at, left(t.error ->> 'tag', 200) as tag,
               left(t.error ->> 'message', ${maxGroupedMessage}) as message
          from (${from(s)}) t
         where ${matches} and pg_column_size(t.error) <= ${maxValueBytes}
         limit ${cap}) t
 group by 1, 2, 3
 order by count(*) desc, max(id) desc
 limit ${maxGroups}`,
    parameters
  )
})

interface Source {
  readonly where: (add: Add) => string
  /** Only what comes before the task `$n`, in words that its index begins with. */
  readonly below: (bound: string) => string
  readonly order: (direction: "asc" | "desc") => string
  /** How many there are of this status, type and queue. */
  readonly exactly?: Count
}

const belowId = (bound: string) => `t.id < ${bound}`

const byId = (direction: "asc" | "desc") => `t.id ${direction}`

// reads the primary key
const everything: Source = { where: () => "true", below: belowId, order: byId }

// reads tasks_locked_idx
const held: Source = { where: () => "t.locked_by is not null", below: belowId, order: byId }

// reads tasks_ended_idx: to another index the status is no constant here, hence an order it does not have
const ended = (status: "failed" | "cancelled"): Source => ({
  where: () => `t.status in ('failed', 'cancelled') and t.status >= '${status}'`,
  below: (bound) => `(t.status, t.id) < ('${status}', ${bound})`,
  order: (direction) => `t.status ${direction}, t.id ${direction}`
})

const sourceOf = Effect.fnUntraced(function*({ indexes, run }: Tables, { ids, queue, status, type }: Filter) {
  if (ids !== undefined) return everything
  if (status === "processing" && indexes.locked) return held
  if ((status === "failed" || status === "cancelled") && indexes.ended) return ended(status)
  if (status !== "queued" || !indexes.claim) return everything
  const where = (add: Add) =>
    ["t.status = 'queued'", ...equal("type", type, add), ...equal("queue", queue, add)].join(" and ")
  const { add, parameters } = makeParameters()
  const condition = where(add)
  const [row] = yield* run<{ readonly count: number }>(
    (s) => `select count(*)::int as count from (select from ${s}.tasks t where ${condition} limit ${cap + 1}) t`,
    parameters
  )
  const exactly = { count: Math.min(row!.count, cap), capped: row!.count > cap }
  // A few are all read and sorted. Of many, the newest are found on the way down from the newest task.
  return exactly.capped
    ? { ...everything, exactly }
    : {
      where,
      below: belowId,
      order: (direction: "asc" | "desc") => `t.id + 0 ${direction}`,
      exactly
    }
})

const isPlain = ({ ids, q, tag, userId }: Filter) =>
  ids === undefined && q === undefined && tag === undefined && userId === undefined

interface Walked extends Row {
  readonly matches: boolean
  /** The last row that was looked at, although there may be more. */
  readonly edge: boolean
}

const walk = (
  { columns, indexes, run }: Tables,
  filter: Filter,
  source: Source,
  before: bigint,
  limit: number,
  except: bigint | undefined
) => {
  const { add, parameters } = makeParameters()
  const { edge, from, matches } = looking(columns, filter, source, "desc", before, except, add)
  return Effect.map(
    run<Omit<Walked, "error"> & { readonly error: string | null }>(
      (s) => `
select t.id, t.type, t.queue, t.status, t.priority, t.attempts, t.max_attempts,
       ${columns.tag ? "t.tag" : "null"} as tag, ${columns.userId ? "t.user_id" : "null"} as user_id, t.locked_by,
       ${["t.created_at", "t.run_at", "t.started_at", "t.finished_at"].map(Times.column).join(", ")},
       (case when jsonb_typeof(t.error -> 'kind') = 'string' and jsonb_typeof(t.error -> 'tag') = 'string'
             and jsonb_typeof(t.error -> 'message') = 'string'
            then jsonb_build_object('kind', t.error -> 'kind', 'tag', left(t.error ->> 'tag', 200),
                                    'message', left(t.error ->> 'message', 2000))
            when pg_column_size(t.error) <= ${maxValueBytes} then t.error
            else to_jsonb(pg_column_size(t.error) || ' bytes') end)::text as error,
       now() as now, ${heldKey({ columns, indexes }, s)} as held_key,
       ${matches} as matches, ${edge} as edge
  from (${from(s)}) t
 where ${matches} or ${edge}
 order by ${source.order("desc")}
 limit ${limit}`,
      parameters
    ),
    (rows): ReadonlyArray<Walked> => rows.map((row) => ({ ...row, error: Json.ofColumn(row.error) }))
  )
}

/**
 * The task that keeps the queued `t` from being claimed, by its unique key.
 *
 * @category expressions
 * @since 0.1.0
 */
export const heldKey = ({ columns, indexes }: Pick<Tables, "columns" | "indexes">, s: string): string =>
  columns.uniqueKey && indexes.locked
    ? `case when t.status = 'queued' and t.unique_key is not null then (
         select unwinding.id from ${s}.tasks unwinding
          where unwinding.locked_by is not null and unwinding.type = t.type and unwinding.unique_key = t.unique_key
          limit 1) end`
    : "null::bigint"

const tally = Effect.fnUntraced(function*(
  { columns, run }: Tables,
  filter: Filter,
  source: Source,
  direction: "asc" | "desc",
  bound: bigint
) {
  const { add, parameters } = makeParameters()
  const { edge, from, matches } = looking(columns, filter, source, direction, bound, undefined, add)
  const [row] = yield* run<{ readonly count: number; readonly edge: bigint | null }>(
    (s) => `
select count(*) filter (where matches)::int as count, min(id) filter (where edge) as edge
  from (select t.id, ${matches} as matches, ${edge} as edge
          from (${from(s)}) t
         where ${matches} or ${edge}
         limit ${cap + 1}) t`,
    parameters
  )
  return row!
})

const countOf = ({ count, edge }: { readonly count: number; readonly edge: bigint | null }): Count => ({
  count: Math.min(count, cap),
  capped: count > cap || edge !== null
})

// Reads lazily: whoever has enough stops it.
const looking = (
  columns: OptionalColumns,
  filter: Filter,
  source: Source,
  direction: "asc" | "desc",
  bound: bigint,
  except: bigint | undefined,
  add: Add
) => {
  const order = source.order(direction)
  const where = [
    source.where(add),
    source.below(add(PgTypes.int8(bound < maxId ? bound : maxId))),
    ...(filter.ids === undefined ? [] : [`t.id = any(${add(Parameters.int8(filter.ids.filter(isId)))}::bigint[])`]),
    ...(except === undefined ? [] : [`t.id <> ${add(PgTypes.int8(except))}`])
  ].join(" and ")
  const conditions = [
    ...equal("status", filter.status, add),
    ...(filter.statuses === undefined ? [] : [`t.status = any(${add(Parameters.text(filter.statuses))}::text[])`]),
    ...equal("type", filter.type, add),
    ...equal("queue", filter.queue, add),
    ...equal("tag", filter.tag, add),
    ...equal("user_id", filter.userId, add)
  ]
  if (filter.q === undefined) {
    return {
      from: (s: string) => `
        select t.*, row_number() over (order by ${order}) as place
          from ${s}.tasks t
         where ${where}
         order by ${order}
         limit ${window}`,
      matches: `(${["true", ...conditions].join(" and ")})`,
      edge: `t.place = ${window}`
    }
  }
  const size = `(pg_column_size(t.payload)${columns.metadata ? " + pg_column_size(t.metadata)" : ""}
                  + coalesce(pg_column_size(t.error), 0))`
  return {
    from: (s: string) => `
        select t.*, row_number() over (order by ${order}) as place, ${size} as size,
               sum(${size}) over (order by ${order} rows unbounded preceding) as read
          from ${s}.tasks t
         where ${where}
         order by ${order}
         limit ${textWindow}`,
    matches: `(t.read - t.size < ${maxTextBytes} and ${
      [...conditions, containing(columns, filter.q, add)].join(" and ")
    })`,
    edge: `(t.read - t.size < ${maxTextBytes} and (t.place = ${textWindow} or t.read >= ${maxTextBytes}))`
  }
}

const equal = (column: string, value: string | undefined, add: Add) =>
  value === undefined ? [] : [`t.${column} = ${add(PgTypes.text(value))}`]

const containing = (columns: OptionalColumns, q: string, add: Add) => {
  const pattern = add(PgTypes.text(`%${q.replaceAll(/[\\%_]/g, "\\$&")}%`))
  const id = idIn(q)
  const small = (column: string, text: string) =>
    `(case when pg_column_size(t.${column}) <= ${maxValueBytes} then ${text} ilike ${pattern} end)`
  return `coalesce(${
    [
      ...(id === undefined ? [] : [`t.id = ${add(PgTypes.int8(id))}`]),
      `t.type ilike ${pattern}`,
      ...(columns.tag ? [`t.tag ilike ${pattern}`] : []),
      ...(columns.userId ? [`t.user_id ilike ${pattern}`] : []),
      ...(columns.uniqueKey ? [`t.unique_key ilike ${pattern}`] : []),
      small("payload", "t.payload::text"),
      ...(columns.metadata ? [small("metadata", "t.metadata::text")] : []),
      small("error", "t.error ->> 'message'")
    ].join("\n    or ")
  }, false)`
}

const isId = (id: bigint) => id <= maxId

const idIn = (q: string | undefined) => {
  const id = q !== undefined && /^[1-9]\d{0,18}$/.test(q) ? BigInt(q) : undefined
  return id !== undefined && isId(id) ? id : undefined
}

type Add = (parameter: unknown) => string

const makeParameters = () => {
  const parameters: Array<unknown> = []
  return { parameters, add: (parameter: unknown) => `$${parameters.push(parameter)}` }
}

/**
 * Whether a database keeps the contract: what a worker needs before it starts on tables that somebody else owns.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type * as SqlClient from "effect/sql/SqlClient"
import * as Ddl from "./Ddl.ts"
import * as Refusals from "./Refusals.ts"
import * as StorageError from "./StorageError.ts"

/**
 * The columns that an attached table may lack; what they carry is off then.
 *
 * @category models
 * @since 0.1.0
 */
export interface OptionalColumns {
  readonly timeout: boolean
  readonly uniqueKey: boolean
  readonly tag: boolean
  readonly userId: boolean
  readonly metadata: boolean
  readonly completedBy: boolean
}

/**
 * Which of the indexes that the page can do without are there.
 *
 * @category models
 * @since 0.1.0
 */
export interface Indexes {
  readonly claim: boolean
  readonly locked: boolean
  readonly ended: boolean
}

/**
 * What was found.
 *
 * @category models
 * @since 0.1.0
 */
export interface Report {
  /** What a worker cannot do without, in words; empty when it may start. */
  readonly missing: ReadonlyArray<string>
  /** What may refuse some of a worker's writes, in words. */
  readonly doubts: ReadonlyArray<string>
  /** Statements that the owner may add, and what each buys. */
  readonly advice: ReadonlyArray<{ readonly buys: string; readonly ddl: ReadonlyArray<string> }>
  readonly columns: OptionalColumns
  readonly indexes: Indexes
  /** Whether cancelled tasks are closed by a trigger. */
  readonly closesCancelled: boolean
  /** Whether our migrations have run here. */
  readonly migrated: boolean
  /** Whether events refer to tasks by a foreign key. */
  readonly referencing: boolean
}

const required = {
  tasks: {
    id: "bigint",
    type: "text",
    queue: "text",
    status: "text",
    priority: "smallint",
    payload: "jsonb",
    result: "jsonb",
    error: "jsonb",
    run_at: "timestamp with time zone",
    attempts: "integer",
    max_attempts: "integer",
    epoch: "bigint",
    locked_by: "text",
    lease_expires_at: "timestamp with time zone",
    created_at: "timestamp with time zone",
    started_at: "timestamp with time zone",
    finished_at: "timestamp with time zone"
  },
  task_events: {
    task_id: "bigint",
    epoch: "bigint",
    seq: "integer",
    type: "text",
    data: "jsonb",
    created_at: "timestamp with time zone"
  }
} as const

const optional: { readonly [Key in keyof OptionalColumns]: readonly [column: string, type: string] } = {
  timeout: ["timeout_ms", "integer"],
  uniqueKey: ["unique_key", "text"],
  tag: ["tag", "text"],
  userId: ["user_id", "text"],
  metadata: ["metadata", "jsonb"],
  completedBy: ["completed_by", "text"]
}

/**
 * Compares the database with what a worker needs. Writes nothing.
 *
 * @category constructors
 * @since 0.1.0
 */
export const check = Effect.fnUntraced(function*(sql: SqlClient.SqlClient, schema: string) {
  const report = yield* read(sql, schema)
  const { doubts, missing } = yield* Refusals.find(sql, schema)
  return { ...report, missing: [...report.missing, ...missing], doubts } satisfies Report
}, StorageError.refine("read the catalogs"))

/**
 * The same without what refuses a worker's writes. Waits for nobody who has locked the tables.
 *
 * @category constructors
 * @since 0.1.0
 */
export const read = Effect.fnUntraced(function*(sql: SqlClient.SqlClient, schema: string) {
  const columns = yield* sql.unsafe<Column>(
    `select c.relname as "table", c.relkind::text as kind, a.attname as "column", format_type(a.atttypid, null) as type
  from pg_class c
  join pg_namespace n on n.oid = c.relnamespace
  join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
 where n.nspname = $1 and c.relkind in ('r', 'p', 'v', 'm', 'f') and c.relname in ('tasks', 'task_events')`,
    [schema]
  )
  const [rights] = yield* sql.unsafe<
    { readonly usage: boolean | null; readonly lacking: ReadonlyArray<string> | null }
  >(
    `select has_schema_privilege(n.oid, 'usage') as usage,
       (select array_agg(needed.right || ' on ' || n.nspname || '.' || c.relname order by c.relname desc, needed.right)
          from pg_class c
          join (values ('tasks', 'select'), ('tasks', 'update'), ('task_events', 'select'), ('task_events', 'insert'))
            as needed(relation, "right") on needed.relation = c.relname
         where c.relnamespace = n.oid and not has_table_privilege(c.oid, needed.right)) as lacking
  from pg_namespace n where n.nspname = $1`,
    [schema]
  )
  const [own] = yield* sql.unsafe<Own>(
    `select coalesce(array_agg(i.relname) filter (where i.relkind in ('i', 'I')), '{}') as indexes,
       coalesce(bool_or(i.relname = 'migrations' and i.relkind = 'r'), false) as migrated,
       exists (
         select from pg_index x join pg_class t on t.oid = x.indrelid
          where t.relnamespace = n.oid and t.relname = 'task_events' and x.indisunique and x.indpred is null
            and (select array_agg(a.attname::text order by a.attname) from pg_attribute a
                  where a.attrelid = t.oid and a.attnum = any(x.indkey)) = array['epoch', 'seq', 'task_id']) as keyed,
       (select coalesce(array_agg(g.tgname), '{}') from pg_trigger g join pg_class t on t.oid = g.tgrelid
         where t.relnamespace = n.oid and t.relname = 'tasks' and g.tgenabled <> 'D') as triggers,
       exists (
         select from pg_trigger g join pg_class t on t.oid = g.tgrelid
          where t.relnamespace = n.oid and t.relname = 'tasks' and g.tgname = 'tasks_cancel' and g.tgenabled in (
                'A', case current_setting('session_replication_role') when 'replica' then 'R' else 'O' end)) as closes,
       exists (
         select from pg_constraint k
           join pg_class e on e.oid = k.conrelid and e.relname = 'task_events' and e.relnamespace = n.oid
           join pg_class t on t.oid = k.confrelid and t.relname = 'tasks' and t.relnamespace = n.oid) as referencing
  from pg_namespace n left join pg_class i on i.relnamespace = n.oid
 where n.nspname = $1 group by n.oid`,
    [schema]
  )
  const names = new Set([...own?.indexes ?? [], ...own?.triggers ?? []])
  const lacks = ([name]: readonly [string, unknown]) => !names.has(name)
  const has = (column: string, type: string) =>
    columns.some((found) => found.table === "tasks" && found.column === column && found.type === type)
  const optionalColumns = Object.fromEntries(
    Object.entries(optional).map(([key, [column, type]]) => [key, has(column, type)])
  ) as unknown as OptionalColumns
  const missing = rights === undefined
    ? [`schema ${schema}`]
    : [
      ...rights.usage ? [] : [`usage on schema ${schema}`],
      ...Object.keys(required).flatMap((table) => missingIn(schema, table as keyof typeof required, columns)),
      ...rights.lacking ?? [],
      ...own?.keyed || !columns.some(({ table }) => table === "task_events")
        ? []
        : [`a primary key or unique index on ${schema}.task_events (task_id, epoch, seq)`]
    ]
  const report: Report = {
    missing,
    doubts: [],
    advice: [
      ...Object.entries(Ddl.indexes(schema)).filter(lacks).filter(([name]) =>
        optionalColumns.uniqueKey || name !== "tasks_unique_key_idx"
      ).map(([, { buys, ddl }]) => ({ buys, ddl: [ddl] })),
      ...Object.entries(Ddl.triggers(schema)).filter(lacks).map(([, { buys, ddl }]) => ({ buys, ddl }))
    ],
    columns: optionalColumns,
    indexes: {
      claim: names.has("tasks_claim_idx"),
      locked: names.has("tasks_locked_idx"),
      ended: names.has("tasks_ended_idx")
    },
    closesCancelled: own?.closes ?? false,
    migrated: own?.migrated ?? false,
    referencing: own?.referencing ?? false
  }
  return report
}, StorageError.refine("read the catalogs"))

interface Column {
  readonly table: string
  readonly kind: string
  readonly column: string
  readonly type: string
}

interface Own {
  readonly indexes: ReadonlyArray<string>
  readonly triggers: ReadonlyArray<string>
  readonly closes: boolean
  readonly migrated: boolean
  readonly referencing: boolean
  readonly keyed: boolean
}

const missingIn = (
  schema: string,
  table: keyof typeof required,
  columns: ReadonlyArray<Column>
): ReadonlyArray<string> => {
  const name = `${schema}.${table}`
  const found = columns.filter((column) => column.table === table)
  if (found.length === 0) return [`table ${name}`]
  // Claims find rows by their place, which means nothing across partitions, and views have none.
  if (table === "tasks" && found[0]!.kind !== "r") return [`${name} as an ordinary table, without partitions`]
  return Object.entries(required[table]).flatMap(([column, type]) => {
    const actual = found.find((one) => one.column === column)?.type
    if (actual === type) return []
    return [
      actual === undefined
        ? `column ${name}.${column} (${type})`
        : `column ${name}.${column} is ${actual}, it must be ${type}`
    ]
  })
}

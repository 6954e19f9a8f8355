/**
 * Whether a database keeps the contract: what a worker needs before it starts on tables that somebody else owns.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import type * as SqlClient from "effect/sql/SqlClient"
import * as Ddl from "./Ddl.ts"
import * as Names from "./Names.ts"
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
  /** Statements that the owner may add, and what each buys. */
  readonly advice: ReadonlyArray<{ readonly buys: string; readonly ddl: ReadonlyArray<string> }>
  readonly columns: OptionalColumns
  /** Whether cancelled tasks are closed by a trigger. */
  readonly closesCancelled: boolean
}

const required = {
  tasks: {
    id: ["bigint"],
    type: ["text"],
    queue: ["text"],
    status: ["text"],
    priority: ["smallint"],
    payload: ["jsonb"],
    result: ["jsonb"],
    error: ["jsonb"],
    run_at: ["timestamp with time zone"],
    attempts: ["integer"],
    max_attempts: ["integer"],
    epoch: ["bigint"],
    locked_by: ["text"],
    lease_expires_at: ["timestamp with time zone"],
    created_at: ["timestamp with time zone"],
    started_at: ["timestamp with time zone"],
    finished_at: ["timestamp with time zone"]
  },
  task_events: {
    task_id: ["bigint"],
    epoch: ["bigint"],
    seq: ["integer"],
    type: ["text"],
    data: ["jsonb"],
    created_at: ["timestamp with time zone"]
  }
} as const

const optional: { readonly [Key in keyof OptionalColumns]: readonly [column: string, type: string] } = {
  timeout: ["timeout_ms", "integer"],
  uniqueKey: ["unique_key", "text"],
  tag: ["tag", "text"],
  userId: ["user_id", "text"],
  metadata: ["metadata", "jsonb"]
}

const privileges = {
  tasks: ["select", "update"],
  task_events: ["select", "insert"]
} as const

/**
 * Compares the database with what a worker needs. Reads the catalogs only.
 *
 * @category constructors
 * @since 0.1.0
 */
export const check = Effect.fnUntraced(function*(sql: SqlClient.SqlClient, schema: string) {
  const found = yield* sql.unsafe<{ readonly table: string; readonly column: string; readonly type: string }>(
    `select c.relname as "table", a.attname as "column", format_type(a.atttypid, null) as type
  from pg_class c
  join pg_namespace n on n.oid = c.relnamespace
  join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
 where n.nspname = $1 and c.relkind in ('r', 'p', 'v') and c.relname in ('tasks', 'task_events')`,
    [schema]
  )
  const types = new Map(found.map(({ column, table, type }) => [`${table}.${column}`, type]))
  const tables = new Set(found.map(({ table }) => table))
  const missing: Array<string> = []
  const [namespace] = yield* sql.unsafe<{ readonly usage: boolean | null }>(
    "select has_schema_privilege((select oid from pg_namespace where nspname = $1), 'usage') as usage",
    [schema]
  )
  if (namespace?.usage == null) missing.push(`schema ${schema}`)
  else if (!namespace.usage) missing.push(`usage on schema ${schema}`)
  for (const [table, columns] of Object.entries(required)) {
    const name = `${schema}.${table}`
    if (!tables.has(table)) {
      if (namespace?.usage) missing.push(`table ${name}`)
      continue
    }
    for (const [column, [type]] of Object.entries(columns)) {
      const actual = types.get(`${table}.${column}`)
      if (actual === undefined) missing.push(`column ${name}.${column} (${type})`)
      else if (actual !== type) missing.push(`column ${name}.${column} is ${actual}, it must be ${type}`)
    }
    if (!namespace?.usage) continue
    for (const privilege of privileges[table as keyof typeof privileges]) {
      const [grant] = yield* sql.unsafe<{ readonly granted: boolean }>(
        "select has_table_privilege(to_regclass($1), $2) as granted",
        [`${Names.quote(schema)}.${Names.quote(table)}`, privilege]
      )
      if (!grant?.granted) missing.push(`${privilege} on ${name}`)
    }
  }
  const present = yield* sql.unsafe<{ readonly name: string; readonly definition: string }>(
    `select t.tgname as name, '' as definition from pg_trigger t
  join pg_class c on c.oid = t.tgrelid join pg_namespace n on n.oid = c.relnamespace
 where n.nspname = $1 and c.relname = 'tasks' and t.tgenabled <> 'D'
union all
select indexname, indexdef from pg_indexes where schemaname = $1 and tablename = 'tasks'`,
    [schema]
  )
  const names = new Set(present.map(({ name }) => name))
  const lacks = ([name]: readonly [string, unknown]) => !names.has(name)
  const columns = Object.fromEntries(
    Object.entries(optional).map(([key, [column, type]]) => [key, types.get(`tasks.${column}`) === type])
  ) as unknown as OptionalColumns
  const report: Report = {
    missing,
    advice: [
      ...Object.entries(Ddl.indexes(schema)).filter(lacks).filter(([name]) =>
        columns.uniqueKey || name !== "tasks_unique_key_idx"
      ).map(([, { buys, ddl }]) => ({ buys, ddl: [ddl] })),
      ...Object.entries(Ddl.triggers(schema)).filter(lacks).map(([, { buys, ddl }]) => ({ buys, ddl }))
    ],
    columns,
    closesCancelled: names.has("tasks_cancel")
  }
  return report
}, StorageError.refine("read the catalogs"))

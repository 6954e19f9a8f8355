/**
 * What the owner of the tables has put between a worker and its writes: constraints, columns that must be filled, triggers,
 * rules, row-level security.
 *
 * Reads the catalogs, and lets the database judge each check constraint on rows such as a worker writes, without writing
 * them.
 */
import * as Effect from "effect/Effect"
import * as SqlClient from "effect/sql/SqlClient"
import * as Db from "../Db.ts"
import * as Ddl from "./Ddl.ts"
import * as Names from "./Names.ts"

/**
 * - `missing`: what refuses a worker's writes for certain, as what it takes instead
 * - `doubts`: what may refuse some of them, which nobody can tell beforehand
 */
export interface Refusals {
  readonly missing: ReadonlyArray<string>
  readonly doubts: ReadonlyArray<string>
}

interface Table {
  readonly name: "tasks" | "task_events"
  readonly guarded: boolean
  readonly columns: ReadonlyArray<Column>
  readonly constraints: ReadonlyArray<Constraint>
  readonly indexes: ReadonlyArray<{ readonly name: string; readonly columns: ReadonlyArray<string> | null }>
  readonly triggers: ReadonlyArray<{
    readonly name: string
    readonly own: boolean
    /** Whether what it returns is stored instead of the row. */
    readonly swallows: boolean
    /** Of a function in PL/pgSQL. */
    readonly source: string | null
    readonly always: boolean
    readonly columns: ReadonlyArray<string>
  }>
  readonly rules: ReadonlyArray<string>
  readonly policies: ReadonlyArray<{
    readonly name: string
    readonly command: string
    readonly permissive: boolean
    readonly open: boolean
  }>
}

interface Column {
  readonly name: string
  readonly type: string
  readonly category: string
  readonly defaulted: boolean
  readonly required: boolean
  readonly computed: boolean
}

interface Constraint {
  readonly name: string
  readonly kind: "c" | "f" | "x"
  readonly columns: ReadonlyArray<string>
  readonly expression: string | null
}

/** What a worker writes to a table; `null` where it also takes a value away. */
const written = {
  tasks: {
    command: "update",
    columns: [
      "status",
      "run_at",
      "attempts",
      "epoch",
      "started_at",
      "locked_by",
      "lease_expires_at",
      "finished_at",
      "result",
      "error"
    ],
    nulls: ["locked_by", "lease_expires_at", "finished_at", "result", "error"]
  },
  task_events: { command: "insert", columns: ["task_id", "epoch", "seq", "type", "data"], nulls: [] }
} as const

// What `TaskQueue` fills; it leaves the rest to its default.
const enqueued = new Set(
  "type queue priority payload max_attempts timeout_ms run_at unique_key tag user_id metadata".split(" ")
)

type Values = Readonly<Record<string, string>>

interface Sample {
  readonly what: string
  /** Whether every worker writes it. */
  readonly certain: boolean
  /** The forms it takes, as SQL. What refuses all of them refuses it. */
  readonly forms: ReadonlyArray<Values>
}

const failure = `"kind": "failure", "tag": "Failed", "message": "Failed"`
const idle: Values = { id: "1", status: "'queued'", attempts: "0", epoch: "0", run_at: "now()", created_at: "now()" }
const ran: Values = { ...idle, started_at: "now()", attempts: "1", epoch: "1" }
const held: Values = { ...ran, locked_by: "'worker:1'", lease_expires_at: "now() + interval '30 seconds'" }
const late: Values = { ...held, attempts: "3", epoch: "1000000", locked_by: `'${"w".repeat(107)}'` }
const over: Values = { ...ran, finished_at: "now()" }

const completed = (result: string): Values => ({ ...over, status: "'completed'", result: Names.literal(result) })

const task = (what: string, ...forms: ReadonlyArray<Values>): Sample => ({ what, certain: true, forms })

const claim = `"startedAt": "2026-01-01T00:00:00+00:00", "worker": "worker:1"`

const event = (type: string, certain: boolean, ...data: ReadonlyArray<string>): Sample => ({
  what: type,
  certain,
  forms: data.flatMap((data) =>
    [["1", "1", "1"], ["1", "2", "1"], [String(2 ** 40), "1000000", "1000000"]].map(([task_id, epoch, seq]) => ({
      task_id: task_id!,
      epoch: epoch!,
      seq: seq!,
      type: Names.literal(type),
      data: Names.literal(data),
      created_at: "now()"
    }))
  )
})

const samples: { readonly [Name in Table["name"]]: ReadonlyArray<Sample> } = {
  tasks: [
    task("a running task", { ...held, status: "'processing'" }, { ...late, status: "'processing'" }),
    task(
      "a completed task",
      ...["null", "{}", "[]", "\"\"", "0", "true"].map(completed)
    ),
    task("a failed task", { ...over, status: "'failed'", error: `'{${failure}}'` }),
    task("a task that waits for its next attempt", {
      ...ran,
      error: `'{${failure}}'`,
      run_at: "now() + interval '1 minute'"
    }),
    task("a task that was given back", { ...ran, attempts: "0" }),
    task("a task that is run again", { ...over, attempts: "0", error: `'{${failure}}'` }),
    task("a cancelled task whose handler still runs", { ...held, status: "'cancelled'", finished_at: "now()" }),
    task("a cancelled task", { ...over, status: "'cancelled'" })
  ],
  task_events: [
    event("done", true, `{${claim}}`),
    event("error", true, `{${claim}, ${failure}, "willRetry": false}`),
    event("retry", true, `{${claim}, ${failure}, "willRetry": true, "runAt": "2026-01-01T00:00:00+00:00"}`),
    event("released", true, `{${claim}, "reason": "shutdown"}`),
    event("cancelled", true, "{}", `{${claim}, "unwoundMs": 1.5}`),
    event("text_delta", false, `{"text": "text"}`),
    event("usage", false, `{"inputTokens": 1, "outputTokens": 1, "totalTokens": 2, "model": "model"}`),
    event("progress", false, `{"fraction": 0.5, "message": "half"}`),
    event("events of a task's own", false, `{"n": 1}`)
  ]
}

// What stands in the columns that a worker does not write: nothing, or a plausible value.
const plausible: Values = {
  type: "'type'",
  queue: "'default'",
  priority: "0",
  payload: "'{}'",
  max_attempts: "3",
  metadata: "'{}'"
}
const byCategory: Values = { N: "1", S: "'text'", B: "true", D: "now()" }
const fillings = [
  () => "null",
  ({ category, name }: Column) => plausible[name] ?? byCategory[category] ?? "null"
]

/**
 * Everything that is found, in the order of the tables.
 */
export const find = Effect.fnUntraced(function*(sql: SqlClient.SqlClient, schema: string) {
  const missing: Array<string> = []
  const doubts: Array<string> = []
  const [session] = yield* sql<Session>`
    select current_user::text as role, current_database()::text as database, getdatabaseencoding()::text as encoding,
           current_setting('session_replication_role') as replication`
  const { database, encoding, replication, role } = session!
  if (encoding !== "UTF8") missing.push(`a database with the encoding UTF8, ${database} has ${encoding}`)
  if (replication !== "origin") {
    doubts.push(
      `session_replication_role is ${replication} for ${role}: the usual triggers do not run for what it changes`
    )
  }
  for (const table of yield* sql.unsafe<Table>(catalog, [schema])) {
    const name = `${schema}.${table.name}`
    const { columns, command, nulls } = written[table.name]
    const writes = (column: string) => (columns as ReadonlyArray<string>).includes(column)

    for (const column of table.columns) {
      if (writes(column.name) && column.computed) {
        missing.push(`column ${name}.${column.name} as one that can be written, not a generated one`)
      } else if (column.required && (nulls as ReadonlyArray<string>).includes(column.name)) {
        missing.push(`column ${name}.${column.name} without not null`)
      } else if (
        table.name === "task_events" && !column.defaulted && !writes(column.name) &&
        (column.required || column.name === "created_at")
      ) {
        missing.push(`a default for column ${name}.${column.name}, which a worker does not fill`)
      } else if (table.name === "tasks" && column.required && !column.defaulted && !enqueued.has(column.name)) {
        doubts.push(`column ${name}.${column.name} has no default, and TaskQueue, commands and page leave it to that`)
      }
    }

    for (const [place, verdict] of (yield* judge(sql, table)).entries()) {
      const constraint = `the constraint ${table.constraints[place]!.name}`
      if (verdict.cannot !== undefined) doubts.push(`${constraint} of ${name} cannot be judged: ${verdict.cannot}`)
      const list = (what: ReadonlyArray<string>) =>
        table.name === "tasks" ? what.join(", ") : `events: ${what.join(", ")}`
      if (verdict.refused.length > 0) {
        missing.push(`${name} without ${constraint}, which refuses ${list(verdict.refused)}`)
      }
      if (verdict.doubtful.length > 0) doubts.push(`${constraint} of ${name} may refuse ${list(verdict.doubtful)}`)
    }

    for (const index of table.indexes) {
      const what = `the unique index ${index.name}`
      if (index.columns === null) {
        doubts.push(`${what} of ${name} covers some rows or expressions only, and may refuse what is written to these`)
      } else if (index.columns.every(writes)) {
        missing.push(
          `${name} without ${what} on (${index.columns.join(", ")}), which lets a worker write one such row only`
        )
      } else if (index.columns.some(writes)) {
        doubts.push(`${what} of ${name} on (${index.columns.join(", ")}) may refuse what is written`)
      }
    }

    for (const rule of table.rules) missing.push(`${name} without the rule ${rule}, which rewrites each ${command}`)

    for (const { always, columns, name: trigger, own, source, swallows } of table.triggers) {
      if (own || (columns.length > 0 && !columns.some(writes))) continue
      const what = `the trigger ${trigger}`
      if (swallows && always && /^\s*begin\s+return\s+null\s*;\s*end\s*;?\s*$/i.test(source ?? "")) {
        missing.push(`${name} without ${what}, which returns null: no ${command} is stored`)
        continue
      }
      const can = [
        ...(source === null ? ["do anything"] : []),
        ...(swallows && /\breturn\b(?!\s+new\s*;)/i.test(source ?? "")
          ? ["return another row than the new one, or none"]
          : []),
        ...(/\braise\b(?!\s+(debug|log|info|notice|warning)\b)/i.test(source ?? "") ? ["raise an error"] : [])
      ]
      if (can.length > 0) {
        doubts.push(`${what} of ${name} decides row by row what is stored: it can ${can.join(", and ")}`)
      }
    }

    if (!table.guarded) continue
    for (const command of ["select", written[table.name].command]) {
      const policies = table.policies.filter((policy) => policy.command === command || policy.command === "all")
      const permissive = policies.filter((policy) => policy.permissive)
      if (permissive.length === 0) {
        missing.push(
          `a policy by which ${role} may ${command} rows of ${name}, or a role with bypassrls: row-level security is on`
        )
      } else if (!permissive.some(({ open }) => open) || policies.length > permissive.length) {
        doubts.push(
          `row-level security of ${name} decides row by row what ${role} may ${command}, by ${
            policies.map((policy) => policy.name).join(", ")
          }: of what it hides nothing is heard`
        )
      }
    }
  }
  return { missing, doubts } satisfies Refusals
})

interface Session {
  readonly role: string
  readonly database: string
  readonly encoding: string
  readonly replication: string
}

interface Verdict {
  readonly refused: ReadonlyArray<string>
  readonly doubtful: ReadonlyArray<string>
  readonly cannot?: string | undefined
}

const nothing: Verdict = { refused: [], doubtful: [] }

/** What each constraint of a table says to the samples, in order. */
const judge = Effect.fnUntraced(function*(sql: SqlClient.SqlClient, table: Table) {
  const writes = (column: string) => (written[table.name].columns as ReadonlyArray<string>).includes(column)
  const rows = samples[table.name].flatMap((sample, of) =>
    sample.forms.flatMap((form) => fillings.map((fill, filling) => ({ of, form, fill, filling })))
  )
  const values = rows.map(({ fill, form }, place) =>
    `(${
      [
        String(place),
        ...table.columns.map((column) =>
          `(${form[column.name] ?? (writes(column.name) ? "null" : fill(column))})::${column.type}`
        )
      ].join(", ")
    })`
  ).join(",\n")
  const names = ["spindle place", ...table.columns.map(({ name }) => name)].map(Names.quote).join(", ")
  const ask = (expressions: ReadonlyArray<string>) =>
    Db.transaction(
      sql,
      sql.unsafe<{ readonly kept: ReadonlyArray<boolean | null> }>(
        `select array[${expressions.map((expression) => `(${expression})`).join(", ")}]::bool[] as kept
  from (values ${values}) as ${table.name}(${names}) order by "spindle place"`
      )
    ).pipe(Effect.provideService(SqlClient.BeginTransaction, "begin read only"))

  // Of a constraint on columns that a worker leaves alone nothing can be said, nor need it.
  const judged = table.constraints.filter(({ columns, kind }) => kind === "c" && columns.some(writes))
  const one = ({ expression }: Constraint) =>
    Effect.map(ask([expression!]), (rows) => rows.map(({ kept }) => kept[0] ?? null)).pipe(
      Effect.catchIf(
        (error) => !Db.isTransient(error),
        ({ message, reason: { cause } }) => Effect.succeed(cause instanceof Error ? cause.message : message)
      )
    )
  // One that fails, such as one that calls a function which this role may not call, spoils the others.
  const together = judged.length === 0 ? [] : yield* ask(judged.map(({ expression }) => expression!)).pipe(
    Effect.map((rows) => judged.map((_, n) => rows.map(({ kept }) => kept[n] ?? null))),
    Effect.catchIf((error) => !Db.isTransient(error), () => Effect.forEach(judged, one))
  )
  const answers = new Map(judged.map((constraint, n) => [constraint, together[n]!]))

  return table.constraints.map((constraint): Verdict => {
    const answer = answers.get(constraint)
    if (answer === undefined) {
      return constraint.kind !== "c" && constraint.columns.some((column) => writes(column) && column !== "task_id")
        ? { ...nothing, cannot: `it is on ${constraint.columns.join(", ")}` }
        : nothing
    }
    if (typeof answer === "string") return { ...nothing, cannot: answer }
    const says = rows.map(({ filling, of }, n) => ({ of, filling, refused: answer[n] === false }))
    // A filling that is refused whatever a worker writes says nothing of that.
    const telling = new Set(says.filter(({ refused }) => !refused).map(({ filling }) => filling))
    const relevant = telling.size > 0 ? says.filter(({ filling }) => telling.has(filling)) : says
    if (telling.size === 0 && !constraint.columns.every(writes)) return nothing
    const refused: Array<string> = []
    const doubtful: Array<string> = []
    for (const [of, { certain, what }] of samples[table.name].entries()) {
      const forms = relevant.filter((one) => one.of === of)
      if (!forms.some((one) => one.refused)) continue
      ;(certain && forms.every((one) => one.refused) ? refused : doubtful).push(what)
    }
    return { refused, doubtful }
  })
})

const json = (from: string, object: Readonly<Record<string, string>>, order: string) =>
  `(
  select coalesce(jsonb_agg(jsonb_build_object(${
    Object.entries(object).map(([name, value]) => `'${name}', ${value}`).join(", ")
  }) order by ${order}), '[]') from ${from})`

const namesOf = (keys: string) =>
  `(select coalesce(jsonb_agg(a.attname order by k.place), '[]')
      from unnest(${keys}) with ordinality k(number, place)
      join pg_attribute a on a.attrelid = t.oid and a.attnum = k.number)`

const ownTriggers = Object.keys(Ddl.triggers("")).map(Names.literal).join(", ")

// The bits of `tgtype`: 1 each row, 2 before, 4 insert, 16 update.
const catalog = `
select t.relname as name, row_security_active(t.oid) as guarded,
  ${
  json(
    "pg_attribute a join pg_type y on y.oid = a.atttypid where a.attrelid = t.oid and a.attnum > 0 and not a.attisdropped",
    {
      name: "a.attname",
      type: "format_type(a.atttypid, a.atttypmod)",
      category: "y.typcategory",
      defaulted: "a.atthasdef or a.attidentity <> ''",
      required: "a.attnotnull",
      computed: "a.attgenerated <> '' or a.attidentity = 'a'"
    },
    "a.attnum"
  )
} as columns,
  ${
  json(
    `pg_constraint k where k.conrelid = t.oid and k.contype in ('c', 'f', 'x')
      and coalesce((to_jsonb(k) ->> 'conenforced')::bool, true)`,
    {
      name: "k.conname",
      kind: "k.contype",
      columns: namesOf("k.conkey"),
      expression: "pg_get_expr(k.conbin, k.conrelid)"
    },
    "k.conname"
  )
} as constraints,
  ${
  json(
    `pg_index x join pg_class i on i.oid = x.indexrelid
     where x.indrelid = t.oid and x.indisunique and i.relname <> 'tasks_unique_key_idx'
       and not (t.relname = 'task_events' and (select count(*) from pg_attribute a
                 where a.attrelid = t.oid and a.attnum = any(x.indkey) and a.attname in ('task_id', 'epoch', 'seq')) = 3)
       and not (t.relname = 'tasks' and exists (select from pg_attribute a
                 where a.attrelid = t.oid and a.attnum = any(x.indkey) and a.attname = 'id'))`,
    {
      name: "i.relname",
      columns: `case when x.indpred is null and 0 <> all(x.indkey) then ${namesOf("x.indkey[0:x.indnkeyatts - 1]")} end`
    },
    "i.relname"
  )
} as indexes,
  ${
  json(
    `pg_trigger g join pg_proc f on f.oid = g.tgfoid
     where g.tgrelid = t.oid and not g.tgisinternal
       and g.tgtype & (case t.relname when 'tasks' then 16 else 4 end) <> 0
       and g.tgenabled in ('A', case current_setting('session_replication_role') when 'replica' then 'R' else 'O' end)`,
    {
      name: "g.tgname",
      own: `f.pronamespace = t.relnamespace and g.tgname in (${ownTriggers})`,
      swallows: "g.tgtype & 3 = 3",
      source: "case when f.prolang = (select oid from pg_language where lanname = 'plpgsql') then f.prosrc end",
      always: "g.tgqual is null",
      columns: namesOf("g.tgattr")
    },
    "g.tgname"
  )
} as triggers,
  (select coalesce(jsonb_agg(r.rulename order by r.rulename), '[]') from pg_rewrite r
    where r.ev_class = t.oid and r.ev_enabled <> 'D'
      and r.ev_type = case t.relname when 'tasks' then '2' else '3' end) as rules,
  ${
  json(
    `pg_policy p where p.polrelid = t.oid
       and exists (select from unnest(p.polroles) r(id) where r.id = 0 or pg_has_role(r.id, 'usage'))`,
    {
      name: "p.polname",
      command:
        "case p.polcmd when 'r' then 'select' when 'a' then 'insert' when 'w' then 'update' when '*' then 'all' else 'delete' end",
      permissive: "p.polpermissive",
      open: `coalesce(pg_get_expr(p.polqual, t.oid), 'true') = 'true'
         and coalesce(pg_get_expr(p.polwithcheck, t.oid), 'true') = 'true'`
    },
    "p.polname"
  )
} as policies
  from pg_class t join pg_namespace n on n.oid = t.relnamespace
 where n.nspname = $1 and t.relkind in ('r', 'p') and t.relname in ('tasks', 'task_events')
 order by t.relname desc`

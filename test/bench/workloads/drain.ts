/**
 * No-op tasks, queued by plain SQL before the worker starts: how fast they are completed, and what each of them costs.
 */
import { Effect, Redacted } from "effect"
import { BenchError } from "../errors.ts"
import * as Goals from "../goals.ts"
import { progress } from "../output.ts"
import { peakMegabytes } from "../proc.ts"
import { type Job, now } from "../protocol.ts"
import { type Column, ratios, type Section, type Series, significant, times, whole } from "../report.ts"
import { connectTo, Server } from "../server.ts"
import type { Settings } from "../settings.ts"
import { completed, firstQueued, insertMany, type System, unfinished } from "../systems.ts"
import { connectWorker, type Content, freshDatabase, read, spent } from "../trial.ts"
import { spawn } from "../worker.ts"

/** One run. */
export interface Drain {
  readonly system: System
  readonly concurrency: number
  readonly tasks: number
  readonly content?: Content | undefined
  /** Whether the tasks are added to the content, or are part of it. */
  readonly enqueue: boolean
  /** A no-op by default. */
  readonly job?: Job | undefined
}

type Range = readonly [first: bigint, last: bigint]

const fill = Effect.fnUntraced(
  function*({ enqueue, system, tasks }: Drain, database: string) {
    const server = yield* Server
    const sql = yield* connectTo(server.url(database))
    if (enqueue && system.own === undefined) yield* sql.unsafe(insertMany(system), [tasks])
    if (enqueue && system.own !== undefined) {
      const producer = yield* spawn(system)
      yield* producer.call("fill", { url: Redacted.value(server.url(database)), tasks })
    }
    yield* sql.unsafe("vacuum analyze")
    yield* sql.unsafe("checkpoint")
    const [queued] = yield* sql.unsafe<{ first: string }>(firstQueued(system))
    const first = BigInt(queued?.first ?? 0)
    return [first, first + BigInt(tasks) - 1n] as Range
  },
  Effect.scoped
)

const connectFor = ({ concurrency, job = "end", system, tasks }: Drain, database: string) =>
  connectWorker(system, database, {
    concurrency,
    notifications: system.channels === undefined,
    job,
    expected: tasks,
    record: false
  })

const verify = Effect.fnUntraced(
  function*({ system, tasks }: Drain, database: string, range: Range) {
    const server = yield* Server
    const sql = yield* connectTo(server.url(database))
    const [kept] = yield* sql.unsafe<{ completed: number }>(completed(system), range)
    if (kept?.completed === tasks) return
    return yield* new BenchError({ message: `${system.name} has kept ${kept?.completed} results of ${tasks} tasks` })
  },
  Effect.scoped
)

const withinTenMinutes = Effect.timeoutOrElse({
  duration: "10 minutes",
  orElse: () => Effect.fail(new BenchError({ message: "a drain has not ended within ten minutes" }))
})

/** What one timed run has measured; CPU and WAL are per task. */
export interface Drained {
  readonly rate: number
  /** Milliseconds from "go" to the first handler. */
  readonly first: number
  readonly workerMicros: number
  readonly serverMicros: number | undefined
  readonly wal: number
  /** The worker's largest resident set, in MB. */
  readonly peak: number | undefined
  /** Cores that foreign programs took. */
  readonly others: number | undefined
}

/** Drains and measures. The clock runs from "go" until a query of this process sees no unfinished task. */
export const drain = Effect.fnUntraced(
  function*(run: Drain) {
    const { system, tasks } = run
    const server = yield* Server
    const database = yield* freshDatabase(system, run.content)
    const range = yield* fill(run, database)
    const sql = yield* connectTo(server.url(database))
    const worker = yield* connectFor(run, database)

    const before = yield* read(worker)
    const start = now()
    const [first] = yield* Effect.all([worker.call("reached"), worker.call("go")], { concurrency: "unbounded" })
    yield* Effect.repeat(sql.unsafe<{ unfinished: boolean }>(unfinished(system), range), {
      until: ([row]) => row?.unfinished === false
    })
    const seconds = (now() - start) / 1000
    const used = spent(before, yield* read(worker))

    yield* verify(run, database, range)
    return {
      rate: tasks / seconds,
      first: first - start,
      workerMicros: used.worker / tasks * 1e6,
      serverMicros: used.server === undefined ? undefined : used.server / tasks * 1e6,
      wal: used.wal / tasks,
      peak: peakMegabytes(worker.pid),
      others: used.others === undefined ? undefined : used.others / seconds
    } satisfies Drained as Drained
  },
  Effect.scoped,
  withinTenMinutes
)

/** Statements and commits per task, in a run that nobody times: the server logs every statement meanwhile. */
const count = Effect.fnUntraced(
  function*(run: Drain) {
    const server = yield* Server
    const database = yield* freshDatabase(run.system, run.content)
    yield* server.logStatements(database)
    const range = yield* fill(run, database)
    const before = yield* server.commits(database)
    const worker = yield* connectFor(run, database)
    const [, statements] = yield* server.countStatements(Effect.gen(function*() {
      yield* Effect.all([worker.call("reached"), worker.call("go")], { concurrency: "unbounded" })
      yield* worker.call("stop")
    }))
    const commits = (yield* server.commits(database)) - before
    yield* verify(run, database, range)
    return {
      statements: statements === undefined ? undefined : statements / run.tasks,
      commits: commits / run.tasks
    }
  },
  Effect.scoped,
  withinTenMinutes
)

/** Who else the throughput is compared with. */
const rivals = [
  { name: "ceiling", goal: Goals.throughputOfCeiling },
  { name: "graphile", goal: Goals.throughputOfGraphile },
  { name: "graphile-5000", goal: Goals.throughputOfBestGraphile },
  { name: "pg-boss", goal: Goals.throughputOfPgBoss }
]

const columns = (concurrency: number): ReadonlyArray<Column> => {
  const main = concurrency === 50
  return [
    { title: "tasks/s", format: whole },
    { title: "× naive", format: times, goal: throughputGoal(concurrency) },
    { title: "worker CPU µs/task", format: significant },
    { title: "server CPU µs/task", format: significant },
    ...rivals.map(({ goal, name }): Column => ({ title: `× ${name}`, format: times, goal: main ? goal : undefined })),
    { title: "worker CPU × ceiling", format: times, goal: main ? Goals.workerCpu : undefined },
    { title: "server CPU × ceiling", format: times, goal: main ? Goals.serverCpu : undefined },
    { title: "statements/task", format: significant, goal: main ? Goals.statements : undefined },
    { title: "commits/task", format: significant, goal: main ? Goals.commits : undefined },
    { title: "WAL B/task", format: whole, goal: main ? Goals.wal : undefined },
    { title: "peak RSS MB", format: significant, goal: main ? Goals.peakMemory : undefined },
    { title: "first task, ms", format: significant },
    { title: "others' cores", format: significant }
  ]
}

const throughputGoal = (concurrency: number) =>
  concurrency === 50 ?
    Goals.throughput
    : concurrency === 10 || concurrency === 100 ?
    Goals.throughputElsewhere(concurrency)
    : undefined

/** Tasks of the counted run: enough for start-up and shutdown not to matter. */
const counted = 10_000

const text = (tasks: number, rounds: number) =>
  `${
    whole(tasks)
  } no-op tasks with a payload of about 75 bytes; systems alternate, median (min–max) of ${rounds} rounds. ` +
  `The clock runs from "go", connections warm and nothing claimed, until another process sees no unfinished task; "first task" is ` +
  `the part of it before the first handler started. Ratios are the median of the rounds' ratios. Statements and commits are from a ` +
  `run of ${
    whole(Math.min(tasks, counted))
  } tasks of its own, start-up and shutdown included. Rows and results are kept, and checked.`

export const workload = Effect.fnUntraced(function*(settings: Settings, concurrency: number) {
  const { rounds, systems, tasks } = settings
  const results = new Map(systems.map((system) => [system, Array<Drained>()]))
  for (let round = 1; round <= rounds; round++) {
    for (const [system, all] of results) {
      const result = yield* drain({ system, concurrency, tasks, enqueue: true })
      yield* progress(`drain c=${concurrency}, round ${round}: ${system.name} ${whole(result.rate)}/s`)
      all.push(result)
    }
  }
  const of = (name: string, figure: keyof Drained): Series =>
    [...results].find(([system]) => system.name === name)?.[1].map((result) => result[figure]) ?? []
  const rows = yield* Effect.forEach(
    results,
    ([system, all]) =>
      Effect.map(count({ system, concurrency, tasks: Math.min(tasks, counted), enqueue: true }), (counts) => {
        const series = (figure: keyof Drained): Series => all.map((result) => result[figure])
        return {
          label: system.name,
          judged: system.name === "spindle",
          cells: [
            series("rate"),
            ratios(series("rate"), of("naive", "rate")),
            series("workerMicros"),
            series("serverMicros"),
            ...rivals.map(({ name }) => ratios(series("rate"), of(name, "rate"))),
            ratios(series("workerMicros"), of("ceiling", "workerMicros")),
            ratios(series("serverMicros"), of("ceiling", "serverMicros")),
            [counts.statements],
            [counts.commits],
            series("wal"),
            series("peak"),
            series("first"),
            series("others")
          ]
        }
      })
  )
  return {
    title: `Drain, concurrency ${concurrency}`,
    text: text(tasks, rounds),
    columns: columns(concurrency),
    rows,
    others: [...results.values()].flat().map(({ others }) => others)
  } satisfies Section as Section
})

/**
 * 1,000 followers over HTTP, 50 of them of tasks that tell something: from an event's commit to the client.
 */
import { Effect, Redacted } from "effect"
import { type ChildProcess, fork } from "node:child_process"
import { dirname, join } from "node:path"
import { BenchError } from "../errors.ts"
import * as Goals from "../goals.ts"
import { progress } from "../output.ts"
import { machineSeconds } from "../proc.ts"
import { Program } from "../program.ts"
import { type Mark, now, type Usage } from "../protocol.ts"
import { type Section, significant, whole } from "../report.ts"
import { connectTo, Server } from "../server.ts"
import type { Settings } from "../settings.ts"
import type { StreamsRequest } from "../streams.ts"
import { spindle } from "../systems.ts"
import { freshDatabase } from "../trial.ts"
import { latency, type Sent } from "./latency.ts"

const followers = 1000
const lively = 50
const eventsPerSecond = 20
const tickMillis = 10
const seconds = 6
const idleSeconds = 3

/** A process that answers one request at a time. */
const spawn = Effect.fnUntraced(function*(...args: ReadonlyArray<string>) {
  const program = join(dirname(yield* Program), "streams.js")
  const child: ChildProcess = yield* Effect.acquireRelease(
    Effect.sync(() => fork(program, args, { stdio: ["ignore", 2, 2, "ipc"] })),
    (child) =>
      Effect.callback<void>((resume) => {
        if (child.exitCode !== null || child.signalCode !== null) return resume(Effect.void)
        child.once("exit", () => resume(Effect.void))
        child.kill("SIGKILL")
      })
  )
  const next = Effect.callback<unknown, BenchError>((resume) => {
    const lost = () => resume(Effect.fail(new BenchError({ message: `the process of the ${args[0]} has ended` })))
    child.once("exit", lost)
    child.once("message", ({ value }: { readonly value: unknown }) => {
      child.off("exit", lost)
      resume(Effect.succeed(value))
    })
  })
  const ask = <A>(request: StreamsRequest) =>
    Effect.suspend(() => {
      const answer = next as Effect.Effect<A, BenchError>
      child.send(request)
      return answer
    })
  return { next, ask }
})

interface Used {
  readonly own: number
  readonly server: number | undefined
  readonly machine: number | undefined
}

/** Cores that programs took which are no part of this. */
const others = (before: Used, after: Used) => {
  if (before.machine === undefined || after.machine === undefined) return undefined
  if (before.server === undefined || after.server === undefined) return undefined
  const foreign = after.machine - before.machine - (after.server - before.server) - (after.own - before.own)
  return Math.max(0, foreign) / seconds
}

const trial = Effect.gen(function*() {
  const server = yield* Server
  const database = yield* freshDatabase(spindle)
  const url = server.url(database)
  const sql = yield* connectTo(url)
  // sessions that begin from here on are counted: those of the server under test
  yield* server.logStatements(database)
  const tasks = yield* sql.unsafe<{ readonly id: string }>(
    `insert into spindle.tasks (type, status, epoch, locked_by)
     select 'bench', 'processing', 1, 'bench' from generate_series(1, $1::int) returning id::text`,
    [followers]
  )
  const ids = tasks.map(({ id }) => id)
  const streams = yield* spawn("server", Redacted.value(url))
  const port = (yield* streams.next) as number
  const client = yield* spawn("client")
  yield* client.ask({ call: "open", port, ids })
  yield* Effect.sleep("2 seconds")
  const [, idle] = yield* server.countStatements(Effect.sleep(`${idleSeconds} seconds`))

  const sent: Array<Sent> = []
  const ticksPerEvent = 1000 / eventsPerSecond / tickMillis
  const write = Effect.fnUntraced(function*(tick: number) {
    const seq = Math.floor(tick / ticksPerEvent) + 1
    const said = ids.slice(0, lively).filter((_, n) => n % ticksPerEvent === tick % ticksPerEvent)
    const called = now()
    yield* sql.unsafe(
      `with said as (
         insert into spindle.task_events (task_id, epoch, seq, type, data)
         select id::bigint, 1, $2::int, 'text_delta', '{"text": "a few words of a longer text"}'
           from unnest($1::text[]) as given(id)
         returning task_id
       )
       select pg_notify('spindle_task_events', string_agg(task_id::text, ',')) from said`,
      [said, seq]
    )
    const committed = now()
    for (const id of said) sent.push({ task: `${id} 1-${seq}`, called, committed })
  })
  const talk = Effect.gen(function*() {
    const start = now()
    for (let tick = 0; tick < seconds * 1000 / tickMillis; tick++) {
      const early = start + tick * tickMillis - now()
      if (early > 0) yield* Effect.sleep(early)
      yield* write(tick)
    }
    yield* Effect.sleep("500 millis")
  })
  const used = Effect.gen(function*() {
    const streamed = yield* streams.ask<Usage>({ call: "usage" })
    const read = yield* client.ask<Usage>({ call: "usage" })
    const { system, user } = process.cpuUsage()
    const own = (streamed.cpuMicros + read.cpuMicros + user + system) / 1e6
    return { ...streamed, own, server: yield* server.cpuSeconds, machine: machineSeconds() }
  })
  const before = yield* used
  const [, statements] = yield* server.countStatements(talk)
  const after = yield* used
  const marks = yield* client.ask<ReadonlyArray<Mark>>({ call: "marks" })
  const [row] = yield* sql.unsafe<{ readonly connections: number }>(
    `select count(*)::int as connections from pg_stat_activity
      where datname = current_database() and application_name like 'spindle%'`
  )
  return {
    ...latency(sent, marks),
    idle: idle === undefined ? undefined : idle / idleSeconds,
    statements: statements === undefined ? undefined : statements / seconds,
    connections: row?.connections,
    rss: after.rssBytes / 2 ** 20,
    cpu: (after.cpuMicros - before.cpuMicros) / 1000 / seconds,
    others: others(before, after)
  }
}).pipe(Effect.scoped)

export const workload = Effect.fnUntraced(function*({ rounds, systems }: Settings) {
  const all: Array<Effect.Success<typeof trial>> = []
  for (let round = 1; round <= rounds && systems.includes(spindle); round++) {
    const result = yield* trial
    yield* progress(`followers, round ${round}: p95 ${significant(result.p95 ?? NaN)} ms`)
    all.push(result)
  }
  return {
    title: "Followers",
    text:
      `${
        whole(followers)
      } streams of as many tasks from one process to another over HTTP; ${lively} of the tasks write ` +
      `${eventsPerSecond} events a second each, for ${seconds} s, in batches every ${tickMillis} ms as a worker does; median ` +
      `(min–max) of ${rounds} rounds. From the moment the commit is acknowledged to the client. Connections are those ` +
      `beside the application's pool; statements are counted in the server's log, first while nothing is written.`,
    columns: [
      { title: "p50 ms", format: significant },
      { title: "p95 ms", format: significant, goal: Goals.followersLatency },
      { title: "p99 ms", format: significant },
      { title: "seen", format: (value) => `${significant(value * 100)} %` },
      { title: "connections", format: significant, goal: Goals.followersConnections },
      { title: "statements/s, idle", format: significant, goal: Goals.followersIdle },
      { title: "statements/s", format: significant },
      { title: "RSS MB", format: significant },
      { title: "CPU ms/s", format: significant }
    ],
    rows: all.length === 0 ? [] : [{
      label: spindle.name,
      judged: true,
      cells: [
        all.map(({ p50 }) => p50),
        all.map(({ p95 }) => p95),
        all.map(({ p99 }) => p99),
        all.map(({ seen }) => seen),
        all.map(({ connections }) => connections),
        all.map(({ idle }) => idle),
        all.map(({ statements }) => statements),
        all.map(({ rss }) => rss),
        all.map(({ cpu }) => cpu)
      ]
    }],
    others: all.map(({ others }) => others)
  } satisfies Section as Section
})

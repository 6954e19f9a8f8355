/**
 * Many answers streamed at once: how long a token takes from the provider to a row that others can read, what that costs, and
 * what happens while the database stands still.
 */
import { PgClient } from "@effect/sql-pg"
import { Context, Effect, Layer, Queue, Redacted, Schedule } from "effect"
import { BenchError } from "../errors.ts"
import * as Goals from "../goals.ts"
import * as Ipc from "../ipc.ts"
import { progress } from "../output.ts"
import { continueTree, machineSeconds, stopTree } from "../proc.ts"
import { now } from "../protocol.ts"
import { quantile, type Section, significant, whole } from "../report.ts"
import { Server } from "../server.ts"
import type { Settings } from "../settings.ts"
import { type ProviderCalls, tokensPerSecond, type WorkerCalls } from "../streaming/calls.ts"
import { spindle } from "../systems.ts"
import { freshDatabase } from "../trial.ts"
import { latency, type Sent } from "./latency.ts"

const streams = 200
const watched = 10
const seconds = 60
const pauseSeconds = 5
const cancels = 100

// Written for one plan, whatever the statistics of the young tables say.
const watchSql = `
select w.task_id, e.seq, e.text
  from unnest($1::bigint[], $2::int[]) as w (task_id, seq)
 cross join lateral (
       select seq, data ->> 'text' as text
         from spindle.task_events
        where task_id = w.task_id and epoch = 1 and seq > w.seq and type = 'text_delta'
        order by task_id, epoch, seq
        limit 1000
       ) e
 order by w.task_id, e.seq`

// Each token is the time at which it was sent; the row counts from when another connection has read it.
const watch = Effect.fnUntraced(function*(sql: PgClient.PgClient, ids: ReadonlyArray<bigint>) {
  const seen = new Map(ids.map((id) => [id, 0]))
  const delays: Array<number> = []
  const notifications = yield* sql.listen("spindle_task_events")
  yield* Effect.gen(function*() {
    yield* Queue.takeAll(notifications)
    const rows = yield* sql.unsafe<{ task_id: bigint; seq: number; text: string }>(watchSql, [
      [...seen.keys()],
      [...seen.values()]
    ])
    const at = now()
    for (const { seq, task_id, text } of rows) {
      seen.set(task_id, seq)
      delays.push(at - Number(text))
    }
  }).pipe(Effect.forever, Effect.forkScoped)
  return {
    take: Effect.sync(() => delays.splice(0))
  }
})

// One event a token, and none beside them before the end.
const stored = (sql: PgClient.PgClient) =>
  sql<{ tokens: number }>`
    select coalesce(sum(e.seq), 0)::int as tokens
      from spindle.tasks t
      left join lateral (select seq from spindle.task_events
                          where task_id = t.id and epoch = t.epoch order by seq desc limit 1) e on true`

const round = Effect.gen(function*() {
  const server = yield* Server
  const { pid: postmaster } = server
  if (postmaster === undefined) return yield* new BenchError({ message: "streams: the server is on another machine" })
  const database = yield* freshDatabase(spindle)
  yield* server.logStatements(database)
  const url = server.url(database)
  const sql = yield* Effect.map(
    Layer.build(PgClient.layer({ url, maxConnections: 4 })),
    Context.get(PgClient.PgClient)
  )
  const provider = yield* Ipc.spawn<ProviderCalls>("the provider", "streaming/provider.js")
  const worker = yield* Ipc.spawn<WorkerCalls>("the worker", "streaming/worker.js")
  yield* worker.call("start", {
    url: Redacted.value(url),
    provider: yield* provider.call("listen"),
    concurrency: streams
  })
  const tasks = yield* sql<{ id: bigint }>`
    insert into spindle.tasks (type, payload)
    select 'ai_response', jsonb_build_object('prompt', n::text) from generate_series(1, ${streams}) n returning id`
  yield* provider.call("sent").pipe(
    Effect.repeat({ until: ({ open }) => open === streams, schedule: Schedule.spaced("50 millis") }),
    Effect.timeoutOrElse({
      duration: "20 seconds",
      orElse: () => Effect.fail(new BenchError({ message: "streams: not every task has reached the provider" }))
    })
  )
  const { take } = yield* watch(sql, tasks.slice(0, watched).map(({ id }) => id))
  const rss = Effect.map(worker.call("usage"), ({ rssBytes }) => rssBytes / 2 ** 20)
  yield* Effect.sleep("10 seconds")
  const heapBefore = yield* worker.call("heap")
  yield* take

  const before = {
    usage: yield* worker.call("usage"),
    sent: yield* provider.call("sent"),
    server: yield* server.cpuSeconds,
    machine: machineSeconds(),
    bench: process.cpuUsage(),
    at: now()
  }
  const memory: Array<number> = []
  const [, statements] = yield* server.countStatements(
    Effect.forEach(
      Array(seconds / 5),
      () =>
        Effect.andThen(
          Effect.sleep("5 seconds"),
          Effect.tap(rss, (megabytes) => Effect.sync(() => memory.push(megabytes)))
        )
    )
  )
  const delays = yield* take
  const elapsed = (now() - before.at) / 1000
  const usage = yield* worker.call("usage")
  const sent = yield* provider.call("sent")
  const serverSeconds = yield* server.cpuSeconds
  const heapAfter = yield* worker.call("heap")

  const resting = yield* rss
  yield* Effect.acquireUseRelease(
    Effect.sync(() => stopTree(postmaster)),
    () => Effect.sleep(`${pauseSeconds} seconds`),
    (stopped) => Effect.sync(() => continueTree(stopped))
  )
  const resumed = now()
  const paused = yield* rss
  const during = yield* provider.call("sent")
  yield* stored(sql).pipe(
    Effect.repeat({ until: ([row]) => (row?.tokens ?? 0) >= during.tokens, schedule: Schedule.spaced("50 millis") })
  )
  const caughtUp = now()

  // The prompts are the ids: the table was empty.
  const sentCancels = yield* Effect.forEach(tasks.slice(-cancels), ({ id }) =>
    Effect.gen(function*() {
      const called = now()
      yield* sql`update spindle.tasks set status = 'cancelled' where id = ${id} and status = 'processing'`
      const committed = now()
      yield* Effect.sleep("20 millis")
      return { task: String(id), called, committed } satisfies Sent as Sent
    }))
  yield* Effect.sleep("1 second")
  const cancelled = latency(sentCancels, yield* provider.call("closed"))

  yield* provider.call("finish")
  yield* sql<{ running: number }>`
    select count(*)::int as running from spindle.tasks where status in ('queued', 'processing')`.pipe(
    Effect.repeat({ until: ([row]) => row?.running === 0, schedule: Schedule.spaced("200 millis") })
  )
  const [ended] = yield* sql<{ completed: number; equal: number; lost: number }>`
    select count(*) filter (where status = 'completed')::int as completed,
           count(*) filter (where status = 'completed' and result ->> 'text' = e.text)::int as equal,
           sum((result -> 'usage' ->> 'outputTokens')::int - e.tokens)::int as lost
      from spindle.tasks t
      left join lateral (select string_agg(data ->> 'text', '' order by seq) as text, count(*) as tokens
                           from spindle.task_events where task_id = t.id and type = 'text_delta') e on true`
  yield* worker.call("stop")
  return {
    rate: (sent.tokens - before.sent.tokens) / elapsed,
    p50: quantile(delays, 0.5),
    p95: quantile(delays, 0.95),
    p99: quantile(delays, 0.99),
    statements: statements === undefined ? undefined : statements / elapsed,
    workerCpu: (usage.cpuMicros - before.usage.cpuMicros) / 1e6 / elapsed,
    serverCpu: serverSeconds === undefined || before.server === undefined
      ? undefined
      : (serverSeconds - before.server) / elapsed,
    memoryFirst: memory[0],
    memoryLast: memory.at(-1),
    heapFirst: heapBefore / 2 ** 20,
    heapLast: heapAfter / 2 ** 20,
    memoryPause: paused - resting,
    catchUp: (caughtUp - resumed) / 1000,
    cancelP50: cancelled.p50,
    cancelP95: cancelled.p95,
    cancelled: cancelled.seen * cancels,
    completed: ended?.completed,
    equal: ended?.equal,
    lost: ended?.lost
  }
}).pipe(Effect.scoped)

export const workload = Effect.fnUntraced(function*({ rounds }: Settings) {
  const results: Array<Effect.Success<typeof round>> = []
  for (let index = 1; index <= rounds; index++) {
    const result = yield* round
    yield* progress(`streams, round ${index}: p95 ${significant(result.p95 ?? NaN)} ms`)
    results.push(result)
  }
  const column = <Key extends keyof Effect.Success<typeof round>>(key: Key) => results.map((result) => result[key])
  return {
    title: "Streams",
    text:
      `${streams} tasks \`ai_response\` at once, each answered by a provider on this machine at ${tokensPerSecond} tokens/s ` +
      `(${
        streams * tokensPerSecond
      } a second), for ${seconds} s after 10 s to settle. Each token is the time at which it was sent; the ` +
      `delay is from there until another connection, told by the notification, has read its row (${watched} tasks are watched). ` +
      `Statements are counted in the server's log, all kinds. Then the server's processes are stopped for ${pauseSeconds} s. ` +
      `At the end ${cancels} of the tasks are cancelled by plain SQL, one every 20 ms, and the others finish: from the acknowledged ` +
      `commit to the moment at which the provider sees its connection closed. Provider, worker, server and bench share the machine. Median (min–max) of ${rounds} rounds.`,
    columns: [
      { title: "tokens/s", format: whole },
      { title: "delay p50 ms", format: significant },
      { title: "p95 ms", format: significant, goal: Goals.streamDelay },
      { title: "p99 ms", format: significant },
      { title: "statements/s", format: significant, goal: Goals.streamStatements },
      { title: "worker cores", format: significant },
      { title: "server cores", format: significant },
      { title: "RSS MB, first", format: significant },
      { title: "RSS MB, last", format: significant },
      { title: "live heap MB, first", format: significant },
      { title: "live heap MB, last", format: significant },
      { title: "more RSS MB in the pause", format: significant },
      { title: "caught up after s", format: significant },
      { title: "cancel to closed p50 ms", format: significant },
      { title: "p95 ms", format: significant, goal: Goals.streamCancel },
      { title: "closed", format: whole },
      { title: "completed", format: whole },
      { title: "text = deltas", format: whole },
      { title: "tokens lost", format: whole }
    ],
    rows: [{
      label: "spindle",
      judged: true,
      cells: [
        column("rate"),
        column("p50"),
        column("p95"),
        column("p99"),
        column("statements"),
        column("workerCpu"),
        column("serverCpu"),
        column("memoryFirst"),
        column("memoryLast"),
        column("heapFirst"),
        column("heapLast"),
        column("memoryPause"),
        column("catchUp"),
        column("cancelP50"),
        column("cancelP95"),
        column("cancelled"),
        column("completed"),
        column("equal"),
        column("lost")
      ]
    }],
    others: []
  } satisfies Section as Section
})

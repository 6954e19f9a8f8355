/**
 * The product through its public API, with default settings but for the concurrency.
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Redacted from "effect/Redacted"
import * as References from "effect/References"
import * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as HandlerRegistry from "../../../src/HandlerRegistry.ts"
import * as Migrations from "../../../src/storage/Migrations.ts"
import * as Task from "../../../src/Task.ts"
import * as TaskGroup from "../../../src/TaskGroup.ts"
import * as TaskQueue from "../../../src/TaskQueue.ts"
import * as Worker from "../../../src/Worker.ts"
import {
  connections,
  type ConnectOptions,
  type Implementation,
  payload,
  type Recorder,
  sleepMillis
} from "../protocol.ts"

class Bench extends Task.make("bench", {
  payload: { to: Schema.String, subject: Schema.String, order: Schema.Int },
  success: Schema.Struct({ delivered: Schema.Boolean })
}) {}

class BenchTasks extends TaskGroup.make(Bench) {}

const handlers = ({ job }: Pick<ConnectOptions, "job">, recorder: Recorder) =>
  BenchTasks.toLayer(BenchTasks.of({
    bench: (_, { task }) => {
      const id = String(task.id)
      const result = { delivered: true }
      if (job === "sleep") {
        return Effect.suspend(() => {
          recorder.started(id)
          return Effect.as(Effect.sleep(sleepMillis), result)
        })
      }
      return job === "end"
        ? Effect.sync(() => (recorder.started(id), result))
        : Effect.sync(() => recorder.started(id)).pipe(
          Effect.andThen(Effect.never),
          Effect.onInterrupt(() => Effect.sync(() => recorder.interrupted(id)))
        )
    }
  }))

const layer = (options: Omit<ConnectOptions, "expected" | "record" | "url">, recorder: Recorder) =>
  Worker.layer({
    concurrency: options.concurrency,
    ...(options.notifications ? {} : { notifications: "off" as const })
  }).pipe(
    Layer.provide(HandlerRegistry.layer(BenchTasks)),
    Layer.provide(handlers(options, recorder)),
    Layer.provide(Layer.succeed(References.MinimumLogLevel, "Warn"))
  )

const sqlLayer = (url: string) => PgClient.layer({ url: Redacted.make(url), maxConnections: connections })

const prepare = (url: string) => Migrations.run.pipe(Effect.provide(sqlLayer(url)), Effect.asVoid, Effect.runPromise)

const warm = Effect.flatMap(
  SqlClient.SqlClient,
  (sql) =>
    Effect.forEach(Array(connections), () => sql`select pg_sleep(0.1)`, { concurrency: "unbounded", discard: true })
)

const connect = async (options: ConnectOptions, recorder: Recorder) => {
  const sql = sqlLayer(options.url)
  const connected = ManagedRuntime.make(sql)
  await connected.runPromise(warm)
  const worker = ManagedRuntime.make(
    layer(options, recorder).pipe(Layer.provide(sql)),
    { memoMap: connected.memoMap }
  )
  let stopping = false
  return {
    start: async () => {
      const { failed } = await worker.runPromise(Worker.Worker)
      worker.runPromise(failed).catch((error: unknown) => {
        if (stopping) return
        process.stderr.write(`spindle: ${String(error)}\n`)
        process.exit(1)
      })
    },
    stop: async () => {
      stopping = true
      await worker.dispose()
      await connected.dispose()
    }
  }
}

const produce = async (url: string) => {
  const runtime = ManagedRuntime.make(TaskQueue.layer.pipe(Layer.provideMerge(sqlLayer(url))))
  await runtime.runPromise(warm)
  const queue = await runtime.runPromise(TaskQueue.TaskQueue)
  return {
    enqueue: (from: number, tasks: number) =>
      runtime.runPromise(
        tasks === 1
          ? queue.enqueue(Bench, payload(from))
          : Effect.asVoid(
            queue.enqueueMany(Bench, Array.from({ length: tasks }, (_, i) => ({ payload: payload(from + i) })))
          )
      ),
    stop: () => runtime.dispose()
  }
}

export const spindle: Implementation = { prepare, connect, produce }

/**
 * What every run is made of: a fresh database, a worker process of its own, and what both have used.
 */
import { Effect, Redacted } from "effect"
import { progress } from "./output.ts"
import { machineSeconds } from "./proc.ts"
import type { ConnectOptions } from "./protocol.ts"
import { connectTo, Server } from "./server.ts"
import type { System } from "./systems.ts"
import { spawn, type Worker } from "./worker.ts"

/** Rows that a table holds before the run. */
export interface Content {
  readonly name: string
  /** One statement, its parameter the number of rows. */
  readonly insert: (system: System) => string
  readonly rows: number
}

/** A database with the tables of a system, empty or with some content: a copy of one that is made once. */
export const freshDatabase = Effect.fnUntraced(function*(system: System, content?: Content) {
  const server = yield* Server
  const name = `${system.name}, ${content?.name ?? "empty"} table`
  const fill = Effect.fnUntraced(function*(database: string) {
    yield* progress(`  preparing ${name}`)
    const url = server.url(database)
    const worker = yield* spawn(system)
    yield* worker.call("prepare", Redacted.value(url))
    if (content === undefined) return
    const sql = yield* connectTo(url)
    yield* sql.unsafe(content.insert(system), [content.rows])
    yield* sql.unsafe("vacuum analyze")
  })
  const template = yield* server.template(name, (database) => Effect.scoped(fill(database)))
  return yield* server.database(template)
})

/** A process that is connected to a database and waits for `go`. */
export const connectWorker = Effect.fnUntraced(function*(
  system: System,
  database: string,
  options: Omit<ConnectOptions, "url">
) {
  const server = yield* Server
  const worker = yield* spawn(system)
  yield* worker.call("connect", { ...options, url: Redacted.value(server.url(database)) })
  return worker
})

/** What has been used so far, in seconds and bytes. */
export interface Reading {
  readonly worker: number
  readonly server: number | undefined
  readonly machine: number | undefined
  readonly bench: number
  readonly wal: number
}

export const read = Effect.fnUntraced(function*(worker: Worker) {
  const server = yield* Server
  const usage = yield* worker.call("usage")
  const { system, user } = process.cpuUsage()
  return {
    worker: usage.cpuMicros / 1e6,
    server: yield* server.cpuSeconds,
    machine: machineSeconds(),
    bench: (user + system) / 1e6,
    wal: yield* server.walBytes
  } satisfies Reading as Reading
})

/** What was used between two readings. `others` is the CPU of programs that are no part of the bench. */
export interface Spent {
  readonly worker: number
  readonly server: number | undefined
  readonly others: number | undefined
  readonly wal: number
}

const minus = (a: number | undefined, b: number | undefined) => a === undefined || b === undefined ? undefined : a - b

export const spent = (before: Reading, after: Reading): Spent => {
  const worker = after.worker - before.worker
  const server = minus(after.server, before.server)
  const all = minus(after.machine, before.machine)
  const others = minus(all, server)
  return {
    worker,
    server,
    others: others === undefined ? undefined : Math.max(0, others - worker - (after.bench - before.bench)),
    wal: after.wal - before.wal
  }
}

/**
 * What the figures depend on: the machine, the versions, and how long a commit takes.
 */
import { Effect } from "effect"
import { arch, cpus, platform, totalmem } from "node:os"
import { now } from "./protocol.ts"
import { median, significant } from "./report.ts"
import { connectTo, Server } from "./server.ts"

const commits = 200

/** The median time of a single-row commit, round trip included. */
const commitMillis = Effect.fnUntraced(function*() {
  const server = yield* Server
  const sql = yield* connectTo(server.url(yield* server.database()))
  yield* sql.unsafe("create table probe (at timestamptz)")
  const times = yield* Effect.forEach(Array(commits), () =>
    Effect.suspend(() => {
      const start = now()
      return Effect.map(sql.unsafe("insert into probe values (now())"), () => now() - start)
    }))
  return median(times) ?? NaN
}, Effect.scoped)

export const describe = Effect.gen(function*() {
  const { admin, owned } = yield* Server
  const [row] = yield* admin<{ version: string; fsync: string; commit: string; buffers: string }>`
    select current_setting('server_version') as version, current_setting('fsync') as fsync,
      current_setting('synchronous_commit') as commit, current_setting('shared_buffers') as buffers`
  const cores = cpus()
  return [
    `${cores.length} cores (${cores[0]?.model.trim() ?? "unknown"}), ${
      Math.round(totalmem() / 2 ** 30)
    } GiB, ${platform()} ${arch()}`,
    `Node ${process.versions.node}`,
    `PostgreSQL ${row?.version}${owned ? ", a throw-away cluster" : ", a given server"}; fsync ${row?.fsync}, ` +
    `synchronous_commit ${row?.commit}, shared_buffers ${row?.buffers}`,
    `One single-row commit takes ${significant(yield* commitMillis())} ms`
  ]
})

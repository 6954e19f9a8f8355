/**
 * A worker process for tests that kill one: `node worker.ts <url> <options as JSON>`.
 *
 * It runs `sleep`, which says "started", sleeps for its payload's `millis` and records its execution in the table
 * `executions` of the test, and `count`, which prints "ran" and its task's id. The worker prints "ready" and its id when it
 * has started.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { PgClient } from "@effect/sql-pg"
import { Effect, Layer, Logger, Redacted, Schema } from "effect"
import * as HandlerRegistry from "../../../src/HandlerRegistry.ts"
import * as Task from "../../../src/Task.ts"
import * as TaskEvent from "../../../src/TaskEvent.ts"
import * as TaskGroup from "../../../src/TaskGroup.ts"
import * as Worker from "../../../src/Worker.ts"

const [url = "", options = "{}"] = process.argv.slice(2)

class Sleep extends Task.make("sleep", {
  payload: { millis: Schema.Int },
  success: Schema.String,
  event: TaskEvent.TextDelta
}) {}
class Count extends Task.make("count", { success: Schema.String }) {}
class Group extends TaskGroup.make(Sleep, Count) {}

const Handlers = Group.toLayer(Effect.gen(function*() {
  const sql = yield* PgClient.PgClient
  const record = (execution: Task.Execution<any>) =>
    Effect.orDie(sql`
      insert into executions (task_id, attempt, worker)
      values (${execution.task.id}, ${execution.attempt}, ${execution.workerId})`)
  return {
    sleep: Effect.fnUntraced(function*({ millis }, execution) {
      yield* record(execution)
      yield* execution.emit({ _tag: "text_delta", text: "started" })
      yield* Effect.sleep(millis)
      yield* execution.emit({ _tag: "text_delta", text: "slept" })
      return execution.workerId
    }),
    count: (_: void, { task, workerId }) =>
      Effect.as(Effect.sync(() => process.stdout.write(`ran ${task.id}\n`)), workerId)
  }
}))

const Database = PgClient.layer({ url: Redacted.make(url), maxConnections: 4 })

const program = Effect.gen(function*() {
  const worker = yield* Worker.Worker
  process.stdout.write(`ready ${worker.id}\n`)
  return yield* worker.failed
}).pipe(
  Effect.provide(
    Worker.layer(JSON.parse(options)).pipe(
      Layer.provide(HandlerRegistry.layer(Group)),
      Layer.provide(Handlers),
      Layer.provide(Database),
      Layer.provide(Logger.layer([]))
    )
  )
)

NodeRuntime.runMain(program)

/**
 * `spindle show`: everything that is known of a task.
 *
 * @since 0.1.0
 */
import * as Command from "effect/cli/Command"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Schema from "effect/Schema"
import * as SqlClient from "effect/sql/SqlClient"
import * as Db from "../Db.ts"
import * as EventTable from "../storage/EventTable.ts"
import * as TaskQueue from "../TaskQueue.ts"
import * as Connection from "./Connection.ts"
import { CliFailure } from "./Failure.ts"
import * as Parameters from "./Parameters.ts"
import { Process } from "./Process.ts"
import * as Waits from "./Waits.ts"

/**
 * Prints the row, how its attempts ended, its error and its result.
 *
 * @category commands
 * @since 0.1.0
 */
export const command = Command.make(
  "show",
  { id: Parameters.id, json: Parameters.json },
  ({ id, json }) =>
    Effect.gen(function*() {
      const { note, stdout } = yield* Process
      const found = yield* (yield* TaskQueue.TaskQueue).get(id)
      if (Option.isNone(found)) return yield* new CliFailure({ message: `There is no task ${id}`, exitCode: 1 })
      const attempts = yield* EventTable.make(yield* SqlClient.SqlClient, yield* Db.Schema).closings(id)
      const task = toJson(found.value)
      yield* stdout(
        json
          ? `${JSON.stringify({ ...task, attemptsEnded: attempts.map(attemptJson) }, undefined, 2)}\n`
          : readable(task, attempts)
      )
      for (const sentence of yield* Waits.sentences(found.value)) yield* note(sentence)
    }).pipe(Effect.provide(Connection.reading))
).pipe(Command.withDescription("Show a task, its attempts and how it ended"))

const iso = (time: DateTime.Utc | null) => time && DateTime.formatIso(time)

/**
 * A task as JSON has it.
 *
 * @category encoding
 * @since 0.1.0
 */
export const toJson = (task: TaskQueue.StoredTask) => ({
  ...task,
  id: String(task.id),
  epoch: String(task.epoch),
  timeout: task.timeout && Duration.toMillis(task.timeout),
  runAt: iso(task.runAt),
  createdAt: iso(task.createdAt),
  startedAt: iso(task.startedAt),
  finishedAt: iso(task.finishedAt),
  leaseExpiresAt: iso(task.leaseExpiresAt)
})

const attemptJson = ({ createdAt, data, position, type }: TaskQueue.StoredEvent) => ({
  ...data as Schema.JsonObject,
  epoch: String(position.epoch),
  outcome: type,
  endedAt: iso(createdAt)
})

const labels: ReadonlyArray<readonly [keyof ReturnType<typeof toJson>, string]> = [
  ["queue", "queue"],
  ["priority", "priority"],
  ["runAt", "not before"],
  ["timeout", "timeout (ms)"],
  ["uniqueKey", "unique key"],
  ["tag", "tag"],
  ["userId", "user"],
  ["createdAt", "created"],
  ["startedAt", "started"],
  ["finishedAt", "finished"],
  ["lockedBy", "worker"],
  ["leaseExpiresAt", "lease until"]
]

const readable = (task: ReturnType<typeof toJson>, attempts: ReadonlyArray<TaskQueue.StoredEvent>) => {
  const line = (label: string, value: unknown) => `  ${label.padEnd(12)}  ${indented(value)}\n`
  const block = (label: string, value: unknown) => value === null ? "" : `\n${label}\n  ${indented(value)}\n`
  return [
    `Task ${task.id}, ${task.type}: ${task.status}\n`,
    ...labels.filter(([key]) => task[key] !== null).map(([key, label]) => line(label, task[key])),
    line("attempts", `${task.attempts} of ${task.maxAttempts}`),
    ...(Object.keys(task.metadata).length === 0 ? [] : [line("metadata", task.metadata)]),
    block("Payload", task.payload),
    ...(attempts.length === 0 ? [] : ["\nEnded attempts\n", ...attempts.map(attemptLine)]),
    block(
      "Error",
      task.error && [`${task.error.tag} (${task.error.kind}): ${task.error.message}`, task.error.stack]
        .filter((text) => text !== undefined).join("\n")
    ),
    block("Result", task.result)
  ].join("")
}

const indented = (value: unknown) =>
  (typeof value === "string" ? value : JSON.stringify(value, undefined, 2)).replaceAll("\n", "\n  ")

const attemptLine = (event: TaskQueue.StoredEvent) => {
  const { message, reason, runAt, worker } = event.data as { readonly [key: string]: unknown }
  const words = [
    iso(event.createdAt),
    event.type.padEnd(9),
    worker === undefined ? "" : `on ${worker}`,
    message ?? (reason === undefined ? "" : `(${reason})`),
    runAt === undefined ? "" : `next at ${runAt}`
  ]
  return `  ${words.filter((word) => word !== "").join("  ")}\n`
}

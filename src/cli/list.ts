/**
 * `spindle list`: tasks, newest first.
 *
 * @since 0.1.0
 */
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Waiting from "../internal/Waiting.ts"
import * as TaskQueue from "../TaskQueue.ts"
import * as Connection from "./Connection.ts"
import * as Parameters from "./Parameters.ts"
import { Process } from "./Process.ts"
import { toJson } from "./show.ts"
import * as Waits from "./Waits.ts"

const statuses = ["queued", "processing", "completed", "failed", "cancelled"] as const

const text = (name: string, description: string) =>
  Flag.String(name).pipe(Flag.withDescription(description), Flag.optional)

/**
 * Prints a page of tasks as a table, and on standard error how to get the next one. With `--json` every task is a line of
 * JSON, as `show` has it.
 *
 * @category commands
 * @since 0.1.0
 */
export const command = Command.make("list", {
  status: Flag.Literals("status", statuses).pipe(
    Flag.withDescription("Only tasks of this status"),
    Flag.optional
  ),
  type: text("type", "Only tasks of this type"),
  queue: text("queue", "Only tasks of this queue"),
  tag: text("tag", "Only tasks with this tag"),
  userId: text("user", "Only tasks of this user"),
  limit: Flag.Int("limit").pipe(
    Flag.withDescription("How many, from 1 to 200. Default: 50"),
    Flag.filter((limit) => limit >= 1 && limit <= 200, (limit) => `a number from 1 to 200, not ${limit}`),
    Flag.withDefault(50)
  ),
  before: Parameters.idFlag("before").pipe(
    Flag.withDescription("Only tasks older than this one: the page after the one that ended with it"),
    Flag.optional
  ),
  json: Parameters.json
}, ({ json, limit, ...flags }) =>
  Effect.gen(function*() {
    const { stderr, stdout } = yield* Process
    const filter = Object.fromEntries(
      Object.entries(flags).map(([name, value]) => [name, Option.getOrUndefined<unknown>(value)])
    )
    const tasks = yield* (yield* TaskQueue.TaskQueue).list({ ...filter, limit, values: json })
    if (tasks.length === 0) yield* stderr("No tasks\n")
    if (json) return yield* stdout(tasks.map((task) => `${JSON.stringify(toJson(task))}\n`).join(""))
    if (tasks.length === 0) return
    yield* stdout(render(tasks, yield* Waits.now))
    if (tasks.length === limit) yield* stderr(`Older ones: --before ${tasks.at(-1)!.id}\n`)
  }).pipe(Effect.provide(Connection.reading))).pipe(Command.withDescription("List tasks, newest first"))

const columns: ReadonlyArray<readonly [string, (task: TaskQueue.StoredTask, now: number) => string]> = [
  ["ID", ({ id }) => String(id)],
  ["STATUS", ({ lockedBy, status }) => status === "cancelled" && lockedBy !== null ? "cancelling" : status],
  ["TYPE", ({ type }) => type],
  ["QUEUE", ({ queue }) => queue],
  ["ATTEMPTS", ({ attempts, maxAttempts }) => `${attempts}/${maxAttempts}`],
  ["CREATED", ({ createdAt }) => DateTime.formatIso(createdAt)],
  ["TAG", ({ tag }) => tag ?? ""],
  ["WAITS", (task, now) => Waits.reasons(task, now).map(Waiting.brief).join(", ")],
  ["ERROR", ({ error }) => error === null ? "" : `${error.tag}: ${error.message}`]
]

const maxWidth = 60

const render = (tasks: ReadonlyArray<TaskQueue.StoredTask>, now: number): string => {
  const rows = [
    columns.map(([title]) => title),
    ...tasks.map((task) => columns.map(([, cell]) => shortened(cell(task, now))))
  ]
  const used = columns.map((_, i) => rows.some((row, n) => n > 0 && row[i] !== ""))
  const widths = columns.map((_, i) => Math.max(...rows.map((row) => row[i]!.length)))
  return rows.map((row) =>
    `${row.map((cell, i) => cell.padEnd(widths[i]!)).filter((_, i) => used[i]).join("  ").trimEnd()}\n`
  ).join("")
}

// A row is a line.
const shortened = (cell: string) => {
  const line = cell.replaceAll(/\s+/g, " ")
  return line.length > maxWidth ? `${line.slice(0, maxWidth - 1)}…` : line
}

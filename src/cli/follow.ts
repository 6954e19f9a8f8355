/**
 * `spindle follow`: a task's events as they come.
 *
 * @since 0.1.0
 */
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as Waiting from "../internal/Waiting.ts"
import * as TaskEvent from "../TaskEvent.ts"
import * as TaskQueue from "../TaskQueue.ts"
import * as Connection from "./Connection.ts"
import { CliFailure } from "./Failure.ts"
import * as Parameters from "./Parameters.ts"
import { Process } from "./Process.ts"
import * as Waits from "./Waits.ts"

/**
 * Writes the text of the task to standard output as it comes, and what else happens to standard error, a line each. A
 * task that has no text writes its result when it is done. With `--json`, standard output gets every event as a line of
 * JSON. Fails if the task failed or was cancelled.
 *
 * @category commands
 * @since 0.1.0
 */
export const command = Command.make("follow", {
  id: Parameters.id,
  after: Flag.String("after").pipe(
    Flag.withMetavar("epoch-seq"),
    Flag.withDescription("Only what comes after this position, such as 1-17"),
    Flag.filterMap(Schema.decodeOption(TaskEvent.PositionFromString), () => "a position such as 1-17"),
    Flag.optional
  ),
  json: Parameters.json
}, ({ after, id, json }) =>
  Effect.gen(function*() {
    const queue = yield* TaskQueue.TaskQueue
    const process = yield* Process
    const { finish, write } = json ? jsonWriter(process) : reader(process)
    let last = ""
    // Whoever watches a task that nobody takes is told so, at once and now and then.
    const watch = Effect.gen(function*() {
      const task = Option.getOrUndefined(yield* queue.get(id))
      if (task !== undefined) { for (const sentence of yield* Waits.sentences(task)) yield* process.note(sentence) }
    }).pipe(Effect.ignore)
    yield* watch
    yield* Effect.sleep(Waiting.patienceMillis + 1000).pipe(
      Effect.andThen(Effect.repeat(watch, Schedule.spaced("1 minute"))),
      Effect.forkScoped
    )
    yield* queue.events(id, { after: Option.getOrUndefined(after) }).pipe(
      Stream.runForEach((event) => {
        last = event.type
        return write(event)
      })
    )
    const task = yield* queue.get(id)
    yield* finish(last === "done" && Option.isNone(after) && Option.isSome(task) ? task.value.result : null)
    if (last === "error" || last === "cancelled") return yield* new CliFailure({ message: "", exitCode: 1 })
  }).pipe(Effect.scoped, Effect.provide(Connection.reading))).pipe(
    Command.withDescription("Watch the events of a task as they come, until it is over")
  )

interface Writer {
  readonly write: (event: TaskQueue.StoredEvent) => Effect.Effect<void>
  /** At the end, with what a task that went well has returned. */
  readonly finish: (result: Schema.Json) => Effect.Effect<void>
}

const jsonWriter = ({ stdout }: Process["Service"]): Writer => ({
  write: ({ createdAt, data, position, type }) =>
    stdout(`${
      JSON.stringify({
        position: `${position.epoch}-${position.seq}`,
        type,
        data,
        createdAt: DateTime.formatIso(createdAt)
      })
    }\n`),
  finish: () => Effect.void
})

const reader = ({ isTerminal, note, stderr, stdout }: Process["Service"]): Writer => {
  // The last line of the text is not ended.
  let open = false
  let textOf: bigint | undefined

  const endLine = Effect.suspend(() => {
    if (!open) return Effect.void
    open = false
    return stdout("\n")
  })

  const noteBelow = (line: string) =>
    Effect.suspend(() => {
      if (!(open && isTerminal.stdout && isTerminal.stderr)) return note(line)
      open = false
      return Effect.andThen(stderr("\n"), note(line))
    })

  const writeText = Effect.fnUntraced(function*(epoch: bigint, text: string) {
    if (textOf !== undefined && textOf !== epoch) {
      yield* endLine
      yield* noteBelow("It starts over.")
    }
    textOf = epoch
    if (text === "") return
    open = !text.endsWith("\n")
    yield* stdout(text)
  })

  return {
    write: (event) => {
      const data = event.data as Data
      if (event.type === "text_delta") return writeText(event.position.epoch, String(data.text))
      const line = noteBelow(describe(event, data))
      return TaskEvent.closingTypes.has(event.type) ? Effect.andThen(endLine, line) : line
    },
    finish: (result) =>
      result === null || textOf !== undefined ? Effect.void : stdout(`${JSON.stringify(result, undefined, 2)}\n`)
  }
}

type Data = { readonly [field: string]: unknown }

const describe = (event: TaskQueue.StoredEvent, data: Data): string => {
  const next = data.runAt === undefined ? "" : `, next at ${data.runAt}`
  switch (event.type) {
    case "usage":
      return `${data.inputTokens} tokens in, ${data.outputTokens} out${
        data.model === undefined ? "" : `, ${data.model}`
      }`
    case "progress":
      return `${Math.round(Number(data.fraction) * 100)} %${data.message === undefined ? "" : `  ${data.message}`}`
    case "done":
      return `Done${took(event, data)}.`
    case "error":
      return `Failed${took(event, data)}: ${data.tag}: ${data.message}`
    case "retry":
      return `An attempt failed${took(event, data)}: ${data.tag}: ${data.message}${next}`
    case "released":
      return `Put back (${data.reason})${next}`
    case "cancelled":
      return `Cancelled${data.reason === undefined ? "" : `: ${data.reason}`}`
    default:
      return `${event.type} ${JSON.stringify(data)}`
  }
}

const took = ({ createdAt }: TaskQueue.StoredEvent, { startedAt }: Data) => {
  const started = typeof startedAt === "string" ? DateTime.make(startedAt) : Option.none()
  return Option.match(started, {
    onNone: () => "",
    onSome: (started) => ` after ${((createdAt.epochMilliseconds - started.epochMilliseconds) / 1000).toFixed(1)} s`
  })
}

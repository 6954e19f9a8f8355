/**
 * From what is stored to the types of a task.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Schema from "effect/Schema"
import type { Ended } from "../storage/StoryTable.ts"
import type * as Task from "../Task.ts"
import * as TaskEvent from "../TaskEvent.ts"
import type { Followed, Reason, StoredEvent } from "../TaskQueue.ts"
import * as Json from "./Json.ts"

const unexplained: TaskEvent.Failure = { kind: "failure", tag: "Unknown", message: "The task failed without a reason" }

/**
 * How a task that is over ended.
 *
 * @category decoding
 * @since 0.1.0
 */
export const exit = <T extends Task.Any>(
  task: T,
  row: Ended
): Effect.Effect<Exit.Exit<Task.Success<T>, Task.Error<T>>, Reason, Task.ReadServices<T>> => {
  if (row.status === "cancelled") return Effect.succeed(Exit.interrupt())
  if (row.status === "completed") {
    return Effect.map(decode(task.successSchema, row.id, "result")(row.result), Exit.succeed)
  }
  const error = row.error ?? unexplained
  return error.kind === "failure" && error.data !== undefined
    ? Effect.map(decode(task.errorSchema, row.id, "error.data")(error.data), Exit.fail)
    : Effect.succeed(Exit.die(error))
}

/**
 * Reads the events of a task.
 *
 * @category decoding
 * @since 0.1.0
 */
export const event = <T extends Task.Any>(
  task: T,
  id: Task.TaskId
): (stored: StoredEvent) => Effect.Effect<Followed<T>, Reason, Task.ReadServices<T>> => {
  const read = decode(Schema.Union([task.eventSchema, TaskEvent.Progress, TaskEvent.Closing]), id, "data")
  return ({ data, position, type }) =>
    Effect.map(
      read({ ...data as Schema.JsonObject, _tag: type }),
      (event) => ({ position, event: event as Followed<T>["event"] })
    )
}

const decode = <S extends Schema.Top>(schema: S, id: Task.TaskId, root: string) => {
  const decodeJson = Schema.decodeUnknownEffect(Schema.toCodecJson(schema))
  const unreadable = (issue: string): Reason => ({ _tag: "Unreadable", id, issue })
  return (json: unknown): Effect.Effect<S["Type"], Reason, S["DecodingServices"]> => {
    const issue = Json.inexactIn(json, root)
    return issue === undefined
      ? Effect.mapError(decodeJson(json), ({ message }) => unreadable(message))
      : Effect.fail(unreadable(issue))
  }
}

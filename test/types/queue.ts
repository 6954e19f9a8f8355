// What is marked must not compile: `tsc` fails if an expectation is unmet. What is not marked must.
import { Effect, type Exit, type Stream } from "effect"
import type * as TaskEvent from "../../src/TaskEvent.ts"
import * as TaskQueue from "../../src/TaskQueue.ts"
import { AiResponse, AppTasks, SendEmail } from "./tasks.ts"

export const enqueue = Effect.gen(function*() {
  const queue = yield* TaskQueue.TaskQueue
  const tasks = yield* TaskQueue.client(AppTasks)
  yield* queue.enqueue(SendEmail, { to: "x", subject: "x" }, { delay: "1 second" })
  yield* queue.enqueueMany(SendEmail, [{ payload: { to: "x", subject: "x" }, options: { runAt: "2027-01-01" } }])
  // @ts-expect-error payload field has the wrong type
  yield* queue.enqueue(SendEmail, { to: 1, subject: "x" })
  // @ts-expect-error payload field is missing
  yield* tasks.send_email.enqueue({ to: "x" })
  // @ts-expect-error unknown task type
  yield* tasks.send_mail.enqueue({ to: "x" })
  // @ts-expect-error delay and runAt together
  yield* queue.enqueue(SendEmail, { to: "x", subject: "x" }, { delay: "1 second", runAt: "2027-01-01T00:00:00Z" })
  // @ts-expect-error a mode of unique keys that there is not
  yield* queue.enqueue(SendEmail, { to: "x", subject: "x" }, { unique: { key: "x", mode: "throttle" } })
  // @ts-expect-error an id is not any number
  yield* queue.cancel(1n)
})

export const read = Effect.gen(function*() {
  const queue = yield* TaskQueue.TaskQueue
  const { id } = yield* queue.enqueueRaw("ai_response", {})
  const exit: Exit.Exit<typeof AiResponse.successSchema.Type, typeof AiResponse.errorSchema.Type> = yield* queue.await(
    AiResponse,
    id
  )
  const events: Stream.Stream<
    {
      readonly position: TaskEvent.Position
      readonly event: typeof AiResponse.eventSchema.Type | TaskEvent.Progress | TaskEvent.Closing
    },
    TaskQueue.TaskQueueError
  > = queue.follow(AiResponse, id)
  // @ts-expect-error another task has another result
  const other: Exit.Exit<typeof AiResponse.successSchema.Type, unknown> = yield* queue.await(SendEmail, id)
  return { exit, events, other }
})

/**
 * An attempt without a worker: runs a handler directly and keeps what it emits.
 */
import { Clock, DateTime, Effect, Stream } from "effect"
import * as Task from "../../src/Task.ts"
import type * as TaskEvent from "../../src/TaskEvent.ts"

export interface Attempt<T extends Task.Any> {
  readonly execution: Task.Execution<T>
  /** In the order of emission. */
  readonly events: ReadonlyArray<Task.Event<T> | TaskEvent.Progress>
  /** When each event was emitted, in milliseconds of the test's clock. */
  readonly times: ReadonlyArray<number>
}

export const attempt = <T extends Task.Any>(task: T, number = 1): Attempt<T> => {
  const events: Array<Task.Event<T> | TaskEvent.Progress> = []
  const times: Array<number> = []
  const store = (event: Task.Event<T> | TaskEvent.Progress) =>
    Effect.map(Clock.currentTimeMillis, (now) => {
      events.push(event)
      times.push(now)
    })
  const time = DateTime.makeUnsafe("2026-01-01T00:00:00Z")
  const execution: Task.Execution<T> = {
    task: {
      id: Task.TaskId.make(7n),
      type: task.type,
      queue: "default",
      priority: 0,
      tag: null,
      userId: null,
      metadata: {},
      createdAt: time,
      runAt: time
    },
    attempt: number,
    maxAttempts: task.options.maxAttempts ?? 3,
    workerId: "test",
    isShuttingDown: Effect.succeed(false),
    emit: store,
    emitAll: (stream) => Stream.runForEach(stream, store),
    progress: (fraction, message) =>
      store({ _tag: "progress", fraction, ...(message === undefined ? {} : { message }) })
  }
  return { execution, events, times }
}

/** What the server says by itself: that something happened, and the events of a task. */
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { useEffect, useRef, useState } from "preact/hooks"
import type { TaskStreamEvent } from "../Api.ts"
import type * as Task from "../Task.ts"
import { client, run } from "./client.ts"
import { happened, lost, paused, visible } from "./refresh.ts"

type State = "connecting" | "open" | "waiting" | "ended"

/**
 * Keeps a stream open while the page is seen, and opens it again after it broke. Streams that nobody sees are closed:
 * a browser has six connections to a server for all its tabs.
 */
const keepOpen = (options: {
  readonly open: () => Effect.Effect<Stream.Stream<unknown, unknown>, unknown>
  readonly wanted: () => boolean
  readonly over: () => boolean
  readonly state: (state: State) => void
}) => {
  let current: AbortController | undefined
  let timer: ReturnType<typeof setTimeout> | undefined
  let failures = 0
  let ended = false

  const connect = async () => {
    clearTimeout(timer)
    if (current !== undefined || !options.wanted()) return
    const controller = new AbortController()
    current = controller
    options.state("connecting")
    const answer = await run(
      Effect.flatMap(options.open(), (stream) => {
        options.state("open")
        return Stream.runForEachArray(stream, () => {
          failures = 0
          return Effect.void
        })
      }),
      controller.signal
    )
    if (current === controller) current = undefined
    if (controller.signal.aborted) return
    ended = options.over() || (!answer.ok && answer.problem.tag === "NotFound")
    if (ended) return options.state("ended")
    options.state("waiting")
    timer = setTimeout(() => void connect(), Math.min(500 * 2 ** failures++, 5000))
  }
  const look = () => {
    if (ended || options.over()) return
    if (options.wanted()) return void connect()
    clearTimeout(timer)
    current?.abort()
    current = undefined
    options.state("waiting")
  }
  const stops = [
    visible.subscribe(look),
    paused.subscribe(look),
    lost.subscribe((trouble) => {
      if (trouble !== undefined) return
      failures = 0
      look()
    })
  ]
  void connect()
  return () => {
    for (const stop of stops) stop()
    clearTimeout(timer)
    current?.abort()
    current = undefined
  }
}

/** Refreshes what is shown as soon as the worker of this server says that something happened. */
export const useHints = () =>
  useEffect(() =>
    keepOpen({
      open: () =>
        Effect.map(
          client.overview.stream(),
          (events) => Stream.tap(events, () => Effect.sync(() => happened.set(happened.get() + 1)))
        ),
      wanted: () => visible.get() && !paused.get(),
      over: () => false,
      state: () => {}
    }), [])

export type TaskEvent = typeof TaskStreamEvent.Type
export type Follow = State

const closesTask = (event: string) => event === "done" || event === "error" || event === "cancelled"

/**
 * Follows the events of a task to its end, through lost connections, from where it was. `story` names what is followed:
 * when it changes, as the task was run again, the following goes on.
 */
export const useEvents = (
  id: Task.TaskId,
  story: string,
  receive: (events: ReadonlyArray<TaskEvent>) => void
): Follow => {
  const [state, setState] = useState<Follow>("connecting")
  const after = useRef<TaskEvent["id"]>(undefined)
  useEffect(() => {
    let over = false
    return keepOpen({
      open: () =>
        Effect.map(
          client.tasks.events({
            params: { id },
            query: after.current === undefined ? {} : { after: after.current },
            headers: {}
          }),
          (stream) => {
            if (!Stream.isStream(stream)) {
              over = true
              return Stream.empty
            }
            return Stream.mapArray(stream, (events) => {
              const last = events.at(-1)!
              after.current = last.id
              over = closesTask(last.event)
              receive(events)
              return events
            })
          }
        ),
      wanted: () => visible.get(),
      over: () => over,
      state: setState
    })
  }, [id, story])
  return state
}

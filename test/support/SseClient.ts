/**
 * Reads server-sent events as bytes off the socket, as `curl -N` does, and comes back like an `EventSource`.
 */
import { Data, Deferred, Effect, Queue } from "effect"
import * as Http from "node:http"

export interface SseEvent {
  readonly id: string | undefined
  readonly event: string | undefined
  readonly data: any
}

/** How a response ended: in an orderly way, or because its connection broke. */
export type End = "end" | "broken"

class Unusable extends Data.TaggedError("Unusable")<{ readonly cause: unknown }> {}

export interface Response {
  readonly status: number
  readonly headers: Http.IncomingHttpHeaders
  readonly events: Queue.Dequeue<SseEvent>
  /** How many comments have come. */
  readonly comments: () => number
  readonly ended: Effect.Effect<End>
  /** The whole body, once it has ended. */
  readonly body: Effect.Effect<string>
  /** Stops taking bytes off the socket. */
  readonly pause: Effect.Effect<void>
  readonly resume: Effect.Effect<void>
  readonly disconnect: Effect.Effect<void>
}

export const open = Effect.fn("SseClient.open")(
  function*(port: number, path: string, headers: Readonly<Record<string, string>> = {}) {
    const queue = yield* Queue.unbounded<SseEvent>()
    const ended = Deferred.makeUnsafe<End>()
    const [request, response] = yield* Effect.acquireRelease(
      Effect.callback<readonly [Http.ClientRequest, Http.IncomingMessage], Unusable>((resume) => {
        const request = Http.get({ host: "127.0.0.1", port, path, headers, agent: false }, (response) => {
          resume(Effect.succeed([request, response]))
        })
        request.once("error", (error) => resume(Effect.fail(new Unusable({ cause: error }))))
      }),
      ([request]) => Effect.sync(() => request.destroy())
    )
    let body = ""
    let rest = ""
    let comments = 0
    request.on("error", () => undefined)
    response.on("error", () => undefined)
    response.setEncoding("utf8")
    response.on("data", (text: string) => {
      body += text
      rest += text
      for (let end = rest.indexOf("\n\n"); end >= 0; end = rest.indexOf("\n\n")) {
        const block = rest.slice(0, end).split("\n")
        rest = rest.slice(end + 2)
        if (block.every((line) => line.startsWith(":"))) comments++
        else Queue.offerUnsafe(queue, parse(block))
      }
    })
    response.on("close", () => Deferred.doneUnsafe(ended, Effect.succeed(response.complete ? "end" : "broken")))
    return {
      status: response.statusCode!,
      headers: response.headers,
      events: queue,
      comments: () => comments,
      ended: Deferred.await(ended),
      body: Effect.andThen(Deferred.await(ended), Effect.sync(() => body)),
      pause: Effect.sync(() => {
        response.pause()
      }),
      resume: Effect.sync(() => {
        response.resume()
      }),
      disconnect: Effect.sync(() => {
        request.destroy()
      })
    } satisfies Response
  }
)

const parse = (block: ReadonlyArray<string>): SseEvent => {
  const field = (name: string) => block.find((line) => line.startsWith(`${name}: `))?.slice(name.length + 2)
  return { id: field("id"), event: field("event"), data: JSON.parse(field("data")!) }
}

/**
 * Follows as a browser does: it comes back with the last id it has until it is told to stop, however often the connection
 * ends, breaks or is refused.
 */
export const follow = (
  port: number,
  path: string,
  seen: (event: SseEvent, response: Response) => Effect.Effect<void> = () => Effect.void
): Effect.Effect<ReadonlyArray<SseEvent>> =>
  Effect.gen(function*() {
    const all: Array<SseEvent> = []
    const connect = Effect.scoped(Effect.gen(function*() {
      const last = all.at(-1)?.id
      const response = yield* open(port, path, last === undefined ? {} : { "last-event-id": last })
      if (response.status === 204) return true
      if (response.status !== 200) return yield* new Unusable({ cause: response.status })
      const take = Effect.gen(function*() {
        const event = yield* Queue.take(response.events)
        all.push(event)
        yield* seen(event, response)
      })
      yield* Effect.raceFirst(Effect.forever(take), response.ended)
      for (const event of yield* Queue.clear(response.events)) all.push(event)
      return false
    }))
    while (!(yield* Effect.catch(connect, () => Effect.as(Effect.sleep("20 millis"), false)))) {
      // come back
    }
    return all
  })

/**
 * Streams of events over HTTP, as server-sent events: a task's story, and what happens in this process.
 *
 * A stream holds what it is writing and nothing more: it asks for the next events when the client has taken the last.
 * Every 15 seconds without an event a comment keeps proxies from closing it.
 *
 * @since 0.1.0
 */
import type * as Arr from "effect/Array"
import type * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as PubSub from "effect/PubSub"
import * as Pull from "effect/Pull"
import type * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as Api from "../Api.ts"
import * as Lifecycle from "../Lifecycle.ts"
import type * as Task from "../Task.ts"
import type * as TaskEvent from "../TaskEvent.ts"
import * as TaskQueue from "../TaskQueue.ts"

/**
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** What is shown of an event's data; all of it by default. */
  readonly transform?: ((event: TaskQueue.StoredEvent) => Schema.Json) | undefined
}

const quiet = "15 seconds"
const firstLook = "1 second"
const lastWords = "1 second"

const headers = {
  "content-type": "text/event-stream; charset=utf-8",
  "cache-control": "no-cache, no-transform",
  "x-accel-buffering": "no",
  // a connection that has carried a stream would hold the server's shutdown up while it is kept alive
  connection: "close"
}

/**
 * Opened when the server stops: then all streams end. A client's `EventSource` comes back to the next server by itself.
 *
 * @category shutdown
 * @since 0.1.0
 */
export const Closing: Context.Reference<Latch.Latch> = Context.Reference<Latch.Latch>(
  "spindle/server/Streams/Closing",
  {
    defaultValue: () => Latch.makeUnsafe()
  }
)

/**
 * Ends the streams of a server before the server itself, which would wait for them.
 *
 * @category shutdown
 * @since 0.1.0
 */
export const endBefore = <A, E, R>(server: Layer.Layer<A, E, R>): Layer.Layer<A, E, R> =>
  Layer.unwrap(Effect.map(Latch.make(), (latch) =>
    Layer.effectDiscard(Effect.addFinalizer(() => latch.open)).pipe(
      Layer.provideMerge(Layer.provide(server, Layer.succeed(Closing, latch)))
    )))

/**
 * The events of a task after a position, from the start without one, to the end of its story.
 *
 * Over HTTP the end of a stream means "come again", so a client that has everything of a story that is over is told
 * `204 No Content`, at which an `EventSource` stops. A position of an older epoch goes on with what came after it; one
 * beyond the end has everything. While the database is away the stream stays open.
 *
 * @category responses
 * @since 0.1.0
 */
export const taskEvents = Effect.fnUntraced(function*(
  id: Task.TaskId,
  after: TaskEvent.Position | undefined,
  options: Options = {}
): Effect.fn.Return<
  HttpServerResponse.HttpServerResponse,
  Api.NotFound | Api.Unavailable,
  TaskQueue.TaskQueue | Scope.Scope
> {
  const queue = yield* TaskQueue.TaskQueue
  const row = yield* Effect.mapError(queue.get(id), problemOf)
  if (Option.isNone(row)) return yield* new Api.NotFound({ detail: `There is no task ${id}` })
  const { transform = dataOf } = options
  const pull = yield* Stream.toPull(
    framed(
      queue.events(id, { after }),
      (event) => frame(event.type, transform(event), `${event.position.epoch}-${event.position.seq}`)
    )
  )
  const first = yield* Effect.forkScoped(pull)
  if (isOver(row.value)) {
    // a cancelled task can be without its closing event yet
    const exit = yield* Effect.timeoutOption(Fiber.await(first), firstLook)
    if (Option.isSome(exit) && Exit.isFailure(exit.value)) {
      yield* Effect.mapError(Pull.doneExitFromCause(exit.value.cause), problemOf)
      return HttpServerResponse.empty({ status: 204, headers })
    }
  }
  return yield* respond(pull, first)
})

/**
 * What happens in the worker of this process from now on. A slow reader loses the oldest.
 *
 * @category responses
 * @since 0.1.0
 */
export const lifecycle: Effect.Effect<HttpServerResponse.HttpServerResponse, never, Scope.Scope> = Effect.gen(
  function*() {
    const events = yield* PubSub.subscribe(yield* Lifecycle.Bus)
    const pull = yield* Stream.toPull(
      framed(
        Stream.fromSubscription(events),
        ({ _tag, task: { id, queue, type } }) => frame(_tag.toLowerCase(), { id: String(id), type, queue })
      )
    )
    return yield* respond(pull, yield* Effect.forkScoped(pull))
  }
)

type Frames = readonly [string]

const framed = <A, E>(events: Stream.Stream<A, E>, render: (event: A) => string) =>
  Stream.mapArray(events, (page): Frames => [page.map(render).join("")])

const frame = (event: string, data: Schema.Json, id?: string) =>
  `${id === undefined ? "" : `id: ${id}\n`}event: ${event.replace(/[\r\n]/g, " ")}\ndata: ${JSON.stringify(data)}\n\n`

const comment: Frames = [":\n\n"]

// A comment goes first, so that the client sees an open stream. What is waited for goes on while one is written.
const respond = Effect.fnUntraced(function*<E>(
  pull: Pull.Pull<Arr.NonEmptyReadonlyArray<string>, E>,
  first: Fiber.Fiber<Arr.NonEmptyReadonlyArray<string>, E | Cause.Done<void>>
) {
  const scope = yield* Effect.scope
  const closing = yield* Closing
  let pending: typeof first | undefined = first
  const next = Effect.gen(function*() {
    pending ??= yield* Effect.forkIn(pull, scope)
    const frames = yield* Effect.timeoutOption(Fiber.join(pending), quiet)
    if (Option.isNone(frames)) return comment
    pending = undefined
    return frames.value
  })
  // the client of a stream that is still open by then does not take what it is sent
  yield* Effect.withFiber((fiber) =>
    closing.await.pipe(
      Effect.andThen(Effect.sleep(lastWords)),
      Effect.andThen(Effect.sync(() => fiber.interruptUnsafe())),
      Effect.forkScoped
    )
  )
  const body = Stream.concat(Stream.fromArray(comment), Stream.fromPull(Effect.succeed(next))).pipe(
    Stream.interruptWhen(closing.await),
    Stream.catchCause((cause) =>
      Stream.drain(Stream.fromEffect(Effect.logWarning("a stream of events broke off", cause)))
    )
  )
  return HttpServerResponse.stream(Stream.encodeText(body), { headers })
})

const isOver = ({ lockedBy, status }: TaskQueue.StoredTask) =>
  status !== "queued" && status !== "processing" && lockedBy === null

const dataOf = ({ data }: TaskQueue.StoredEvent) => data

const problemOf = ({ message, reason }: TaskQueue.TaskQueueError): Api.NotFound | Api.Unavailable =>
  reason._tag === "NotFound" ? new Api.NotFound({ detail: message }) : new Api.Unavailable({ detail: message })

// The README shows this code; test/readme.test.ts compares the two.
import { NodeHttpServer, NodeRuntime } from "@effect/platform-node"
import { PgClient } from "@effect/sql-pg"
import { Context, Duration, Effect, Exit, Layer, Redacted, Schedule, Schema, Stream } from "effect"
import { HttpRouter, HttpServerRequest, HttpServerResponse } from "effect/http"
import { SqlClient } from "effect/sql"
import { createServer } from "node:http"
import * as Dashboard from "../../src/Dashboard.ts"
import { HandlerRegistry, Task, TaskEvent, TaskGroup, TaskQueue, Worker } from "../../src/index.ts"

// tasks.ts

export class ModelBusy extends Schema.TaggedError<ModelBusy>()("ModelBusy", { seconds: Schema.Int }) {}
export class PromptRefused extends Schema.TaggedError<PromptRefused>()("PromptRefused", { reason: Schema.String }) {}

export class Answer extends Task.make("chat:answer", {
  payload: { chatId: Schema.String, prompt: Schema.NonEmptyString },
  success: Schema.Struct({ text: Schema.String }),
  error: Schema.Union([ModelBusy, PromptRefused]),
  event: TaskEvent.TextDelta,
  timeout: "2 minutes",
  unique: ({ chatId }) => ({ key: chatId }),
  retry: {
    on: {
      ModelBusy: ({ seconds }) => ({ retryAfter: Duration.seconds(seconds) }),
      PromptRefused: "fail"
    }
  }
}) {}

export const group = TaskGroup.make(Answer)

export class Model extends Context.Service<Model, {
  readonly stream: (prompt: string) => Stream.Stream<string, ModelBusy | PromptRefused>
}>()("app/Model") {
  // says the prompt back, ten words a second; your provider goes here
  static readonly layerEcho = Layer.succeed(this, {
    stream: (prompt) => Stream.fromIterable(prompt.split(/(?<= )/)).pipe(Stream.schedule(Schedule.spaced("100 millis")))
  })
}

export const handlers = group.toLayer(Effect.gen(function*() {
  const model = yield* Model
  return group.of({
    "chat:answer": Effect.fnUntraced(function*({ prompt }, { emit }) {
      let text = ""
      yield* Stream.runForEach(model.stream(prompt), (delta) => {
        text += delta
        return emit({ _tag: "text_delta", text: delta })
      })
      return { text }
    })
  })
}))

export const layer = handlers.pipe(Layer.provide(Model.layerEcho))

// worker.ts

const database = PgClient.layer({ url: Redacted.make("postgres://app:secret@localhost:5432/app") })

const worker = Worker.layer({ concurrency: 20 }).pipe(
  Layer.provide(HandlerRegistry.layer(group)),
  Layer.provide(layer),
  Layer.provide(database)
)

Effect.flatMap(Worker.Worker, ({ failed }) => failed).pipe(
  Effect.provide(worker),
  NodeRuntime.runMain
)

// chat.ts

export const ask = Effect.fnUntraced(function*(chatId: string, prompt: string) {
  const sql = yield* SqlClient.SqlClient
  const queue = yield* TaskQueue.TaskQueue
  return yield* sql.withTransaction(Effect.gen(function*() {
    yield* sql`insert into messages (chat_id, text) values (${chatId}, ${prompt})`
    const { id } = yield* queue.enqueue(Answer, { chatId, prompt }, { priority: 10 })
    return id
  }))
})

export const show = Effect.fnUntraced(function*(id: Task.TaskId) {
  const queue = yield* TaskQueue.TaskQueue
  yield* queue.follow(Answer, id).pipe(
    Stream.runForEach(({ event }) => event._tag === "text_delta" ? Effect.log(event.text) : Effect.void)
  )
  const exit = yield* queue.await(Answer, id)
  return Exit.isSuccess(exit) ? exit.value.text : undefined
})

export const stop = Effect.fnUntraced(function*(id: Task.TaskId) {
  const queue = yield* TaskQueue.TaskQueue
  return yield* queue.cancel(id) // "cancelled", or "already_completed", …
})

// dashboard.ts

export class Accounts extends Context.Service<Accounts, {
  readonly isOperator: (request: HttpServerRequest.HttpServerRequest) => Effect.Effect<boolean>
}>()("app/Accounts") {}

const onlyOperators = HttpRouter.middleware(Effect.gen(function*() {
  const accounts = yield* Accounts
  return (handler) =>
    Effect.gen(function*() {
      const request = yield* HttpServerRequest.HttpServerRequest
      return (yield* accounts.isOperator(request)) ? yield* handler : HttpServerResponse.empty({ status: 403 })
    })
})).layer

const dashboard = Dashboard.layer({ prefix: "/spindle", allowedHosts: ["app.example.com"] }).pipe(
  Layer.provide(onlyOperators),
  Layer.provide(TaskQueue.layer)
)

export const server = Dashboard.endStreamsBefore(HttpRouter.serve(dashboard)).pipe(
  Layer.provide(NodeHttpServer.layer(createServer, { port: 3000 }))
)

// docs/ai.md shows this code; test/readme.test.ts compares the two.
import { PgClient } from "@effect/sql-pg"
import { Config, Effect, Layer, Schema, Stream } from "effect"
import { AiError, LanguageModel, type Response } from "effect/ai"
import { AiGenerateRecords } from "../../src/ai/AiGenerateRecords.ts"
import * as AiTasks from "../../src/ai/AiTasks.ts"
import * as ModelAnswer from "../../src/ai/ModelAnswer.ts"
import * as ModelError from "../../src/ai/ModelError.ts"
import { ModelSettings, type Settings } from "../../src/ai/ModelSettings.ts"
import { HandlerRegistry, Task, TaskEvent, TaskGroup, TaskQueue, Worker } from "../../src/index.ts"

// rivers.ts

export const rivers = Effect.gen(function*() {
  const queue = yield* TaskQueue.TaskQueue
  const { id } = yield* queue.enqueue(AiGenerateRecords, {
    prompt: "Rivers of Europe",
    fields: [{ name: "name", type: "text" }, { name: "km", type: "number", required: false }],
    count: 20
  })
  yield* queue.follow(AiGenerateRecords, id).pipe(
    Stream.runForEach(({ event }) => event._tag === "record" ? Effect.log(event.index, event.record) : Effect.void)
  )
  return yield* queue.await(AiGenerateRecords, id)
})

// model.ts

export interface Client {
  readonly chat: (
    messages: ReadonlyArray<{ readonly role: string; readonly content: string }>,
    settings: Settings
  ) => AsyncIterable<string>
}

export const model = (client: Client) =>
  Layer.effect(
    LanguageModel.LanguageModel,
    LanguageModel.make({
      generateText: () => Effect.die("the AI tasks stream"),
      streamText: ({ prompt }) =>
        Stream.unwrap(Effect.gen(function*() {
          const messages = prompt.content.map(({ content, role }) => ({
            role,
            content: typeof content === "string"
              ? content
              : content.map((part) => part.type === "text" ? part.text : "").join("")
          }))
          const deltas = Stream.fromAsyncIterable(client.chat(messages, yield* ModelSettings), unavailable)
          return deltas.pipe(
            Stream.map((delta): Response.StreamPartEncoded => ({ type: "text-delta", id: "1", delta })),
            Stream.concat(Stream.succeed(finish))
          )
        }))
    })
  )

const unavailable = (cause: unknown) =>
  AiError.make({
    module: "model.ts",
    method: "streamText",
    reason: new AiError.InternalProviderError({ description: String(cause) })
  })

const finish: Response.StreamPartEncoded = {
  type: "finish",
  reason: "stop",
  usage: {
    inputTokens: { total: undefined, uncached: undefined, cacheRead: undefined, cacheWrite: undefined },
    outputTokens: { total: undefined, text: undefined, reasoning: undefined }
  }
}

// worker.ts

export const worker = (client: Client) =>
  Worker.layer().pipe(
    Layer.provide(HandlerRegistry.layer(AiTasks.AiTasks)),
    Layer.provide(AiTasks.layer),
    Layer.provide(model(client)),
    Layer.provide(PgClient.layerConfig({ url: Config.Redacted("DATABASE_URL") }))
  )

// headlines.ts

export class Headlines extends Task.make("news:headlines", {
  payload: { article: Schema.NonEmptyString },
  success: Schema.Struct({ headlines: Schema.Array(Schema.String) }),
  error: ModelError.ModelError,
  event: Schema.Union([
    Schema.TaggedStruct("headline", { index: Schema.Int, text: Schema.String }),
    TaskEvent.Usage
  ]),
  retry: ModelError.retry
}) {}

export const group = TaskGroup.make(Headlines)

export const handlers = group.toLayer({
  "news:headlines": Effect.fnUntraced(function*({ article }, { emit }) {
    const headlines: Array<string> = []
    const prompt = `Write five headlines for this article, one a line:\n\n${article}`
    yield* ModelAnswer.stream([{ role: "user", content: prompt }], { temperature: 1 }).pipe(
      Stream.tap(Effect.fnUntraced(function*(piece) {
        if (piece._tag === "Text") return
        if (piece.usage !== null) yield* emit({ _tag: "usage", ...piece.usage, model: piece.model })
        yield* ModelAnswer.finishReason(piece)
      })),
      Stream.map((piece) => piece._tag === "Text" ? piece.text : ""),
      Stream.splitLines,
      Stream.filter((line) => line.trim() !== ""),
      Stream.runForEach((text) => emit({ _tag: "headline", index: headlines.push(text) - 1, text }))
    )
    return { headlines }
  })
})

/** The official client, used directly, is the check that the server speaks its protocol. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import OpenAI, { RateLimitError } from "openai"
import * as ModelServer from "./ModelServer.ts"

const connect = ({ url }: ModelServer.ModelServer) =>
  new OpenAI({ apiKey: "test-key", baseURL: url, maxRetries: 0, logLevel: "off" })

const ask = (client: OpenAI, signal?: AbortSignal) =>
  client.chat.completions.create({
    model: "m",
    messages: [{ role: "user", content: "hi" }],
    stream: true,
    stream_options: { include_usage: true }
  }, { signal })

const collect = async (client: OpenAI) => {
  const chunks: Array<OpenAI.ChatCompletionChunk> = []
  for await (const chunk of await ask(client)) chunks.push(chunk)
  return chunks
}

const caught = (promise: Promise<unknown>) =>
  Effect.map(Effect.flip(Effect.tryPromise(() => promise)), ({ cause }) => cause as any)

describe("ModelServer", () => {
  it.effect("streams what the client takes for an answer with its usage", () =>
    Effect.gen(function*() {
      const server = yield* ModelServer.make(ModelServer.says("Hel", "lo ", "\u{1F600}"))
      const chunks = yield* Effect.promise(() => collect(connect(server)))
      assert.strictEqual(chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join(""), "Hello \u{1F600}")
      assert.deepStrictEqual(chunks.flatMap((chunk) => chunk.choices[0]?.finish_reason ?? []), ["stop"])
      assert.deepInclude(chunks.at(-1), { choices: [], object: "chat.completion.chunk", model: ModelServer.model })
      assert.deepInclude(chunks.at(-1)?.usage, ModelServer.counted)
      const { body, headers, path } = yield* server.next
      assert.strictEqual(path, "/v1/chat/completions")
      assert.strictEqual(headers.authorization, "Bearer test-key")
      assert.deepInclude(body, { model: "m", stream: true })
    }))

  it.effect("is understood by the client's own accumulator", () =>
    Effect.gen(function*() {
      const server = yield* ModelServer.make(ModelServer.says("Hel", "lo"))
      const completion = yield* Effect.promise(() =>
        connect(server).chat.completions
          .stream({ model: "m", messages: [], stream_options: { include_usage: true } })
          .finalChatCompletion()
      )
      assert.strictEqual(completion.choices[0]?.message.content, "Hello")
      assert.deepInclude(completion.usage, ModelServer.counted)
    }))

  it.effect("answers with errors that the client knows", () =>
    Effect.gen(function*() {
      const server = yield* ModelServer.make((exchange) =>
        exchange.reply(429, ModelServer.error("slow down", { code: "rate_limit_exceeded" }), { "retry-after": "7" })
      )
      const error = yield* caught(ask(connect(server)))
      assert.instanceOf(error, RateLimitError)
      assert.deepInclude({ ...error }, { status: 429, code: "rate_limit_exceeded" })
      assert.strictEqual(error.headers.get("retry-after"), "7")
    }))

  it.effect("breaks off in the middle", () =>
    Effect.gen(function*() {
      const server = yield* ModelServer.make((exchange) =>
        Effect.andThen(exchange.send(ModelServer.begin, ModelServer.text("Hel")), exchange.cut)
      )
      assert.strictEqual((yield* caught(collect(connect(server)))).message, "terminated")
      const exchange = yield* server.next
      assert.isFalse((yield* exchange.closed).complete)
    }))

  it.effect("hands out pieces one by one", () =>
    Effect.gen(function*() {
      const pieces = ["a", "bc", "\u{1F600}"].map((text) => Buffer.from(text))
      const server = yield* ModelServer.make((exchange) => Effect.andThen(exchange.send(...pieces), exchange.end))
      const received: Array<Buffer> = []
      yield* Effect.promise(async () => {
        const { body } = await fetch(server.url, { method: "POST", body: "{}" })
        for await (const piece of body!) received.push(Buffer.from(piece))
      })
      assert.deepStrictEqual(received, pieces)
    }))

  it.effect("sees the client close a connection, before and after the first byte", () =>
    Effect.gen(function*() {
      const server = yield* ModelServer.make()
      for (const begun of [false, true]) {
        const exchange = yield* Effect.scoped(Effect.gen(function*() {
          const signal = yield* Effect.abortSignal
          const asked = ask(connect(server), signal).then(() => undefined, () => undefined)
          const exchange = yield* server.next
          if (begun) {
            yield* exchange.send(ModelServer.begin)
            yield* Effect.promise(() => asked)
          }
          return exchange
        }))
        assert.isFalse((yield* exchange.closed).complete)
      }
    }))
})

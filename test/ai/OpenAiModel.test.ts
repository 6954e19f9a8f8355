import { assert, describe, it } from "@effect/vitest"
import { Cause, ConfigProvider, Duration, Effect, Exit, Fiber, Layer, Option, Redacted, Schema, Stream } from "effect"
import { type AiError, LanguageModel, Prompt, Tool, Toolkit } from "effect/ai"
import { TestClock } from "effect/testing"
import * as fc from "fast-check"
import * as Zlib from "node:zlib"
import { vi } from "vitest"
import * as AiResponse from "../../src/ai/AiResponse.ts"
import * as OpenAiRequest from "../../src/ai/internal/OpenAiRequest.ts"
import type * as ModelError from "../../src/ai/ModelError.ts"
import { ModelSettings, type Settings } from "../../src/ai/ModelSettings.ts"
import * as OpenAiModel from "../../src/ai/OpenAiModel.ts"
import { attempt } from "../support/execution.ts"
import * as ModelServer from "../support/ModelServer.ts"

const { begin, chunk, done, error, event, events, finish, text, usage } = ModelServer

const key = "sk-test-0123456789abcdef"

type Answer = (exchange: ModelServer.Exchange) => Effect.Effect<void>

const layer = ({ url }: ModelServer.ModelServer, options: OpenAiModel.Options = {}) =>
  OpenAiModel.layer({ apiKey: Redacted.make(key), baseUrl: url, model: "m", ...options })

/** Sends these pieces and ends the answer. */
const sends = (...pieces: ReadonlyArray<string | Uint8Array>): Answer => (exchange) =>
  Effect.andThen(exchange.send(...pieces), exchange.end)

/** The task on a server that answers so. */
const run = Effect.fnUntraced(function*(answer: Answer, payload: AiResponse.Payload = { prompt: "hi" }) {
  const server = yield* ModelServer.make(answer)
  const { events, execution } = attempt(AiResponse.AiResponse)
  const exit = yield* AiResponse.handler(payload, execution).pipe(Effect.provide(layer(server)), Effect.exit)
  return {
    exit,
    events,
    texts: events.flatMap((event) => event._tag === "text_delta" ? [event.text] : []),
    exchanges: server.exchanges
  }
})

const failure = (answer: Answer) => Effect.flatMap(run(answer), ({ exit }) => Effect.flip(exit))

/** A request of a user's own. */
const ask = <A, E>(
  server: ModelServer.ModelServer,
  effect: Effect.Effect<A, E, LanguageModel.LanguageModel>,
  settings: Settings = {}
) => effect.pipe(Effect.provideService(ModelSettings, settings), Effect.provide(layer(server)))

describe("OpenAiModel", () => {
  describe("environment", () => {
    const given = (env: Record<string, string>) =>
      Effect.provide(OpenAiModel.config, ConfigProvider.layer(ConfigProvider.fromEnvRecord(env)))

    it.effect("names a provider by its key or its endpoint", () =>
      Effect.gen(function*() {
        assert.isTrue(Option.isNone(yield* given({ OPENAI_MODEL: "m" })))
        assert.isTrue(Option.isNone(yield* given({ OPENAI_API_KEY: "", OPENAI_BASE_URL: "" })))
        const openAi = Option.getOrThrow(yield* given({ OPENAI_API_KEY: key }))
        assert.strictEqual(openAi.apiKey && Redacted.value(openAi.apiKey), key)
        assert.deepStrictEqual(OpenAiModel.providerOf(openAi), {
          host: "api.openai.com",
          model: "gpt-6-luna"
        })
        const own = Option.getOrThrow(yield* given({ OPENAI_BASE_URL: "http://localhost:11434/v1", OPENAI_MODEL: "" }))
        assert.isUndefined(own.apiKey)
        assert.deepStrictEqual(OpenAiModel.providerOf(own), { host: "localhost:11434", model: undefined })
      }))

    it.effect("says how long a provider may be silent", () =>
      Effect.gen(function*() {
        const env = { OPENAI_API_KEY: key }
        assert.isUndefined(Option.getOrThrow(yield* given(env)).idleTimeout)
        assert.strictEqual(Option.getOrThrow(yield* given({ ...env, AI_IDLE_TIMEOUT: "100" })).idleTimeout, 100)
        for (const bad of ["99", "86400001", "1s"]) {
          assert.include(
            (yield* Effect.flip(given({ AI_IDLE_TIMEOUT: bad }))).message,
            `AI_IDLE_TIMEOUT is "${bad}", but must be a whole number of milliseconds from 100 to 86400000`
          )
        }
      }))

    it.effect("makes a layer of it", () =>
      Effect.gen(function*() {
        const server = yield* ModelServer.make(ModelServer.says("hi"))
        const env = { OPENAI_BASE_URL: `${server.url}/`, OPENAI_MODEL: "m" }
        const { text } = yield* LanguageModel.generateText({ prompt: "hi" }).pipe(
          Effect.provide(
            Layer.provide(OpenAiModel.layerConfig, ConfigProvider.layer(ConfigProvider.fromEnvRecord(env)))
          )
        )
        assert.strictEqual(text, "hi")
        assert.strictEqual(server.exchanges[0]?.path, "/v1/chat/completions")
      }))

    it.effect("is missed where there is none", () =>
      Effect.gen(function*() {
        const { message } = yield* Layer.build(OpenAiModel.layerConfig).pipe(
          Effect.provide(ConfigProvider.layer(ConfigProvider.fromEnvRecord({}))),
          Effect.flip
        )
        assert.include(message, "OPENAI_API_KEY is not set, but must be a key, unless OPENAI_BASE_URL is an endpoint")
      }))

    it.effect("is no way around a URL that is none", () =>
      Effect.gen(function*() {
        const exit = yield* Effect.exit(Layer.build(OpenAiModel.layer({ baseUrl: "ftp://example.com" })))
        assert.include(
          String(Exit.isFailure(exit) && Cause.squash(exit.cause)),
          "baseUrl is \"ftp://example.com\", but must be like https://api.openai.com/v1"
        )
      }))
  })

  describe("request", () => {
    it.effect("asks for a stream with usage, and leaves out what is not set", () =>
      Effect.gen(function*() {
        const { exchanges } = yield* run(ModelServer.says("hi"))
        const [{ body, headers, path }] = exchanges as [ModelServer.Exchange]
        assert.strictEqual(path, "/v1/chat/completions")
        assert.strictEqual(headers.authorization, `Bearer ${key}`)
        assert.deepStrictEqual(body, {
          model: "m",
          messages: [{ role: "user", content: "hi" }],
          stream: true,
          stream_options: { include_usage: true }
        })
      }))

    it.effect("sends the conversation and the settings", () =>
      Effect.gen(function*() {
        const { exchanges } = yield* run(ModelServer.says("hi"), {
          system: "be brief",
          messages: [
            { role: "user", content: "hi" },
            { role: "assistant", content: "hello" },
            { role: "user", content: "bye" }
          ],
          model: "other",
          temperature: 0,
          maxOutputTokens: 9
        })
        assert.deepStrictEqual(exchanges[0]?.body, {
          model: "other",
          messages: [
            { role: "system", content: "be brief" },
            { role: "user", content: "hi" },
            { role: "assistant", content: "hello" },
            { role: "user", content: "bye" }
          ],
          stream: true,
          stream_options: { include_usage: true },
          temperature: 0,
          max_tokens: 9
        })
      }))

    it.effect("has one system message at its beginning, as many models take no other", () =>
      Effect.gen(function*() {
        const { exchanges } = yield* run(ModelServer.says("hi"), {
          system: "be brief",
          messages: [
            { role: "system", content: "speak Latin" },
            { role: "user", content: "hi" },
            { role: "system", content: "now Greek" }
          ]
        })
        assert.deepStrictEqual(exchanges[0]?.body.messages, [
          { role: "system", content: "be brief\n\nspeak Latin" },
          { role: "user", content: "hi" },
          { role: "system", content: "now Greek" }
        ])
      }))

    it.each([
      ["api.openai.com", "max_completion_tokens"],
      ["eu.api.openai.com", "max_completion_tokens"],
      ["x.openai.azure.com", "max_completion_tokens"],
      ["notopenai.com", "max_tokens"],
      ["localhost", "max_tokens"]
    ])("bounds the answer at %s with %s", (hostname, name) => {
      assert.deepStrictEqual<object>(OpenAiRequest.tokenLimit(hostname, 5), { [name]: 5 })
    })

    it("asks OpenAI's default model not to think, and any other for itself", () => {
      assert.deepStrictEqual(OpenAiRequest.model("api.openai.com", undefined), {
        model: "gpt-6-luna",
        reasoning_effort: "none"
      })
      assert.deepStrictEqual(OpenAiRequest.model("api.openai.com", "gpt-6-luna"), { model: "gpt-6-luna" })
      assert.isUndefined(OpenAiRequest.model("api.openai.com.example.com", undefined))
    })

    it.effect("sends no key where none is set", () =>
      Effect.gen(function*() {
        const server = yield* ModelServer.make(ModelServer.says("hi"))
        const { text } = yield* LanguageModel.generateText({ prompt: "hi" }).pipe(
          Effect.provide(layer(server, { apiKey: undefined }))
        )
        assert.strictEqual(text, "hi")
        assert.notProperty(server.exchanges[0]?.headers, "authorization")
      }))

    it.effect.each([key, undefined])(
      "sends nothing else that is in the environment, with the key %s",
      (apiKey) =>
        Effect.gen(function*() {
          vi.stubEnv("OPENAI_ORG_ID", "org-of-another")
          vi.stubEnv("OPENAI_PROJECT_ID", "proj-of-another")
          vi.stubEnv("OPENAI_CUSTOM_HEADERS", "x-secret: of-another\nAuthorization: Bearer of-another")
          const server = yield* ModelServer.make(ModelServer.says("hi"))
          yield* LanguageModel.generateText({ prompt: "hi" }).pipe(
            Effect.provide(layer(server, { apiKey: apiKey === undefined ? undefined : Redacted.make(apiKey) }))
          )
          const headers = server.exchanges[0]?.headers ?? {}
          assert.notInclude(JSON.stringify(headers), "of-another")
          assert.strictEqual(headers.authorization, apiKey === undefined ? undefined : `Bearer ${apiKey}`)
        }).pipe(Effect.ensuring(Effect.sync(() => vi.unstubAllEnvs())))
    )

    it.effect("sends images", () =>
      Effect.gen(function*() {
        const server = yield* ModelServer.make(ModelServer.says("a cat"))
        const file = (mediaType: string, data: string | Uint8Array | URL) =>
          Prompt.filePart({ mediaType, data, fileName: undefined })
        yield* ask(
          server,
          LanguageModel.generateText({
            prompt: Prompt.fromMessages([Prompt.userMessage({
              content: [
                Prompt.textPart({ text: "what?" }),
                file("image/png", new Uint8Array([1, 2, 3])),
                file("image/*", "AQID"),
                file("image/gif", new URL("https://example.com/a.gif"))
              ]
            })])
          })
        )
        assert.deepStrictEqual(server.exchanges[0]?.body.messages[0].content, [
          { type: "text", text: "what?" },
          { type: "image_url", image_url: { url: "data:image/png;base64,AQID" } },
          { type: "image_url", image_url: { url: "data:image/jpeg;base64,AQID" } },
          { type: "image_url", image_url: { url: "https://example.com/a.gif" } }
        ])
      }))

    it.effect.each<readonly [string, Effect.Effect<unknown, AiError.AiError, LanguageModel.LanguageModel>, string]>([
      [
        "a document",
        LanguageModel.generateText({
          prompt: Prompt.fromMessages([
            Prompt.userMessage({
              content: [Prompt.filePart({ mediaType: "application/pdf", data: "", fileName: undefined })]
            })
          ])
        }),
        "Invalid user input: The prompt has a file of the type application/pdf, but only text and images can be sent"
      ]
    ])("refuses %s before anything is sent", ([_, request, message]) =>
      Effect.gen(function*() {
        const server = yield* ModelServer.make()
        const { reason } = yield* Effect.flip(ask(server, request))
        assert.strictEqual(reason.message, message)
        assert.lengthOf(server.exchanges, 0)
      }))

    const nested = { detail: [{ type: "extra_forbidden", loc: ["body", "stream_options", "include_usage"] }] }
    it.effect.each<readonly [string, string, number, unknown]>([
      [
        "max_tokens",
        "max_completion_tokens",
        400,
        error("Use 'max_completion_tokens' instead.", { param: "max_tokens" })
      ],
      ["stream_options", "", 422, { object: "error", message: nested, type: "invalid_request_error", param: null }],
      ["stream_options", "", 400, error("Unrecognized request argument supplied: stream_options")]
    ])(
      "without %s, but %s, is sent where the endpoint says so with %d %j",
      ([refused, wanted, status, refusal]) =>
        Effect.gen(function*() {
          const { exchanges, exit } = yield* run(
            (exchange) =>
              refused in exchange.body ? exchange.reply(status, refusal) : ModelServer.says("Hello")(exchange),
            { prompt: "hi", maxOutputTokens: 5 }
          )
          assert.strictEqual((yield* exit).text, "Hello")
          const keys = exchanges.map(({ body }) => Object.keys(body))
          assert.lengthOf(keys, 2)
          assert.sameMembers(keys[1]!, [
            ...keys[0]!.filter((key) => key !== refused),
            ...(wanted === "" ? [] : [wanted])
          ])
          if (wanted !== "") assert.strictEqual(exchanges[1]?.body[wanted], 5)
        })
    )

    it.effect("needs a model where there is no default", () =>
      Effect.gen(function*() {
        const server = yield* ModelServer.make()
        const { reason } = yield* LanguageModel.generateText({ prompt: "hi" }).pipe(
          Effect.provide(layer(server, { model: undefined })),
          Effect.flip
        )
        assert.strictEqual(reason._tag, "InvalidRequestError")
        assert.include(reason.message, "name one in the request or in OPENAI_MODEL")
        assert.lengthOf(server.exchanges, 0)
      }))
  })

  describe("answer", () => {
    it.effect("streams text, then usage, and returns the whole", () =>
      Effect.gen(function*() {
        const { events, exit } = yield* run(ModelServer.says("Hel", "lo"))
        const counts = { inputTokens: 11, outputTokens: 7, totalTokens: 18 }
        assert.deepStrictEqual(events, [
          { _tag: "text_delta", text: "Hel" },
          { _tag: "text_delta", text: "lo" },
          { _tag: "usage", ...counts, model: ModelServer.model }
        ])
        assert.deepStrictEqual(
          exit,
          Exit.succeed({ text: "Hello", finishReason: "stop", usage: counts, model: ModelServer.model })
        )
      }))

    it.effect("is made of Effect's parts", () =>
      Effect.gen(function*() {
        const server = yield* ModelServer.make(sends(
          begin,
          chunk({ reasoning_content: "hm" }),
          chunk({ reasoning: "m" }),
          text("a"),
          text("b"),
          finish(),
          usage,
          done
        ))
        const parts = yield* ask(server, Stream.runCollect(LanguageModel.streamText({ prompt: "hi" })))
        assert.deepStrictEqual(
          parts.map((part) => ["delta" in part ? `${part.type} ${part.delta}` : part.type, "id" in part && part.id]),
          [
            ["response-metadata", "chatcmpl-test"],
            ["reasoning-start", "1"],
            ["reasoning-delta hm", "1"],
            ["reasoning-delta m", "1"],
            ["reasoning-end", "1"],
            ["text-start", "2"],
            ["text-delta a", "2"],
            ["text-delta b", "2"],
            ["response-metadata", false],
            ["text-end", "2"],
            ["finish", false]
          ]
        )
        const last = parts.at(-1)
        assert.isTrue(last?.type === "finish")
        assert.deepStrictEqual({ ...last?.type === "finish" && last.usage }, {
          inputTokens: { total: 11, cacheRead: 4, uncached: 7, cacheWrite: undefined },
          outputTokens: { total: 7, reasoning: 2, text: 5 }
        })
      }))

    it.effect("comes while the model writes it, however slowly", () =>
      Effect.gen(function*() {
        const server = yield* ModelServer.make()
        const { events, execution } = attempt(AiResponse.AiResponse)
        const fiber = yield* AiResponse.handler({ prompt: "hi" }, execution).pipe(
          Effect.provide(layer(server)),
          Effect.forkChild
        )
        const exchange = yield* server.next
        yield* TestClock.adjust("1 hour")
        yield* exchange.send(begin, ": it reads the prompt\n\n")
        yield* TestClock.adjust("1 hour")
        for (const piece of ["a", "b", "c"]) {
          const seen = events.length
          yield* exchange.send(text(piece))
          while (events.length === seen) yield* Effect.promise(() => new Promise(setImmediate))
          assert.deepStrictEqual(events.at(-1), { _tag: "text_delta", text: piece })
          yield* TestClock.adjust("59 seconds")
          yield* exchange.send(": a comment keeps the connection alive\n\n")
          yield* TestClock.adjust("59 seconds")
        }
        yield* exchange.send(finish(), done)
        yield* exchange.end
        assert.strictEqual((yield* Fiber.join(fiber)).text, "abc")
      }))

    it.effect.each<readonly [string, string, OpenAiModel.Options, Duration.Duration]>([
      ["text", text("a"), {}, Duration.minutes(1)],
      ["thoughts", chunk({ reasoning: "hm" }), { idleTimeout: 500 }, Duration.millis(500)],
      ["half an answer that is no stream", "{\"choices\": [", { idleTimeout: "2 minutes" }, Duration.minutes(2)]
    ])(
      "is given up after %s and a silence, with its connection",
      ([_, piece, options, timeout]) =>
        Effect.gen(function*() {
          const server = yield* ModelServer.make()
          const fiber = yield* LanguageModel.generateText({ prompt: "hi" }).pipe(
            Effect.provide(layer(server, options)),
            Effect.forkChild
          )
          const exchange = yield* server.next
          yield* exchange.send(piece)
          yield* Effect.andThen(
            TestClock.adjust(timeout),
            Effect.promise(() => new Promise(setImmediate))
          ).pipe(Effect.repeat({ until: () => fiber.pollUnsafe() !== undefined }))
          const { reason } = yield* Effect.flip(Fiber.join(fiber))
          assert.strictEqual(reason._tag, "InternalProviderError")
          assert.include(
            reason.message,
            `nothing came from the provider for ${
              Duration.format(timeout)
            } (AI_IDLE_TIMEOUT), and the answer has no end`
          )
          assert.isFalse((yield* exchange.closed).complete)
        })
    )

    it.effect.each<readonly [string, ReadonlyArray<string>, object]>([
      ["no usage", [text("a"), finish(), done], { usage: null, finishReason: "stop" }],
      ["usage beside the finish", [text("a"), chunk({}, "length", { usage: ModelServer.counted }), done], {
        usage: { inputTokens: 11, outputTokens: 7, totalTokens: 18 },
        finishReason: "length"
      }],
      [
        "usage in every chunk",
        [
          chunk({ content: "a" }, null, { usage: { prompt_tokens: 11, completion_tokens: 1 } }),
          chunk({}, "stop", { usage: ModelServer.counted }),
          done
        ],
        { usage: { inputTokens: 11, outputTokens: 7, totalTokens: 18 } }
      ],
      [
        "usage before the finish alone",
        [chunk({ content: "a" }, null, { usage: ModelServer.counted }), finish(), done],
        { usage: { inputTokens: 11, outputTokens: 7, totalTokens: 18 } }
      ],
      [
        "usage in every chunk and again at the end",
        [
          chunk({ content: "a" }, null, { usage: { prompt_tokens: 11, completion_tokens: 1 } }),
          finish(),
          usage,
          done
        ],
        { usage: { inputTokens: 11, outputTokens: 7, totalTokens: 18 } }
      ],
      ["usage that is no number", [text("a"), finish(), event({ choices: [], usage: { prompt_tokens: "1" } }), done], {
        usage: null
      }],
      ["a reason of its own", [text("a"), finish("eos"), done], { finishReason: "other" }],
      ["the length of the model", [text("a"), finish("model_length"), done], { finishReason: "length" }],
      ["no [DONE]", [text("a"), finish(), usage], { text: "a", finishReason: "stop" }],
      ["events without data", ["event: ping\n\n", "data:\n\n", "retry: 3000\n\n", text("a"), finish(), done], {
        text: "a"
      }],
      ["nonsense in one packet with the end", [`${text("a")}${text("b")}${finish()}data: {\n\n`], { text: "ab" }],
      ["nonsense behind [DONE]", [`${text("a")}${finish()}${done}data: {\n\n`], { text: "a" }],
      ["no blank line at the end", [text("a"), finish().trimEnd()], { text: "a" }],
      ["lines that end in CR LF", [text("a"), finish(), done].map((piece) => piece.replaceAll("\n", "\r\n")), {
        text: "a"
      }],
      ["other choices", [event({ choices: [{ index: 1, delta: { content: "x" } }] }), text("a"), finish(), done], {
        text: "a"
      }],
      ["fields that nobody knows", [event({ object: "ping" }), "event: ping\ndata: null\n\n", text("a"), finish()], {
        text: "a"
      }],
      ["text in parts", [chunk({ content: [{ type: "thinking" }, { type: "text", text: "a" }] }), finish()], {
        text: "a"
      }]
    ])("is taken with %s", ([_, pieces, expected]) =>
      Effect.gen(function*() {
        const { exit } = yield* run(sends(begin, ...pieces))
        assert.deepInclude(yield* exit, { text: "a", model: ModelServer.model, ...expected })
      }))

    it.effect("is whole when the connection breaks after the model was done", () =>
      Effect.gen(function*() {
        const { exit } = yield* run((exchange) =>
          Effect.andThen(exchange.send(begin, text("a"), finish()), exchange.cut)
        )
        assert.deepInclude(yield* exit, { text: "a", finishReason: "stop", usage: null })
      }))

    it.effect("ends at [DONE], also where the server holds the connection open", () =>
      Effect.gen(function*() {
        const { exit } = yield* run((exchange) => exchange.send(begin, text("a"), finish(), done))
        assert.deepInclude(yield* exit, { text: "a", finishReason: "stop" })
      }))

    it.effect("may be compressed", () =>
      Effect.gen(function*() {
        const zipped = Zlib.gzipSync(events(["a", "b"]).join(""))
        const { exit } = yield* run((exchange) =>
          Effect.andThen(
            exchange.open({ "content-encoding": "gzip" }),
            sends(zipped.subarray(0, 30), zipped.subarray(30))(exchange)
          )
        )
        assert.strictEqual((yield* exit).text, "ab")
      }))

    it.effect("is also given in one piece", () =>
      Effect.gen(function*() {
        const server = yield* ModelServer.make(sends(begin, chunk({ reasoning: "hm" }), ...events(["a", "b"])))
        const response = yield* ask(server, LanguageModel.generateText({ prompt: "hi" }))
        assert.deepStrictEqual([response.text, response.reasoningText, response.finishReason], ["ab", "hm", "stop"])
        assert.strictEqual(response.usage.outputTokens.total, 7)
      }))
  })

  describe("text", () => {
    const spoken =
      "a\u{1F600}\u{1F469}\u200D\u{1F4BB} e\u0301 שלום \u202Eعربى\u202C \u0000\r\n\t\\\"\uFEFF\u2028 데이터 data: [DONE]"

    it.effect("is the same byte for byte, with a packet for every byte", () =>
      Effect.gen(function*() {
        const bytes = Buffer.from(events(Array.from(spoken)).join(""))
        const { exit, texts } = yield* run(sends(...Array.from(bytes, (byte) => Uint8Array.of(byte))))
        assert.deepStrictEqual(texts, Array.from(spoken))
        assert.strictEqual((yield* exit).text, spoken)
      }))

    it.effect("has whole characters where a chunk has half of one", () =>
      Effect.gen(function*() {
        // a server that streams UTF-16 escapes one at a time
        const escaped = (unit: string) => text("x").replace("\"x\"", `"${unit}"`)
        const { exit, texts } = yield* run(
          sends(begin, escaped("a\\ud83d"), escaped("\\ude00"), escaped("\\u0000"), finish(), done)
        )
        assert.deepStrictEqual(texts, ["a", "\u{1F600}", "\0"])
        assert.strictEqual((yield* exit).text, "a\u{1F600}\0")
      }))

    it.effect("is the same whatever it is, and wherever it is cut", () =>
      Effect.gen(function*() {
        let pieces: ReadonlyArray<Uint8Array> = []
        const server = yield* ModelServer.make((exchange) => sends(...pieces)(exchange))
        const runPromise = Effect.runPromiseWith(yield* Layer.build(layer(server)))
        const property = fc.asyncProperty(
          fc.array(
            fc.string({ unit: fc.oneof(fc.constantFrom("\0", "\n", "\u0301", "א"), fc.string({ unit: "binary" })) })
          ),
          fc.array(fc.nat(), { maxLength: 8 }),
          async (deltas, cuts) => {
            const bytes = Buffer.from(events(deltas).join(""))
            const at = [...new Set(cuts.map((cut) => cut % bytes.length))].toSorted((a, b) => a - b)
            pieces = [0, ...at].map((from, i) => bytes.subarray(from, at[i] ?? bytes.length))
            const { events: emitted, execution } = attempt(AiResponse.AiResponse)
            const { text } = await runPromise(AiResponse.handler({ prompt: "hi" }, execution))
            assert.strictEqual(text, deltas.join(""))
            assert.strictEqual(emitted.map((_) => _._tag === "text_delta" ? _.text : "").join(""), text)
          }
        )
        yield* Effect.promise(() => fc.assert(property, { numRuns: 50 }))
      }))
  })

  describe("failure", () => {
    const cases: ReadonlyArray<readonly [string, Answer, ModelError.ModelError["_tag"], string]> = [
      [
        "401",
        (exchange) =>
          exchange.reply(
            401,
            error(`Incorrect API key provided: ${key.slice(0, 8)}*****cdef.`, { code: "invalid_api_key" })
          ),
        "AuthenticationFailed",
        "InvalidKey: Verify your API key is correct. Incorrect API key provided: [key]."
      ],
      [
        "403",
        (exchange) => exchange.reply(403, error(`The project of ${key} has no access`)),
        "AuthenticationFailed",
        "InsufficientPermissions: Your API key lacks required permissions. The project of [key] has no access"
      ],
      [
        "404",
        (exchange) => exchange.reply(404, error("The model `m` does not exist", { code: "model_not_found" })),
        "InvalidRequest",
        "Invalid request. The model `m` does not exist"
      ],
      [
        "404 in another form",
        (exchange) => exchange.reply(404, { error: "model \"m\" not found" }),
        "InvalidRequest",
        "Invalid request. model \"m\" not found"
      ],
      [
        "404 of a path that is none",
        (exchange) => exchange.reply(404, "404 page not found"),
        "InvalidRequest",
        "/v1/chat/completions)"
      ],
      [
        "404 with a page",
        (exchange) => exchange.reply(404, "<html>"),
        "InvalidRequest",
        "HTTP 404 (POST http://127.0.0.1:"
      ],
      ["405", (exchange) => exchange.reply(405, { detail: "no" }), "InvalidRequest", "no (POST http://127.0.0.1:"],
      [
        "400",
        (exchange) => exchange.reply(400, error("too long", { param: "messages", code: "context_length_exceeded" })),
        "InvalidRequest",
        "Invalid request: parameter 'messages'. too long"
      ],
      ["422", (exchange) => exchange.reply(422, { detail: "no" }), "InvalidRequest", "Invalid request. no"],
      [
        "a list of errors",
        (exchange) => exchange.reply(400, [{ error: { code: 400, message: "bad" } }]),
        "InvalidRequest",
        "Invalid request. bad"
      ],
      [
        "a prompt that is filtered",
        (exchange) => exchange.reply(400, error("filtered", { code: "content_filter" })),
        "ContentFiltered",
        "Content policy violation: filtered"
      ],
      [
        "a prompt that a router has flagged",
        (exchange) =>
          exchange.reply(403, {
            error: { code: 403, message: "flagged", metadata: { reasons: ["x"], flagged_input: "…" } }
          }),
        "ContentFiltered",
        "Content policy violation: flagged"
      ],
      [
        "what a router was told",
        (exchange) =>
          exchange.reply(400, {
            error: { code: 400, message: "Provider returned error", metadata: { raw: `no ${key}` } }
          }),
        "InvalidRequest",
        "Invalid request. Provider returned error: no [key]"
      ],
      [
        "a quota that is used up",
        (exchange) => exchange.reply(429, error("no credit", { code: "insufficient_quota" })),
        "AuthenticationFailed",
        "Quota exhausted. Check your account billing and usage limits: no credit"
      ],
      [
        "402",
        (exchange) => exchange.reply(402, error("pay")),
        "AuthenticationFailed",
        "Quota exhausted. Check your account billing and usage limits: pay"
      ],
      ["408", (exchange) => exchange.reply(408, error("slow")), "ModelUnavailable", "Internal provider error: slow"],
      ["409", (exchange) => exchange.reply(409, error("busy")), "ModelUnavailable", "Internal provider error: busy"],
      ["429", (exchange) => exchange.reply(429, error("slow down")), "RateLimited", "Rate limit exceeded: slow down"],
      ["500", (exchange) => exchange.reply(500, error("oops")), "ModelUnavailable", "Internal provider error: oops"],
      [
        "a proxy's page",
        (exchange) => exchange.reply(502, "<html><h1>Bad Gateway</h1></html>", { "content-type": "text/html" }),
        "ModelUnavailable",
        "Internal provider error: HTTP 502"
      ],
      [
        "503 without a word",
        (exchange) => exchange.reply(503, ""),
        "ModelUnavailable",
        "Internal provider error: HTTP 503"
      ],
      [
        "a page where a stream should be",
        (exchange) => exchange.reply(200, "<html></html>", { "content-type": "text/html" }),
        "InvalidRequest",
        "answered with text/html and not with a stream of events"
      ],
      [
        "a page without end",
        (exchange) => Effect.andThen(exchange.open({ "content-type": "text/html" }), exchange.send("<html>")),
        "InvalidRequest",
        "answered with text/html and not with a stream of events"
      ],
      [
        "an error with the status of a success",
        (exchange) => exchange.reply(200, error("slow down", { code: 429 })),
        "RateLimited",
        "Rate limit exceeded: slow down"
      ],
      [
        "a path that is none, with the status of a success",
        (exchange) => exchange.reply(200, { error: "Unexpected endpoint or method. (POST /chat/completions)" }),
        "InvalidRequest",
        "Unexpected endpoint or method. (POST /chat/completions) (POST http://127.0.0.1:"
      ],
      [
        "a stream cut in the middle",
        (exchange) => Effect.andThen(exchange.send(begin, text("Hel"), "data: {\"cho"), exchange.cut),
        "ModelUnavailable",
        "TransportError: other side closed (POST http://127.0.0.1:"
      ],
      [
        "a connection that is closed without an answer",
        (exchange) => exchange.cut,
        "ModelUnavailable",
        "TransportError: other side closed"
      ],
      [
        "a stream that ends without a finish",
        sends(begin, text("Hel")),
        "MalformedOutput",
        "Invalid response: the stream ended before the model had finished"
      ],
      [
        "an answer without a body",
        (exchange) => exchange.reply(204, ""),
        "MalformedOutput",
        "the stream ended before the model had finished"
      ],
      ["an empty stream", sends(), "MalformedOutput", "the stream ended before the model had finished"],
      [
        "JSON that is none",
        sends(begin, text("Hel"), "data: {\"choices\": [}\n\n"),
        "MalformedOutput",
        "Invalid response: the provider streamed something that is not JSON"
      ],
      [
        "a content filter's stop",
        sends(begin, text("Hel"), finish("content_filter"), usage, done),
        "ContentFiltered",
        "The provider's content filter stopped the answer"
      ],
      [
        "a server that gives up",
        sends(text("Hel"), finish("abort"), done),
        "ModelUnavailable",
        "stopped with an error"
      ],
      [
        "a server without resources",
        sends(text("Hel"), finish("insufficient_system_resource"), usage, done),
        "ModelUnavailable",
        "The model stopped with an error"
      ],
      [
        "a refusal",
        sends(begin, chunk({ refusal: "I " }), chunk({ refusal: "can't" }), finish(), usage, done),
        "ContentFiltered",
        "Content policy violation: the model refused: I can't"
      ],
      ["a refusal without usage", sends(begin, chunk({ refusal: "no" }), finish(), done), "ContentFiltered", "no"],
      [
        "an error in the stream",
        sends(begin, event(error("oops", { type: "server_error" }))),
        "ModelUnavailable",
        "Internal provider error: oops"
      ],
      [
        "a limit in the stream",
        sends(begin, event(error("slow down", { code: "rate_limit_exceeded" }))),
        "RateLimited",
        "Rate limit exceeded: slow down"
      ],
      [
        "an error with a status in the stream",
        sends(event({ error: { code: 502, message: "down" }, choices: [] })),
        "ModelUnavailable",
        "Internal provider error: down"
      ],
      [
        "a wrong key in the stream",
        sends(event(error("wrong", { code: "invalid_api_key" }))),
        "AuthenticationFailed",
        "InvalidKey: Verify your API key is correct. wrong"
      ],
      ["a bad request in the stream", sends(event(error("bad"))), "InvalidRequest", "Invalid request. bad"],
      ["an empty list of errors in the stream", sends(event({ error: [] })), "ModelUnavailable", "provider error: []"],
      ["an error event", sends(`event: error\n${event({ message: "boom" })}`), "ModelUnavailable", "boom"]
    ]

    it.effect.each(cases)("%s becomes a failure", ([_, answer, tag, message]) =>
      Effect.gen(function*() {
        const failed = yield* failure(answer)
        assert.strictEqual(failed._tag, tag)
        assert.include(failed.message, message)
        assert.notInclude(failed.message, "\n")
        assert.notInclude(failed.message, "sk-test")
      }))

    it.effect.each<readonly [string, string, string]>([
      ["hunter2hunter2", "your key hunter2hunter2 is wrong", "your key [key] is wrong"],
      ["hunter2hunter2", "your key hunt****er2 is wrong", "your key [key] is wrong"],
      ["hunter2hunter2", "sk-proj-another_key.Sorry. sk-a...b", "[key]. [key]"],
      ["hunter2hunter2", "a***b,c-d***e", "[key],[key]"],
      ["x", "the x-axis", "the x-axis"]
    ])("with the key %j, masks what looks like one in %j", ([apiKey, message, told]) =>
      Effect.gen(function*() {
        const server = yield* ModelServer.make((exchange) => exchange.reply(400, error(message)))
        const { reason } = yield* LanguageModel.generateText({ prompt: "hi" }).pipe(
          Effect.provide(layer(server, { apiKey: Redacted.make(apiKey) })),
          Effect.flip
        )
        assert.strictEqual(reason.message, `Invalid request. ${told}`)
      }))

    it.effect("is short, and made without delay, where the provider says a lot", () =>
      Effect.gen(function*() {
        const failed = yield* failure((exchange) => exchange.reply(400, error("a".repeat(2 ** 20))))
        assert.strictEqual(failed.message, `Invalid request. ${"a".repeat(499)}…`)
      }))

    it.effect("is not printed by the package", () =>
      Effect.gen(function*() {
        const printed = vi.spyOn(console, "error")
        yield* failure(sends("data: {\n\n"))
        assert.lengthOf(printed.mock.calls, 0)
      }))

    it.effect("keeps the text and the usage from before", () =>
      Effect.gen(function*() {
        const { events } = yield* run(sends(begin, text("Hel"), finish("content_filter"), usage, done))
        assert.deepStrictEqual(events.map(({ _tag }) => _tag), ["text_delta", "usage"])
      }))

    it.effect("is one request: the worker retries", () =>
      Effect.gen(function*() {
        const { exchanges } = yield* run((exchange) => exchange.reply(500, error("oops")))
        assert.lengthOf(exchanges, 1)
      }))

    it.effect("is told when nothing listens", () =>
      Effect.gen(function*() {
        const { url } = yield* Effect.scoped(ModelServer.make())
        const { execution } = attempt(AiResponse.AiResponse)
        const failed = yield* AiResponse.handler({ prompt: "hi" }, execution).pipe(
          Effect.provide(OpenAiModel.layer({ baseUrl: url, model: "m" })),
          Effect.flip
        )
        assert.strictEqual(failed._tag, "ModelUnavailable")
        const { host } = new URL(url)
        assert.strictEqual(
          failed.message,
          `TransportError: connect ECONNREFUSED ${host} (POST ${url}/chat/completions)`
        )
      }))

    it.effect.each<readonly [object, number | undefined]>([
      [{}, undefined],
      [{ "retry-after": "7" }, 7000],
      [{ "retry-after": "0.5" }, 500],
      [{ "retry-after": "0" }, 0],
      [{ "retry-after-ms": "120", "retry-after": "7" }, 120],
      [{ "retry-after": "Thu, 01 Jan 1970 00:00:09 GMT" }, 9000],
      [{ "retry-after": "Sat, 21 Nov 2026 12:00:30 GMT", date: "Sat, 21 Nov 2026 12:00:00 GMT" }, 30_000],
      [{ "retry-after": "Sat, 21 Nov 2026 12:00:00 GMT", date: "Sat, 21 Nov 2026 12:00:30 GMT" }, 0],
      [{ "retry-after": "soon" }, undefined],
      [{ "retry-after": "-1" }, undefined]
    ])("waits after a limit as the headers %j say", ([headers, millis]) =>
      Effect.gen(function*() {
        const failed = yield* failure((exchange) => exchange.reply(429, error("slow down"), { ...headers }))
        assert.isTrue(failed._tag === "RateLimited")
        const { retryAfter } = failed as ModelError.RateLimited
        assert.strictEqual(retryAfter && Duration.toMillis(retryAfter), millis)
      }))

    it.effect.each([402, 503])("waits after a %d that says for how long", (status) =>
      Effect.gen(function*() {
        const failed = yield* failure((exchange) => exchange.reply(status, error("busy"), { "retry-after": "20" }))
        assert.isTrue(failed._tag === "RateLimited")
        assert.deepStrictEqual((failed as ModelError.RateLimited).retryAfter, Duration.seconds(20))
      }))
  })

  describe("structured output", () => {
    const Cat = Schema.Struct({ name: Schema.String, age: Schema.optionalKey(Schema.Int) }).annotate({
      identifier: "my/Cat"
    })

    it.effect("asks for the object in OpenAI's subset, and reads it", () =>
      Effect.gen(function*() {
        const server = yield* ModelServer.make(ModelServer.says("{\"name\":", "\"Mia\",\"age\":null}"))
        const { value } = yield* ask(server, LanguageModel.generateObject({ prompt: "a cat", schema: Cat }))
        assert.deepStrictEqual(value, { name: "Mia" })
        const { json_schema, type } = server.exchanges[0]!.body.response_format
        assert.strictEqual(type, "json_schema")
        assert.deepInclude(json_schema, { name: "my_Cat", strict: true })
        assert.deepInclude(json_schema.schema, {
          type: "object",
          required: ["name", "age"],
          additionalProperties: false
        })
      }))

    const closed = {
      type: "object",
      properties: { a: { type: "string" } },
      required: ["a"],
      additionalProperties: false
    }
    it.effect.each<readonly [boolean, Settings["json"] & {}]>([
      [true, { name: "n", schema: closed }],
      [true, { name: "n", schema: { type: "object", properties: {}, additionalProperties: false } }],
      [true, { name: "n", schema: { ...closed, properties: { a: { enum: [{ type: "object" }] } } } }],
      [false, { name: "n", schema: { ...closed, required: [] } }],
      [false, { name: "n", schema: { ...closed, additionalProperties: true } }],
      [false, { name: "n", schema: { ...closed, properties: { a: { type: "array", items: { type: "object" } } } } }],
      [false, { name: "n", schema: { ...closed, properties: { a: { oneOf: [closed] } } } }]
    ])("streams a document: strict %j for %j", ([strict, json]) =>
      Effect.gen(function*() {
        const server = yield* ModelServer.make(ModelServer.says("{}"))
        yield* ask(server, Stream.runDrain(LanguageModel.streamText({ prompt: "hi" })), { json })
        assert.deepStrictEqual(server.exchanges[0]?.body.response_format, {
          type: "json_schema",
          json_schema: { ...json, strict }
        })
      }))

    it.effect.each<readonly [number, unknown]>([
      [400, error("This response_format type is unavailable now")],
      [400, error("Invalid schema for response_format 'n': too many enum values", { param: "response_format" })],
      [400, {
        error: { code: 400, message: "Provider returned error", metadata: { raw: "{\"param\":\"response_format\"}" } }
      }],
      [400, error("Failed to initialize samplers: failed to parse grammar", { code: 400 })],
      [400, error("The provided JSON schema contains features not supported by xgrammar.", { code: 400 })],
      [422, { detail: [{ loc: ["body", "response_format", "type"], msg: "Input should be 'text' or 'json_object'" }] }],
      [500, error("invalid JSON schema in format", { type: "api_error" })]
    ])("does without the schema where the endpoint answers %d %j", ([status, refusal]) =>
      Effect.gen(function*() {
        const server = yield* ModelServer.make((exchange) =>
          exchange.body.response_format.type === "json_schema"
            ? exchange.reply(status, refusal)
            : ModelServer.says("{\"name\":\"Mia\",\"age\":null}")(exchange)
        )
        yield* Effect.gen(function*() {
          for (const _ of [1, 2]) {
            const { value } = yield* LanguageModel.generateObject({ prompt: "a cat", schema: Cat })
            assert.deepStrictEqual(value, { name: "Mia" })
          }
        }).pipe(Effect.provide(layer(server)))
        assert.deepStrictEqual(server.exchanges.map(({ body }) => body.response_format.type), [
          "json_schema",
          "json_object",
          "json_schema",
          "json_object"
        ])
        assert.match(
          server.exchanges[1]?.body.messages[0].content,
          /^Answer with one JSON document .*"additionalProperties":false/
        )
      }))

    it.effect("tells the schema in the system message that is there", () =>
      Effect.gen(function*() {
        const server = yield* ModelServer.make((exchange) =>
          exchange.body.response_format.type === "json_schema"
            ? exchange.reply(400, error("no json_schema"))
            : ModelServer.says("{\"name\":\"Mia\",\"age\":null}")(exchange)
        )
        const prompt = [{ role: "system", content: "Be brief." }, { role: "user", content: "a cat" }] as const
        yield* ask(server, LanguageModel.generateObject({ prompt, schema: Cat }))
        const [system, user, ...others] = server.exchanges[1]!.body.messages
        assert.match(system.content, /^Answer with one JSON document .*\n\nBe brief\.$/)
        assert.deepStrictEqual([system.role, user, others], ["system", { role: "user", content: "a cat" }, []])
      }))

    it.effect("does without a format where the endpoint knows none", () =>
      Effect.gen(function*() {
        const server = yield* ModelServer.make((exchange) =>
          exchange.body.response_format === undefined
            ? ModelServer.says("{\"name\":\"Mia\",\"age\":null}")(exchange)
            : exchange.reply(400, error("'response_format.type' must be 'text'"))
        )
        const { value } = yield* ask(server, LanguageModel.generateObject({ prompt: "a cat", schema: Cat }))
        assert.deepStrictEqual(value, { name: "Mia" })
        assert.deepStrictEqual(server.exchanges.map(({ body }) => body.messages.length), [1, 2, 2])
      }))

    it.effect("is an invalid request where the endpoint objects to something else", () =>
      Effect.gen(function*() {
        const server = yield* ModelServer.make((exchange) => exchange.reply(400, error("no such model")))
        const { reason } = yield* Effect.flip(
          ask(server, LanguageModel.generateObject({ prompt: "a cat", schema: Cat }))
        )
        assert.strictEqual(reason.message, "Invalid request. no such model")
        assert.lengthOf(server.exchanges, 1)
      }))
  })

  describe("tools", () => {
    const Clock = Tool.make("clock", {
      description: "Tells the time",
      parameters: Schema.Struct({ city: Schema.String }),
      success: Schema.Struct({ hour: Schema.Int })
    })
    const Clocks = Toolkit.make(Clock)
    const clocks = Clocks.pipe(
      Effect.provide(Clocks.toLayer({ clock: ({ city }) => Effect.succeed({ hour: city.length }) }))
    )
    const call = (fields: object) => chunk({ tool_calls: [fields] })
    const pieces = [
      chunk({ role: "assistant", content: null }),
      text("Well"),
      call({ index: 0, id: "c1", type: "function", function: { name: "clock", arguments: "" } }),
      call({ index: 0, function: { arguments: "{\"city\":" } }),
      call({ index: 1, id: "c2", type: "function", function: { name: "clock", arguments: "{\"city\":\"Rome\"}" } }),
      call({ index: 0, function: { arguments: "\"Oslo!\"}" } })
    ]

    it.effect("are offered, called, and their results sent back", () =>
      Effect.gen(function*() {
        const server = yield* ModelServer.make((exchange) =>
          exchange.body.messages.length === 1
            ? sends(...pieces, finish("tool_calls"), usage, done)(exchange)
            : ModelServer.says("five")(exchange)
        )
        const toolkit = yield* clocks
        const first = yield* ask(server, LanguageModel.generateText({ prompt: "what time?", toolkit }))
        assert.deepStrictEqual([first.text, first.finishReason], ["Well", "tool-calls"])
        assert.deepStrictEqual(
          first.toolResults.map(({ id, name, result }) => [id, name, result]),
          [["c1", "clock", { hour: 5 }], ["c2", "clock", { hour: 4 }]]
        )
        const [{ body }] = server.exchanges as [ModelServer.Exchange]
        assert.strictEqual(body.tool_choice, "auto")
        assert.deepStrictEqual(body.tools, [{
          type: "function",
          function: {
            name: "clock",
            description: "Tells the time",
            strict: false,
            parameters: {
              type: "object",
              properties: { city: { type: "string" } },
              required: ["city"],
              additionalProperties: true
            }
          }
        }])

        const prompt = Prompt.concat(Prompt.make("what time?"), Prompt.fromResponseParts(first.content))
        const second = yield* ask(server, LanguageModel.generateText({ prompt, toolkit }))
        assert.strictEqual(second.text, "five")
        assert.deepStrictEqual(server.exchanges[1]?.body.messages.slice(1), [
          {
            role: "assistant",
            content: "Well",
            tool_calls: [
              { id: "c1", type: "function", function: { name: "clock", arguments: "{\"city\":\"Oslo!\"}" } },
              { id: "c2", type: "function", function: { name: "clock", arguments: "{\"city\":\"Rome\"}" } }
            ]
          },
          { role: "tool", tool_call_id: "c1", content: "{\"hour\":5}" },
          { role: "tool", tool_call_id: "c2", content: "{\"hour\":4}" }
        ])
      }))

    it.effect("are called while the answer streams", () =>
      Effect.gen(function*() {
        const server = yield* ModelServer.make(sends(...pieces, finish("tool_calls"), done))
        const stream = LanguageModel.streamText({ prompt: "what time?", toolkit: yield* clocks })
        const parts = yield* ask(server, Stream.runCollect(stream))
        assert.deepStrictEqual(parts.map(({ type }) => type).filter((type) => type.startsWith("tool-params")), [
          "tool-params-start",
          "tool-params-delta",
          "tool-params-start",
          "tool-params-delta",
          "tool-params-delta",
          "tool-params-end",
          "tool-params-end"
        ])
        assert.deepStrictEqual(
          parts.flatMap((part) => part.type === "tool-result" ? [part.result] : []),
          [{ hour: 5 }, { hour: 4 }]
        )
      }))

    it.effect.each<readonly [string, LanguageModel.ToolChoice<"clock">, unknown]>([
      ["none", "none", "none"],
      ["any", "required", "required"],
      ["one", { tool: "clock" }, { type: "function", function: { name: "clock" } }],
      ["some", { mode: "required", oneOf: ["clock"] }, "required"],
      ["some or none", { oneOf: ["clock"] }, "auto"]
    ])("are chosen: %s", ([_, toolChoice, sent]) =>
      Effect.gen(function*() {
        const server = yield* ModelServer.make(ModelServer.says("no"))
        yield* ask(server, LanguageModel.generateText({ prompt: "hi", toolkit: yield* clocks, toolChoice }))
        assert.deepStrictEqual(server.exchanges[0]?.body.tool_choice, sent)
      }))

    it.effect("may come all in one piece and without numbers", () =>
      Effect.gen(function*() {
        const whole = (city: string) => ({ function: { name: "clock", arguments: JSON.stringify({ city }) } })
        const server = yield* ModelServer.make(sends(
          chunk({ tool_calls: [whole("Oslo"), whole("Kyiv!")] }, "stop"),
          done
        ))
        const { toolResults } = yield* ask(server, LanguageModel.generateText({ prompt: "hi", toolkit: yield* clocks }))
        assert.deepStrictEqual(toolResults.map(({ id, result }) => [id, result]), [
          ["call_0", { hour: 4 }],
          ["call_1", { hour: 5 }]
        ])
      }))

    it.effect("are not called with what is no JSON, nor with what was cut off", () =>
      Effect.gen(function*() {
        const broken = pieces.slice(0, -1)
        const server = yield* ModelServer.make((exchange) =>
          sends(...broken, finish(exchange.body.messages[0].content), done)(exchange)
        )
        const request = (prompt: string) =>
          Effect.flatMap(clocks, (toolkit) => ask(server, LanguageModel.generateText({ prompt, toolkit })))
        const { toolCalls } = yield* request("length")
        assert.lengthOf(toolCalls, 0)
        const { reason } = yield* Effect.flip(request("tool_calls"))
        assert.strictEqual(reason.message, "Invalid parameters for tool 'clock': they are not JSON")
      }))
  })

  describe("interruption", () => {
    it.effect.each(["before the head", "before the first text", "in the middle"])(
      "closes the connection %s",
      (when) =>
        Effect.gen(function*() {
          const server = yield* ModelServer.make()
          const { events, execution } = attempt(AiResponse.AiResponse)
          // a layer that outlives the request, and so does not close its connection
          const context = yield* Layer.build(layer(server))
          const fiber = yield* AiResponse.handler({ prompt: "hi" }, execution).pipe(
            Effect.provideContext(context),
            Effect.forkChild
          )
          const exchange = yield* server.next
          if (when !== "before the head") yield* exchange.open()
          if (when === "in the middle") {
            yield* exchange.send(begin, text("Hel"))
            while (events.length === 0) yield* Effect.promise(() => new Promise(setImmediate))
          }
          yield* Fiber.interrupt(fiber)
          assert.isFalse((yield* exchange.closed).complete)
          assert.isTrue(Cause.hasInterruptsOnly(yield* Effect.flip(Effect.sandbox(Fiber.join(fiber)))))
          assert.lengthOf(events, when === "in the middle" ? 1 : 0)
        })
    )

    it.effect.each([200, 400])(
      "closes the connection while what went wrong, with a %d, is read",
      (status) =>
        Effect.gen(function*() {
          const server = yield* ModelServer.make()
          const context = yield* Layer.build(layer(server))
          const fiber = yield* LanguageModel.generateText({ prompt: "hi" }).pipe(
            Effect.provideContext(context),
            Effect.forkChild
          )
          const exchange = yield* server.next
          yield* exchange.open({ "content-type": "application/json" }, status)
          yield* exchange.send("{\"error\": {")
          yield* Fiber.interrupt(fiber)
          assert.isFalse((yield* exchange.closed).complete)
        })
    )

    it.effect("is also what happens to whoever takes only the beginning", () =>
      Effect.gen(function*() {
        const server = yield* ModelServer.make((exchange) => exchange.send(begin, text("a"), text("b")))
        const parts = yield* LanguageModel.streamText({ prompt: "hi" }).pipe(
          Stream.filter(({ type }) => type === "text-delta"),
          Stream.take(1),
          Stream.runCollect,
          Effect.provideContext(yield* Layer.build(layer(server)))
        )
        assert.lengthOf(parts, 1)
        assert.isFalse((yield* server.exchanges[0]!.closed).complete)
      }))
  })
})

/** `ai_response` as it runs: a worker, a database, and an endpoint of the provider's protocol. */
import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Logger, Redacted, References, Tracer } from "effect"
import * as Util from "node:util"
import * as AiTasks from "../../src/ai/AiTasks.ts"
import * as OpenAiModel from "../../src/ai/OpenAiModel.ts"
import * as ModelServer from "../support/ModelServer.ts"
import * as Harness from "../support/WorkerHarness.ts"

const { begin, error, finish, text, usage } = ModelServer

const key = "sk-test-0123456789abcdef"

/** A worker on a server that answers so. */
const start = Effect.fnUntraced(function*(
  answer?: (exchange: ModelServer.Exchange) => Effect.Effect<void>,
  references: Layer.Layer<never> = Layer.empty
) {
  const server = yield* ModelServer.make(answer)
  yield* Harness.launch(
    AiTasks.AiTasks,
    Layer.provide(
      AiTasks.layer,
      OpenAiModel.layer({ apiKey: Redacted.make(key), baseUrl: server.url, model: "m" })
    ),
    { lease: "30 seconds" },
    { references }
  )
  return server
})

const insert = (payload: object, columns: object = {}) =>
  Harness.insert("ai_response", { payload: JSON.stringify(payload), ...columns })

const textsOf = Effect.fnUntraced(function*(id: bigint) {
  return (yield* Harness.eventsOf(id)).filter(({ type }) => type === "text_delta").map(({ data }) =>
    data.text as string
  )
})

const typesOf = (id: bigint) => Effect.map(Harness.eventsOf(id), (events) => events.map(({ type }) => type))

describe("ai_response", () => {
  it.live("stores an answer, its events and its usage, whatever else the payload has", () =>
    Effect.gen(function*() {
      const server = yield* start(ModelServer.says("Hel", "lo"))
      const id = yield* insert({ prompt: "hi", conversationId: 5, temperature: 1.5 })
      const row = yield* Harness.awaitOver(id)
      const counts = { inputTokens: 11, outputTokens: 7, totalTokens: 18 }
      assert.deepInclude(row, {
        status: "completed",
        result: { text: "Hello", finishReason: "stop", usage: counts, model: ModelServer.model }
      })
      assert.deepStrictEqual((yield* textsOf(id)).join(""), "Hello")
      assert.deepStrictEqual((yield* typesOf(id)).slice(-2), ["usage", "done"])
      assert.strictEqual(server.exchanges[0]?.body.temperature, 1.5)
    }).pipe(Harness.onDatabase))

  it.live.each<readonly [object, string]>([
    [{ prompt: "hi", temperature: 2.5 }, "temperature"],
    [{ prompt: "hi", maxOutputTokens: 0 }, "maxOutputTokens"],
    [{ system: "be brief" }, "Expected either \"prompt\" or \"messages\", got neither"]
  ])("rejects %j before the provider is asked", ([payload, message]) =>
    Effect.gen(function*() {
      const server = yield* start(ModelServer.says("hi"))
      const { error, status } = yield* Harness.awaitOver(yield* insert(payload))
      assert.deepStrictEqual([status, error.kind], ["failed", "rejected"])
      assert.include(error.message, message)
      assert.lengthOf(server.exchanges, 0)
    }).pipe(Harness.onDatabase))

  it.live("stores the same text in its events as in its result, also where PostgreSQL cannot store it", () =>
    Effect.gen(function*() {
      const spoken = "\u{1F600}\u{1F469}\u200D\u{1F4BB}e\u0301שלום\u202Eعربى\u202C\0.\0"
      const escaped = (units: string) => text("x").replace("\"x\"", `"${units}"`)
      yield* start((exchange) =>
        Effect.andThen(
          exchange.send(begin, ...Array.from(spoken).map(text), escaped("\\ud83d"), escaped("\\ude00"), finish()),
          exchange.end
        )
      )
      const id = yield* insert({ prompt: "hi" })
      const { result } = yield* Harness.awaitOver(id)
      assert.strictEqual(result.text, `${spoken}\u{1F600}`.replaceAll("\0", "\uFFFD"))
      assert.strictEqual((yield* textsOf(id)).join(""), result.text)
    }).pipe(Harness.onDatabase))

  describe("is decided upon after an error of the provider", () => {
    it.live.each<readonly [string, (exchange: ModelServer.Exchange) => Effect.Effect<void>, string, boolean]>([
      ["401", (exchange) => exchange.reply(401, error("no")), "AuthenticationFailed", false],
      ["404", (exchange) => exchange.reply(404, error("no such model")), "InvalidRequest", false],
      ["429", (exchange) => exchange.reply(429, error("slow down")), "RateLimited", true],
      ["500", (exchange) => exchange.reply(500, error("oops")), "ModelUnavailable", true],
      ["a cut", (exchange) => Effect.andThen(exchange.send(begin, text("a")), exchange.cut), "ModelUnavailable", true],
      ["no finish", (exchange) => Effect.andThen(exchange.send(text("a")), exchange.end), "MalformedOutput", true],
      [
        "a filter",
        (exchange) => Effect.andThen(exchange.send(text("a"), finish("content_filter")), exchange.end),
        "ContentFiltered",
        false
      ]
    ])("such as %s", ([_, answer, tag, retried]) =>
      Effect.gen(function*() {
        yield* start(answer)
        const id = yield* insert({ prompt: "hi" })
        yield* Harness.eventually("the end", typesOf(id), (types) => types.some((_) => _ === "retry" || _ === "error"))
        const closing = (yield* Harness.eventsOf(id)).find(({ type }) => type === "retry" || type === "error")!
        assert.strictEqual(closing.type, retried ? "retry" : "error")
        assert.deepInclude(closing.data, { kind: "failure", tag, willRetry: retried })
        // the next attempt may have begun
        if (!retried) assert.deepInclude(yield* Harness.rowOf(id), { attempts: 1, status: "failed" })
      }).pipe(Harness.onDatabase))

    it.live("waits as long as the provider says, and answers then", () =>
      Effect.gen(function*() {
        const sql = yield* PgClient.PgClient
        let limited = true
        const server = yield* start((exchange) =>
          limited
            ? exchange.reply(429, error("slow down"), { "retry-after": "3600" })
            : ModelServer.says("at last")(exchange)
        )
        const id = yield* insert({ prompt: "hi" })
        const row = yield* Harness.awaitRow(id, ({ attempts, locked_by }) => attempts === 1 && locked_by === null)
        assert.strictEqual(row.status, "queued")
        const [wait] = yield* sql<{ readonly seconds: number }>`
          select extract(epoch from run_at - now())::float8 as seconds from spindle.tasks where id = ${id}`
        const { seconds } = wait!
        assert.isTrue(seconds > 3500 && seconds <= 3600, `in ${seconds} s`)
        const [event] = yield* Harness.eventsOf(id)
        assert.deepInclude(event, { type: "retry", seq: 1 })
        assert.strictEqual(new Date(event?.data.runAt).getTime(), row.run_at.getTime())
        assert.deepStrictEqual(event?.data.data, {
          _tag: "RateLimited",
          message: "Rate limit exceeded. Retry after 1h: slow down",
          retryAfter: 3_600_000
        })
        assert.lengthOf(server.exchanges, 1)

        limited = false
        yield* sql`update spindle.tasks set run_at = now() where id = ${id}`
        assert.deepInclude(yield* Harness.awaitOver(id), { status: "completed", attempts: 2 })
      }).pipe(Harness.onDatabase))
  })

  describe("cancelled by plain SQL", () => {
    it.live("in the middle, closes the provider's connection and keeps what was streamed", () =>
      Effect.gen(function*() {
        const server = yield* start()
        const id = yield* insert({ prompt: "hi" })
        const exchange = yield* server.next
        yield* exchange.send(begin, text("Hel"))
        yield* Harness.eventually("the text", textsOf(id), (texts) => texts.length === 1)
        assert.isTrue(yield* Harness.cancel(id))
        assert.isFalse((yield* exchange.closed).complete)
        assert.deepInclude(yield* Harness.awaitOver(id), { status: "cancelled", result: null })
        assert.deepStrictEqual(yield* typesOf(id), ["text_delta", "cancelled"])
      }).pipe(Harness.onDatabase))

    it.live("before the provider has said a word", () =>
      Effect.gen(function*() {
        const server = yield* start()
        const id = yield* insert({ prompt: "hi" })
        const exchange = yield* server.next
        assert.isTrue(yield* Harness.cancel(id))
        assert.isFalse((yield* exchange.closed).complete)
        yield* Harness.awaitOver(id)
        assert.deepStrictEqual(yield* typesOf(id), ["cancelled"])
      }).pipe(Harness.onDatabase))

    it.live("keeps the usage, if the provider had sent it", () =>
      Effect.gen(function*() {
        const server = yield* start()
        const id = yield* insert({ prompt: "hi" })
        const exchange = yield* server.next
        yield* exchange.send(begin, text("Hel"), finish(), usage)
        yield* Harness.eventually("the text", textsOf(id), (texts) => texts.length === 1)
        assert.isTrue(yield* Harness.cancel(id))
        assert.isFalse((yield* exchange.closed).complete)
        yield* Harness.awaitOver(id)
        assert.deepStrictEqual(yield* typesOf(id), ["text_delta", "usage", "cancelled"])
      }).pipe(Harness.onDatabase))
  })

  it.live("never tells the key: not in logs, spans, rows or events", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      const told: Array<string> = []
      const show = (value: unknown) => Util.inspect(value, { depth: 20, showHidden: true, maxStringLength: Infinity })
      const spans: Array<Tracer.Span> = []
      const observed = Layer.mergeAll(
        Logger.layer([
          Logger.make(({ cause, fiber, message }) => {
            told.push(show([message, cause, fiber.getRef(References.CurrentLogAnnotations)]))
          })
        ]),
        Layer.succeed(References.MinimumLogLevel, "Trace"),
        Layer.succeed(
          Tracer.Tracer,
          Tracer.make({
            span: (options) => {
              const span = new Tracer.NativeSpan(options)
              spans.push(span)
              return span
            }
          })
        )
      )
      const answers: Readonly<Record<string, (exchange: ModelServer.Exchange) => Effect.Effect<void>>> = {
        unauthorized: (exchange) => exchange.reply(401, error(`Incorrect API key provided: ${key}`)),
        broken: (exchange) => exchange.reply(500, { echo: exchange.headers }),
        malformed: (exchange) => Effect.andThen(exchange.send(`data: {"key": "${key}\n\n`), exchange.end),
        streamed: (exchange) => exchange.send(ModelServer.event(error(`key ${key}`))),
        answered: ModelServer.says("hi")
      }
      const server = yield* start((exchange) => answers[exchange.body.messages[0].content]!(exchange), observed)
      for (const prompt of Object.keys(answers)) {
        yield* Harness.awaitOver(yield* insert({ prompt }, { max_attempts: 1 }))
      }
      assert.lengthOf(server.exchanges, 5)
      for (const { headers } of server.exchanges) assert.strictEqual(headers.authorization, `Bearer ${key}`)

      const names = spans.map(({ name }) => name)
      assert.lengthOf(names.filter((name) => name === "LanguageModel.streamText"), 5)
      assert.isAtLeast(told.length, 4)
      const rows = yield* sql`select t::text from spindle.tasks t`
      const events = yield* sql`select e::text from spindle.task_events e`
      const failures = ["InvalidKey", "\\[key\\]", "not JSON", "key \\[key\\]"]
      for (const failure of failures) assert.match(show(rows), new RegExp(failure))
      for (const place of [show(spans), told.join("\n"), show(rows), show(events)]) {
        assert.notInclude(place, key)
        assert.notInclude(place, "0123456789")
      }
      assert.include(show(spans), "InvalidKey")
    }).pipe(Harness.onDatabase))
})

/** The service with a provider for its AI tasks, in a process of its own. */
import { assert, layer } from "@effect/vitest"
import { Effect, Redacted } from "effect"
import * as Cli from "../support/Cli.ts"
import * as ModelServer from "../support/ModelServer.ts"
import { TestDatabase } from "../support/TestDatabase.ts"

const key = "sk-test-0123456789abcdef"

// says so when a provider's package is loaded
const watched = "data:text/javascript," + encodeURIComponent(`
  import { registerHooks } from "node:module"
  registerHooks({
    resolve(specifier, context, next) {
      if (specifier === "openai") process.stderr.write("the package is loaded\\n")
      return next(specifier, context)
    }
  })
`)

const start = Effect.fnUntraced(function*(env: Cli.Environment) {
  const service = yield* Cli.spawn({
    DATABASE_URL: Redacted.value((yield* TestDatabase).url),
    NODE_OPTIONS: `--import ${watched}`,
    WORKER_LOG_LEVEL: "trace",
    ...env
  }, ["start"])
  yield* service.says("worker started")
  return service
})

const enqueue = (payload: object) =>
  Effect.map(Cli.run("enqueue", "ai_response", JSON.stringify(payload)), ({ stdout }) => stdout.trim())

const follow = Effect.fnUntraced(function*(id: string) {
  return yield* Cli.spawn({ DATABASE_URL: Redacted.value((yield* TestDatabase).url) }, ["follow", id])
})

layer(TestDatabase.layerSql(), { excludeTestServices: true })("a service", (it) => {
  it.effect("asks the provider that its environment names, and hangs up when a task is cancelled", () =>
    Effect.gen(function*() {
      const server = yield* ModelServer.make()
      const service = yield* start({ OPENAI_API_KEY: key, OPENAI_BASE_URL: server.url, OPENAI_MODEL: "some-model" })
      const { stderr } = service.output()
      assert.include(stderr, "AI tasks are answered by a language model")
      assert.include(stderr, `provider=${new URL(server.url).host} model=some-model`)
      assert.include(stderr, "the package is loaded")

      const answered = yield* enqueue({ prompt: "Why is the sky blue?" })
      const first = yield* server.next
      assert.strictEqual(first.headers.authorization, `Bearer ${key}`)
      assert.deepInclude(first.body, { model: "some-model", stream: true })
      const reader = yield* follow(answered)
      yield* first.send(ModelServer.begin, ModelServer.text("Because \u{1F30D} "))
      yield* reader.says("Because \u{1F30D} ")
      yield* first.send(ModelServer.text("scatters"), ModelServer.finish(), ModelServer.usage, ModelServer.done)
      yield* first.end
      assert.strictEqual(yield* reader.ended, 0)
      assert.strictEqual(reader.output().stdout, "Because \u{1F30D} scatters\n")

      const cancelled = yield* enqueue({ prompt: "Tell me everything" })
      const second = yield* server.next
      const listener = yield* follow(cancelled)
      yield* second.send(ModelServer.begin, ModelServer.text("In the beginning "))
      yield* listener.says("In the beginning ")
      assert.strictEqual((yield* Cli.run("cancel", cancelled)).stdout, "cancelled\n")
      assert.isFalse((yield* second.closed).complete)
      assert.strictEqual(yield* listener.ended, 1)

      const refused = yield* enqueue({ prompt: "With a wrong key" })
      const third = yield* server.next
      yield* third.reply(401, ModelServer.error(`Incorrect API key provided: ${key}`))
      yield* service.says("a task failed")
      yield* service.signal("SIGTERM")
      assert.strictEqual(yield* service.ended, 0)
      assert.include((yield* Cli.run("show", refused)).stdout, "AuthenticationFailed")
      assert.notInclude(service.output().stderr + (yield* Cli.run("show", refused)).screen, key)
    }))

  it.effect("needs no key where the endpoint needs none", () =>
    Effect.gen(function*() {
      const server = yield* ModelServer.make(ModelServer.says("Hello"))
      const service = yield* start({ OPENAI_BASE_URL: server.url })
      assert.include(service.output().stderr, "model=\"as each task names it\"")
      const reader = yield* follow(yield* enqueue({ prompt: "hi", model: "llama" }))
      assert.strictEqual(yield* reader.ended, 0)
      assert.strictEqual(reader.output().stdout, "Hello\n")
      assert.notProperty(server.exchanges[0]?.headers, "authorization")
    }))

  it.effect("has the demo model without any, and loads no provider's package", () =>
    Effect.gen(function*() {
      const service = yield* start({ OPENAI_API_KEY: "", OPENAI_MODEL: "ignored" })
      assert.include(service.output().stderr, "AI tasks are answered by the built-in demo model")
      const reader = yield* follow(yield* enqueue({ prompt: "hi", maxOutputTokens: 2 }))
      assert.strictEqual(yield* reader.ended, 0)
      assert.strictEqual(reader.output().stdout, "This is\n")
      assert.notInclude(service.output().stderr, "the package is loaded")
    }))

  it.effect("does not start with an endpoint that is none", () =>
    Effect.gen(function*() {
      const { url } = yield* TestDatabase
      const service = yield* Cli.spawn({ DATABASE_URL: Redacted.value(url), OPENAI_BASE_URL: "api.openai.com/v1" }, [
        "start"
      ])
      assert.strictEqual(yield* service.ended, 78)
      const said = service.output().stderr.split("\n").filter((line) => line.startsWith("spindle: "))
      assert.deepStrictEqual(said, [
        "spindle: OPENAI_BASE_URL is \"api.openai.com/v1\", but must be like https://api.openai.com/v1, " +
        "without a user or a password"
      ])
    }))
})

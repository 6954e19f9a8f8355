import { assert, describe, it } from "@effect/vitest"
import { ConfigProvider, Effect, Option, Redacted } from "effect"
import * as Http from "../../src/config/Http.ts"

const decide = (env: Record<string, string>) => Http.config.parse(ConfigProvider.fromEnvRecord(env))

const refusal = (env: Record<string, string>) =>
  Effect.map(Effect.flip(decide(env)), ({ cause }) => "message" in cause ? cause.message : String(cause))

const token = "0123456789abcdef0123456789abcdef"

const defaults: Http.Http = { port: 5000, host: "127.0.0.1", token: undefined, readOnly: false, allowedHosts: [] }

describe("the server", () => {
  it.effect.each(
    [
      ["by default", {}, {}],
      ["empty is not set", { WORKER_HTTP_PORT: "", WORKER_HTTP_TOKEN: "", WORKER_HTTP_HOST: "" }, {}],
      ["another port", { WORKER_HTTP_PORT: "8080" }, { port: 8080 }],
      ["a free port", { WORKER_HTTP_PORT: "0" }, { port: 0 }],
      ["a name for loopback", { WORKER_HTTP_HOST: "localhost" }, { host: "localhost" }],
      ["another loopback", { WORKER_HTTP_HOST: "127.0.0.2" }, { host: "127.0.0.2" }],
      ["the loopback of IPv6", { WORKER_HTTP_HOST: "::1" }, { host: "::1" }],
      ["read-only", { WORKER_HTTP_READONLY: "true" }, { readOnly: true }],
      ["names", { WORKER_HTTP_ALLOWED_HOSTS: "Spindle.example.com, 10.0.0.7,2001:DB8::2" }, {
        allowedHosts: ["spindle.example.com", "10.0.0.7", "[2001:db8::2]"]
      }]
    ] as const
  )("%s", ([, env, expected]) =>
    Effect.gen(function*() {
      assert.deepStrictEqual(Option.getOrThrow(yield* decide(env)), { ...defaults, ...expected })
    }))

  it.effect("is not there where it is off", () =>
    Effect.gen(function*() {
      assert.isTrue(Option.isNone(yield* decide({ WORKER_HTTP_PORT: "off", WORKER_HTTP_HOST: "0.0.0.0" })))
    }))

  it.effect("has a token, which does not show", () =>
    Effect.gen(function*() {
      const http = Option.getOrThrow(yield* decide({ WORKER_HTTP_TOKEN: token, WORKER_HTTP_HOST: "0.0.0.0" }))
      assert.strictEqual(Redacted.value(http.token!), token)
      assert.strictEqual(http.host, "0.0.0.0")
      assert.notInclude(JSON.stringify(http), token)
    }))

  it.effect.each(["0.0.0.0", "::", "192.168.1.5", "128.0.0.1"])(
    "is not public at %s without a token",
    (host) =>
      Effect.gen(function*() {
        assert.strictEqual(
          yield* refusal({ WORKER_HTTP_HOST: host }),
          `WORKER_HTTP_HOST is "${host}", where others can reach the server: that needs WORKER_HTTP_TOKEN, of at least 32 characters; without it only 127.0.0.1, ::1 and localhost`
        )
      })
  )

  it.effect.each(
    [
      [{ WORKER_HTTP_PORT: "65536" }, "WORKER_HTTP_PORT is \"65536\", but must be a port from 1 to 65535, 0"],
      [{ WORKER_HTTP_PORT: "-1" }, "WORKER_HTTP_PORT is \"-1\""],
      [{ WORKER_HTTP_PORT: "OFF" }, "WORKER_HTTP_PORT is \"OFF\""],
      [{ WORKER_HTTP_HOST: "example.com" }, "WORKER_HTTP_HOST is \"example.com\", but must be an address"],
      [{ WORKER_HTTP_HOST: "127.0.0.1:80" }, "WORKER_HTTP_HOST is \"127.0.0.1:80\""],
      [{ WORKER_HTTP_READONLY: "yes" }, "WORKER_HTTP_READONLY is \"yes\", but must be \"true\" or \"false\""],
      [
        { WORKER_HTTP_ALLOWED_HOSTS: "a.example,b.example:80" },
        "WORKER_HTTP_ALLOWED_HOSTS is \"a.example,b.example:80\""
      ],
      [{ WORKER_HTTP_ALLOWED_HOSTS: "*" }, "WORKER_HTTP_ALLOWED_HOSTS is \"*\", but must be names without ports"],
      [{ WORKER_HTTP_ALLOWED_HOSTS: "https://a.example" }, "WORKER_HTTP_ALLOWED_HOSTS is"]
    ] as const
  )("refuses %j", ([env, message]) =>
    Effect.gen(function*() {
      assert.include(yield* refusal(env), message)
    }))

  it.effect("refuses a token that is short, or is none, without showing it", () =>
    Effect.gen(function*() {
      const short = yield* refusal({ WORKER_HTTP_TOKEN: token.slice(1) })
      assert.strictEqual(short, "WORKER_HTTP_TOKEN is 31 characters long, but must be at least 32")
      for (const odd of [`${token} ${token}`, `${token}é`, `${token}\n`]) {
        const message = yield* refusal({ WORKER_HTTP_TOKEN: odd })
        assert.include(message, "WORKER_HTTP_TOKEN is of other characters than must be")
        assert.notInclude(message, token)
      }
      // Also where there is no server: a mistake is not to come out later.
      assert.include(yield* refusal({ WORKER_HTTP_PORT: "off", WORKER_HTTP_TOKEN: "x" }), "WORKER_HTTP_TOKEN")
    }))
})

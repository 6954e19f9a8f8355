import { assert, describe, it } from "@effect/vitest"
import { ConfigProvider, Effect, Layer } from "effect"
import { TestConsole } from "effect/testing"
import * as Logging from "../../src/cli/Logging.ts"
import { Process, visible } from "../../src/cli/Process.ts"

/** The characters that a terminal obeys: C0, DEL, C1, what ends a line elsewhere, and what turns the direction of a text. */
const obeyed = [
  ...Array.from({ length: 0x20 }, (_, code) => code).filter((code) => code !== 0x0a && code !== 0x09),
  ...Array.from({ length: 0x21 }, (_, n) => 0x7f + n),
  0x2028,
  0x2029,
  ...Array.from({ length: 5 }, (_, n) => 0x202a + n),
  ...Array.from({ length: 4 }, (_, n) => 0x2066 + n)
].map((code) => String.fromCharCode(code))
const hostile = `${obeyed.join("")}\u001b]0;title\u0007\u001b[2J\u009b31m`
const layout = /[\n\t]/g

const logged = (format: string, colors: boolean, effect: Effect.Effect<void>) => {
  const process = Process.make({
    stdout: () => Effect.void,
    stderr: () => Effect.void,
    stdin: Effect.succeed(""),
    isTerminal: { stdin: false, stdout: true, stderr: true },
    colors,
    serve: () => Effect.void
  })
  return effect.pipe(
    Effect.provide(
      Layer.provide(Logging.layer("Info"), [
        Layer.succeed(Process, process),
        ConfigProvider.layer(ConfigProvider.fromEnvRecord({ WORKER_LOG_FORMAT: format }))
      ])
    ),
    Effect.andThen(TestConsole.errorLines),
    Effect.map((lines) => lines.join("\n"))
  )
}

const everywhere = Effect.logError(
  `said ${hostile}`,
  { [`field ${hostile}`]: [hostile] },
  new Error(`an error ${hostile}`)
).pipe(
  Effect.annotateLogs({ [`key ${hostile}`]: hostile, error: new Error(`annotated ${hostile}`) }),
  Effect.withLogSpan(`span ${hostile}`)
)

const assertShown = (text: string) => {
  for (const char of obeyed) assert.notInclude(text, char, JSON.stringify(char))
  assert.include(text, "\\u001b]0;title\\u0007\\u001b[2J\\u009b31m")
}

describe("what a terminal gets to see", () => {
  it("shows what a terminal would obey, and nothing else in another way", () => {
    for (const char of obeyed) {
      assert.strictEqual(visible(`a${char}b`), `a\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}b`)
    }
    const text = "a\n\tb  é ü 漢字 👩‍👩‍👧 مرحبا שלום\u200f! 5 €"
    assert.strictEqual(visible(text), text)
    assert.strictEqual(visible("a\r\nb"), "a\nb")
  })

  it("is the same JSON", () => {
    for (const space of [undefined, 2]) {
      const value = { [hostile]: [`${hostile}\n\t\r\n`] }
      const text = visible(JSON.stringify(value, undefined, space))
      assertShown(text)
      assert.deepStrictEqual(JSON.parse(text), value)
    }
  })
})

describe("a log", () => {
  for (const format of ["json", "logfmt", "pretty"]) {
    it.effect(`shows what a text, a name or an error would do to a terminal (${format})`, () =>
      Effect.gen(function*() {
        const text = yield* logged(format, false, everywhere)
        assertShown(text)
        if (format !== "pretty") assert.notMatch(text, layout)
      }))
  }

  it.effect("is the same JSON", () =>
    Effect.gen(function*() {
      const text = yield* logged("json", true, everywhere)
      assert.strictEqual(JSON.parse(text).annotations[`key ${hostile}`], hostile)
    }))

  it.effect("has colours of its own only, and no text begins a line as an entry does", () =>
    Effect.gen(function*() {
      const text = yield* logged(
        "pretty",
        true,
        Effect.logWarning(`a\n[10:00:00.000] ERROR (#1): b\u001b[31mc`, "d\ne")
      )
      assert.match(
        text,
        // oxlint-disable-next-line no-control-regex
        /^\[\d\d:\d\d:\d\d\.\d{3}\] \x1b\[33mWARN\x1b\[0m \(#\d+\): \x1b\[1;36ma\n {2}\[10:00:00\.000\] ERROR \(#1\): b\\u001b\[31mc\x1b\[0m\n {2}d\n {2}e$/
      )
    }))
})

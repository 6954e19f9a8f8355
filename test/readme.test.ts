import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Layer, Option, Schema } from "effect"
import type { LanguageModel } from "effect/ai"
import * as Fs from "node:fs"
import * as AiTasks from "../src/ai/AiTasks.ts"
import * as HandlerRegistry from "../src/HandlerRegistry.ts"
import * as Task from "../src/Task.ts"
import { deltas, scripted } from "./ai/scripted.ts"
import { attempt } from "./support/execution.ts"
import * as Docs from "./types/ai.ts"

const read = (path: string) => Fs.readFileSync(new URL(path, import.meta.url), "utf8")

/** Imports differ: a reader's come from the package. So does the line that names the file. */
const body = (code: string) =>
  code.split("\n").filter((line) => !/^(import |\/\/ \w+\.ts$)/.test(line)).join("\n").trim()

const fenced = (language: string, path: string) =>
  [...read(path).matchAll(new RegExp(`^\`\`\`${language}\n(.*?)^\`\`\`$`, "gms"))].map(([, code]) => code!)

// The README itself is run by test/scripts/package.ts.
describe("package.json", () => {
  const { exports, peerDependencies, scripts } = JSON.parse(read("../package.json"))

  it("exports every module that the documentation imports, and none of another's", () => {
    const texts = [read("../README.md"), ...Fs.globSync("docs/**/*.md").map((path) => Fs.readFileSync(path, "utf8"))]
    const named = texts.flatMap((text) =>
      [...text.matchAll(/effect-spindle(\/[\w/]+)?["\x60]/g)].map(([, path = ""]) => `.${path}`)
    )
    assert.includeMembers(Object.keys(exports), named)
    for (const [name, built] of Object.entries<string>(exports)) {
      if (name.endsWith(".json")) continue
      assert.isTrue(Fs.existsSync(built.replace(/^\.\/dist(.*)\.js$/, "src$1.ts")), built)
      assert.notMatch(name, /\*|internal|storage|worker|server|cli|config|dashboard|demo/)
    }
  })

  it("has one copy of Effect's packages, the application's, and no script that runs where it is installed", () => {
    assert.sameMembers(Object.keys(peerDependencies), ["@effect/platform-node", "@effect/sql-pg", "effect"])
    assert.doesNotHaveAnyKeys(scripts, ["preinstall", "install", "postinstall", "prepare", "prepublish"])
  })
})

describe("docs/ai.md", () => {
  const path = "../docs/ai.md"

  it("shows code that compiles", () => {
    const blocks = fenced("ts", path).map(body)
    assert.strictEqual(blocks.length, 4)
    const [header, ...code] = body(read("types/ai.ts")).split("\n")
    assert.match(header!, /docs\/ai.md/)
    assert.strictEqual(blocks.join("\n").replaceAll(/\n+/g, "\n"), code.join("\n").trim().replaceAll(/\n+/g, "\n"))
  })

  it.effect("shows payloads that fit", () =>
    Effect.gen(function*() {
      const codes = ["sh", "sql", "console"].flatMap((language) => fenced(language, path))
      const shown = [...codes.join("\n").matchAll(/(?:enqueue |')(ai_\w+)[^{]+'(\{.*?\})'/gs)]
      assert.deepStrictEqual(shown.map(([, type]) => type).toSorted(), [
        "ai_generate_fields",
        "ai_generate_fields",
        "ai_generate_records",
        "ai_generate_records",
        "ai_response"
      ])
      for (const [, type, payload] of shown) {
        const task = AiTasks.AiTasks.tasks.get(type!)!
        yield* Schema.decodeUnknownEffect(Task.payloadCodec(task))(JSON.parse(payload!), { onExcessProperty: "error" })
      }
    }))

  const headlines = Effect.fnUntraced(function*(model: Layer.Layer<LanguageModel.LanguageModel>) {
    const registry = HandlerRegistry.layer(Docs.group).pipe(Layer.provide(Docs.handlers), Layer.provide(model))
    const { events, execution } = attempt(Docs.Headlines)
    const exit = yield* Effect.gen(function*() {
      const entry = Option.getOrThrow((yield* HandlerRegistry.HandlerRegistry).get("news:headlines"))
      return yield* Effect.provideContext(entry.run({ article: "News" }, execution), entry.services)
    }).pipe(Effect.provide(registry), Effect.exit)
    return { events, exit }
  })

  it.effect("shows a task that fails with an answer that is none", () =>
    Effect.gen(function*() {
      const { exit } = yield* headlines(scripted(deltas("One\nTwo")).layer)
      assert.propertyVal(yield* Effect.flip(exit), "_tag", "MalformedOutput")
    }))

  it.effect("shows a provider and a task that work", () =>
    Effect.gen(function*() {
      async function* chat() {
        yield "One\nTw"
        yield "o\n\nThree"
      }
      const asked: Array<unknown> = []
      const model = Docs.model({
        chat: (messages, settings) => {
          asked.push([messages, settings])
          return chat()
        }
      })
      const { events, exit } = yield* headlines(model)
      assert.deepStrictEqual(exit, Exit.succeed({ headlines: ["One", "Two", "Three"] }))
      assert.deepStrictEqual(events.map((event) => event._tag === "headline" && [event.index, event.text]), [
        [0, "One"],
        [1, "Two"],
        [2, "Three"]
      ])
      assert.deepStrictEqual(asked, [[
        [{ role: "user", content: "Write five headlines for this article, one a line:\n\nNews" }],
        { temperature: 1 }
      ]])
    }))
})

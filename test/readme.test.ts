import { assert, describe, it } from "@effect/vitest"
import * as Fs from "node:fs"

const read = (path: string) => Fs.readFileSync(new URL(path, import.meta.url), "utf8")

/** Imports differ: a reader's come from the package. So does the line that names the file. */
const body = (code: string) =>
  code.split("\n").filter((line) => !/^(import |\/\/ \w+\.ts$)/.test(line)).join("\n").trim()

const fenced = (language: string) =>
  [...read("../README.md").matchAll(new RegExp(`^\`\`\`${language}\n(.*?)^\`\`\`$`, "gms"))].map(([, code]) => code!)

describe("README", () => {
  it("shows code that compiles", () => {
    const blocks = fenced("ts").map(body)
    assert.strictEqual(blocks.length, 4)
    const [header, ...code] = body(read("types/readme.ts")).split("\n")
    assert.match(header!, /README/)
    assert.strictEqual(blocks.join("\n").replaceAll(/\n+/g, "\n"), code.join("\n").trim().replaceAll(/\n+/g, "\n"))
  })
})

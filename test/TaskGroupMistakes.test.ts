import { assert, it } from "@effect/vitest"
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"

const directory = Path.join(import.meta.dirname, "types/mistakes")
const tsc = Path.join(import.meta.dirname, "../node_modules/typescript/bin/tsc")

it("a mistake in a handler is told as what it is, at its line", () => {
  const lines = Fs.readFileSync(Path.join(directory, "handlers.ts"), "utf8").split("\n")
  const expected = lines.flatMap((line, index) => /^ *\/\/ (.*)$/.test(line) && lines[index + 1] !== "" ? [index] : [])
    .slice(1)
  const { stdout } = ChildProcess.spawnSync(process.execPath, [tsc, "-p", directory], {
    cwd: directory,
    encoding: "utf8"
  })
  // An error begins at the margin; what belongs to it is indented. Those of Effect's own rules repeat what `tsc` says.
  const errors = stdout.split(/\n(?=\S)/).flatMap((text) => {
    const [, line, code] = /^handlers\.ts\((\d+),\d+\): error TS(\d+)/.exec(text) ?? []
    return line === undefined || Number(code) > 300_000
      ? []
      : [{ line: Number(line), text: text.replaceAll("\\\"", "\"") }]
  })
  assert.deepStrictEqual(errors.map(({ line }) => line), expected.map((index) => index + 2))
  for (const [n, index] of expected.entries()) assert.include(errors[n]!.text, lines[index]!.trim().slice(3))
})

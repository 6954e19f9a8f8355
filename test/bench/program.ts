/**
 * The programs of the bench's processes, compiled: stripping types at run time would add some 16 MB to what they are measured by.
 */
import { Context, Effect, Layer } from "effect"
import { execFile } from "node:child_process"
import { rmSync } from "node:fs"
import { join } from "node:path"
import { promisify } from "node:util"
import { BenchError } from "./errors.ts"

const root = join(import.meta.dirname, "../..")

/** A directory that exists while this run lasts. */
export const temporary = (name: string): string => join(root, ".spindle", `bench-${process.pid}-${name}`)

const compile = Effect.gen(function*() {
  const outDir = temporary("program")
  yield* Effect.addFinalizer(() => Effect.sync(() => rmSync(outDir, { recursive: true, force: true })))
  const tsc = join(root, "node_modules/typescript/bin/tsc")
  yield* Effect.tryPromise({
    try: () => promisify(execFile)(process.execPath, [tsc, "-p", import.meta.dirname, "--outDir", outDir]),
    catch: (cause) => new BenchError({ message: `the programs do not compile: ${String(cause)}` })
  })
  return (file: string) => join(outDir, "test/bench", file)
})

/** The path of a compiled program. */
export class Program extends Context.Service<Program, (file: string) => string>()("bench/Program") {
  static readonly layer = Layer.effect(this, compile)
}

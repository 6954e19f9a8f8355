/**
 * The tasks of a service: a module of the user's, or what Spindle brings along.
 *
 * @since 0.1.0
 */
import type * as PgClient from "@effect/sql-pg/PgClient"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import type * as SqlClient from "effect/sql/SqlClient"
import * as Fs from "node:fs"
import * as Module from "node:module"
import * as Path from "node:path"
import * as Url from "node:url"
import * as AiTasks from "../ai/AiTasks.ts"
import * as DemoModel from "../ai/DemoModel.ts"
import * as OpenAiModel from "../ai/OpenAiModel.ts"
import * as DemoTasks from "../demo/DemoTasks.ts"
import * as HandlerRegistry from "../HandlerRegistry.ts"
import type * as Task from "../Task.ts"
import * as TaskGroup from "../TaskGroup.ts"
import { CliFailure } from "./Failure.ts"

/**
 * Handlers that need no more than the database.
 *
 * @category models
 * @since 0.1.0
 */
export type Handlers = Layer.Layer<HandlerRegistry.HandlerRegistry, unknown, PgClient.PgClient | SqlClient.SqlClient>

const model = Layer.unwrap(Effect.gen(function*() {
  const options = yield* OpenAiModel.config
  if (Option.isNone(options)) {
    yield* Effect.logInfo("no --tasks given: AI tasks are answered by the built-in demo model, beside the demo tasks")
    return DemoModel.layer
  }
  const { host, model } = OpenAiModel.providerOf(options.value)
  yield* Effect.logInfo("no --tasks given: AI tasks are answered by a language model, beside the demo tasks").pipe(
    Effect.annotateLogs({ provider: host, model: model ?? "as each task names it" })
  )
  return OpenAiModel.layer(options.value)
}))

/**
 * The AI tasks, answered by the language model that `OPENAI_API_KEY` or `OPENAI_BASE_URL` names and else by the demo
 * model, and the demo tasks. Says which, when it is built.
 *
 * @category layers
 * @since 0.1.0
 */
export const builtIn: Handlers = HandlerRegistry.layer(AiTasks.AiTasks.merge(DemoTasks.DemoTasks)).pipe(
  Layer.provide([AiTasks.layer.pipe(Layer.provide(model)), DemoTasks.layer])
)

const malformed = (message: string) => new CliFailure({ message, exitCode: 78 })

/**
 * Imports a module that exports `group` and `layer`. A name that is a file, seen from the current directory, is that
 * file; any other is a package, as the current directory sees it.
 *
 * @category constructors
 * @since 0.1.0
 */
export const load = Effect.fnUntraced(function*(name: string): Effect.fn.Return<Handlers, CliFailure> {
  const found = locate(name)
  if (found.missing !== undefined) return yield* malformed(`--tasks ${name} cannot be imported: ${found.missing}`)
  const module = yield* Effect.tryPromise({
    try: (): Promise<Readonly<Record<string, unknown>>> => import(found.specifier),
    catch: (cause) =>
      malformed(`--tasks ${name} cannot be imported: ${cause instanceof Error ? cause.message : String(cause)}`)
  })
  const { group, layer } = module
  if (TaskGroup.isTaskGroup(group) && Layer.isLayer(layer)) {
    // What its handlers need in truth shows when the layer is built.
    return Layer.provide(
      HandlerRegistry.layer(group as TaskGroup.TaskGroup<Task.Any>),
      layer as Layer.Layer<any, unknown, PgClient.PgClient | SqlClient.SqlClient>
    )
  }
  const exported = Object.entries(module).map(([key, value]) => `${key} (${kindOf(value)})`)
  return yield* malformed(
    `--tasks ${name} exports ${exported.length === 0 ? "nothing" : exported.join(", ")}, ` +
      "but must export `group` (a TaskGroup) and `layer` (a Layer with its handlers)"
  )
})

const kindOf = (value: unknown) =>
  TaskGroup.isTaskGroup(value)
    ? "a TaskGroup"
    : Layer.isLayer(value)
    ? "a Layer"
    : Predicate.isFunction(value)
    ? "a function"
    : typeof value

const locate = (name: string): { readonly specifier: string; readonly missing?: string } => {
  const path = Path.resolve(name)
  if (Fs.existsSync(path)) return { specifier: Url.pathToFileURL(path).href }
  if (/^\.{0,2}\//.test(name) || Path.isAbsolute(name)) return { specifier: name, missing: `there is no file ${path}` }
  try {
    return { specifier: Url.pathToFileURL(Module.createRequire(Path.resolve("package.json")).resolve(name)).href }
  } catch (error) {
    // A package that is for `import` alone is there, though `require` does not find it.
    return Predicate.hasProperty(error, "code") && error.code === "MODULE_NOT_FOUND"
      ? { specifier: name, missing: `there is no file ${path}, and no package of this name can be found from here` }
      : { specifier: name }
  }
}

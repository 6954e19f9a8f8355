/**
 * A worker that answers `ai_response` from a provider, with default settings but for the concurrency.
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import * as Layer from "effect/Layer"
import * as ManagedRuntime from "effect/ManagedRuntime"
import * as Redacted from "effect/Redacted"
import * as References from "effect/References"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import * as AiTasks from "../../../src/ai/AiTasks.ts"
import * as OpenAiModel from "../../../src/ai/OpenAiModel.ts"
import * as HandlerRegistry from "../../../src/HandlerRegistry.ts"
import * as Worker from "../../../src/Worker.ts"
import { usage } from "../protocol.ts"
import { serve } from "../serve.ts"
import type { WorkerCalls, WorkerOptions } from "./calls.ts"

const layer = ({ concurrency, provider, url }: WorkerOptions) =>
  Worker.layer({ concurrency }).pipe(
    Layer.provide(HandlerRegistry.layer(AiTasks.AiTasks)),
    Layer.provide(AiTasks.layer),
    Layer.provide(OpenAiModel.layer({ apiKey: Redacted.make("bench"), baseUrl: provider, model: "bench" })),
    Layer.provide(PgClient.layer({ url: Redacted.make(url) })),
    Layer.provide(Layer.succeed(References.MinimumLogLevel, "Warn"))
  )

setFlagsFromString("--expose-gc")
const collect: () => void = runInNewContext("gc")

let running: ManagedRuntime.ManagedRuntime<Worker.Worker, unknown> | undefined

serve(
  {
    start: async (options) => {
      running = ManagedRuntime.make(layer(options))
      await running.runPromise(Worker.Worker)
    },
    usage: async () => usage(),
    heap: async () => {
      collect()
      return process.memoryUsage().heapUsed
    },
    stop: async () => running?.dispose()
  } satisfies WorkerCalls
)

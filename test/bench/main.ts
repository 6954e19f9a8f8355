/**
 * Measures the product against the loop that people write by hand, and both against the goals: `npm run bench -- --help`.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Effect, Layer } from "effect"
import { BenchError } from "./errors.ts"
import { describe } from "./machine.ts"
import { print, progress } from "./output.ts"
import { Program } from "./program.ts"
import { markdown, type Section, writeInto } from "./report.ts"
import * as Rivals from "./rivals/load.ts"
import * as Server from "./server.ts"
import { parse, type Settings, usage, type WorkloadName } from "./settings.ts"
import * as Cancel from "./workloads/cancel.ts"
import * as Drain from "./workloads/drain.ts"
import * as Enqueue from "./workloads/enqueue.ts"
import * as Followers from "./workloads/followers.ts"
import * as History from "./workloads/history.ts"
import * as Idle from "./workloads/idle.ts"
import * as Pickup from "./workloads/pickup.ts"
import * as Slots from "./workloads/slots.ts"
import * as Streams from "./workloads/streams.ts"

const run = (workload: WorkloadName, settings: Settings) => {
  switch (workload) {
    case "drain":
      return Effect.forEach(settings.concurrency, (concurrency) => Drain.workload(settings, concurrency))
    case "slots":
      return Effect.map(Slots.workload(settings), Array.of<Section>)
    case "enqueue":
      return Enqueue.workload(settings)
    case "pickup":
      return Effect.map(Pickup.workload(settings), Array.of<Section>)
    case "idle":
      return Effect.map(Idle.workload(settings), Array.of<Section>)
    case "cancel":
      return Cancel.workload(settings)
    case "streams":
      return Effect.map(Streams.workload(settings), Array.of<Section>)
    case "followers":
      return Effect.map(Followers.workload(settings), Array.of<Section>)
    case "history":
      return History.workload(settings)
  }
}

const bench = Effect.fnUntraced(function*(settings: Settings) {
  const machine = yield* describe
  const sections = yield* Effect.forEach(settings.workloads, (workload) => run(workload, settings))
  const report = markdown(machine, sections.flat())
  yield* print(report)
  if (settings.write !== undefined) writeInto(settings.write, report)
})

const main = Effect.gen(function*() {
  const settings = yield* Effect.try({
    try: () => parse(process.argv.slice(2)),
    catch: (cause) => new BenchError({ message: cause instanceof Error ? cause.message : String(cause) })
  })
  if (settings === undefined) return yield* print(usage)
  const compares = settings.workloads.some((workload) => workload === "drain" || workload === "slots")
  if (compares && settings.systems.some(({ own }) => own !== undefined)) Rivals.install()
  yield* Effect.provide(bench(settings), Layer.merge(Program.layer, Server.layer))
}).pipe(
  Effect.catchTag("BenchError", ({ message }) =>
    Effect.andThen(
      progress(message),
      Effect.sync(() => {
        process.exitCode = 1
      })
    ))
)

NodeRuntime.runMain(main)

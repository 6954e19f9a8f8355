import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Layer, Option, Tracer } from "effect"
import * as Spans from "../../src/worker/Spans.ts"
import * as Harness from "../support/WorkerHarness.ts"

const spanOptions = (name: string): Parameters<Tracer.Tracer["span"]>[0] => ({
  name,
  parent: Option.none(),
  annotations: Context.empty(),
  links: [],
  startTime: 0n,
  kind: "internal",
  root: true,
  sampled: true
})

describe("the span of a write", () => {
  it.effect("is linked to 128 attempts at most", () =>
    Effect.gen(function*() {
      const begun: Array<Tracer.Span> = []
      const tracer = Tracer.make({
        span: (options) => {
          const span = new Tracer.NativeSpan(options)
          begun.push(span)
          return span
        }
      })
      const attempts = Array.from({ length: 300 }, (_, n) => new Tracer.NativeSpan(spanOptions(`attempt ${n}`)))
      yield* Effect.provideService(Spans.writing(Effect.void, attempts, 300), Tracer.Tracer, tracer)
      assert.deepStrictEqual(begun.map(({ links }) => links.length), [128])
    }))
})

describe("a tracer that throws", () => {
  for (const moment of ["begins", "ends"] as const) {
    it.live(`when a span ${moment} leaves no task behind`, () =>
      Effect.gen(function*() {
        const lines: Array<Harness.LogLine> = []
        const tracer = Tracer.make({
          span: (options) => {
            if (moment === "begins") throw new Error("no span")
            const span = new Tracer.NativeSpan(options)
            span.end = () => {
              throw new Error("no end")
            }
            return span
          }
        })
        const script = Harness.script()
        const worker = yield* Harness.launch(Harness.Tasks, script.handlers, { concurrency: 1 }, {
          references: Layer.merge(Layer.succeed(Tracer.Tracer)(tracer), Harness.keepLogs(lines))
        })
        const plain = yield* Harness.insert("plain")
        const scripted = yield* Harness.insert("scripted")
        const { execution, proceed } = yield* script.next(scripted)
        yield* proceed(Effect.as(execution.emit({ _tag: "text_delta", text: "a" }), "done"))
        for (const id of [plain, scripted]) {
          assert.deepInclude(yield* Harness.awaitOver(id), { status: "completed", attempts: 1 })
        }
        assert.strictEqual(yield* worker.running, 0)
        assert.isTrue((yield* worker.health).alive)
        assert.include(lines.map(({ message }) => message), "the tracer threw an error")
      }).pipe(Harness.onDatabase))
  }
})

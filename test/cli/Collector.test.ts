import { assert, describe, it } from "@effect/vitest"
import { ByteSize, Duration, Effect, Fiber } from "effect"
import { HttpBody, HttpClient, HttpClientRequest, HttpClientResponse } from "effect/http"
import { TestClock } from "effect/testing"
import * as Collector from "../../src/cli/Collector.ts"
import * as Harness from "../support/WorkerHarness.ts"

type Answer = number | "never" | "no body"

/** A client of a collector that answers with what `answer` is at the time, and what it sees of it. */
const make = Effect.fnUntraced(function*(options: { readonly drop?: boolean } = {}) {
  const seen = { open: 0, mostOpen: 0, paths: [] as Array<string> }
  const lines: Array<Harness.LogLine> = []
  const collector = { answer: "never" as Answer }
  const http = HttpClient.make((request) =>
    Effect.suspend(() => {
      seen.paths.push(new URL(request.url).pathname)
      seen.mostOpen = Math.max(seen.mostOpen, ++seen.open)
      if (collector.answer === "never") return Effect.never
      const body = collector.answer === "no body" ? new ReadableStream() : null
      const status = collector.answer === "no body" ? 200 : collector.answer
      return Effect.succeed(HttpClientResponse.fromWeb(request, new Response(body, { status })))
    }).pipe(Effect.ensuring(Effect.sync(() => seen.open--)))
  )
  const client = yield* Collector.make({ signal: "traces", timeout: Duration.seconds(10), drop: true, ...options })
    .pipe(
      Effect.provideService(HttpClient.HttpClient, http)
    )
  const logs = Harness.keepLogs(lines)
  const send = (path: string, size = 1) =>
    HttpClientRequest.post(`http://collector.example/${path}`).pipe(
      HttpClientRequest.setBody(HttpBody.uint8Array(new Uint8Array(size))),
      client.execute,
      Effect.map(({ status }) => status),
      Effect.provide(logs),
      Effect.forkChild({ startImmediately: true })
    )
  return { collector, lines, seen, send }
})

const mebibyte = Number(ByteSize.toBigInt(ByteSize.mebibytes(1)))
const messages = (lines: ReadonlyArray<Harness.LogLine>) => lines.map(({ message }) => message)
const unwell = "the collector of traces and metrics does not take them"
const slow = "the collector takes too little: what is above the bound is dropped"

describe("a collector", () => {
  for (const answer of ["never", "no body"] as const) {
    it.effect(`that hangs gets one request at a time, and in the end another one (${answer})`, () =>
      Effect.gen(function*() {
        const { collector, lines, seen, send } = yield* make()
        collector.answer = answer
        const one = yield* send("one")
        const other = yield* send("other")
        assert.deepStrictEqual(seen.paths, ["/one"])
        yield* TestClock.adjust("10 seconds")
        // Five times ten seconds, and fifteen between them.
        yield* TestClock.adjust("54 seconds")
        assert.deepStrictEqual(seen.paths, Array.from({ length: 5 }, () => "/one"))
        collector.answer = 200
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual(seen.paths.slice(5), ["/other"])
        assert.strictEqual(yield* Fiber.join(one), 200)
        assert.strictEqual(yield* Fiber.join(other), 200)
        assert.strictEqual(seen.mostOpen, 1)
        assert.deepStrictEqual(messages(lines), [unwell])
      }))
  }

  it.effect("that hangs costs a bounded memory: the rest is dropped, which is told once", () =>
    Effect.gen(function*() {
      const { collector, lines, seen, send } = yield* make()
      const kept = yield* Effect.forEach([1, 2, 3, 4, 5, 6, 7], (n) => send(`kept-${n}`, mebibyte))
      const dropped = yield* Effect.forEach([1, 2, 3], (n) => send(`dropped-${n}`, mebibyte))
      for (const fiber of dropped) assert.strictEqual(yield* Fiber.join(fiber), 200)
      assert.deepStrictEqual(messages(lines), [slow])
      collector.answer = 200
      yield* TestClock.adjust("11 seconds")
      for (const fiber of kept) yield* Fiber.join(fiber)
      assert.strictEqual(new Set(seen.paths).size, 7)
      // It is over, and begins again. One that finds nobody waiting may have any size.
      yield* Fiber.join(yield* send("large", 9 * mebibyte))
      assert.strictEqual(seen.paths.at(-1), "/large")
      collector.answer = "never"
      yield* send("large", 9 * mebibyte)
      yield* Fiber.join(yield* send("late"))
      assert.deepStrictEqual(messages(lines), [slow, unwell, slow])
    }))

  it.effect("that is back is told of when it fails again", () =>
    Effect.gen(function*() {
      const { collector, lines, seen, send } = yield* make()
      collector.answer = 503
      const fiber = yield* send("one")
      yield* TestClock.adjust("2 seconds")
      collector.answer = 200
      yield* TestClock.adjust("10 seconds")
      yield* Fiber.join(fiber)
      assert.lengthOf(seen.paths, 3)
      collector.answer = 400
      assert.strictEqual(yield* Fiber.join(yield* send("one")), 200)
      assert.lengthOf(seen.paths, 4)
      assert.deepStrictEqual(messages(lines), [unwell, unwell])
      assert.deepStrictEqual(lines[0]!.annotations, { signal: "traces" })
    }))

  it.effect("that takes nothing is a failure where differences are sent", () =>
    Effect.gen(function*() {
      const { collector, send } = yield* make({ drop: false })
      collector.answer = 400
      const error = yield* Effect.flip(Fiber.join(yield* send("one")))
      assert.strictEqual(error.reason._tag, "StatusCodeError")
      collector.answer = 200
      assert.strictEqual(yield* Fiber.join(yield* send("one")), 200)
    }))
})

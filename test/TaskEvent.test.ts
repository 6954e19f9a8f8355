import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import * as TaskEvent from "../src/TaskEvent.ts"

class Finding extends Schema.TaggedClass<Finding>()("finding", { at: Schema.Date }) {}

const decodePosition = Schema.decodeUnknownEffect(TaskEvent.PositionFromString)
const encodePosition = Schema.encodeEffect(TaskEvent.PositionFromString)

describe("TaskEvent", () => {
  describe("PositionFromString", () => {
    it.effect("reads and writes epoch-seq", () =>
      Effect.gen(function*() {
        assert.deepStrictEqual(yield* decodePosition("3-17"), { epoch: 3n, seq: 17 })
        assert.deepStrictEqual(yield* decodePosition("0-0"), { epoch: 0n, seq: 0 })
        assert.deepStrictEqual(yield* decodePosition("9223372036854775807-2147483647"), {
          epoch: 9223372036854775807n,
          seq: 2147483647
        })
        assert.strictEqual(yield* encodePosition({ epoch: 3n, seq: 17 }), "3-17")
      }))

    it.effect.prop(
      "every position survives the wire",
      { position: TaskEvent.Position },
      ({ position }) =>
        Effect.gen(function*() {
          assert.deepStrictEqual(yield* decodePosition(yield* encodePosition(position)), position)
        })
    )

    it.effect.each([
      "",
      "-",
      "1",
      "1-",
      "-1",
      "-1-1",
      "1--1",
      "+1-1",
      " 1-1",
      "1-1 ",
      "1-1\n",
      "01-1",
      "1-01",
      "1-1-1",
      "1.0-1",
      "1e3-1",
      "0x1-1",
      "١-١",
      "9223372036854775808-1",
      "1-2147483648",
      null,
      11
    ])("refuses %j", (text) => Effect.asVoid(Effect.flip(decodePosition(text))))

    it.effect("does not write what is no position", () =>
      Effect.gen(function*() {
        for (const position of [{ epoch: -1n, seq: 1 }, { epoch: 1n, seq: -1 }, { epoch: 1n, seq: 1.5 }]) {
          yield* Effect.flip(encodePosition(position))
        }
      }))
  })

  it("types are the stored names", () => {
    assert.deepStrictEqual(TaskEvent.types(TaskEvent.TextDelta), ["text_delta"])
    assert.deepStrictEqual(TaskEvent.types(Schema.Union([TaskEvent.Usage, Schema.Union([Finding])])), [
      "usage",
      "finding"
    ])
    assert.deepStrictEqual(TaskEvent.types(Schema.Struct({ _tag: Schema.Literals(["on", "off"]) })), ["on", "off"])
    assert.deepStrictEqual(TaskEvent.types(Schema.suspend(() => TaskEvent.TextDelta)), ["text_delta"])
  })

  it("types has no name for an event whose tag is open", () => {
    assert.deepStrictEqual(TaskEvent.types(Schema.Struct({ _tag: Schema.String })), [undefined])
    assert.deepStrictEqual(TaskEvent.types(Schema.Struct({ at: Schema.Date })), [undefined])
    assert.deepStrictEqual(TaskEvent.types(Schema.String), [undefined])
  })

  it("declares", () => {
    assert.isFalse(TaskEvent.declares(Schema.Never))
    assert.isFalse(TaskEvent.declares(Schema.Union([])))
    assert.isFalse(TaskEvent.declares(Schema.Union([Schema.Never])))
    assert.isTrue(TaskEvent.declares(TaskEvent.TextDelta))
    assert.isTrue(TaskEvent.declares(Finding))
  })

  it("closingTypes are the tags of Closing", () => {
    assert.deepStrictEqual([...TaskEvent.closingTypes], ["done", "error", "retry", "released", "cancelled"])
  })

  it.effect("Closing reads what is stored", () =>
    Effect.gen(function*() {
      const decode = Schema.decodeUnknownEffect(Schema.toCodecJson(TaskEvent.Closing))
      const retry = yield* decode({
        _tag: "retry",
        kind: "failure",
        tag: "Busy",
        message: "busy",
        willRetry: true,
        runAt: "2026-01-01T00:00:00.000Z",
        startedAt: "2025-12-31T23:59:59.000Z",
        worker: "host-1"
      })
      assert(retry._tag === "retry")
      assert.strictEqual(retry.runAt.epochMilliseconds, Date.UTC(2026, 0, 1))
      assert.deepStrictEqual(yield* decode({ _tag: "cancelled" }), { _tag: "cancelled" })
      yield* Effect.flip(decode({ _tag: "error", kind: "failure", tag: "Busy", message: "busy", willRetry: true }))
      yield* Effect.flip(decode({ _tag: "released", reason: "boredom" }))
    }))

  it.effect.each([-0.1, 1.1, Number.NaN])(
    "Progress refuses the fraction %s",
    (fraction) => Effect.asVoid(Effect.flip(Schema.decodeEffect(TaskEvent.Progress)({ _tag: "progress", fraction })))
  )
})

import { assert, describe, it } from "@effect/vitest"
import type { Json } from "../../src/dashboard/json.ts"
import * as Transcript from "../../src/dashboard/transcript.ts"

const event = (epoch: number, seq: number, event: string, data: Json = {}): Transcript.Event => ({
  id: { epoch: BigInt(epoch), seq },
  event,
  data
})
const said = (epoch: number, seq: number, text: string) => event(epoch, seq, "text_delta", { text })
const gathered = (...events: ReadonlyArray<Transcript.Event>) => {
  const transcript = new Transcript.Transcript()
  for (const each of events) transcript.receive(each)
  return transcript
}
const textOf = (text: Transcript.Text | undefined) => text?.pieces.join("")

describe("a transcript", () => {
  it("joins text, and keeps it out of the list of events", () => {
    const { closed, count, events, text } = gathered(said(1, 1, "Hel"), said(1, 2, "lo"), event(1, 3, "done"))
    assert.strictEqual(textOf(text), "Hello")
    assert.strictEqual(text!.length, 5)
    assert.strictEqual(count, 3)
    assert.strictEqual(closed?.event, "done")
    assert.deepStrictEqual(events.map(({ event }) => event), ["done"])
  })

  it("takes what is told again only once", () => {
    const { count, text } = gathered(
      said(1, 1, "a"),
      said(1, 2, "b"),
      said(1, 1, "a"),
      said(1, 2, "b"),
      said(1, 3, "c")
    )
    assert.strictEqual(textOf(text), "abc")
    assert.strictEqual(count, 3)
  })

  it("starts over with a new attempt, and keeps what the earlier one said", () => {
    const transcript = gathered(
      event(1, 1, "progress", { fraction: 0.5, message: "half" }),
      said(1, 2, "first"),
      event(1, 3, "usage", { inputTokens: 1, outputTokens: 2, totalTokens: 3 }),
      event(1, 4, "retry", { tag: "Boom" })
    )
    assert.strictEqual(textOf(transcript.text), "first")
    assert.strictEqual(transcript.closed?.event, "retry")
    transcript.receive(said(2, 1, "second"))
    assert.strictEqual(textOf(transcript.text), "second")
    assert.deepStrictEqual(transcript.earlier.map(textOf), ["first"])
    assert.isUndefined(transcript.closed)
    assert.isUndefined(transcript.progress)
    assert.isUndefined(transcript.usage)
  })

  it("keeps the text where somebody who is no attempt closes the task", () => {
    const { closed, earlier, text } = gathered(said(1, 1, "kept"), event(2, 1, "cancelled"))
    assert.strictEqual(textOf(text), "kept")
    assert.deepStrictEqual(earlier, [])
    assert.strictEqual(closed?.event, "cancelled")
  })

  it("sums the usage of one attempt", () => {
    const { usage } = gathered(
      event(1, 1, "usage", { inputTokens: 1, outputTokens: 2, totalTokens: 3, model: "m" }),
      event(1, 2, "usage", { inputTokens: 10, outputTokens: 20, totalTokens: 30 })
    )
    assert.deepStrictEqual(usage, { inputTokens: 11, outputTokens: 22, totalTokens: 33, model: "m" })
  })

  it("takes events that are shaped otherwise than it knows", () => {
    const { events, progress, text } = gathered(
      event(1, 1, "text_delta", { text: 5 }),
      event(1, 2, "text_delta", null),
      event(1, 3, "progress", "far"),
      event(1, 4, "own", [1])
    )
    assert.strictEqual(textOf(text), "")
    assert.isUndefined(progress)
    assert.deepStrictEqual(events.map(({ data }) => data), [[1]])
  })

  it("keeps the latest events and counts the rest", () => {
    const transcript = gathered(
      ...Array.from({ length: Transcript.kept + 3 }, (_, index) => event(1, index + 1, "own", index))
    )
    assert.strictEqual(transcript.events.length, Transcript.kept)
    assert.strictEqual(transcript.dropped, 3)
    assert.strictEqual(transcript.events[0]?.data, 3)
  })
})

describe("the pace", () => {
  it("is what came within the last seconds", () => {
    const pace = new Transcript.Pace(3000)
    assert.isUndefined(pace.perSecond(0))
    pace.add(0, 1000)
    assert.isUndefined(pace.perSecond(400), "too early to say")
    pace.add(1000, 50)
    pace.add(2000, 50)
    assert.strictEqual(pace.perSecond(2000), 50)
    pace.add(4000, 70)
    assert.strictEqual(pace.perSecond(4000), 40, "the first second is forgotten")
    assert.isUndefined(pace.perSecond(20_000))
    pace.open(30_000)
    pace.add(30_100, 1_000_000)
    pace.add(31_900, 1_000_000)
    pace.add(32_000, 50)
    pace.add(33_000, 50)
    assert.strictEqual(pace.perSecond(33_000), 50, "what had been said before is no pace")
  })
})

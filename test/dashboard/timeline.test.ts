import { assert, describe, it } from "@effect/vitest"
import { DateTime } from "effect"
import * as Timeline from "../../src/dashboard/timeline.ts"
import type { Attempt } from "../../src/server/Views.ts"

const at = (seconds: number) => DateTime.makeUnsafe(1_800_000_000_000 + seconds * 1000)

const attempt = (epoch: number, outcome: Attempt["outcome"], message?: string): Attempt => ({
  epoch: String(epoch),
  outcome,
  worker: "w",
  startedAt: at(epoch * 10),
  endedAt: at(epoch * 10 + 5),
  durationMs: 5000,
  error: message === undefined ? null : { kind: "failure", tag: "Boom", message },
  reason: null,
  runAt: null
})

const told = (task: Partial<Parameters<typeof Timeline.entriesOf>[0]>) =>
  Timeline.entriesOf({
    attemptsEnded: [],
    epoch: "0",
    finishedAt: null,
    lockedBy: null,
    runAt: at(0),
    startedAt: null,
    status: "queued",
    ...task
  }).map((entry) =>
    entry.kind === "attempts"
      ? entry.attempts.map(({ epoch }) => epoch).join("+")
      : entry.kind === "again"
      ? `again ${entry.at === null ? "sometime" : (entry.at.epochMilliseconds - 1_800_000_000_000) / 1000}`
      : entry.kind
  )

describe("the story of a task", () => {
  it("is empty before its first claim, and while it runs", () => {
    assert.deepStrictEqual(told({}), [])
    assert.deepStrictEqual(told({ status: "processing", epoch: "1", lockedBy: "w", startedAt: at(1) }), [])
  })

  it("of a task without events is what its row says", () => {
    const ended = { epoch: "1", startedAt: at(1), finishedAt: at(2) }
    assert.deepStrictEqual(told({ status: "completed", ...ended }), ["plain"])
    assert.deepStrictEqual(told({ status: "queued", ...ended, runAt: at(7) }), ["plain", "again 7"])
    assert.deepStrictEqual(
      told({ status: "processing", epoch: "2", lockedBy: "w", startedAt: at(8), runAt: at(7) }),
      ["untold", "again 7"]
    )
    assert.deepStrictEqual(
      told({ status: "completed", epoch: "2", attemptsEnded: [attempt(2, "done")], runAt: at(17) }),
      ["untold", "again 17", "2"]
    )
  })

  it("says that it was run again, and when, as far as that is known", () => {
    const failed = attempt(1, "error", "a")
    assert.deepStrictEqual(told({ epoch: "1", attemptsEnded: [failed], runAt: at(30) }), ["1", "again 30"])
    assert.deepStrictEqual(
      told({ status: "processing", epoch: "2", lockedBy: "w", attemptsEnded: [failed], runAt: at(30) }),
      ["1", "again 30"]
    )
    assert.deepStrictEqual(
      told({ status: "failed", epoch: "2", attemptsEnded: [failed, attempt(2, "error", "a")], runAt: at(18) }),
      ["1", "again 18", "2"]
    )
    assert.deepStrictEqual(
      told({
        status: "completed",
        epoch: "3",
        attemptsEnded: [attempt(1, "cancelled"), attempt(2, "done"), attempt(3, "done")],
        runAt: at(28)
      }),
      ["1", "again sometime", "2", "again 28", "3"]
    )
    assert.deepStrictEqual(told({ status: "cancelled", epoch: "1", attemptsEnded: [attempt(1, "cancelled")] }), ["1"])
  })

  it("groups equal failures that follow each other", () => {
    const retry = (epoch: number, message: string) => attempt(epoch, "retry", message)
    assert.deepStrictEqual(
      told({
        status: "failed",
        epoch: "6",
        attemptsEnded: [
          retry(1, "a"),
          retry(2, "a"),
          retry(3, "b"),
          attempt(4, "released"),
          retry(5, "a"),
          retry(6, "a")
        ]
      }),
      ["1+2", "3", "4", "5+6"]
    )
  })
})

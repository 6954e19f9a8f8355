import { assert, describe, it } from "@effect/vitest"
import { Cause } from "effect"
import * as Failure from "../../src/cli/Failure.ts"
import { StorageError } from "../../src/storage/StorageError.ts"
import * as Worker from "../../src/Worker.ts"

const worker = (reason: Worker.Reason) => new Worker.WorkerError({ reason })

describe("how a service ends that cannot go on", () => {
  it.each([
    [
      "no database",
      worker({ _tag: "Unavailable", cause: new Error("refused") }),
      69,
      "The database cannot be used: refused"
    ],
    [
      "no tables",
      worker({ _tag: "Contract", missing: ["table a.tasks"] }),
      78,
      "The database lacks what a worker needs: table a.tasks"
    ],
    ["an option", worker({ _tag: "InvalidOptions", issue: "lease is 1" }), 78, "lease is 1"],
    [
      "a loop",
      worker({ _tag: "LoopDied", loop: "claimer", cause: "oops" }),
      1,
      "The loop \"claimer\" died, which is a bug in Spindle: oops"
    ],
    ["a busy database", new StorageError({ operation: "x", transient: true, cause: "full" }), 69, "Could not x: full"],
    ["a refusal", new StorageError({ operation: "x", transient: false, cause: "no" }), 1, "Could not x: no"]
  ])("%s", (_, error, exitCode, message) => {
    const report = Failure.report(Cause.fail(error))
    assert.deepStrictEqual([report.exitCode, report.message], [exitCode, message])
  })

  it("what was not written, though a signal came first", () => {
    const cause = Cause.combine(
      Cause.interrupt(),
      Cause.die(worker({ _tag: "Unfinished", unwritten: ["mail 7"] }))
    )
    assert.deepStrictEqual(
      Failure.report(cause).message,
      "Shutdown ran out of time. Not written: mail 7"
    )
  })

  it("a bug comes with its stack", () => {
    const { exitCode, message } = Failure.report(Cause.die(new Error("oops")))
    assert.strictEqual(exitCode, 1)
    assert.match(message, /^This is a bug: .*oops[^]*Failure\.test\.ts/)
  })
})

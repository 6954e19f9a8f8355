import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { StorageError } from "../../src/storage/StorageError.ts"
import { inHalves } from "../../src/worker/SetAside.ts"

const refusal = (options: { readonly sqlState: string; readonly where?: string; readonly transient?: boolean }) =>
  new StorageError({
    operation: "renew leases",
    transient: options.transient ?? false,
    sqlState: options.sqlState,
    cause: Object.assign(new Error("no"), { where: options.where })
  })

/** Runs over 100 rows, two of which are refused, and tells what became of it. */
const over = Effect.fnUntraced(function*(error: StorageError, bad: ReadonlyArray<bigint>) {
  const refused: Array<bigint> = []
  let statements = 0
  const answers = yield* Effect.result(inHalves(
    Array.from({ length: 100 }, (_, n) => BigInt(n)),
    (ids) => {
      statements++
      return ids.some((id) => bad.includes(id)) ? Effect.fail(error) : Effect.succeed(ids.length)
    },
    (id) => Effect.sync(() => refused.push(id))
  ))
  return { answers, refused, statements }
})

describe("a statement over many rows", () => {
  it.effect("is halved until what is refused is alone", () =>
    Effect.gen(function*() {
      // whatever an owner's trigger may raise
      for (const sqlState of ["P0001", "22003", "42501", "23514"]) {
        const error = refusal({ sqlState, where: "PL/pgSQL function refuse() line 1 at RAISE" })
        const { answers, refused, statements } = yield* over(error, [17n, 80n])
        assert.isTrue(answers._tag === "Success" && answers.success.reduce((a, b) => a + b) === 98)
        assert.deepStrictEqual(refused, [17n, 80n])
        assert.isBelow(statements, 30)
      }
    }))

  it.effect("is sent once where it would be refused for any row, or the server is away", () =>
    Effect.gen(function*() {
      for (const error of [refusal({ sqlState: "42501" }), refusal({ sqlState: "57P01", transient: true })]) {
        const { answers, refused, statements } = yield* over(error, [1n])
        assert.isTrue(answers._tag === "Failure" && answers.failure === error)
        assert.deepStrictEqual([refused, statements], [[], 1])
      }
    }))
})

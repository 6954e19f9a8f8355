import { assert, describe, it } from "@effect/vitest"
import * as Tasks from "../../src/dashboard/tasks.ts"

const isNarrow = (query: string) => Tasks.isNarrow(Tasks.filterOf(new URLSearchParams(query)))

describe("a count", () => {
  const counted = (count: number, capped = false) => ({ count, capped })

  it("does not mix what is exact with what is not", () => {
    assert.deepStrictEqual(Tasks.total([counted(10_000, true), counted(1533)]), counted(10_000, true))
    assert.deepStrictEqual(Tasks.total([counted(12), counted(3)]), counted(15))
    assert.deepStrictEqual(Tasks.total([counted(12, true), counted(3)]), counted(15, true))
  })

  it("is the better of two", () => {
    assert.deepStrictEqual(Tasks.better(counted(1), counted(10_000, true)), counted(1))
    assert.deepStrictEqual(Tasks.better(counted(0, true), counted(7)), counted(7))
    assert.deepStrictEqual(Tasks.better(counted(5, true), counted(9, true)), counted(9, true))
    assert.deepStrictEqual(Tasks.better(undefined, counted(9)), counted(9))
  })
})

describe("a list", () => {
  it("is narrowed by what the server filters by, which it wants before it acts on all of them", () => {
    for (const query of ["status=failed", "type=mail", "queue=q", "tag=t", "userId=u", "q=x"]) {
      assert.isTrue(isNarrow(query), query)
    }
    for (const query of ["", "before=7", "status=odd", "type=", "q=%20"]) assert.isFalse(isNarrow(query), query)
  })
})

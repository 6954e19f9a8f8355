import { assert, describe, it } from "@effect/vitest"
import * as Tasks from "../../src/dashboard/tasks.ts"

const isNarrow = (query: string) => Tasks.isNarrow(Tasks.filterOf(new URLSearchParams(query)))

describe("a list", () => {
  it("is narrowed by what the server filters by, which it wants before it acts on all of them", () => {
    for (const query of ["status=failed", "type=mail", "queue=q", "tag=t", "userId=u", "q=x"]) {
      assert.isTrue(isNarrow(query), query)
    }
    for (const query of ["", "before=7", "status=odd", "type=", "q=%20"]) assert.isFalse(isNarrow(query), query)
  })
})

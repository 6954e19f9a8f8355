/** Whose time the page goes by. */
import { assert, describe, it } from "@effect/vitest"
import * as Clock from "../../src/dashboard/clock.ts"

const hour = 3_600_000
const ahead = () => Clock.now() - Date.now()

describe("the server's time", () => {
  it("is that of its answers' dates until the database tells its own, which those do not undo", () => {
    Clock.estimate(Date.now() + hour)
    assert.approximately(ahead(), hour, 1500)
    Clock.synchronize(Date.now() + hour + 20_000)
    assert.approximately(ahead(), hour + 20_000, 100)
    Clock.estimate(Date.now() + hour)
    assert.approximately(ahead(), hour + 20_000, 100, "the server's clock is not the database's")
  })

  it("is not lost when the reader's clock is set", () => {
    const before = ahead()
    Clock.estimate(Date.now())
    assert.approximately(ahead(), before - hour, 1500)
  })
})

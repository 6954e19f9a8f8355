import * as Os from "node:os"
import { defineConfig } from "vitest/config"

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    globalSetup: ["test/support/globalSetup.ts"],
    setupFiles: ["test/support/setup.ts"],
    // The tests wait for a database more than they compute.
    maxWorkers: Math.max(3, Math.ceil(Os.availableParallelism() / 2)),
    // Time belongs to Effect's TestClock.
    fakeTimers: { toFake: [] },
    testTimeout: 30_000,
    hookTimeout: 60_000
  }
})

import { assert, layer } from "@effect/vitest"
import { Effect, Redacted } from "effect"
import * as Cli from "../support/Cli.ts"
import { TestDatabase } from "../support/TestDatabase.ts"

layer(TestDatabase.layer, { excludeTestServices: true })("a service that npm has started", (it) => {
  // Each command is followed by another: a shell becomes the last one itself.
  it.effect.each(
    [
      { who: "its shell", signal: "SIGTERM", shell: "\"$@\"; true" },
      { who: "the parent of its shell", signal: "SIGKILL", shell: "sh -c '\"$@\"; true' sh \"$@\"; true" }
    ] as const
  )("ends in order with $who, at $signal", ({ shell, signal }) =>
    Effect.gen(function*() {
      const { url } = yield* TestDatabase
      const env = { DATABASE_URL: Redacted.value(url), npm_lifecycle_event: "start" }
      const npm = yield* Cli.spawn(env, ["start"], { shell })
      yield* npm.says("worker started")
      yield* npm.signal(signal)
      // Its output ends when the service has ended, too.
      assert.strictEqual(yield* npm.ended, signal)
      assert.include(npm.output().stderr, "worker stopped")
    }))
})

import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Exit, Fiber, Layer, PubSub, Redacted } from "effect"
import * as Lifecycle from "../../src/Lifecycle.ts"
import type * as Worker from "../../src/Worker.ts"
import * as FaultProxy from "../support/FaultProxy.ts"
import { TestDatabase } from "../support/TestDatabase.ts"
import * as Harness from "../support/WorkerHarness.ts"

const proxied = Effect.fnUntraced(function*(options: Partial<Worker.Options> = {}) {
  const { url } = yield* TestDatabase
  const { hostname, port } = new URL(Redacted.value(url))
  const proxy = yield* FaultProxy.make({ host: hostname, port: Number(port) })
  const script = Harness.script()
  const worker = yield* Harness.launch(Harness.Tasks, script.handlers, options, { url: proxy.url(url) })
  return { proxy, script, worker }
})

// A busy machine holds up the event loop, and a worker tells so for a minute.
const wrong = ({ problems }: Worker.Health) => problems.filter((problem) => !problem.startsWith("the event loop was"))

const well = (health: Worker.Health) => health.alive && health.ready && wrong(health).length === 0

const becomes = (what: string, worker: Harness.Launched, predicate: (health: Worker.Health) => boolean) =>
  Harness.eventually(what, worker.health, predicate)

const says = ({ problems }: Worker.Health, words: RegExp) => problems.some((problem) => words.test(problem))

describe("the health of a worker", () => {
  it.live("is good while it works, is full, or has nothing to do", () =>
    Effect.gen(function*() {
      const script = Harness.script()
      const worker = yield* Harness.launch(Harness.Tasks, script.handlers, { concurrency: 1 })
      const idle = yield* becomes("well", worker, well)
      assert.includeMembers(idle.loops.map(({ name }) => name), [
        "claiming",
        "cancelling",
        "renewing leases",
        "sweeping",
        "writing events and outcomes"
      ])
      const id = yield* Harness.insert("scripted")
      const { proceed } = yield* script.next(id)
      yield* Harness.insert("scripted")
      let ago = 0
      yield* becomes("a turn of the full claimer", worker, ({ loops }) => {
        const { lastTurnAgo } = loops.find(({ name }) => name === "claiming")!
        const before = ago
        ago = Duration.toMillis(lastTurnAgo!)
        return ago < before
      })
      assert.isTrue(well(yield* worker.health))
      yield* proceed(Effect.succeed(null))
    }).pipe(Harness.onDatabase))

  for (const fault of ["refuse", "blackhole"] as const) {
    it.live(
      `tells that the database is away, and is good again when it is back (${fault})`,
      () =>
        Effect.gen(function*() {
          const { proxy, script, worker } = yield* proxied({ notifications: "on" })
          yield* becomes("well", worker, well)
          const id = yield* Harness.insert("scripted")
          const { proceed } = yield* script.next(id)
          const away = (on: boolean) =>
            fault === "blackhole" ? proxy.blackhole(on) : Effect.andThen(proxy.refuse(on), proxy.killAll)
          yield* away(true)
          yield* proceed(Effect.succeed("kept"))
          const ill = yield* becomes("the database is missed", worker, (health) =>
            says(health, /^the database cannot be reached since .*Z \(/) &&
            says(health, /^1 outcomes and 0 events wait to be written since/) &&
            says(health, /^notifications do not arrive since .*: polling every 0.1 s$/) &&
            health.loops.some(({ name, ok }) =>
              name === "claiming" && !ok
            ))
          assert.isTrue(ill.alive)
          assert.isFalse(ill.ready)
          yield* away(false)
          yield* becomes("well again", worker, well)
          yield* Harness.awaitRow(id, Harness.isOver)
        }).pipe(Harness.onDatabase),
      60_000
    )
  }

  it.live("tells that a statement is refused, of the loop that sent it", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      const script = Harness.script()
      const worker = yield* Harness.launch(Harness.Tasks, script.handlers)
      yield* becomes("well", worker, well)
      yield* sql`alter table spindle.tasks rename column run_at to due_at`
      const ill = yield* becomes("the refusal", worker, (health) =>
        says(health, /^claiming: fails since .*: Could not claim tasks: .*run_at/))
      assert.isTrue(ill.alive)
      assert.isFalse(ill.ready)
      yield* sql`alter table spindle.tasks rename column due_at to run_at`
      yield* becomes("well again", worker, well)
    }).pipe(Harness.onDatabase))

  it.live("tells that a loop has died", () =>
    Effect.gen(function*() {
      // a bus that breaks under the claimer's hands
      const broken = new Proxy(yield* PubSub.sliding<Lifecycle.Event>(1), {
        get: () => {
          throw new Error("broken")
        }
      })
      const script = Harness.script()
      const worker = yield* Harness.launch(Harness.Tasks, script.handlers, {}, {
        references: Layer.succeed(Lifecycle.Bus)(broken)
      })
      assert.isTrue((yield* worker.health).alive)
      yield* Harness.insert("plain")
      yield* Effect.flip(worker.failed)
      const dead = yield* worker.health
      assert.isFalse(dead.alive)
      assert.isFalse(dead.ready)
      assert.isTrue(says(dead, /^claiming: the loop has died/))
      // what it had claimed cannot be put back
      assert.isTrue(Exit.isFailure(yield* Effect.exit(worker.stop)))
    }).pipe(Harness.onDatabase))

  it.live("tells that a shutdown has begun", () =>
    Effect.gen(function*() {
      const script = Harness.script()
      const worker = yield* Harness.launch(Harness.Tasks, script.handlers, { shutdownGrace: "1 minute" })
      const { proceed } = yield* script.next(yield* Harness.insert("scripted"))
      yield* becomes("well", worker, well)
      const stopping = yield* Effect.forkChild(worker.stop)
      const last = yield* becomes("the shutdown", worker, (health) => says(health, /shutting down/))
      assert.isTrue(last.alive)
      assert.isFalse(last.ready)
      assert.deepStrictEqual(wrong(last), ["the worker is shutting down"])
      yield* proceed(Effect.succeed(null))
      yield* Fiber.join(stopping)
    }).pipe(Harness.onDatabase))

  it.live("tells that something held the event loop", () =>
    Effect.gen(function*() {
      const script = Harness.script()
      const worker = yield* Harness.launch(Harness.Tasks, script.handlers)
      const { proceed } = yield* script.next(yield* Harness.insert("scripted"))
      yield* proceed(Effect.sync(() => {
        const until = performance.now() + 2000
        while (performance.now() < until);
        return null
      }))
      const { alive, ready } = yield* becomes("the lag", worker, (health) =>
        says(health, /^the event loop was blocked for ([2-9]|\d\d+)(\.\d)? s, .* ago/))
      assert.isTrue(alive && ready)
    }).pipe(Harness.onDatabase))
})

/**
 * What is wrong with a worker, in words and in two bits: whether to restart it, and whether it works.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { monotonicMillis } from "./Attempt.ts"
import { Journal } from "./Journal.ts"
import { Measures } from "./Measures.ts"
import { Problems } from "./Problems.ts"
import { Pulses } from "./Pulse.ts"
import { Settings } from "./Settings.ts"
import { WakeUps } from "./WakeUps.ts"

/**
 * @category models
 * @since 0.1.0
 */
export interface Health {
  /** No loop has died. A worker that is not alive will not work again: restart it. */
  readonly alive: boolean
  /** It is alive, every loop turns, the database answers, and no shutdown has begun. */
  readonly ready: boolean
  /** What is wrong, a line each. Some of it, such as missing notifications, only makes the worker slower. */
  readonly problems: ReadonlyArray<string>
  readonly loops: ReadonlyArray<{
    readonly name: string
    /** It turns in its rhythm, or rests because there is nothing to do. */
    readonly ok: boolean
    /** Since its last turn that succeeded; undefined before the first. */
    readonly lastTurnAgo: Duration.Duration | undefined
  }>
}

const slowJournalMillis = 5000
const longLagMillis = 1000

/**
 * Reads what the actors know of themselves. No statement is sent.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (isShuttingDown: () => boolean) =>
  Effect.gen(function*() {
    const clock = yield* Clock.Clock
    const pulses = yield* Pulses
    const journal = yield* Journal
    const measures = yield* Measures
    const standing = yield* Problems
    const wakeUps = yield* WakeUps
    const { notifications, pollMillis } = yield* Settings

    const current = Effect.sync((): Health => {
      const now = monotonicMillis(clock)
      const wall = clock.currentTimeMillisUnsafe()
      const since = (at: number) =>
        `since ${DateTime.formatIso(DateTime.makeUnsafe(wall - (now - at)))} (${spell(now - at)})`
      const problems: Array<string> = []
      const shuttingDown = isShuttingDown()
      if (shuttingDown) problems.push("the worker is shutting down")

      const dead = pulses.all.filter(({ died }) => died)
      for (const { name } of dead) problems.push(`${name}: the loop has died, which is a bug; see the log`)

      let unreachable: { since: number; message: string } | undefined
      const loops: Array<Health["loops"][number]> = []
      for (const pulse of pulses.all) {
        const { failure, lastTurnAt, name } = pulse
        if (pulse.stands(now) && failure === undefined) {
          problems.push(
            `${name}: the loop stands still, ${
              lastTurnAt === undefined ? "without a single turn" : `its last turn was ${spell(now - lastTurnAt)} ago`
            }`
          )
        }
        if (failure?.transient === true && !(unreachable !== undefined && unreachable.since <= failure.since)) {
          unreachable = failure
        } else if (failure?.transient === false) {
          problems.push(`${name}: fails ${since(failure.since)}: ${failure.message}`)
        }
        loops.push({
          name,
          ok: pulse.isWell(now),
          lastTurnAgo: lastTurnAt === undefined ? undefined : Duration.millis(now - lastTurnAt)
        })
      }
      if (unreachable !== undefined) {
        problems.push(`the database cannot be reached ${since(unreachable.since)}: ${unreachable.message}`)
      }

      const unwritten = journal.unwritten()
      const journalStuck = unwritten !== undefined && now - unwritten.since > slowJournalMillis
      if (journalStuck) {
        problems.push(
          `${unwritten.outcomes} outcomes and ${unwritten.events} events wait to be written ${since(unwritten.since)}`
        )
      }
      for (const { message, since: at } of standing.all()) problems.push(`${message}, ${since(at)}`)
      const lostSince = wakeUps.lostSince()
      if (notifications !== "off" && lostSince !== undefined) {
        problems.push(`notifications do not arrive ${since(lostSince)}: polling every ${spell(pollMillis)}`)
      }
      const lag = measures.lag.longest
      if (lag.millis >= longLagMillis) {
        problems.push(
          `the event loop was blocked for ${spell(lag.millis)}, ${spell(lag.agoMillis)} ago: ` +
            "something computes without a yield"
        )
      }
      const alive = dead.length === 0
      return {
        alive,
        ready: alive && !shuttingDown && !journalStuck && loops.every(({ ok }) => ok),
        problems,
        loops
      }
    })
    return { current }
  })

const spell = (millis: number) =>
  millis < 10_000 ? `${Math.round(millis / 100) / 10} s` : `${Math.round(millis / 1000)} s`

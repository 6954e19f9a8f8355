/**
 * Whether a background loop turns: alive but not working must be impossible to miss.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { monotonicMillis } from "./Attempt.ts"

// Longer than any statement is waited for.
const allowanceMillis = 15_000

/**
 * What is known of a loop, in milliseconds of the monotonic clock. A turn has a time by which it must have succeeded,
 * except while the loop rests because there is nothing to do.
 *
 * @category models
 * @since 0.1.0
 */
export class Pulse {
  readonly name: string
  /** The wait between two turns. */
  readonly intervalMillis: number
  lastTurnAt: number | undefined = undefined
  /** When its next turn must have succeeded. */
  dueAt = Infinity
  failure: { readonly since: number; readonly message: string; readonly transient: boolean } | undefined = undefined
  died = false
  private readonly clock: Clock.Clock

  constructor(clock: Clock.Clock, name: string, intervalMillis: number) {
    this.clock = clock
    this.name = name
    this.intervalMillis = intervalMillis
  }

  /** The loop begins, or what it rested for has come. */
  begin(): void {
    this.dueAt = monotonicMillis(this.clock) + this.intervalMillis + allowanceMillis
  }

  turned(): void {
    this.failure = undefined
    this.lastTurnAt = monotonicMillis(this.clock)
    this.dueAt = this.lastTurnAt + this.intervalMillis + allowanceMillis
  }

  failed(message: string, transient: boolean): void {
    this.failure = { since: this.failure?.since ?? monotonicMillis(this.clock), message, transient }
  }

  /** Waits for something to do, for as long as it takes. */
  rest<A, E, R>(until: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> {
    return Effect.suspend(() => {
      this.dueAt = Infinity
      return Effect.tap(until, () => Effect.sync(() => this.begin()))
    })
  }

  /** For how long what it does now has not succeeded; 0 while it rests. */
  busyMillis(now: number): number {
    return Math.max(0, now - (this.dueAt - this.intervalMillis - allowanceMillis))
  }

  stands(now: number): boolean {
    return !this.died && now > this.dueAt
  }

  isWell(now: number): boolean {
    return !this.died && this.failure === undefined && !this.stands(now)
  }
}

/**
 * The loops of a worker.
 *
 * @category services
 * @since 0.1.0
 */
export class Pulses extends Context.Service<Pulses, {
  readonly make: (name: string, intervalMillis?: number) => Pulse
  readonly all: ReadonlyArray<Pulse>
}>()("spindle/Pulses") {
  static readonly layer: Layer.Layer<Pulses> = Layer.effect(
    Pulses,
    Effect.map(Clock.Clock, (clock) => {
      const all: Array<Pulse> = []
      return Pulses.of({
        all,
        make: (name, intervalMillis = 0) => {
          const pulse = new Pulse(clock, name, intervalMillis)
          all.push(pulse)
          return pulse
        }
      })
    })
  )
}

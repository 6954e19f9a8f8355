/**
 * The process that a command runs in, as far as a command has to do with it.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as Effect from "effect/Effect"
import type * as Latch from "effect/Latch"

/**
 * What makes a process a service.
 *
 * @category models
 * @since 0.1.0
 */
export interface Service {
  /** How long its shutdown may wait for what runs. */
  readonly graceMillis: number
  /** Opened by the second signal: do not wait any longer. */
  readonly hurry: Latch.Latch
  /** Told of errors that nobody has caught, before they end the process. */
  readonly crashed: (error: unknown) => void
}

/**
 * Standard output carries the answer of a command and nothing else; all the rest goes to standard error.
 *
 * @category services
 * @since 0.1.0
 */
export class Process extends Context.Service<Process, {
  readonly stdout: (text: string) => Effect.Effect<void>
  readonly stderr: (text: string) => Effect.Effect<void>
  /** Whether somebody is looking. */
  readonly isTerminal: { readonly stdout: boolean; readonly stderr: boolean }
  /** Whether standard error is a terminal with colours that the user wants. */
  readonly colors: boolean
  /** From now on a signal is a request to shut down gracefully, and no failure of the command. */
  readonly serve: (service: Service) => Effect.Effect<void>
}>()("spindle/cli/Process") {}

/**
 * Without the characters that command a terminal: what a task says is text.
 *
 * @category combinators
 * @since 0.1.0
 */
export const plain = (text: string): string => text.replaceAll(/[^\P{Cc}\n\t]/gu, "")

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
 * A process as it is: what is written gets to the terminal byte by byte.
 */
export interface Raw {
  readonly stdout: (text: string) => Effect.Effect<void>
  readonly stderr: (text: string) => Effect.Effect<void>
  /** All of standard input. */
  readonly stdin: Effect.Effect<string>
  /** Whether somebody is looking, or typing. */
  readonly isTerminal: { readonly stdin: boolean; readonly stdout: boolean; readonly stderr: boolean }
  /** Whether standard error is a terminal with colours that the user wants. */
  readonly colors: boolean
  /** From now on a signal is a request to shut down gracefully, and no failure of the command. */
  readonly serve: (service: Service) => Effect.Effect<void>
}

/**
 * Standard output carries the answer of a command and nothing else; all the rest goes to standard error.
 *
 * Whatever a terminal gets to see is `visible`; standard output that goes elsewhere has the answer as it is.
 *
 * @category services
 * @since 0.1.0
 */
export class Process extends Context.Service<
  Process,
  Raw & {
    /** A line on standard error that stands back behind the answer. */
    readonly note: (line: string) => Effect.Effect<void>
  }
>()("spindle/cli/Process") {
  static readonly make = (raw: Raw): Process["Service"] => ({
    ...raw,
    stdout: (text) => raw.stdout(raw.isTerminal.stdout ? visible(text) : text),
    stderr: (text) => raw.stderr(visible(text)),
    note: (line) => raw.stderr(raw.colors ? `\x1b[2m${visible(line)}\x1b[22m\n` : `${visible(line)}\n`)
  })
}

// All control characters but the two that are layout, and what turns or breaks a line unseen.
const commands = /[^\P{Cc}\n\t]|[\u2028\u2029\u202a-\u202e\u2066-\u2069]/gu

/**
 * Characters that command a terminal, or show a text in another order than it has, become escapes such as `\u001b`: what a task or a
 * provider says is text. JSON stays the same JSON, as there they stand in strings only.
 *
 * @category combinators
 * @since 0.1.0
 */
export const visible = (text: string): string =>
  text.replaceAll("\r\n", "\n").replaceAll(commands, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`)

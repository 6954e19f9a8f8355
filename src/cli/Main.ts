/**
 * The command `spindle`: the one place that speaks to the process it runs in.
 *
 * A signal (SIGHUP, SIGINT or SIGTERM) interrupts the command, whose scopes close. Of a service (`Process.serve`) that is the
 * graceful shutdown, after which it exits with 0; the second signal ends the grace period, and the third ends the process. Any
 * other command exits with 128 and the number of the signal, at the second one at once. Under npm, the end of npm is
 * such a signal.
 *
 * @since 0.1.0
 */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Option from "effect/Option"
import * as Fs from "node:fs"
import { constants } from "node:os"
import * as Consumers from "node:stream/consumers"
import { version } from "../internal/Version.ts"
import * as Failure from "./Failure.ts"
import { Process, type Service, visible } from "./Process.ts"
import * as Spindle from "./Spindle.ts"

let service: Service | undefined
let exitCode: number | undefined
let signals = 0

const write = (stream: NodeJS.WriteStream) => (text: string) => Effect.sync(() => void stream.write(text))
const tell = (text: string) => process.stderr.write(visible(`spindle: ${text}\n`))

const fiber = Effect.runFork(
  Spindle.run(version, process.argv.slice(2)).pipe(
    Effect.provideService(
      Process,
      Process.make({
        stdout: write(process.stdout),
        stderr: write(process.stderr),
        stdin: Effect.promise(() => Consumers.text(process.stdin)),
        isTerminal: {
          stdin: process.stdin.isTTY === true,
          stdout: process.stdout.isTTY === true,
          stderr: process.stderr.isTTY === true
        },
        colors: process.stderr.isTTY === true && process.stderr.hasColors(),
        serve: (given) =>
          Effect.sync(() => {
            service = given
          })
      })
    )
  )
)

// What waits for nothing but a promise or a fiber would not keep the process alive.
const alive = setInterval(() => {}, 2 ** 31 - 1)

const stop = (code: number) => {
  exitCode ??= code
  fiber.interruptUnsafe()
  setTimeout(() => {
    tell("Shutdown ran out of time")
    process.exit(1)
  }, (service?.graceMillis ?? 0) + 5000).unref()
}

const onSignal = (signal: "SIGHUP" | "SIGINT" | "SIGTERM") => {
  signals++
  const code = 128 + constants.signals[signal]
  if (signals === 1) return stop(service === undefined ? code : 0)
  if (signals === 2 && service !== undefined) return void service.hurry.openUnsafe()
  process.exit(code)
}

/** The parent and, where that is a shell and Linux says so, the parent of that. */
const lineage = () => {
  const stat = Option.liftThrowable(() => Fs.readFileSync(`/proc/${process.ppid}/stat`, "utf8"))()
  const [, name = "", parent] = /\((.*)\) \S (\d+)/.exec(Option.getOrElse(stat, () => "")) ?? []
  return name.endsWith("sh") ? `${process.ppid} ${parent}` : `${process.ppid}`
}

const shortGraceMillis = 3000

const onCrash = (error: unknown) => {
  exitCode = 1
  if (service === undefined) {
    tell(`This is a bug: ${error instanceof Error ? error.stack : String(error)}`)
    return stop(1)
  }
  service.crashed(error)
  stop(1)
  const { hurry } = service
  setTimeout(() => hurry.openUnsafe(), shortGraceMillis).unref()
}

// A terminal that is closed sends it, and its shell may send it again: it counts once.
process.once("SIGHUP", onSignal).on("SIGHUP", () => {})
process.on("SIGINT", onSignal)
process.on("SIGTERM", onSignal)
// What npm or npx has started is the child of a shell that passes no signal on, and would outlive both.
if (process.env.npm_lifecycle_event !== undefined) {
  const parents = lineage()
  setInterval(() => {
    if (signals === 0 && lineage() !== parents) onSignal("SIGTERM")
  }, 500).unref()
}

process.on("uncaughtException", onCrash)
process.on("unhandledRejection", onCrash)

// Whoever read the answer has gone, as `head` does. A service has no answer, and a log that nobody reads is no reason to stop.
process.stdout.on("error", () => {
  if (service === undefined) stop(128 + constants.signals.SIGPIPE)
})
process.stderr.on("error", () => {})

fiber.addObserver((exit) => {
  clearInterval(alive)
  const failure = Exit.isFailure(exit) && !Cause.hasInterruptsOnly(exit.cause) ? Failure.report(exit.cause) : undefined
  if (failure !== undefined && failure.message !== "") tell(failure.message)
  const code = failure?.exitCode ?? exitCode ?? 0
  process.stdout.write("", () => process.exit(code))
})

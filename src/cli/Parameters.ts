/**
 * Arguments and flags that several commands share.
 *
 * @since 0.1.0
 */
import * as Argument from "effect/cli/Argument"
import * as Flag from "effect/cli/Flag"
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import type * as Task from "../Task.ts"

const parseId = (text: string): Option.Option<Task.TaskId> => {
  const id = /^[1-9]\d{0,18}$/.test(text) ? BigInt(text) : 0n
  return id > 0n && id < 2n ** 63n ? Option.some(id as Task.TaskId) : Option.none()
}

const idWords = "the number of a task, such as 42"

/**
 * The id of a task, as `enqueue` prints it.
 *
 * @category arguments
 * @since 0.1.0
 */
export const id: Argument.Argument<Task.TaskId> = Argument.String("id").pipe(
  Argument.withDescription("The number of the task, as `enqueue` prints it"),
  Argument.filterMap(parseId, () => idWords)
)

/**
 * The same as a flag.
 *
 * @category flags
 * @since 0.1.0
 */
export const idFlag = (name: string): Flag.Flag<Task.TaskId> =>
  Flag.String(name).pipe(Flag.withMetavar("id"), Flag.filterMap(parseId, () => idWords))

/**
 * Whether the answer is for a program.
 *
 * @category flags
 * @since 0.1.0
 */
export const json: Flag.Flag<boolean> = Flag.Boolean("json").pipe(
  Flag.withDescription("Answer in JSON"),
  Flag.withDefault(false)
)

const units = {
  ms: "millis",
  s: "seconds",
  m: "minutes",
  h: "hours",
  d: "days"
} as const

const parseDuration = (text: string): Option.Option<Duration.Duration> => {
  const short = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/.exec(text)
  return Duration.fromInput(
    (short === null ? text : `${short[1]} ${units[short[2] as keyof typeof units]}`) as Duration.Input
  )
}

/**
 * A flag that takes a duration: `90s`, `5m`, `2h`, `1d`, or in words, `"90 seconds"`.
 *
 * @category flags
 * @since 0.1.0
 */
export const duration = (name: string): Flag.Flag<Duration.Duration> =>
  Flag.String(name).pipe(
    Flag.withMetavar("duration"),
    Flag.filterMap(parseDuration, () => "a duration such as 90s, 5m, 2h or \"90 seconds\"")
  )

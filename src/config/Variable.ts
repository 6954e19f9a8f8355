/**
 * Environment variables, each with what it allows.
 *
 * @since 0.1.0
 */
import * as Config from "effect/Config"
import * as ConfigProvider from "effect/ConfigProvider"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"

/**
 * A variable that is read by `parse`. What it does not take stops the start, with one line that names the variable, what
 * was given and what is allowed. Empty counts as not set.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = <A>(
  name: string,
  allowed: string,
  parse: (text: string) => Option.Option<A>
): Config.Config<Option.Option<A>> =>
  Config.mapEffect(
    Config.option(Config.String(name)),
    (given) =>
      Option.match(Option.filter(given, (text) => text !== ""), {
        onNone: () => Effect.succeedNone,
        onSome: (text) =>
          Option.match(parse(text), {
            onNone: () => Effect.fail(malformed(name, JSON.stringify(text), allowed)),
            onSome: Effect.succeedSome
          })
      })
  )

/**
 * The same with what it is when it is not set.
 *
 * @category constructors
 * @since 0.1.0
 */
export const withDefault = <A>(
  name: string,
  allowed: string,
  parse: (text: string) => Option.Option<A>,
  defaultValue: A
): Config.Config<A> => Config.map(make(name, allowed, parse), Option.getOrElse(() => defaultValue))

/**
 * The error of a variable that cannot be used as it is.
 *
 * @category errors
 * @since 0.1.0
 */
export const malformed = (name: string, given: string, allowed: string): Config.ConfigError =>
  refused(`${name} is ${given}, but must be ${allowed}`)

/**
 * The error of variables that do not go together, or whose value is not to be shown.
 *
 * @category errors
 * @since 0.1.0
 */
export const refused = (message: string): Config.ConfigError =>
  new Config.ConfigError(new ConfigProvider.SourceError({ message }))

/**
 * A whole number of at least `minimum`.
 *
 * @category parsers
 * @since 0.1.0
 */
export const wholeNumber = (minimum: number, maximum = 2 ** 31 - 1) => (text: string): Option.Option<number> => {
  const n = /^\d{1,10}$/.test(text) ? Number(text) : -1
  return n >= minimum && n <= maximum ? Option.some(n) : Option.none()
}

/**
 * One of some words.
 *
 * @category parsers
 * @since 0.1.0
 */
export const oneOf =
  <const Words extends ReadonlyArray<string>>(...words: Words) => (text: string): Option.Option<Words[number]> =>
    words.includes(text) ? Option.some(text) : Option.none()

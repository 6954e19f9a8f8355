/**
 * Reads of what somebody else's code has thrown: no getter, proxy or conversion of such a value throws here.
 */
import * as Predicate from "effect/Predicate"
import * as Result from "effect/Result"

const quietly = <A>(read: () => A): A | undefined => Result.getOrUndefined(Result.try(read))

/** A property if there is one that can be read. */
export const property = (value: unknown, key: string): unknown =>
  quietly(() => Predicate.hasProperty(value, key) ? value[key] : undefined)

const text = (value: unknown, key: string): string | undefined => {
  const found = property(value, key)
  return typeof found === "string" ? found : undefined
}

/** `instanceof`, which asks a proxy for its prototype. */
export const isInstance = <A>(value: unknown, constructor: abstract new(...args: any) => A): value is A =>
  quietly(() => value instanceof constructor) === true

const nameOf = (value: unknown) => (isInstance(value, Error) && text(value, "name")) || undefined

/** The `_tag`, else an error's name, else `Error`. */
export const tagOf = (value: unknown): string => text(value, "_tag") ?? nameOf(value) ?? "Error"

/** The message, a thrown text itself, else the `_tag` or the name, else what kind of value it is. */
export const messageOf = (value: unknown): string =>
  text(value, "message") || (typeof value === "string" ? value : undefined) || text(value, "_tag") || nameOf(value) ||
  (quietly(() => Object.prototype.toString.call(value)) ?? "a value that cannot be read")

/** The stack of an error. */
export const stackOf = (value: unknown): string | undefined =>
  isInstance(value, Error) ? text(value, "stack") : undefined

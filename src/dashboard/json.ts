/** JSON values as they are looked at. */
import * as Result from "effect/Result"
import { Exact, read, step, stringify } from "../internal/Json.ts"

export { Exact, inexactIn, isExact } from "../internal/Json.ts"

export type Json = null | boolean | number | string | Exact | ReadonlyArray<Json> | { readonly [key: string]: Json }
export type JsonObject = { readonly [key: string]: Json }

export const isObject = (value: unknown): value is JsonObject =>
  typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof Exact)

export const isContainer = (value: Json): value is JsonObject | ReadonlyArray<Json> =>
  Array.isArray(value) || isObject(value)

/** What the server shows instead of a value that looks secret. */
export const mask = "••••••"

export const isMasked = (value: unknown): boolean => value === mask

/** The members of an array or object, in their order. */
export const entries = (value: JsonObject | ReadonlyArray<Json>): ReadonlyArray<readonly [string, Json]> =>
  Array.isArray(value) ? value.map((item, index) => [String(index), item] as const) : Object.entries(value)

/** A closed node in a few words: `[ 3 items ]`, `{ name, age, … }`. */
export const summary = (value: JsonObject | ReadonlyArray<Json>): string => {
  if (Array.isArray(value)) {
    return value.length === 0
      ? "[ ]"
      : `[ ${value.length} item${value.length === 1 ? "" : "s"} ]`
  }
  const names = Object.keys(value)
  if (names.length === 0) return "{ }"
  const shown = names.slice(0, 4).map((name) => name.length > 24 ? `${name.slice(0, 23)}…` : name)
  return `{ ${shown.join(", ")}${names.length > 4 ? ", …" : ""} }`
}

/** A text in quotes as one reads it: with its lines, quotes and backslashes, other control characters escaped. */
export const quoted = (text: string): string =>
  JSON.stringify(text).replaceAll(/\\(.)/g, (escaped, char: string) => {
    if (char === "n") return "\n"
    return char === "\"" || char === "\\" ? char : escaped
  })

export type Parsed = { readonly ok: true; readonly value: Json } | { readonly ok: false; readonly message: string }

/** Reads what somebody typed. What would change on its way is refused. */
export const parse = (text: string): Parsed =>
  Result.match(read(text), {
    onFailure: (message): Parsed => ({ ok: false, message }),
    onSuccess: (value) => ({ ok: true, value })
  })

export const pretty = (value: Json): string => stringify(value, 2)

/** Where something in it is masked, as it would be written in a program: `headers[0].apiKey`. */
export const maskedPaths = (value: Json): ReadonlyArray<string> => pathsOf(value, isMasked, "")

/** Those of the paths at which there is no value yet. */
export const unfilled = (value: Json, paths: ReadonlyArray<string>): ReadonlyArray<string> => {
  const empty = pathsOf(value, (member) => member === "" || isMasked(member), "")
  return paths.filter((path) => empty.includes(path))
}

const pathsOf = (value: Json, wanted: (value: Json) => boolean, path: string): ReadonlyArray<string> =>
  wanted(value)
    ? [path]
    : isContainer(value)
    ? entries(value).flatMap(([name, member]) => pathsOf(member, wanted, step(path, name, Array.isArray(value))))
    : []

/** The value with an empty text where it was masked. */
export const unmasked = (value: Json): Json =>
  isMasked(value)
    ? ""
    : Array.isArray(value)
    ? value.map(unmasked)
    : isObject(value)
    ? Object.fromEntries(Object.entries(value).map(([key, member]) => [key, unmasked(member)]))
    : value

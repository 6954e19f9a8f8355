/**
 * Random JSON documents: any value, written with any escapes and whitespace JSON allows, and cut anywhere.
 */
import type { Schema } from "effect"
import * as fc from "fast-check"

/** Texts with what is hard about them: escapes, brackets, halves of surrogate pairs, whole ones. */
export const text: fc.Arbitrary<string> = fc.oneof(
  fc.string({ unit: "binary", maxLength: 12 }),
  fc.string({ unit: "grapheme", maxLength: 12 }),
  fc.string({
    unit: fc.constantFrom("\\", "\"", "{", "}", "[", "]", ",", ":", "\n", "\u0000", "é", "漢", "\u{1F600}")
  }),
  fc.constantFrom("\uD83D", "\uDE00", "a\uDE00\uD83Db", "__proto__", "records")
).map((text) => text.replaceAll("\uFEFF", ""))

export const number: fc.Arbitrary<number> = fc.oneof(
  fc.integer(),
  fc.double({ noNaN: true, noDefaultInfinity: true }).map((n) => n === 0 ? 0 : n)
)

/** Any JSON object, of a depth that is allowed. */
export const object: fc.Arbitrary<Schema.JsonObject> = fc.dictionary(
  text,
  fc.jsonValue({ maxDepth: 3, noUnicodeString: false }).map((value) => readable(value) as Schema.Json),
  { maxKeys: 5, noNullPrototype: true }
)

// a reader gives no negative zero, and leaves out U+FEFF
const readable = (value: unknown): unknown =>
  JSON.parse(JSON.stringify(value).replaceAll("\uFEFF", ""), (_, inner) => inner === 0 ? 0 : inner)

/** A way to write JSON: the choices are drawn from a list of numbers, over and over. */
export interface Hand {
  readonly choose: (count: number) => number
}

export const hand: fc.Arbitrary<() => Hand> = fc.array(fc.nat(), { minLength: 1, maxLength: 50 }).map(
  (choices) => () => {
    let at = 0
    return { choose: (count) => choices[at++ % choices.length]! % count }
  }
)

const spaces = ["", "", "", " ", "\n", "\t\r\n  "]
const shortEscapes: Readonly<Record<string, string>> = {
  "\"": "\\\"",
  "\\": "\\\\",
  "/": "\\/",
  "\b": "\\b",
  "\f": "\\f",
  "\n": "\\n",
  "\r": "\\r",
  "\t": "\\t"
}

const writeText = (text: string, { choose }: Hand) => {
  let written = ""
  for (let i = 0; i < text.length; i++) {
    const unit = text[i]!
    const next = text[i + 1] ?? ""
    const code = unit.charCodeAt(0)
    const hex = code.toString(16).padStart(4, "0")
    const escape = `\\u${choose(2) === 0 ? hex : hex.toUpperCase()}`
    const pair = /^[\uD800-\uDBFF][\uDC00-\uDFFF]$/.test(unit + next)
    if (pair && choose(2) === 0) {
      written += unit + next
      i++
    } else if (pair) {
      written += `${escape}\\u${next.charCodeAt(0).toString(16)}`
      i++
    } else if (/\p{Surrogate}/u.test(unit) || choose(6) === 0) {
      written += escape
    } else if (shortEscapes[unit] !== undefined && (unit !== "/" || choose(2) === 0)) {
      written += shortEscapes[unit]
    } else {
      written += code < 0x20 ? escape : unit
    }
  }
  return `"${written}"`
}

/** Writes a value in this hand. */
export const write = (value: Schema.Json, hand: Hand): string => {
  const space = () => spaces[hand.choose(spaces.length)]!
  if (typeof value === "string") return writeText(value, hand)
  if (typeof value !== "object" || value === null) return JSON.stringify(value)
  const members = Array.isArray(value)
    ? value.map((element) => write(element, hand))
    : Object.entries(value).map(([key, member]) => writeText(key, hand) + space() + ":" + space() + write(member, hand))
  const inner = members.map((member) => space() + member + space()).join(",") || space()
  return Array.isArray(value) ? `[${inner}]` : `{${inner}}`
}

/** A document with a list, and where in its text each element ends. */
export interface Document {
  readonly elements: ReadonlyArray<Schema.Json>
  readonly text: string
  readonly ends: ReadonlyArray<number>
}

/** Writes `{ "<list>": [ … ] }`, with other keys before it. */
export const document = (
  list: string,
  elements: ReadonlyArray<Schema.Json>,
  others: Schema.JsonObject,
  hand: Hand
): Document => {
  const space = () => spaces[hand.choose(spaces.length)]!
  let text = `${space()}{`
  for (const [key, value] of Object.entries(others)) text += `${writeText(key, hand)}:${write(value, hand)},`
  text += `${space()}${writeText(list, hand)}${space()}:${space()}[`
  const ends = elements.map((element, index) => {
    text += (index === 0 ? "" : ",") + space() + write(element, hand)
    const end = text.length
    text += space()
    return end
  })
  return { elements, text: `${text}]${space()}}${space()}`, ends }
}

/** Cuts a text at these places, each given as a fraction. */
export const cut = (text: string, places: ReadonlyArray<number>): ReadonlyArray<string> => {
  const at = [0, ...places.map((place) => Math.floor(place * text.length)).toSorted((a, b) => a - b), text.length]
  return at.slice(1).map((end, index) => text.slice(at[index], end))
}

export const places: fc.Arbitrary<ReadonlyArray<number>> = fc.array(
  fc.double({ min: 0, max: 1, noNaN: true }),
  { maxLength: 30 }
)

/**
 * Reads a list out of a model's answer while the answer is being written.
 *
 * The answer should be a JSON document `{ "<list>": [ … ] }`. Models without
 * structured output also write the bare array, Markdown fences, and prose
 * before and after; the reader finds the list in all of that. What an answer
 * thinks first, `<think>…</think>`, is passed over.
 *
 * @since 0.1.0
 */
import { JSONParser, TokenType } from "@streamparser/json"
import * as Predicate from "effect/Predicate"
import type * as Schema from "effect/Schema"

/**
 * A reader in the middle of an answer.
 *
 * @category models
 * @since 0.1.0
 */
export interface ListReader {
  /** Takes the next piece of text, cut anywhere, and gives the elements that it completes. */
  readonly read: (piece: string) => ReadonlyArray<Schema.Json>
  readonly state: () => State
}

/**
 * How far the reader is:
 *
 * - `empty`: no element so far
 * - `open`: in the list, or in its document
 * - `closed`: the document with the list is complete
 * - `broken`: what follows the elements so far is no JSON, or a limit is exceeded; nothing more is read
 *
 * @category models
 * @since 0.1.0
 */
export type State = "empty" | "open" | "closed" | "broken"

/**
 * The limits of an answer: its length in characters, how deep its document may
 * be nested, and how many brackets that begin no document may stand before it.
 *
 * @category constants
 * @since 0.1.0
 */
export const limits = { length: 4 * 1024 * 1024, depth: 32, falseStarts: 1000 }

/**
 * Starts reading an answer. A bare array counts if its elements are objects.
 *
 * Numbers are read as doubles: what has more digits is rounded, what is out of
 * range becomes infinite. U+FEFF is left out of texts.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (list: string): ListReader => {
  let state: State = "empty"
  let length = 0
  let falseStarts = 0
  let elements: Array<Schema.Json> = []
  let document: JSONParser | undefined
  // the document while it has no element: if it is no JSON, the search goes on behind its first character
  let candidate = ""
  let hasElements = false
  let failed = false
  // the beginning of the answer, as long as it may be a thought; undefined behind it
  let thought: string | undefined = ""

  const afterThoughts = (piece: string): string => {
    if (thought === undefined) return piece
    thought = (thought + piece).trimStart()
    const opened = /^<think(ing)?>/.exec(thought)
    if (opened !== null) {
      const closed = `</${opened[0].slice(1)}`
      const end = thought.indexOf(closed)
      if (end === -1) {
        thought = opened[0] + thought.slice(opened[0].length).slice(-closed.length)
        return ""
      }
      const rest = thought.slice(end + closed.length)
      thought = ""
      return afterThoughts(rest)
    }
    if ("<think>".startsWith(thought) || "<thinking>".startsWith(thought)) return ""
    const rest = thought
    thought = undefined
    return rest
  }

  const open = (bare: boolean) => {
    const parser = new JSONParser({ paths: [bare ? "$.*" : `$.${list}.*`], keepStack: false })
    let depth = 0
    parser.onToken = ({ token }) => {
      if (token === TokenType.LEFT_BRACE || token === TokenType.LEFT_BRACKET) depth++
      if (token === TokenType.RIGHT_BRACE || token === TokenType.RIGHT_BRACKET) depth--
      // the parser stops at once and reports it as an error
      if (depth > limits.depth) throw new RangeError("The document is nested too deep")
    }
    parser.onValue = ({ parent, value }) => {
      if (failed || !Array.isArray(parent)) return
      if (bare && !Predicate.isObject(value)) {
        failed = true
        return
      }
      hasElements = true
      elements.push(value as Schema.Json)
    }
    parser.onError = () => {
      failed = true
    }
    document = parser
    hasElements = false
    failed = false
    return parser
  }

  const read = (piece: string): ReadonlyArray<Schema.Json> => {
    elements = []
    length += piece.length
    if (length > limits.length) state = "broken"
    let text = afterThoughts(piece)
    let at = 0
    // where in the text the document begins, unless that was in an earlier piece
    let start: number | undefined
    while (at < text.length && state !== "broken") {
      if (document === undefined) {
        const bracket = text.slice(at).search(/[{[]/)
        if (bracket === -1) break
        at += bracket
        start = at
      }
      const parser = document ?? open(text[at] === "[")
      // a document ends with a bracket, and what follows is for another parser
      const chunk = /^[^}\]]{0,1000}[}\]]?/.exec(text.slice(at))![0]
      at += chunk.length
      // the parser drops it in most places, as if it were a byte order mark; so in all
      parser.write(chunk.replaceAll("\uFEFF", ""))
      if (hasElements) state = "open"
      if (failed) {
        document = undefined
        if (hasElements || ++falseStarts > limits.falseStarts) state = "broken"
        else if (start !== undefined) at = start + 1
        else {
          text = candidate.slice(1) + text
          at = 0
        }
      } else if (parser.isEnded) {
        document = undefined
        if (hasElements) state = "closed"
      }
    }
    if (document !== undefined && !hasElements) candidate = start === undefined ? candidate + text : text.slice(start)
    return elements
  }

  return { read, state: () => state }
}

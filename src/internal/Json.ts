/**
 * JSON whose numbers stay what they are. JSON and PostgreSQL have numbers that JavaScript does not have, such as
 * the record id 1970670598291982290: `JSON.parse` makes another one of it and says nothing.
 *
 * A door that takes JSON asks for its `issue`, and refuses. One that shows what is stored reads it with `parse`, which
 * keeps such a number as it is written. A number is the same if its decimal value is: 1.10 is 1.1, and 1e23 is 10^23.
 */
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as SchemaGetter from "effect/SchemaGetter"
import * as SchemaIssue from "effect/SchemaIssue"
import * as SchemaTransformation from "effect/SchemaTransformation"

/** How deep JSON may be nested in a payload or metadata. */
export const maxDepth = 200

// PostgreSQL stores no NUL, so no text of it begins like this.
const mark = "\0#"
const marked = /"\\u0000#([^"]*)"/g

/** A number that JavaScript does not have. `JSON.stringify` and `String` give it as it was read. */
export class Exact {
  readonly number: string
  constructor(number: string) {
    this.number = number
  }
  toString(): string {
    return this.number
  }
  // A browser without `rawJSON` writes what `stringify` completes, and no server stores.
  toJSON(): unknown {
    const { rawJSON } = JSON as { readonly rawJSON?: (text: string) => unknown }
    return rawJSON === undefined ? mark + this.number : rawJSON(this.number)
  }
}
// `Schema.Json` takes it: it is no instance of anything else.
Object.setPrototypeOf(Exact.prototype, null)

/** Reads what PostgreSQL or `stringify` has written. */
export const parse = (text: string): Schema.Json =>
  mayChange(text)
    ? restore(
      JSON.parse(text.replaceAll(tokens, (token) => token[0] === "\"" || isExact(token) ? token : `"\\u0000#${token}"`))
    )
    : JSON.parse(text)

/** A column of JSON as text. */
export const ofColumn = (text: string | null): Schema.Json => text === null ? null : parse(text)

/** Writes what `parse` has read. */
export const stringify = (json: unknown, space?: number): string =>
  JSON.stringify(json, undefined, space).replaceAll(marked, "$1")

/** The first number in the text that JavaScript does not have, in words; undefined of most texts at little cost. */
export const inexact = (text: string, root: string): string | undefined =>
  mayChange(text) ? find(text, root, Infinity, numberIssue) : undefined

/** The same of what has been read. */
export const inexactIn = (json: unknown, root: string): string | undefined => {
  const waiting = [json]
  for (const value of waiting) {
    if (value instanceof Exact) return find(stringify(json), root, Infinity, numberIssue)
    if (typeof value === "object" && value !== null) { for (const member of Object.values(value)) waiting.push(member) }
  }
  return undefined
}

/**
 * The first thing in what somebody wrote that nobody would find in the database as it was sent: a number that JavaScript
 * does not have, a name given twice, a character that PostgreSQL does not store, too many levels. What is no JSON is for the
 * parser to say.
 */
export const issue = (text: string, root = "", depth = maxDepth): string | undefined =>
  find(text, root, depth, (token, path, names) => {
    if (token[0] !== "\"") return numberIssue(token, path)
    const value = unquoted(token)
    if (value.includes("\0") || !value.isWellFormed()) {
      return `The text${at(path())} has a NUL character or a lone surrogate, which PostgreSQL does not store`
    }
    if (names === undefined) return undefined
    if (names.has(value)) return `The name${at(path())} is given twice`
    names.add(value)
    return undefined
  })

/** Reads what somebody wrote, or says what is wrong with it. */
export const read = (text: string, root = ""): Result.Result<Schema.Json, string> => {
  const found = issue(text, root)
  return found !== undefined ? Result.fail(found) : Result.try({
    try: (): Schema.Json => JSON.parse(text),
    catch: (error) => error instanceof Error ? error.message : String(error)
  })
}

/** Of a value that has no JSON text yet: where it has a number that JSON does not have. */
export const notFinite = (json: unknown, root: string): string | undefined => notFiniteAt(json, () => root)

const notFiniteAt = (json: unknown, path: () => string): string | undefined => {
  if (typeof json === "number" && !Number.isFinite(json)) return `The number${at(path())} is ${json}`
  if (typeof json !== "object" || json === null) return undefined
  for (const [key, value] of Object.entries(json)) {
    const issue = notFiniteAt(value, () => step(path(), key, Array.isArray(json)))
    if (issue !== undefined) return issue
  }
  return undefined
}

/** The path of a member as it would be written in a program: `headers[0].apiKey`. */
export const step = (path: string, key: string | number, index: boolean): string =>
  index
    ? `${path}[${key}]`
    : /^[\p{L}_$][\p{L}\d_$]*$/u.test(String(key))
    ? `${path}${path === "" ? "" : "."}${key}`
    : `${path}[${JSON.stringify(key)}]`

/** `Schema.fromJsonString`, reading with `parse`. */
export const fromString = <S extends Schema.Constraint>(schema: S): Schema.fromJsonString<S> => {
  const { from, to } = Schema.fromJsonString(schema)
  return from.pipe(Schema.decodeTo(to, {
    decode: SchemaGetter.transformEffect((text: string) =>
      Effect.try({
        try: () => parse(text),
        catch: () => new SchemaIssue.InvalidValue({ expected: "a valid JSON string" }, text)
      })
    ),
    encode: SchemaTransformation.fromJsonString().encode
  }))
}

// Whether `JSON.parse` may change a number of the text, at little cost. Up to 15 digits are always read as they are written: a
// look at every sixteenth character finds those that are longer. PostgreSQL writes no exponents, and those that JavaScript
// writes it reads.
const mayChange = (text: string): boolean => {
  for (let i = minLength - 1; i < text.length; i += minLength) {
    if (!isDigit(text.charCodeAt(i))) continue
    // Sixteen reach eight to one side.
    if (!isDigit(text.charCodeAt(i - 8)) && !isDigit(text.charCodeAt(i + 8))) continue
    let from = i
    while (from > 0 && isDigit(text.charCodeAt(from - 1))) from--
    while (i + 1 < text.length && isDigit(text.charCodeAt(i + 1))) i++
    // What stands in quotes by itself is a text.
    if (i - from < minLength - 1 || (from > 0 && !" \n\r\t[:,-".includes(text[from - 1]!))) continue
    if (!isExact(text.slice(from, i + 1)) || "eE".includes(text[i + 1] ?? "-")) return true
  }
  return false
}

const minLength = 16

// or the point between them
const isDigit = (code: number) => code >= 46 && code <= 57 && code !== 47

const tokens = /"[^"\\]*(?:\\[^][^"\\]*)*"?|[[\]{},:]|-?\d[\d.eE+-]*/g

interface Level {
  /** Those given so far; undefined of a list. */
  readonly names: Set<string> | undefined
  at: string | number
  /** Whether a name comes next. */
  named: boolean
}

// Each text and number, and of a name also those given before it.
const find = (
  text: string,
  root: string,
  depth: number,
  look: (token: string, path: () => string, names: Set<string> | undefined) => string | undefined
): string | undefined => {
  const levels: Array<Level> = []
  let level: Level | undefined
  const path = () => levels.reduce((path, { at, names }) => step(path, at, names === undefined), root)
  for (const [token] of text.matchAll(tokens)) {
    switch (token) {
      case "{":
      case "[":
        if (levels.length >= depth) return `The JSON is nested deeper than ${maxDepth}`
        level = token === "{" ? { names: new Set(), at: "", named: true } : { names: undefined, at: 0, named: false }
        levels.push(level)
        break
      case "}":
      case "]":
        levels.pop()
        level = levels.at(-1)
        break
      case ",":
        if (level === undefined) break
        if (level.names === undefined) (level.at as number)++
        else level.named = true
        break
      case ":":
        if (level !== undefined) level.named = false
        break
      default: {
        const isName = level?.named === true && token[0] === "\""
        if (isName) level!.at = unquoted(token)
        const issue = look(token, path, isName ? level!.names : undefined)
        if (issue !== undefined) return issue
      }
    }
  }
  return undefined
}

const unquoted = (token: string): string =>
  token.includes("\\") ? Result.getOrElse(Result.try((): string => JSON.parse(token)), () => "") : token.slice(1, -1)

const numberIssue = (token: string, path: () => string) => {
  if (token[0] === "\"" || isExact(token)) return undefined
  const shown = token.length > 40 ? `${token.slice(0, 40)}…` : token
  return `The number ${shown}${at(path())} would become ${Number(token)}: it has to be a text`
}

const at = (path: string) => path === "" ? "" : ` at ${path.length > 200 ? `${path.slice(0, 200)}…` : path}`

/** Whether JavaScript has the number, or it is none at all. */
export const isExact = (token: string): boolean => {
  if (token.length < minLength && !/[eE]/.test(token)) return true
  const read = String(Number(token))
  if (read === token) return true
  const given = decimal(token)
  return given === undefined || given === decimal(read)
}

const parts = /^\+?(-?)(\d*)(?:\.(\d*))?(?:[eE]([+-]?\d+))?$/

// One spelling for each value.
const decimal = (token: string): string | undefined => {
  const match = parts.exec(token)
  if (match === null) return undefined
  const [, sign, whole = "", fraction = "", exponent = "0"] = match
  const digits = (whole + fraction).replace(/^0+/, "")
  let end = digits.length
  while (end > 0 && digits[end - 1] === "0") end--
  return end === 0 ? "0" : `${sign}${digits.slice(0, end)}e${Number(exponent) - fraction.length + digits.length - end}`
}

// Without recursion: what PostgreSQL has can be deeper than any stack.
const restore = (json: Schema.Json): Schema.Json => {
  const root: { [key: string]: unknown } = { json }
  const waiting = [root]
  for (const container of waiting) {
    for (const [key, value] of Object.entries(container)) {
      if (typeof value === "string" && value.startsWith(mark)) container[key] = new Exact(value.slice(mark.length))
      else if (typeof value === "object" && value !== null) waiting.push(value as typeof root)
    }
  }
  return root.json as Schema.Json
}

/** The form of a payload, made from its JSON Schema (draft 2020-12). */
import { Exact, isObject, type Json, type JsonObject } from "./json.ts"

interface About {
  readonly title?: string
  readonly description?: string
  readonly initial?: Json
}

export type Field =
  & About
  & (
    | {
      readonly kind: "text"
      readonly secret: boolean
      readonly long: boolean
      readonly hint?: string
      readonly pattern?: string
    }
    | { readonly kind: "number"; readonly integer: boolean; readonly hint?: string }
    | { readonly kind: "boolean" }
    | { readonly kind: "choice"; readonly options: ReadonlyArray<Json> }
    | { readonly kind: "list"; readonly item: Field }
    | { readonly kind: "object"; readonly properties: ReadonlyArray<Property> }
    | { readonly kind: "union"; readonly options: ReadonlyArray<Option> }
    /** What no form is made for: JSON as text. */
    | { readonly kind: "raw" }
  )

export interface Property {
  readonly name: string
  readonly required: boolean
  readonly field: Field
}

export interface Option {
  readonly label: string
  readonly field: Field
}

/** The form of a schema; parts that no form fits become raw JSON. */
export const fromSchema = (schema: Json): Field => build(schema, schema, [])

const build = (given: Json, root: Json, path: ReadonlyArray<string>): Field => {
  const followed = follow(given, root, path)
  if (followed === undefined) return { kind: "raw" }
  const { schema, path: seen } = followed
  const about: About = {
    ...(typeof schema.title === "string" ? { title: schema.title } : {}),
    ...(typeof schema.description === "string" ? { description: schema.description } : {}),
    ...(schema.default === undefined ? {} : { initial: schema.default })
  }
  if (schema.const !== undefined) return { ...about, kind: "choice", options: [schema.const] }
  if (Array.isArray(schema.enum)) return { ...about, kind: "choice", options: schema.enum as ReadonlyArray<Json> }

  const alternatives = Array.isArray(schema.type)
    ? schema.type.map((type: Json) => ({ ...schema, type }))
    : schema.anyOf ?? schema.oneOf
  if (Array.isArray(alternatives)) {
    const options = alternatives.map((member: Json, index: number): Option => {
      const field = build(member, root, seen)
      return { label: label(field, index), field }
    })
    if (options.length === 1) return { ...options[0]!.field, ...about }
    const choices = options.map(({ field }) => field.kind === "choice" ? field.options : undefined)
    if (choices.every((each) => each !== undefined)) return { ...about, kind: "choice", options: choices.flat() }
    return { ...about, kind: "union", options }
  }

  switch (schema.type) {
    case "string": {
      const text = `${schema.format ?? ""} ${about.title ?? ""}`
      return {
        ...about,
        kind: "text",
        secret: /password/i.test(text),
        long: isLong(schema),
        ...hint(textHint(schema)),
        ...(typeof schema.pattern === "string" ? { pattern: schema.pattern } : {})
      }
    }
    case "integer":
    case "number":
      return { ...about, kind: "number", integer: schema.type === "integer", ...hint(numberHint(schema)) }
    case "boolean":
      return { ...about, kind: "boolean" }
    case "null":
      return { ...about, kind: "choice", options: [null] }
    case "array":
      return isObject(schema.items) && isUniform(schema)
        ? { ...about, kind: "list", item: build(schema.items, root, seen) }
        : { ...about, kind: "raw" }
    case "object": {
      if (!isObject(schema.properties)) return { ...about, kind: "raw" }
      const required = Array.isArray(schema.required) ? schema.required as ReadonlyArray<Json> : []
      return {
        ...about,
        kind: "object",
        properties: Object.entries(schema.properties).map(([name, property]) => ({
          name,
          required: required.includes(name),
          field: build(required.includes(name) ? property : withoutNull(property), root, seen)
        }))
      }
    }
    default:
      return { ...about, kind: "raw" }
  }
}

// The first items of a list that must not be empty are spelled out.
const isUniform = ({ items, prefixItems = [] }: JsonObject) =>
  Array.isArray(prefixItems) && prefixItems.every((item) => JSON.stringify(item) === JSON.stringify(items))

// Who means null leaves it out, where that can be done.
const withoutNull = (schema: Json): Json => {
  if (!isObject(schema) || !Array.isArray(schema.anyOf)) return schema
  const anyOf = schema.anyOf.filter((member: Json) => !isObject(member) || member.type !== "null")
  return anyOf.length === 0 ? schema : { ...schema, anyOf }
}

/** References and `allOf` resolved; undefined for what contains itself or is no schema. */
const follow = (
  given: Json,
  root: Json,
  path: ReadonlyArray<string>
): { readonly schema: JsonObject; readonly path: ReadonlyArray<string> } | undefined => {
  if (!isObject(given)) return undefined
  const { $ref, allOf, ...own } = given
  if (typeof $ref === "string") {
    if (path.includes($ref)) return undefined
    const target = resolve($ref, root)
    if (target === undefined) return undefined
    const found = follow(target, root, [...path, $ref])
    return found === undefined ? undefined : { schema: { ...found.schema, ...own }, path: found.path }
  }
  if (!Array.isArray(allOf)) return { schema: own, path }
  let merged: JsonObject = own
  let seen = path
  for (const member of allOf as ReadonlyArray<Json>) {
    const found = follow(member, root, seen)
    if (found === undefined) return undefined
    merged = Object.assign({}, found.schema, merged, both(found.schema, merged))
    seen = found.path
  }
  return { schema: merged, path: seen }
}

const both = (a: JsonObject, b: JsonObject): JsonObject => ({
  ...(isObject(a.properties) && isObject(b.properties) ? { properties: { ...a.properties, ...b.properties } } : {}),
  ...(Array.isArray(a.required) && Array.isArray(b.required) ? { required: [...a.required, ...b.required] } : {})
})

const resolve = ($ref: string, root: Json): Json | undefined => {
  if (!$ref.startsWith("#")) return undefined
  return $ref.slice(1).split("/").filter((step) => step !== "").reduce<Json | undefined>((at, step) => {
    const key = decodeURIComponent(step).replaceAll("~1", "/").replaceAll("~0", "~")
    return isObject(at) ? at[key] : undefined
  }, root)
}

const label = (field: Field, index: number): string => {
  if (field.title !== undefined) return field.title
  switch (field.kind) {
    case "object": {
      const tag = field.properties.find(({ field }) => field.kind === "choice" && field.options.length === 1)
      if (tag?.field.kind === "choice") return String(tag.field.options[0])
      return field.properties.map(({ name }) => name).slice(0, 3).join(", ") || `Option ${index + 1}`
    }
    case "choice":
      return field.options.map(String).slice(0, 3).join(", ")
    case "list":
      return "list"
    case "raw":
      return "JSON"
    default:
      return field.kind
  }
}

const isLong = ({ maxLength }: JsonObject) => maxLength === undefined || Number(maxLength) > 200

/** Whether a text is written in lines, as its name tells and what it holds; others are one line that can be long. */
export const hasLines = (field: { readonly long: boolean; readonly secret: boolean }, name: string, text: string) =>
  field.long && !field.secret && (text.includes("\n") || text.length > 200 || lines.test(name))

const lines =
  /prompt|text|body|message|content|description|comment|note|instruction|system|html|markdown|template|code|script|sql/i

/** What is wrong with a value, without the source of a pattern. */
export const plainly = (message: string): string =>
  message === "Missing key"
    ? "It is missing."
    : message.replaceAll(/a string matching the RegExp [^\n]*?(?=, got |\n|$)/g, "a text of another form")

/** Problems by their place: the path of a value in the request, its steps joined by slashes. */
export type Problems = ReadonlyMap<string, string>

/** Those at a place and below it, with the rest of the path as it would be written in a program. */
export const problemsBelow = (problems: Problems, path: string): ReadonlyArray<string> =>
  [...problems].flatMap(([at, message]) =>
    at === path
      ? [message]
      : at.startsWith(`${path}/`)
      ? [`${at.slice(path.length + 1).replaceAll("/", ".")}: ${message}`]
      : []
  )

const hint = (text: string) => (text === "" ? {} : { hint: text })

const numberHint = (schema: JsonObject): string => {
  const low = bound(schema.minimum ?? schema.exclusiveMinimum)
  const high = bound(schema.maximum ?? schema.exclusiveMaximum)
  if (low !== undefined && high !== undefined) return `${low} to ${high}`
  if (low !== undefined) return schema.minimum === undefined ? `more than ${low}` : `${low} or more`
  if (high !== undefined) return schema.maximum === undefined ? `less than ${high}` : `${high} or less`
  return ""
}

// That an integer can be exact is no limit that anybody meant.
const bound = (limit: Json | undefined) => Math.abs(Number(limit)) >= Number.MAX_SAFE_INTEGER ? undefined : limit

const textHint = ({ format, maxLength, minLength, pattern }: JsonObject): string =>
  [
    typeof format === "string" ? format : "",
    typeof pattern === "string" ? "in a form of its own" : "",
    minLength !== undefined && Number(minLength) > 1 ? `at least ${minLength} characters` : "",
    maxLength === undefined ? "" : `at most ${maxLength} characters`
  ].filter((part) => part !== "").join(", ")

/** What a form begins with; undefined where the reader has to say. */
export const initial = (field: Field): Json | undefined => {
  if (field.initial !== undefined) return field.initial
  switch (field.kind) {
    case "text":
      return ""
    case "number":
      return undefined
    case "boolean":
      return false
    case "choice":
      return field.options[0]
    case "list":
      return []
    case "object":
      return Object.fromEntries(
        field.properties.flatMap(({ field, name, required }) => {
          const value = required ? initial(field) : undefined
          return value === undefined ? [] : [[name, value]]
        })
      )
    case "union":
      return field.options[0] === undefined ? undefined : initial(field.options[0].field)
    case "raw":
      return undefined
  }
}

/** Whether the value has the form of the field, as far as choosing between alternatives needs it. */
export const fits = (field: Field, value: Json | undefined): boolean => {
  switch (field.kind) {
    case "text":
      return typeof value === "string"
    case "number":
      return typeof value === "number" || value instanceof Exact
    case "boolean":
      return typeof value === "boolean"
    case "choice":
      return field.options.some((option) => JSON.stringify(option) === JSON.stringify(value))
    case "list":
      return Array.isArray(value)
    case "object":
      return isObject(value) &&
        field.properties.every(({ field, name, required }) =>
          value[name] === undefined ? !required : fits(field, value[name])
        )
    case "union":
      return field.options.some((option) => fits(option.field, value))
    case "raw":
      return true
  }
}

/** Whether a form can show the whole of the value: nothing in it is without a field. */
export const covers = (field: Field, value: Json): boolean => {
  switch (field.kind) {
    case "list":
      return Array.isArray(value) && value.every((item: Json) => covers(field.item, item))
    case "object":
      return isObject(value) && Object.entries(value).every(([name, member]) => {
        const property = field.properties.find((property) => property.name === name)
        return property !== undefined && covers(property.field, member)
      })
    case "union":
      return field.options.some((option) => fits(option.field, value) && covers(option.field, value))
    default:
      return fits(field, value)
  }
}

/**
 * What the demo model writes when it is asked for JSON: a document made from
 * the prompt that fits the schema.
 *
 * @since 0.1.0
 */
import * as Data from "effect/Data"
import * as DateTime from "effect/DateTime"
import * as Hash from "effect/Hash"
import type * as JsonSchema from "effect/JsonSchema"
import * as Predicate from "effect/Predicate"
import * as Result from "effect/Result"
import type * as Schema from "effect/Schema"

/**
 * The schema has something that the demo model does not know.
 *
 * @category errors
 * @since 0.1.0
 */
export class Unsupported extends Data.TaggedError("spindle/ai/DemoDocument/Unsupported")<{
  readonly message: string
}> {}

type Written = Result.Result<Schema.Json, Unsupported>

interface Place {
  /** The name of the property. */
  readonly name: string
  /** The place in the innermost list, and how many elements that has. */
  readonly index: number
  readonly count: number
  /** Counts the rounds through the alternatives of that list's elements. */
  readonly round: number
}

const keywords = "type description title const enum anyOf properties required additionalProperties " +
  "items minItems maxItems minimum maximum format"
const known = new Set(keywords.split(" "))

/**
 * Writes the document. The same prompt and schema give the same document.
 *
 * - A list has three elements, or more if it must, or fewer if it must. Alternatives for its elements take turns.
 * - A text is `demo`, the name of its property, a number and a word of the prompt's first line, and stands nowhere in the prompt.
 * - The text `recordId` is an `id` of the prompt's lines that are JSON objects, one after the other.
 * - Everything else is drawn from a hash of the prompt.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (schema: JsonSchema.JsonSchema, prompt: string): Written => {
  const words = prompt.split("\n", 1)[0]!.match(/[\p{L}\p{N}]+/gu) ?? ["nothing"]
  const ids = prompt.split("\n").flatMap(idOf)

  const draw = ({ index, name }: Place, size: number) => Math.abs(Hash.string(`${prompt} ${name} ${index}`)) % size

  const textAt = ({ count, index, name, round }: Place) => {
    const id = name === "recordId" ? ids[round % ids.length] : undefined
    if (id !== undefined) return id
    let number = index + 1
    const text = () => `demo ${name} ${number} ${words[(number - 1) % words.length]}`
    while (prompt.includes(JSON.stringify(text()))) number += count
    return text()
  }

  const number = (schema: JsonSchema.JsonSchema, place: Place) => {
    const minimum = Number(schema.minimum ?? Math.min(0, Number(schema.maximum ?? 0)))
    const maximum = Number(schema.maximum ?? Math.max(minimum, 0) + 1000)
    const lowest = schema.type === "integer" ? Math.ceil(minimum) : minimum
    return lowest + draw(place, Math.min(Math.floor(maximum - lowest), 1000) + 1)
  }

  const list = (schema: JsonSchema.JsonSchema, place: Place): Written => {
    const { items, maxItems = Infinity, minItems = 0 } = schema
    const count = Math.min(Math.max(3, Number(minItems)), Number(maxItems))
    const alternatives = Predicate.isReadonlyObject(items) && Array.isArray(items.anyOf) ? items.anyOf : [items]
    return Result.all(
      Array.from({ length: count }, (_, index) =>
        value(alternatives[index % alternatives.length], {
          name: place.name,
          index,
          count,
          round: Math.floor(index / alternatives.length)
        }))
    )
  }

  const value = (schema: unknown, place: Place): Written => {
    if (!isSchema(schema)) return unsupported(`a schema that is ${JSON.stringify(schema)}`)
    const unknown = Object.keys(schema).find((keyword) => !known.has(keyword))
    if (unknown !== undefined) return unsupported(`the keyword ${JSON.stringify(unknown)}`)
    if (schema.const !== undefined) return Result.succeed(schema.const as Schema.Json)
    if (Array.isArray(schema.enum)) return Result.succeed(schema.enum[draw(place, schema.enum.length)] as Schema.Json)
    if (Array.isArray(schema.anyOf)) {
      const present = schema.anyOf.filter((alternative) => !(isSchema(alternative) && alternative.type === "null"))
      return value(present[draw(place, present.length)] ?? { type: "null" }, place)
    }
    switch (schema.type) {
      case "object":
        return Result.map(
          Result.all(
            Object.entries(schema.properties ?? {}).map(([name, property]) =>
              Result.map(value(property, { ...place, name }), (value) => [name, value] as const)
            )
          ),
          (members): Schema.Json => Object.fromEntries(members)
        )
      case "array":
        return list(schema, place)
      case "string": {
        if (schema.format === undefined) return Result.succeed(textAt(place))
        if (schema.format === "date") return Result.succeed(day(draw(place, 3650)))
        return unsupported(`the format ${JSON.stringify(schema.format)}`)
      }
      case "number":
      case "integer":
        return Result.succeed(number(schema, place))
      case "boolean":
        return Result.succeed(draw(place, 2) === 0)
      case "null":
        return Result.succeed(null)
      default:
        return unsupported(`the type ${JSON.stringify(schema.type)}`)
    }
  }

  return value(schema, { name: "document", index: 0, count: 1, round: 0 })
}

const isSchema = (u: unknown): u is JsonSchema.JsonSchema => Predicate.isReadonlyObject(u)

const unsupported = (what: string): Written =>
  Result.fail(new Unsupported({ message: `Spindle's built-in demo model does not know ${what} in a JSON Schema` }))

const day = (days: number) =>
  DateTime.formatIsoDateUtc(DateTime.add(DateTime.makeUnsafe("2020-01-01T00:00:00Z"), { days }))

const idOf = (line: string): ReadonlyArray<string> => {
  const object = Result.getOrUndefined(Result.try((): unknown => line.startsWith("{") ? JSON.parse(line) : undefined))
  return Predicate.hasProperty(object, "id") ? [String(object.id)] : []
}

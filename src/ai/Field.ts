/**
 * The fields of a data set, as the AI tasks take and propose them, and the
 * schema of what may stand in them.
 *
 * @since 0.1.0
 */
import * as DateTime from "effect/DateTime"
import type * as JsonSchema from "effect/JsonSchema"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"

/**
 * The types of fields.
 *
 * @category models
 * @since 0.1.0
 */
export const Type = Schema.Literals(["text", "number", "boolean", "date", "select"])
/**
 * The types of fields.
 *
 * @category models
 * @since 0.1.0
 */
export type Type = typeof Type.Type

/**
 * The first that is there twice.
 *
 * @category conversions
 * @since 0.1.0
 */
export const repeated = (names: ReadonlyArray<string>): string | undefined => {
  const seen = new Set<string>()
  return names.find((name) => seen.size === seen.add(name).size)
}

/**
 * One field.
 *
 * @category models
 * @since 0.1.0
 */
export const Field = Schema.Struct({
  name: Schema.NonEmptyString,
  type: Type,
  /** What it means; the model reads it. */
  description: Schema.optional(Schema.String),
  /** What a `select` can be, at most 1,000. Other types ignore it. */
  options: Schema.optional(Schema.Array(Schema.NonEmptyString).check(Schema.isMaxLength(1000))),
  /** Whether there must be a value; if not, it may be `null`. Default: true. */
  required: Schema.optional(Schema.Boolean)
}).check(Schema.makeFilter(({ options = [], type }) => {
  if (type !== "select") return undefined
  if (options.length === 0) {
    return { path: ["options"], issue: "Expected at least one option, as the type is \"select\"" }
  }
  const twice = repeated(options)
  if (twice === undefined) return undefined
  return { path: ["options"], issue: `Expected every option once, got ${JSON.stringify(twice)} twice` }
}))
/**
 * One field.
 *
 * @category models
 * @since 0.1.0
 */
export type Field = typeof Field.Type

/**
 * The fields of a data set: at least one, at most 100, each with a name of its own.
 *
 * @category models
 * @since 0.1.0
 */
export const Fields = Schema.Array(Field).check(Schema.makeFilter((fields) => {
  if (fields.length < 1 || fields.length > 100) return `Expected 1 to 100 fields, got ${fields.length}`
  const twice = repeated(fields.map(({ name }) => name))
  return twice === undefined ? undefined : `Expected every field name once, got ${JSON.stringify(twice)} twice`
}))

/**
 * What can stand in a field.
 *
 * @category models
 * @since 0.1.0
 */
export const Value = Schema.Union([Schema.String, Schema.Finite, Schema.Boolean, Schema.Null])
/**
 * What can stand in a field.
 *
 * @category models
 * @since 0.1.0
 */
export type Value = typeof Value.Type

/**
 * A value for each field of a data set.
 *
 * @category models
 * @since 0.1.0
 */
export const Record = Schema.Record(Schema.String, Value)
/**
 * A value for each field of a data set.
 *
 * @category models
 * @since 0.1.0
 */
export type Record = typeof Record.Type

/**
 * A day of the calendar as `YYYY-MM-DD`, from the year 1 to 9999.
 *
 * @category schemas
 * @since 0.1.0
 */
export const Day = Schema.String.check(
  Schema.makeFilter((text) => isDay(text) || "Expected a date as YYYY-MM-DD", {
    toJsonSchema: () => ({ format: "date" })
  })
)

// a day that does not exist is read as another one
const isDay = (text: string) =>
  /^(?!0000)\d{4}-\d{2}-\d{2}$/.test(text) &&
  Option.exists(DateTime.make(text), (day) => DateTime.formatIsoDateUtc(day) === text)

const present = ({ options = [], type }: Field): Schema.Codec<Value> => {
  switch (type) {
    case "text":
      return Schema.String
    case "number":
      return Schema.Finite
    case "boolean":
      return Schema.Boolean
    case "date":
      return Day
    case "select":
      return Schema.Literals(options)
  }
}

/**
 * What may stand in a field.
 *
 * @category schemas
 * @since 0.1.0
 */
export const valueSchema = (field: Field): Schema.Codec<Value> => {
  const schema = field.required === false ? Schema.NullOr(present(field)) : present(field)
  return field.description === undefined ? schema : schema.annotate({ description: field.description })
}

/**
 * A record with a value for each of the fields.
 *
 * @category schemas
 * @since 0.1.0
 */
export const recordSchema = (fields: ReadonlyArray<Field>): Schema.Codec<Record> =>
  Schema.Struct(Object.fromEntries(fields.map((field) => [field.name, valueSchema(field)])))

/**
 * Reads what a model wrote, or tells in the schema's words what does not fit.
 *
 * @category conversions
 * @since 0.1.0
 */
export const reader = <A>(schema: Schema.Codec<A, unknown>): (json: unknown) => Result.Result<A, string> => {
  const decode = Schema.decodeUnknownResult(schema, { errors: "all" })
  return (json) => Result.mapError(decode(json), ({ message }) => message)
}

/**
 * Reads a record as a model wrote it. Keys that are no field are left out; a
 * field that is not required may be left out by the model and is `null` then.
 *
 * @category conversions
 * @since 0.1.0
 */
export const recordReader = (fields: ReadonlyArray<Field>): (json: unknown) => Result.Result<Record, string> => {
  const read = reader(recordSchema(fields))
  const nulls = Object.fromEntries(fields.flatMap(({ name, required }) => required === false ? [[name, null]] : []))
  return (json) => read(Predicate.isReadonlyObject(json) ? { ...nulls, ...json } : json)
}

/**
 * A list as a JSON document for a model: exactly so many elements, or at most so many.
 *
 * @category schemas
 * @since 0.1.0
 */
export const listJsonSchema = (
  list: string,
  element: Schema.Constraint,
  size: { readonly minimum: number; readonly maximum: number }
): JsonSchema.JsonSchema =>
  Schema.toJsonSchemaDocument(
    Schema.Struct({
      [list]: Schema.Array(element).check(Schema.isBetweenLength(size.minimum, size.maximum))
    }),
    { onExcessProperty: "error" }
  ).schema

/**
 * The task `ai_generate_fields`: proposes the fields of a data set, or gives
 * records the values of fields; each streamed as soon as the model has written
 * it.
 *
 * @since 0.1.0
 */
import type * as LanguageModel from "effect/ai/LanguageModel"
import * as Effect from "effect/Effect"
import * as Outcome from "effect/Result"
import * as Schema from "effect/Schema"
import * as Task from "../Task.ts"
import * as TaskEvent from "../TaskEvent.ts"
import * as Field from "./Field.ts"
import * as Generation from "./Generation.ts"
import * as ModelAnswer from "./ModelAnswer.ts"
import * as ModelError from "./ModelError.ts"

/**
 * What a record is known by.
 *
 * @category models
 * @since 0.1.0
 */
export const RecordId = Schema.Union([Schema.NonEmptyString, Schema.Int])
/**
 * What a record is known by.
 *
 * @category models
 * @since 0.1.0
 */
export type RecordId = typeof RecordId.Type

/**
 * A value of a field for a record.
 *
 * @category models
 * @since 0.1.0
 */
export const Value = Schema.Struct({ recordId: RecordId, field: Schema.String, value: Field.Value })
/**
 * A value of a field for a record.
 *
 * @category models
 * @since 0.1.0
 */
export type Value = typeof Value.Type

/**
 * A record that wants values: its `id`, and whatever else the model should know.
 *
 * @category models
 * @since 0.1.0
 */
export const Row = Schema.StructWithRest(Schema.Struct({ id: RecordId }), [Schema.JsonObject])
/**
 * A record that wants values.
 *
 * @category models
 * @since 0.1.0
 */
export type Row = typeof Row.Type

const model = Schema.optional(Schema.NonEmptyString)

/**
 * Which fields to propose.
 *
 * @category models
 * @since 0.1.0
 */
export const Definitions = Schema.Struct({
  mode: Schema.Literal("definitions"),
  /** What the data set is about. */
  prompt: Schema.NonEmptyString,
  /** Fields that are there already, at most 200; none of their names is given again. */
  existing: Schema.optional(Schema.Array(Field.Field).check(Schema.isMaxLength(200))),
  /** How many. Default: as many as the model finds useful, at most 20. */
  count: Schema.optional(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 100 }))),
  /** The provider's name of the model. Default: the provider's choice. */
  model
})
/**
 * Which fields to propose.
 *
 * @category models
 * @since 0.1.0
 */
export type Definitions = typeof Definitions.Type

/**
 * Which values to give: one for every field of every record.
 *
 * @category models
 * @since 0.1.0
 */
export const Values = Schema.Struct({
  mode: Schema.Literal("values"),
  prompt: Schema.optional(Schema.NonEmptyString),
  fields: Field.Fields,
  /** 1 to 500, each with an id of its own. */
  records: Schema.Array(Row).check(Schema.makeFilter((records) => {
    if (records.length < 1 || records.length > 500) return `Expected 1 to 500 records, got ${records.length}`
    const twice = Field.repeated(records.map(({ id }) => String(id)))
    return twice === undefined ? undefined : `Expected every id once, got ${JSON.stringify(twice)} twice`
  })),
  /** The provider's name of the model. Default: the provider's choice. */
  model
})
/**
 * Which values to give.
 *
 * @category models
 * @since 0.1.0
 */
export type Values = typeof Values.Type

/**
 * What to generate. Other keys are ignored; a producer may keep its own there.
 *
 * @category models
 * @since 0.1.0
 */
export const Payload = Schema.Union([Definitions, Values]).annotate({
  expected: "an object whose \"mode\" is \"definitions\" or \"values\""
})
/**
 * What to generate.
 *
 * @category models
 * @since 0.1.0
 */
export type Payload = typeof Payload.Type

/**
 * The definition of a field is complete.
 *
 * @category events
 * @since 0.1.0
 */
export const FieldEvent = Schema.TaggedStruct("field", {
  /** Its place in the result's `fields`. */
  index: Schema.Int,
  field: Field.Field
})
/**
 * The definition of a field is complete.
 *
 * @category events
 * @since 0.1.0
 */
export type FieldEvent = typeof FieldEvent.Type

/**
 * A value is complete.
 *
 * @category events
 * @since 0.1.0
 */
export const ValueEvent = Schema.TaggedStruct("value", Value.fields)
/**
 * A value is complete.
 *
 * @category events
 * @since 0.1.0
 */
export type ValueEvent = typeof ValueEvent.Type

const answered = {
  /** The sum over all requests; `null` if the provider did not count. */
  usage: Schema.NullOr(ModelAnswer.Usage),
  /** The model that answered, as the provider names it. */
  model: Schema.String
}

/**
 * All fields, or all values. There may be fewer than were asked for; then there
 * is a `warning`.
 *
 * @category models
 * @since 0.1.0
 */
export const Result = Schema.Union([
  Schema.Struct({ fields: Schema.Array(Field.Field), ...answered }),
  Schema.Struct({ values: Schema.Array(Value), ...answered })
])
/**
 * All fields, or all values.
 *
 * @category models
 * @since 0.1.0
 */
export type Result = typeof Result.Type

/**
 * Proposes fields, or gives values. Emits a `field` or a `value` for each the
 * moment it is complete, a `warning` for each that does not fit and for what is
 * missing, and `usage`.
 *
 * What does not fit is dropped, and what is missing is asked for once more. A
 * later attempt starts over.
 *
 * @category tasks
 * @since 0.1.0
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { TaskQueue } from "effect-spindle"
 * import { AiGenerateFields } from "effect-spindle/ai/AiGenerateFields"
 *
 * const program = Effect.gen(function*() {
 *   const queue = yield* TaskQueue.TaskQueue
 *   yield* queue.enqueue(AiGenerateFields, { mode: "definitions", prompt: "Rivers of Europe", count: 5 })
 *   yield* queue.enqueue(AiGenerateFields, {
 *     mode: "values",
 *     fields: [{ name: "km", type: "number", description: "Length in kilometres" }],
 *     records: [{ id: 1, name: "Danube" }, { id: 2, name: "Rhine" }]
 *   })
 * })
 * ```
 */
export class AiGenerateFields extends Task.make("ai_generate_fields", {
  payload: Payload,
  success: Result,
  error: ModelError.ModelError,
  event: Schema.Union([FieldEvent, ValueEvent, Generation.Warning, TaskEvent.Usage]),
  retry: ModelError.retry,
  timeout: "15 minutes"
}) {}

type Handler<P extends Payload> = (
  payload: P,
  execution: Task.Execution<typeof AiGenerateFields>
) => Effect.Effect<Result, ModelError.ModelError, LanguageModel.LanguageModel>

// a union, so that options come with a select and with nothing else
const definition = Schema.Union([
  Schema.Struct({
    name: Schema.String,
    type: Schema.Literals(["text", "number", "boolean", "date"]),
    description: Schema.String,
    required: Schema.Boolean
  }),
  Schema.Struct({
    name: Schema.String,
    type: Schema.Literal("select"),
    description: Schema.String,
    options: Schema.Array(Schema.String).check(Schema.isMinLength(1)),
    required: Schema.Boolean
  })
])

const definitions: Handler<Definitions> = Effect.fnUntraced(
  function*({ count, existing = [], model, prompt }, { emit }) {
    const read = Field.reader(Schema.toCodecJson(Field.Field))
    const { kept, ...rest } = yield* Generation.generate<Field.Field>({
      list: "fields",
      wanted: count ?? 20,
      exact: count !== undefined,
      model,
      request: (missing, kept) => ({
        instructions: "You propose the fields of a data set. Each has a short name of its own and a description.",
        prompt: `${prompt}\n\nPropose ${count === undefined ? "the fields that are useful, at most " : ""}` +
          `${missing} ${missing === 1 ? "field" : "fields"}.${Generation.except([...existing, ...kept])}`,
        element: definition
      }),
      read: (json, kept) =>
        Outcome.flatMap(
          read(json),
          ({ description, name, options, required, type }) =>
            [...existing, ...kept].some((field) => field.name === name)
              ? Outcome.fail(`Expected a name of its own, got ${JSON.stringify(name)} again\n  at ["name"]`)
              : Outcome.succeed({
                name,
                type,
                ...(description === undefined ? {} : { description }),
                ...(type === "select" ? { options } : {}),
                ...(required === undefined ? {} : { required })
              })
        ),
      keep: (field, index) => emit({ _tag: "field", index, field }),
      emit
    })
    return { fields: kept, ...rest }
  }
)

const values: Handler<Values> = Effect.fnUntraced(function*({ fields, model, prompt, records }, { emit }) {
  const ids = new Map(records.map(({ id }) => [String(id), id]))
  // A model that writes an id of many digits as a number means the one that this number stands for, if it is the only one.
  const idOf = (recordId: RecordId): RecordId | undefined => {
    if (typeof recordId === "string" || Number.isSafeInteger(recordId)) return ids.get(String(recordId))
    const [id, ...others] = [...ids.values()].filter((id) => Number(id) === recordId)
    return others.length === 0 ? id : undefined
  }
  const readers = new Map(fields.map((field) => [field.name, Field.reader(Field.valueSchema(field))]))
  // by record, the fields it has no value for
  const wanting = new Map(records.map(({ id }) => [String(id), new Set(readers.keys())]))
  const recordId = Schema.Union([Schema.NonEmptyString, Schema.Finite])
  const readValue = Field.reader(Schema.Struct({ recordId, field: Schema.String, value: Schema.Json }))

  const { kept, ...rest } = yield* Generation.generate<Value>({
    list: "values",
    wanted: records.length * fields.length,
    exact: true,
    model,
    request: (missing) => {
      const rows = records.filter(({ id }) => wanting.get(String(id))!.size > 0)
      const named = new Set(rows.flatMap(({ id }) => [...wanting.get(String(id))!]))
      const asked = fields.filter(({ name }) => named.has(name))
      const missingOf = (rows: ReadonlyArray<Row>) =>
        rows.map(({ id }) => ({ recordId: id, fields: [...wanting.get(String(id))!] }))
      const all = missing === rows.length * asked.length
      return {
        instructions: "You fill in the fields of records. Each value belongs to one field of one record.",
        prompt: `${prompt === undefined ? "" : `${prompt}\n\n`}Give a value for each of the fields ` +
          `${asked.map(({ name }) => JSON.stringify(name)).join(", ")} of each of these records, one a line:\n` +
          Generation.lines(rows) +
          (all ? "" : `\n\nOnly these values are missing:\n${Generation.lines(missingOf(rows))}`),
        element: Schema.Union(
          asked.map((field) =>
            Schema.Struct({
              recordId: Schema.String,
              field: Schema.Literal(field.name),
              value: Field.valueSchema(field)
            })
          )
        )
      }
    },
    read: (json) =>
      Outcome.gen(function*() {
        const { field, recordId, value } = yield* readValue(json)
        const id = idOf(recordId)
        if (id === undefined) {
          return yield* Outcome.fail(`Expected the id of a record, got ${JSON.stringify(recordId)}\n  at ["recordId"]`)
        }
        const read = readers.get(field)
        if (read === undefined) {
          return yield* Outcome.fail(`Expected the name of a field, got ${JSON.stringify(field)}\n  at ["field"]`)
        }
        if (!wanting.get(String(id))!.has(field)) {
          return yield* Outcome.fail(`Expected one value for ${JSON.stringify(field)} of ${JSON.stringify(id)}`)
        }
        return {
          recordId: id,
          field,
          value: yield* Outcome.mapError(read(value), (issue) => `${issue}\n  at ["value"]`)
        }
      }),
    keep: (value) => {
      wanting.get(String(value.recordId))!.delete(value.field)
      return emit({ _tag: "value", ...value })
    },
    emit
  })
  return { values: kept, ...rest }
})

/**
 * Proposes fields, or gives values, with whichever language model is provided.
 *
 * @category handlers
 * @since 0.1.0
 */
export const handler: Task.HandlerFn<typeof AiGenerateFields, LanguageModel.LanguageModel> = (payload, execution) =>
  payload.mode === "definitions" ? definitions(payload, execution) : values(payload, execution)

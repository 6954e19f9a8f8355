/**
 * The task `ai_generate_records`: records for a data set, each streamed as soon
 * as the model has written it.
 *
 * @since 0.1.0
 */
import type * as LanguageModel from "effect/ai/LanguageModel"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Task from "../Task.ts"
import * as TaskEvent from "../TaskEvent.ts"
import * as Field from "./Field.ts"
import * as Generation from "./Generation.ts"
import * as ModelAnswer from "./ModelAnswer.ts"
import * as ModelError from "./ModelError.ts"

/**
 * Which records to generate. Other keys are ignored; a producer may keep its
 * own there.
 *
 * @category models
 * @since 0.1.0
 */
export const Payload = Schema.Struct({
  /** What the records are about. */
  prompt: Schema.NonEmptyString,
  fields: Field.Fields,
  count: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 500 })),
  /** Records that are there already, at most 1,000; the model is asked not to repeat them. */
  existing: Schema.optional(Schema.Array(Schema.JsonObject).check(Schema.isMaxLength(1000))),
  /** The provider's name of the model. Default: the provider's choice. */
  model: Schema.optional(Schema.NonEmptyString)
})
/**
 * Which records to generate.
 *
 * @category models
 * @since 0.1.0
 */
export type Payload = typeof Payload.Type

/**
 * A record is complete.
 *
 * @category events
 * @since 0.1.0
 */
export const RecordEvent = Schema.TaggedStruct("record", {
  /** Its place in the result's `records`. */
  index: Schema.Int,
  record: Field.Record
})
/**
 * A record is complete.
 *
 * @category events
 * @since 0.1.0
 */
export type RecordEvent = typeof RecordEvent.Type

/**
 * All records.
 *
 * @category models
 * @since 0.1.0
 */
export const Result = Schema.Struct({
  /** Fewer than `count` if the model gave no more that fit; then there is a `warning`. */
  records: Schema.Array(Field.Record),
  /** The sum over all requests; `null` if the provider did not count. */
  usage: Schema.NullOr(ModelAnswer.Usage),
  /** The model that answered, as the provider names it. */
  model: Schema.String
})
/**
 * All records.
 *
 * @category models
 * @since 0.1.0
 */
export type Result = typeof Result.Type

/**
 * Generates records. Emits a `record` for each the moment it is complete,
 * `progress` as the share of `count`, a `warning` for each that does not fit
 * and for what is missing, and `usage`.
 *
 * What does not fit is dropped, and what is missing is asked for once more. A
 * later attempt starts over, with an index of 0.
 *
 * @category tasks
 * @since 0.1.0
 * @example
 * ```ts
 * import { Effect } from "effect"
 * import { TaskQueue } from "effect-spindle"
 * import { AiGenerateRecords } from "effect-spindle/ai/AiGenerateRecords"
 *
 * const program = Effect.gen(function*() {
 *   const queue = yield* TaskQueue.TaskQueue
 *   yield* queue.enqueue(AiGenerateRecords, {
 *     prompt: "Rivers of Europe",
 *     fields: [{ name: "name", type: "text" }, { name: "km", type: "number", required: false }],
 *     count: 20
 *   })
 * })
 * ```
 */
export class AiGenerateRecords extends Task.make("ai_generate_records", {
  payload: Payload,
  success: Result,
  error: ModelError.ModelError,
  event: Schema.Union([RecordEvent, Generation.Warning, TaskEvent.Usage]),
  retry: ModelError.retry,
  timeout: "15 minutes"
}) {}

/**
 * Generates records with whichever language model is provided.
 *
 * @category handlers
 * @since 0.1.0
 */
export const handler: Task.HandlerFn<typeof AiGenerateRecords, LanguageModel.LanguageModel> = Effect.fnUntraced(
  function*({ count, existing = [], fields, model, prompt }, { emit, progress }) {
    const element = Field.recordSchema(fields)
    const { kept, ...rest } = yield* Generation.generate<Field.Record>({
      list: "records",
      wanted: count,
      exact: true,
      model,
      request: (missing, kept) => ({
        instructions: "You generate records for a data set. They are plausible, and none repeats another one.",
        prompt: `${prompt}\n\nGenerate ${missing} ${missing === 1 ? "record" : "records"}.` +
          Generation.except([...existing, ...kept]),
        element
      }),
      read: Field.recordReader(fields),
      keep: Effect.fnUntraced(function*(record, index) {
        yield* emit({ _tag: "record", index, record })
        const percent = Math.floor((100 * (index + 1)) / count)
        if (percent > Math.floor((100 * index) / count)) yield* progress((index + 1) / count)
      }),
      emit
    })
    return { records: kept, ...rest }
  }
)

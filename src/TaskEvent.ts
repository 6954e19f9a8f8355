/**
 * What a task says while it runs, as stored in `task_events`.
 *
 * The `_tag` of an event is the column `type`, its other fields are the column
 * `data`. Some events come ready-made, a task adds its own, and each claim that
 * ended has exactly one closing event.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import * as SchemaAST from "effect/SchemaAST"
import * as SchemaTransformation from "effect/SchemaTransformation"

/**
 * A piece of generated text. A reader starts over when an epoch with a new claim begins.
 *
 * @since 0.1.0
 * @category built-in events
 */
export const TextDelta = Schema.TaggedStruct("text_delta", { text: Schema.String })
/**
 * @since 0.1.0
 * @category built-in events
 */
export type TextDelta = typeof TextDelta.Type

/**
 * Tokens a language model has consumed and produced.
 *
 * @since 0.1.0
 * @category built-in events
 */
export const Usage = Schema.TaggedStruct("usage", {
  inputTokens: Schema.Int,
  outputTokens: Schema.Int,
  totalTokens: Schema.Int,
  model: Schema.optionalKey(Schema.String)
})
/**
 * @since 0.1.0
 * @category built-in events
 */
export type Usage = typeof Usage.Type

/**
 * How far the attempt is, from 0 to 1. Every task can emit it through `Execution.progress`.
 *
 * @since 0.1.0
 * @category built-in events
 */
export const Progress = Schema.TaggedStruct("progress", {
  fraction: Schema.Finite.check(Schema.isBetween({ minimum: 0, maximum: 1 })),
  message: Schema.optionalKey(Schema.String)
})
/**
 * @since 0.1.0
 * @category built-in events
 */
export type Progress = typeof Progress.Type

/**
 * Why an attempt did not succeed, as stored in the column `error` and in the closing events `error` and `retry`.
 *
 * - `failure`: a typed error of the task
 * - `defect`: a bug
 * - `timeout`: the attempt took longer than its timeout
 * - `interrupted`: the handler interrupted itself
 * - `discarded`: the handler gave the task up with `Task.Discard`
 * - `rejected`: the payload does not fit the schema, or nobody handles the type
 * - `lease_expired`: the worker died or lost the database
 *
 * @since 0.1.0
 * @category models
 */
export const Failure = Schema.Struct({
  kind: Schema.Literals(["failure", "defect", "timeout", "interrupted", "discarded", "rejected", "lease_expired"]),
  tag: Schema.String,
  message: Schema.String,
  stack: Schema.optionalKey(Schema.String),
  /** The encoded error, when the task's error schema has it. */
  data: Schema.optionalKey(Schema.Json)
})
/**
 * @since 0.1.0
 * @category models
 */
export type Failure = typeof Failure.Type

// absent where nobody had claimed the task: it was cancelled while queued
const claim = {
  startedAt: Schema.optionalKey(Schema.DateTimeUtc),
  worker: Schema.optionalKey(Schema.String)
}

/**
 * The events that close a claim; `done`, `error` and `cancelled` also close the task.
 *
 * @since 0.1.0
 * @category closing events
 */
export const Closing = Schema.TaggedUnion({
  done: claim,
  error: { ...Failure.fields, ...claim, willRetry: Schema.Literal(false) },
  retry: { ...Failure.fields, ...claim, willRetry: Schema.Literal(true), runAt: Schema.DateTimeUtc },
  released: {
    ...claim,
    reason: Schema.Literals(["shutdown", "snooze", "lease_expired"]),
    runAt: Schema.optionalKey(Schema.DateTimeUtc)
  },
  cancelled: {
    ...claim,
    reason: Schema.optionalKey(Schema.String),
    /** From the handler's interruption to the end of its finalizers. Absent where none was interrupted. */
    unwoundMs: Schema.optionalKey(Schema.Finite)
  }
})
/**
 * @since 0.1.0
 * @category closing events
 */
export type Closing = typeof Closing.Type

/**
 * Where a reader stands: the epoch, and the event within it, counted from 1. With
 * `seq` 0 it stands before the first event of the epoch.
 *
 * @since 0.1.0
 * @category models
 */
export const Position = Schema.Struct({
  epoch: Schema.BigInt.check(Schema.isBetweenBigInt({ minimum: 0n, maximum: 2n ** 63n - 1n })),
  seq: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 2 ** 31 - 1 }))
})
/**
 * @since 0.1.0
 * @category models
 */
export type Position = typeof Position.Type

/**
 * The wire form `epoch-seq` of a position, as in `Last-Event-ID`: two decimal
 * numbers without signs, spaces or leading zeros, and nothing else.
 *
 * @since 0.1.0
 * @category models
 */
export const PositionFromString: Schema.Codec<Position, string> = Schema.String.check(
  Schema.isPattern(/^(0|[1-9]\d{0,18})-(0|[1-9]\d{0,9})$/, { expected: "a position <epoch>-<seq>, such as 1-17" })
).pipe(
  Schema.decodeTo(
    Position,
    SchemaTransformation.transform({
      decode: (text) => {
        const dash = text.indexOf("-")
        return { epoch: BigInt(text.slice(0, dash)), seq: Number(text.slice(dash + 1)) }
      },
      encode: ({ epoch, seq }) => `${epoch}-${seq}`
    })
  )
)

/**
 * A schema whose values carry a `_tag`: one tagged struct or class, or a union of them.
 *
 * @since 0.1.0
 * @category utility types
 */
export type TaggedSchema = Schema.Top & { readonly Type: { readonly _tag: string } }

/**
 * Refuses an event schema that has the name of a closing event.
 *
 * @since 0.1.0
 * @category utility types
 */
export type NotClosing<Event extends TaggedSchema> = [Extract<Event["Type"]["_tag"], Closing["_tag"]>] extends [never]
  ? unknown
  : `"${Extract<Event["Type"]["_tag"], Closing["_tag"]>}" is the name of a closing event`

/**
 * The names of the closing events.
 *
 * @since 0.1.0
 * @category closing events
 */
export const closingTypes: ReadonlySet<string> = new Set(Object.keys(Closing.cases))

/**
 * The names of the events that a schema declares, as they are stored. Undefined
 * stands for an event that has none: its `_tag` is not a literal.
 *
 * @since 0.1.0
 * @category schemas
 */
export const types = (schema: Schema.Top): ReadonlyArray<string | undefined> =>
  typesOf(SchemaAST.toEncoded(Schema.toCodecJson(schema).ast))

const typesOf = (ast: SchemaAST.AST): ReadonlyArray<string | undefined> => {
  switch (ast._tag) {
    case "Never":
      return []
    case "Union":
      return ast.types.flatMap(typesOf)
    case "Suspend":
      return typesOf(ast.thunk())
    case "Objects": {
      const tag = ast.propertySignatures.find(({ name }) => name === "_tag")
      return tag === undefined ? [undefined] : literalsOf(tag.type)
    }
    default:
      return [undefined]
  }
}

const literalsOf = (ast: SchemaAST.AST): ReadonlyArray<string | undefined> =>
  ast._tag === "Union"
    ? ast.types.flatMap(literalsOf)
    : [ast._tag === "Literal" && typeof ast.literal === "string" ? ast.literal : undefined]

/**
 * Whether a schema declares any event; `Schema.Never` declares none. Only for
 * tasks that declare events does the worker always write `done`.
 *
 * @since 0.1.0
 * @category schemas
 */
export const declares = (schema: Schema.Top): boolean => types(schema).length > 0

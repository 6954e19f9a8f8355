/**
 * Generates the elements of a list with a language model: each is checked and
 * handed on the moment it is complete, and what is missing in the end is asked
 * for once more.
 *
 * @since 0.1.0
 */
import type * as LanguageModel from "effect/ai/LanguageModel"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import type * as TaskEvent from "../TaskEvent.ts"
import * as Field from "./Field.ts"
import * as ListReader from "./ListReader.ts"
import * as ModelAnswer from "./ModelAnswer.ts"
import * as ModelError from "./ModelError.ts"

/**
 * Something of the model's answer was dropped, or is missing.
 *
 * @category events
 * @since 0.1.0
 */
export const Warning = Schema.TaggedStruct("warning", {
  message: Schema.String,
  /** The place in the model's answer of what was dropped, from 0. */
  index: Schema.optionalKey(Schema.Int)
})
/**
 * Something of the model's answer was dropped, or is missing.
 *
 * @category events
 * @since 0.1.0
 */
export type Warning = typeof Warning.Type

/**
 * What the model is told.
 *
 * @category models
 * @since 0.1.0
 */
export interface Request {
  /** What it is to do. The form of the answer is added. */
  readonly instructions: string
  /** What it is about. */
  readonly prompt: string
  /** The schema of an element. */
  readonly element: Schema.Constraint
}

/**
 * What to generate.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options<A> {
  /** The name of the list, a plural. */
  readonly list: string
  /** No more elements than that are kept. */
  readonly wanted: number
  /** Whether fewer are too few. */
  readonly exact: boolean
  readonly model: string | undefined
  /** The request for so many elements beside those that are there. */
  readonly request: (missing: number, kept: ReadonlyArray<A>) => Request
  /** Tells what does not fit in the words of a schema. */
  readonly read: (element: Schema.Json, kept: ReadonlyArray<A>) => Result.Result<A, string>
  readonly keep: (element: A, index: number) => Effect.Effect<void>
  readonly emit: (event: Warning | TaskEvent.Usage) => Effect.Effect<void>
}

/**
 * What was generated.
 *
 * @category models
 * @since 0.1.0
 */
export interface Generated<A> {
  readonly kept: ReadonlyArray<A>
  /** The sum over all requests; `null` if the provider did not count. */
  readonly usage: ModelAnswer.Usage | null
  readonly model: string
}

// what a model adds below the list, before it is stopped and its usage gets lost
const epilogueLength = 1000

const messageLength = 2000

/**
 * Asks the model, and once more for what is missing. Emits a `warning` for each
 * element that is dropped and for each answer that leaves something missing,
 * then `usage`, also if it fails or is interrupted.
 *
 * An answer that goes on although it has given enough is stopped, and so is one
 * with more elements that do not fit than were asked for.
 *
 * @category generating
 * @since 0.1.0
 */
export const generate = Effect.fnUntraced(function*<A>(
  { emit, exact, keep, list, read, request, wanted, ...settings }: Options<A>
): Effect.fn.Return<Generated<A>, ModelError.ModelError, LanguageModel.LanguageModel> {
  const kept: Array<A> = []
  const faults: Array<string> = []
  let usage: ModelAnswer.Usage | null = null
  let model = settings.model ?? "unknown"

  const warn = (text: string, index?: number) => {
    const message = text.slice(0, messageLength)
    faults.push(message)
    return emit({ _tag: "warning", message, ...(index === undefined ? {} : { index }) })
  }

  const ask = Effect.fnUntraced(function*(missing: number) {
    const enough = kept.length + missing
    const before = usage
    const reader = ListReader.make(list)
    let index = 0
    let dropped = 0
    let epilogue = 0
    let end: ModelAnswer.End | undefined

    const { element, instructions, prompt } = request(missing, kept)
    const schema = Field.listJsonSchema(list, element, { minimum: exact ? missing : 1, maximum: missing })
    yield* ModelAnswer.stream(
      [
        { role: "system", content: `${instructions}\n\n${form}\n${JSON.stringify(schema)}` },
        { role: "user", content: faults.length === 0 ? prompt : `${prompt}\n\n${avoid(faults)}` }
      ],
      { model: settings.model, json: { name: list, schema } },
      (counts) => {
        usage = sum(before, counts)
      }
    ).pipe(
      Stream.runForEachWhile(Effect.fnUntraced(function*(piece) {
        model = piece.model
        if (piece._tag === "End") {
          end = piece
          return true
        }
        if (kept.length === enough) {
          epilogue += piece.text.length
          return epilogue <= epilogueLength
        }
        for (const element of reader.read(piece.text)) {
          if (kept.length === enough) break
          const result = read(element, kept)
          if (Result.isSuccess(result)) {
            kept.push(result.success)
            yield* keep(result.success, kept.length - 1)
          } else {
            dropped++
            yield* warn(result.failure, index)
          }
          index++
        }
        return kept.length === enough || (dropped <= missing && reader.state() !== "broken")
      })),
      // whatever happens after the list, the list is there
      Effect.catch((error) => kept.length === enough || reader.state() === "closed" ? Effect.void : Effect.fail(error))
    )

    if (kept.length === enough) return 0
    if (end?.reason !== undefined) yield* ModelAnswer.finishReason(end)
    const state = reader.state()
    const why = dropped > missing ? "too much of the answer does not fit" : shortfalls[state]
    if (exact || state !== "closed" || dropped > missing) {
      yield* warn(`${exact ? `${kept.length} of ${wanted} ` : ""}${list}: ${why}`)
    }
    return exact || state !== "closed" ? enough - kept.length : Math.min(dropped, enough - kept.length)
  })

  return yield* Effect.gen(function*() {
    const missing = yield* ask(wanted)
    if (missing > 0) yield* ask(missing)
    if (kept.length > 0) return { kept, usage, model }
    return yield* new ModelError.MalformedOutput({
      message: `The model gave no ${list} that fit: ${faults[0]}`
    })
  }).pipe(
    Effect.ensuring(Effect.suspend(() => usage === null ? Effect.void : emit({ _tag: "usage", ...usage, model })))
  )
})

/**
 * Writes each element as JSON on a line of its own.
 *
 * @category conversions
 * @since 0.1.0
 */
export const lines = (elements: ReadonlyArray<unknown>): string =>
  elements.map((element) => JSON.stringify(element)).join("\n")

/**
 * What a prompt says of elements that are there already; nothing, if there are none.
 *
 * @category conversions
 * @since 0.1.0
 */
export const except = (known: ReadonlyArray<unknown>): string =>
  known.length === 0 ? "" : ` These are there already, one a line, and must not be repeated:\n${lines(known)}`

const form = "Answer with one JSON document and nothing else: no Markdown, no text before or after it. " +
  "It has to fit this JSON Schema:"

const avoid = (faults: ReadonlyArray<string>) =>
  `An earlier answer had these faults. Avoid them:\n${
    [...new Set(faults)].slice(0, 10).map((fault) => `- ${fault}`).join("\n")
  }`

const shortfalls: Readonly<Record<ListReader.State, string>> = {
  empty: "the answer has no list of them in valid JSON",
  open: "the answer breaks off",
  closed: "the answer has no more that fit",
  broken: "the answer is no valid JSON from there on"
}

const sum = (a: ModelAnswer.Usage | null, b: ModelAnswer.Usage | null): ModelAnswer.Usage | null => {
  if (a === null || b === null) return a ?? b
  return {
    inputTokens: a.inputTokens + b.inputTokens,
    outputTokens: a.outputTokens + b.outputTokens,
    totalTokens: a.totalTokens + b.totalTokens
  }
}

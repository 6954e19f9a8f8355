/**
 * What an endpoint of the Chat Completions API sends back: a stream of events, or, where a server or gateway does not
 * stream, one JSON document. The body says which; the `content-type` often does not.
 *
 * The package `openai` has an iterator for events. This one hands on together what came together, and passes over events
 * without data, with which servers keep a connection open.
 */
import * as Arr from "effect/Array"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Sse from "effect/encoding/Sse"
import * as Pull from "effect/Pull"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"

/** Stands in the stream for what says that the answer is whole: `[DONE]`, or the end of a document. */
export const done = Symbol.for("spindle/ai/OpenAiStream/done")

/** An answer of something else than the API. */
export class Foreign {
  readonly what: string
  constructor(what: string) {
    this.what = what
  }
}

const maxDocument = 64 * 1024 * 1024

/**
 * The chunks of an answer. Fails with what the connection broke with, what is not JSON, what is no answer of the API, or
 * with an error that the endpoint reports, in the form of the package's own: with the `headers`, without a `status`.
 * `heard` is called for whatever comes, be it a comment that keeps the connection open.
 */
export const chunks = ({ body, headers }: Response, heard: () => void): Stream.Stream<unknown, Cause.UnknownError> => {
  if (body === null) return Stream.empty
  const bytes = Stream.fromReadableStream<Uint8Array, Cause.UnknownError>({
    evaluate: () => body,
    onError: (cause) => new Cause.UnknownError(cause)
  })
  return Stream.transformPull(Stream.decodeText(bytes), (pull) =>
    Effect.sync(() => {
      let form: "events" | "document" | undefined
      let document: Array<string> = []
      let size = 0
      let read: Array<unknown> = []
      let end: Pull.Pull<never, Cause.UnknownError> | undefined
      const broken = (cause: unknown) => Effect.fail(new Cause.UnknownError(cause))

      const accept = (chunk: any, isError = false) => {
        // vLLM once sent its errors without the field.
        const error = chunk?.error || (isError || chunk?.object === "error" ? chunk : undefined)
        if (error) end = broken({ error, headers, status: undefined })
        else read.push(chunk)
      }
      const parser = Sse.makeParser((event) => {
        if (event._tag === "Retry" || event.data === "" || end !== undefined) return
        if (event.data.trim() === "[DONE]") {
          read.push(done)
          end = Cause.done()
          return
        }
        const json = Result.try((): unknown => JSON.parse(event.data))
        if (Result.isFailure(json)) end = broken(json.failure)
        else accept(json.success, event.event === "error")
      })

      const take = (text: string) => {
        form ??= formOf(text)
        if (form === undefined || end !== undefined) return
        if (form === "document") {
          document.push(text)
          size += text.length
          if (size > maxDocument) end = broken(new Foreign("more than 64 MiB in one piece"))
          else if (text.trimStart().startsWith("<") && document.length === 1) end = broken(new Foreign("a page"))
          return
        }
        // llama.cpp once sent its errors in a field of their own.
        const tooLarge = parser.feed(text.replaceAll(/(^|\n)error: (?=\{)/g, "$1event: error\ndata: "))
        if (tooLarge !== undefined) end ??= broken(tooLarge)
      }
      const finish = () => {
        if (form === "events") {
          // The last event need not be followed by an empty line.
          parser.feed("\n\n")
        } else if (form === "document" && end === undefined) {
          const answers = documentsIn(document.join(""))
          document = []
          if (Result.isFailure(answers)) {
            end = broken(answers.failure)
            return
          }
          for (const answer of answers.success) accept(answer)
          if (read.length > 0) read.push(done)
        }
      }

      const next: Pull.Pull<Arr.NonEmptyReadonlyArray<unknown>, Cause.UnknownError> = Effect.suspend(() => {
        if (Arr.isArrayNonEmpty(read)) {
          const together = read
          read = []
          return Effect.succeed(together)
        }
        return end ?? Pull.catchDone(
          Effect.flatMap(pull, (texts) => {
            heard()
            for (const text of texts) take(text)
            return next
          }),
          () => {
            if (end === undefined) finish()
            end ??= Cause.done()
            return next
          }
        )
      })
      return next
    }))
}

const formOf = (text: string) => {
  const first = text.trimStart()[0]
  if (first === undefined) return undefined
  return first === "{" || first === "[" || first === "<" ? "document" : "events"
}

// One JSON document, a list of them, or one a line.
const documentsIn = (text: string): Result.Result<ReadonlyArray<unknown>, unknown> => {
  const whole = Result.try((): unknown => JSON.parse(text))
  const documents = Result.isSuccess(whole)
    ? Result.succeed(Array.isArray(whole.success) ? whole.success : [whole.success])
    : Result.try((): ReadonlyArray<unknown> =>
      text.split("\n").filter((line) => line.trim() !== "").map((line) => JSON.parse(line))
    )
  return Result.flatMap(
    documents,
    (all) =>
      all.every((one: any) => Array.isArray(one?.choices) || one?.error || one?.object === "error")
        ? Result.succeed(all)
        : Result.fail(new Foreign(`JSON without choices, ${JSON.stringify(all[0] ?? all).slice(0, 300)},`))
  )
}

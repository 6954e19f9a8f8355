/**
 * The stream of events in which an endpoint of the Chat Completions API answers.
 *
 * The package `openai` has an iterator for it. This one hands on together what came together, and passes over events without
 * data, with which servers keep a connection open.
 *
 * @since 0.1.0
 */
import * as Arr from "effect/Array"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Sse from "effect/encoding/Sse"
import type * as Pull from "effect/Pull"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"

/**
 * The chunks of an answer. Fails with what the connection broke with, what is not JSON, or with an error that the endpoint
 * reports, in the form of the package's own: with the `headers`, without a `status`.
 *
 * @category answers
 * @since 0.1.0
 */
export const chunks = ({ body, headers }: Response): Stream.Stream<unknown, Cause.UnknownError> => {
  if (body === null) return Stream.empty
  const bytes = Stream.fromReadableStream<Uint8Array, Cause.UnknownError>({
    evaluate: () => body,
    onError: (cause) => new Cause.UnknownError(cause)
  })
  // The last event need not be followed by an empty line.
  const texts = Stream.concat(Stream.decodeText(bytes), Stream.succeed("\n\n"))
  return Stream.transformPull(texts, (pull) =>
    Effect.sync(() => {
      let read: Array<unknown> = []
      let end: Pull.Pull<never, Cause.UnknownError> | undefined
      const broken = (cause: unknown) => Effect.fail(new Cause.UnknownError(cause))
      const parser = Sse.makeParser((event) => {
        if (event._tag === "Retry" || event.data === "" || end !== undefined) return
        if (event.data === "[DONE]") {
          end = Cause.done()
          return
        }
        const json = Result.try((): any => JSON.parse(event.data))
        if (Result.isFailure(json)) {
          end = broken(json.failure)
          return
        }
        const error = json.success?.error || (event.event === "error" ? json.success : undefined)
        if (error) end = broken({ error, headers, status: undefined })
        else read.push(json.success)
      })
      const next: Pull.Pull<Arr.NonEmptyReadonlyArray<unknown>, Cause.UnknownError> = Effect.suspend(() => {
        if (Arr.isArrayNonEmpty(read)) {
          const together = read
          read = []
          return Effect.succeed(together)
        }
        return end ?? Effect.flatMap(pull, (texts) => {
          for (const text of texts) {
            const tooLarge = parser.feed(text)
            if (tooLarge !== undefined) end ??= broken(tooLarge)
          }
          return next
        })
      })
      return next
    }))
}

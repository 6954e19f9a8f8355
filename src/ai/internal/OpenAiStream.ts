/**
 * The body in which an endpoint of the Chat Completions API answers: a stream of events, or JSON, whatever its label says.
 *
 * The package `openai` has an iterator for events, and Effect a parser. Both wait for the blank line that some endpoints
 * leave out, and pass over what others send beside the events: bare JSON, and errors in a field of their own.
 *
 * @since 0.1.0
 */
import * as AiError from "effect/ai/AiError"
import * as Arr from "effect/Array"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Predicate from "effect/Predicate"
import * as Pull from "effect/Pull"
import * as Result from "effect/Result"
import * as Stream from "effect/Stream"

/** The last chunk of an answer of which nothing is missing. */
export const done = "[DONE]"

type Failure = Cause.UnknownError | AiError.InvalidRequestError

/**
 * The chunks of an answer, those together that came together. Fails with what the connection broke with, what is not JSON,
 * or with an error that the endpoint reports, in the form of the package's own: with the `headers`, without a `status`;
 * with `InvalidRequestError` for a page or other JSON. `heard` is called for whatever comes, be it a comment that keeps the
 * connection open, with whether it is in the middle of a document.
 *
 * @category answers
 * @since 0.1.0
 */
export const chunks = (
  response: Response,
  url: string,
  heard: (isOpen: boolean) => void
): Stream.Stream<unknown, Failure> => {
  const { body } = response
  if (body === null) return Stream.empty
  const bytes = Stream.fromReadableStream<Uint8Array, Failure>({
    evaluate: () => body,
    onError: (cause) => new Cause.UnknownError(cause)
  })
  return Stream.transformPull(Stream.decodeText(bytes), (pull) =>
    Effect.sync(() => {
      let read: Array<unknown> = []
      let end: Pull.Pull<never, Failure> | undefined
      const documents = reader(response, url, (chunk) => {
        if (end === undefined) read.push(chunk)
        if (chunk === done) end ??= Cause.done()
      }, (failure) => {
        end ??= Effect.fail(failure)
      })
      const next: Pull.Pull<Arr.NonEmptyReadonlyArray<unknown>, Failure> = Effect.suspend(() => {
        if (Arr.isArrayNonEmpty(read)) {
          const together = read
          read = []
          return Effect.succeed(together)
        }
        return end ?? Pull.matchEffect(pull, {
          onSuccess: (texts) => {
            texts.forEach(documents.feed)
            heard(documents.isOpen())
            return next
          },
          onFailure: (cause) => {
            documents.close(false)
            end ??= Effect.failCause(cause)
            return next
          },
          onDone: () => {
            documents.close(true)
            end ??= Cause.done()
            return next
          }
        })
      })
      return next
    }))
}

const maxLength = 16 * 1024 * 1024

const reader = (
  { headers }: Response,
  url: string,
  read: (chunk: unknown) => void,
  fail: (failure: Failure) => void
) => {
  let begun = false
  // of a line that goes on
  let rest = ""
  let afterReturn = false
  // of a document that goes on in the next line
  let json = ""
  let isBare = false
  let event = ""
  let documents = 0
  let bare = 0
  let isAnswer = false

  const broken = () => fail(new Cause.UnknownError(new SyntaxError()))
  const reported = (error: unknown) => fail(new Cause.UnknownError({ error, headers, status: undefined }))
  const unread = () => event === "error" ? reported(json) : broken()
  // It will not change by itself: most often the base URL is that of something else.
  const foreign = (what: string) =>
    fail(
      new AiError.InvalidRequestError({
        description: `${url} answered with ${what} and not with a stream of events: is the base URL right?`
      })
    )

  const take = (chunk: unknown) => {
    documents++
    if (isBare) bare++
    isAnswer ||= Array.isArray(chunk) || Predicate.hasProperty(chunk, "choices")
    for (const one of Array.isArray(chunk) ? chunk : [chunk]) {
      const error = errorOf(one, event)
      if (error === undefined) read(one)
      else reported(error)
    }
  }
  const parse = () => {
    const parsed = Result.try((): unknown => JSON.parse(json))
    if (Result.isFailure(parsed)) return
    json = ""
    take(parsed.success)
    isBare = false
  }
  const data = (text: string) => {
    if (text.trim() === done) return json === "" ? read(done) : broken()
    const ends = json === "" || !isBare || /^[}\]]/.test(text)
    json += json === "" ? text : `\n${text}`
    if (json.length > maxLength) broken()
    else if (ends) parse()
  }
  const line = (text: string) => {
    if (isBare || text.trim() === done) return data(text)
    if (text === "") {
      if (json !== "") unread()
      json = ""
      event = ""
    } else if (json === "" && /^\s*(\{|\[\s*(\{|$))/.test(text)) {
      isBare = true
      data(text)
    } else {
      const [, field, value = ""] = /^(event|data|error): ?(.*)$/s.exec(text) ?? []
      if (field === "event") event = value
      // older versions of llama.cpp
      if (field === "error") event = field
      if (field === "error" || (field === "data" && value !== "")) data(value)
    }
  }

  return {
    feed: (text: string) => {
      if (!begun) {
        const first = text.trimStart().charAt(0)
        begun = first !== ""
        if (first === "<") foreign(headers.get("content-type") ?? "a page")
      }
      const lines = (afterReturn && text.startsWith("\n") ? text.slice(1) : text).split(/\r\n|\r|\n/)
      afterReturn = text.endsWith("\r")
      lines[0] = rest + lines[0]
      rest = lines.pop()!
      lines.forEach(line)
      // nothing has to follow this one, not even the end of its line
      if (rest.length < 20 && /^data: ?\[DONE\]/.test(rest)) data(done)
      if (rest.length > maxLength) broken()
    },
    /** Reads what no line end has followed. */
    close: (isEnd: boolean) => {
      if (rest !== "") line(rest)
      if (json !== "") parse()
      if (json !== "" && isEnd) unread()
      // one JSON document is a whole answer
      if (json === "" && documents === 1 && bare === 1) {
        if (isAnswer) read(done)
        else foreign("JSON of another kind")
      }
    },
    /** Whether it is in the middle of JSON that is no event's. */
    isOpen: () => isBare || /^\s*[{[]/.test(rest.slice(0, 20))
  }
}

const errorOf = (chunk: unknown, event: string): unknown => {
  if (!Predicate.isObject(chunk)) return event === "error" ? chunk : undefined
  const { choices, detail, error, message, msg, object } = chunk as Readonly<Record<string, unknown>>
  const hasChoices = Array.isArray(choices)
  // some gateways have the field in every chunk, with nothing in it
  if (error && !(hasChoices && Predicate.isObject(error) && !Object.values(error).some(Boolean))) return error
  const isError = event === "error" || object === "error" ||
    (!hasChoices && event === "" && [message, detail, msg].some(Predicate.isString))
  return isError ? chunk : undefined
}

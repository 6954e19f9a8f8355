/**
 * A local endpoint of the Chat Completions API. The test says what it answers, byte by byte, and when; it records what it
 * was asked and when connections close.
 */
import { Deferred, Effect, FiberSet, Queue } from "effect"
import * as Http from "node:http"

export interface Closed {
  /** Milliseconds since 1970, as this process saw it. */
  readonly at: number
  /** Whether the answer had been sent to its end. */
  readonly complete: boolean
}

/** One request, and the way to answer it. */
export interface Exchange {
  readonly path: string
  readonly headers: Http.IncomingHttpHeaders
  readonly body: any
  /** A whole answer at once. Texts are sent as they are, all else as JSON. */
  readonly reply: (status: number, body: unknown, headers?: Http.OutgoingHttpHeaders) => Effect.Effect<void>
  /** The head of a stream of events. Sent by itself before the first piece, if it has not been. */
  readonly open: (headers?: Http.OutgoingHttpHeaders, status?: number) => Effect.Effect<void>
  /** Each piece reaches a client of the same process as one: not joined with another, and not in parts. */
  readonly send: (...pieces: ReadonlyArray<string | Uint8Array>) => Effect.Effect<void>
  /** The regular end of the answer. */
  readonly end: Effect.Effect<void>
  /** Breaks the connection off. */
  readonly cut: Effect.Effect<void>
  /** Waits until the connection is done with, by whoever. */
  readonly closed: Effect.Effect<Closed>
}

export interface ModelServer {
  /** With the version, as in `OPENAI_BASE_URL`. */
  readonly url: string
  /** Waits for the next request. */
  readonly next: Effect.Effect<Exchange>
  /** Every request so far. */
  readonly exchanges: ReadonlyArray<Exchange>
}

/** Serves until the scope closes. What `answer` leaves open stays open: for the test, or the client to close. */
export const make = Effect.fn("ModelServer.make")(
  function*(answer: (exchange: Exchange) => Effect.Effect<void> = () => Effect.void) {
    const queue = yield* Queue.unbounded<Exchange>()
    const exchanges: Array<Exchange> = []
    const run = yield* FiberSet.makeRuntime<never>()

    const server = Http.createServer({ noDelay: true, requestTimeout: 0 }, (request, response) => {
      response.sendDate = false
      const closed = Deferred.makeUnsafe<Closed>()
      response.once(
        "close",
        () => Deferred.doneUnsafe(closed, Effect.succeed({ at: Date.now(), complete: response.writableFinished }))
      )
      const received: Array<Buffer> = []
      request.on("data", (chunk: Buffer) => received.push(chunk))
      request.once("end", () => {
        const exchange = exchangeOf(request, response, Buffer.concat(received).toString(), Deferred.await(closed))
        exchanges.push(exchange)
        Queue.offerUnsafe(queue, exchange)
        run(answer(exchange))
      })
    })
    yield* Effect.acquireRelease(
      Effect.callback<void>((resume) => {
        server.listen(0, "127.0.0.1", () => resume(Effect.void))
      }),
      () =>
        Effect.callback<void>((resume) => {
          server.close(() => resume(Effect.void))
          server.closeAllConnections()
        })
    )
    const address = server.address()
    const port = typeof address === "object" && address !== null ? address.port : 0
    return { url: `http://127.0.0.1:${port}/v1`, next: Queue.take(queue), exchanges } satisfies ModelServer
  }
)

const exchangeOf = (
  request: Http.IncomingMessage,
  response: Http.ServerResponse,
  body: string,
  closed: Effect.Effect<Closed>
): Exchange => {
  const open = (headers: Http.OutgoingHttpHeaders = {}, status = 200) =>
    Effect.sync(() => {
      response.writeHead(status, { "content-type": "text/event-stream; charset=utf-8", ...headers })
      response.flushHeaders()
    })
  // What is written has arrived where the loopback ends: a client of this process reads it in the next turn of the loop.
  const write = (piece: string | Uint8Array) =>
    Effect.callback<void>((resume) => {
      response.write(piece, () => setImmediate(() => setImmediate(() => resume(Effect.void))))
    })
  return {
    path: request.url ?? "",
    headers: request.headers,
    body: JSON.parse(body),
    open,
    send: (...pieces) =>
      Effect.andThen(
        Effect.when(open(), Effect.sync(() => !response.headersSent)),
        Effect.forEach(pieces, write, { discard: true })
      ),
    reply: (status, content, headers = {}) =>
      Effect.sync(() => {
        const text = typeof content === "string"
        response.writeHead(status, { "content-type": text ? "text/plain" : "application/json", ...headers })
        response.end(text ? content : JSON.stringify(content))
      }),
    end: Effect.sync(() => {
      response.end()
    }),
    cut: Effect.sync(() => {
      response.socket?.destroy()
    }),
    closed
  }
}

/** The name of the model in every chunk. */
export const model = "test-model-2026-11-01"

/** One event of the stream. */
export const event = (data: unknown): string => `data: ${JSON.stringify(data)}\n\n`

/** The event that ends every stream. */
export const done = "data: [DONE]\n\n"

const base = {
  id: "chatcmpl-test",
  object: "chat.completion.chunk",
  created: 1_793_491_200,
  model,
  service_tier: "default",
  system_fingerprint: "fp_test"
}

/** A chunk with something of the answer. */
export const chunk = (delta: object, finishReason: string | null = null, more: object = {}): string =>
  event({ ...base, choices: [{ index: 0, delta, logprobs: null, finish_reason: finishReason }], usage: null, ...more })

/** A chunk with a piece of the answer's text. */
export const text = (content: string): string => chunk({ content })

/** What `usage` counts. */
export const counted = { prompt_tokens: 11, completion_tokens: 7, total_tokens: 18 }

/** The chunk with the tokens, which comes after the answer. */
export const usage = event({
  ...base,
  choices: [],
  usage: {
    ...counted,
    prompt_tokens_details: { cached_tokens: 4, audio_tokens: 0 },
    completion_tokens_details: {
      reasoning_tokens: 2,
      audio_tokens: 0,
      accepted_prediction_tokens: 0,
      rejected_prediction_tokens: 0
    }
  }
})

/** How every answer begins. */
export const begin = chunk({ role: "assistant", content: "", refusal: null })

/** How it ends. */
export const finish = (reason = "stop"): string => chunk({}, reason)

/** A whole answer as OpenAI streams it. */
export const events = (texts: ReadonlyArray<string>, reason?: string): ReadonlyArray<string> => [
  begin,
  ...texts.map(text),
  finish(reason),
  usage,
  done
]

/** Answers every request with these texts. */
export const says = (...texts: ReadonlyArray<string>) => (exchange: Exchange): Effect.Effect<void> =>
  Effect.andThen(exchange.send(...events(texts)), exchange.end)

/** The body of an error. */
export const error = (
  message: string,
  fields: { readonly type?: string; readonly param?: string | null; readonly code?: string | number | null } = {}
) => ({ error: { message, type: "invalid_request_error", param: null, code: null, ...fields } })

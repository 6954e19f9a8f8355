/**
 * The way to an OpenTelemetry collector, which may be slow, hang or be away for long: one request of a signal at a time, each with
 * a timeout and some retries.
 *
 * Effect's exporters have no bound of their own: they send a batch whenever one is full, however many are under way.
 */
import * as ByteSize from "effect/ByteSize"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientError from "effect/http/HttpClientError"
import type * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as HttpClientResponse from "effect/http/HttpClientResponse"
import * as Schedule from "effect/Schedule"
import * as Semaphore from "effect/Semaphore"

/**
 * What one signal may have waiting, the request that is under way with it. A batch that finds nobody waiting is sent whatever its size.
 */
export const maxWaiting = ByteSize.mebibytes(8)

export interface Options {
  readonly signal: string
  /** For the answer to one request. */
  readonly timeout: Duration.Duration
  /**
   * Whether what cannot be sent is dropped, as if it had been sent, so that what comes next has its chance. Else the exporter is told
   * of the failure, as one that sends differences has to be.
   */
  readonly drop: boolean
}

// Of a small request, what is around it weighs more.
const overhead = 4096
const retries = 4
const backoff = Schedule.exponential("1 second")

/**
 * A client for the exporter of one signal. It tells once that a collector takes nothing, and once that it takes too little, until that
 * is over.
 */
export const make = Effect.fnUntraced(function*({ drop, signal, timeout }: Options) {
  const turn = yield* Semaphore.make(1)
  const max = Number(ByteSize.toBigInt(maxWaiting))
  let waiting = 0
  let failing = false
  let dropping = false

  const warn = (message: string, error?: string) =>
    Effect.logWarning(message, ...error === undefined ? [] : [error]).pipe(Effect.annotateLogs({ signal }))

  const client = (yield* HttpClient.HttpClient).pipe(
    HttpClient.filterStatusOk,
    HttpClient.transform((send, request) =>
      send.pipe(
        // The answer is over when its body is.
        Effect.tap((response) => response.arrayBuffer),
        Effect.timeoutOrElse({ duration: timeout, orElse: () => Effect.fail(unanswered(request, timeout)) })
      )
    ),
    HttpClient.tapError((error) => {
      if (failing) return Effect.void
      failing = true
      return warn("the collector of traces and metrics does not take them", error.message)
    }),
    HttpClient.tap(() =>
      Effect.sync(() => {
        failing = false
      })
    ),
    HttpClient.retryTransient({ schedule: backoff, times: retries })
  )

  return HttpClient.transform(client, (send, request) =>
    Effect.suspend(() => {
      const size = overhead + (request.body._tag === "Empty" ? 0 : request.body.contentLength ?? 0)
      if (waiting > 0 && waiting + size > max) {
        if (dropping) return Effect.succeed(taken(request))
        dropping = true
        return Effect.as(warn("the collector takes too little: what is above the bound is dropped"), taken(request))
      }
      waiting += size
      return turn.withPermits(1)(send).pipe(
        Effect.as(taken(request)),
        Effect.catch((error) => drop ? Effect.succeed(taken(request)) : Effect.fail(error)),
        Effect.ensuring(Effect.sync(() => {
          waiting -= size
          if (waiting === 0) dropping = false
        }))
      )
    }))
})

const unanswered = (request: HttpClientRequest.HttpClientRequest, timeout: Duration.Duration) =>
  new HttpClientError.HttpClientError({
    reason: new HttpClientError.TransportError({
      request,
      description: `No answer within ${Duration.format(timeout)}`
    })
  })

const taken = (request: HttpClientRequest.HttpClientRequest) =>
  HttpClientResponse.fromWeb(request, new Response(null, { status: 200 }))

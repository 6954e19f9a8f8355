/**
 * What went wrong between the package `openai` and its endpoint, as the reason of an `AiError`.
 *
 * Endpoints repeat what they were sent, keys included, so no text of theirs leaves here unmasked.
 *
 * @since 0.1.0
 */
import * as AiError from "effect/ai/AiError"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import * as Predicate from "effect/Predicate"
import type { APIError } from "openai"

/**
 * The request that did not succeed.
 *
 * @category models
 * @since 0.1.0
 */
export interface Request {
  /** Without a query, which may hold a secret. */
  readonly url: string
  readonly apiKey: string | undefined
}

/**
 * The reason for an error that the package has thrown. `now` is where an HTTP date counts from if the endpoint does not
 * say what time it has.
 *
 * @category conversions
 * @since 0.1.0
 */
export const reasonOf = (error: unknown, request: Request, now: number): AiError.AiErrorReason => {
  if (isApiError(error) && (error.status !== undefined || error.error !== undefined)) {
    return answered(error, request, now)
  }
  if (error instanceof SyntaxError) {
    return new AiError.InvalidResponseError({ description: "the provider streamed something that is not JSON" })
  }
  return new AiError.NetworkError({
    reason: "TransportError",
    method: "POST",
    url: request.url,
    description: masked(rootOf(error), request)
  })
}

/**
 * What the endpoint says against the request as it is; nothing, if that is not why it failed.
 *
 * @category conversions
 * @since 0.1.0
 */
export const refusalOf = (error: unknown): string =>
  // Ollama says it with 500
  isApiError(error) && (error.status === 400 || error.status === 422 || error.status === 500)
    ? `${error.param} ${wordsOf(error, bodyOf(error))}`
    : ""

const isApiError = (error: unknown): error is APIError =>
  Predicate.hasProperty(error, "status") && Predicate.hasProperty(error, "headers")

const contentCodes = new Set(["content_filter", "content_policy_violation", "responsibleaipolicyviolation"])
const quotaCodes = new Set(["insufficient_quota", "billing_hard_limit_reached", "billing_not_active"])

const answered = (error: APIError, request: Request, now: number): AiError.AiErrorReason => {
  const body = bodyOf(error)
  const codes = [body?.code, body?.type, body?.innererror?.code].filter(Predicate.isString).map((_) => _.toLowerCase())
  const words = masked(wordsOf(error, body) ?? "", request)
  // LM Studio answers any other path with 200
  const isNoEndpoint = /^unexpected endpoint/i.test(words)
  const status = error.status ?? (isNoEndpoint ? 404 : statusInStream(body?.code, codes))
  // where the base URL lacks its version, nobody says so
  const where = status === 404 || status === 405 ? ` (POST ${request.url})` : ""
  const described = { description: `${words === "" ? `HTTP ${status}` : words}${where}` }
  const metadata = words === "" ? {} : { openai: { message: words } }

  if (codes.some((code) => contentCodes.has(code)) || body?.metadata?.flagged_input !== undefined) {
    return new AiError.ContentPolicyError(described)
  }
  const retryAfter = retryAfterOf(error.headers, now)
  // A server that is overloaded for a while, or a budget that fills up by itself, says when to come back.
  const isLimit = status === 429 || ((status === 402 || status === 503) && retryAfter !== undefined)
  if (codes.some((code) => quotaCodes.has(code)) || (status === 402 && !isLimit)) {
    return new AiError.QuotaExhaustedError({ metadata })
  }
  if (isLimit) return new AiError.RateLimitError({ metadata, ...(retryAfter && { retryAfter }) })
  switch (status) {
    case 401:
      return new AiError.AuthenticationError({
        kind: request.apiKey === undefined ? "MissingKey" : "InvalidKey",
        ...described
      })
    case 403:
      return new AiError.AuthenticationError({ kind: "InsufficientPermissions", ...described })
    // Request Timeout, Conflict and Too Early pass by themselves
    case 408:
    case 409:
    case 425:
      return new AiError.InternalProviderError(described)
  }
  if (status >= 400 && status < 500) {
    return new AiError.InvalidRequestError({
      ...described,
      ...(Predicate.isString(error.param) && error.param !== "" && { parameter: masked(error.param, request) })
    })
  }
  return new AiError.InternalProviderError(described)
}

// An error that is sent in a stream comes after the status.
const statusInStream = (code: unknown, codes: ReadonlyArray<string>): number =>
  Number.isInteger(Number(code)) && Number(code) >= 400
    ? Number(code)
    : codes.map((code) => statuses.get(code)).find(Predicate.isNumber) ?? 500

const statuses: ReadonlyMap<string, number> = new Map([
  ["rate_limit_exceeded", 429],
  ["rate_limit_error", 429],
  ["invalid_api_key", 401],
  ["authentication_error", 401],
  ["permission_error", 403],
  ["invalid_request_error", 400]
])

const bodyOf = ({ error }: APIError): any => Array.isArray(error) ? (error[0]?.error ?? error[0] ?? error) : error

const wordsOf = (error: APIError, body: any): string | undefined => {
  if (Predicate.isString(body)) return body
  // OpenRouter's own message only says that there is one of the provider behind it
  const raw = body?.metadata?.raw
  for (const words of [body?.message, body?.detail, body?.msg, body?.error]) {
    if (Predicate.isString(words)) return Predicate.isString(raw) ? `${words}: ${raw}` : words
  }
  if (body !== undefined && body !== null) return JSON.stringify(body)
  // what is not JSON is the page of some proxy, or a line of text
  const text = error.message.replace(/^\d{3} /, "")
  return /^\s*<|status code \(no body\)/.test(text) ? undefined : text
}

const rootOf = (error: unknown): string => {
  let root = error
  while (Predicate.hasProperty(root, "cause") && root.cause !== undefined) root = root.cause
  const { code, message } = root as { readonly code?: unknown; readonly message?: unknown }
  return [message, code].find((_): _ is string => Predicate.isString(_) && _ !== "") ?? String(root)
}

const maxLength = 500
const maxRead = 4000

const masked = (text: string, { apiKey }: Request): string => {
  const line = (apiKey === undefined || apiKey.length < 4 ? text : text.replaceAll(apiKey, "[key]"))
    .slice(0, maxRead)
    .toWellFormed()
    .replaceAll(/\bsk-([\w*…-]|\.(?=[\w.*-]))+/g, "[key]")
    .replaceAll(/(?<![\w-])[\w-]*\*{3,}[\w*-]*/g, "[key]")
    .replaceAll(/\s+/g, " ")
    .trim()
  return line.length <= maxLength ? line : `${line.slice(0, maxLength - 1).toWellFormed()}…`
}

const retryAfterOf = (headers: Headers | undefined, now: number): Duration.Duration | undefined => {
  const millis = headers?.get("retry-after-ms") ?? ""
  if (isNumber(millis)) return Duration.millis(Number(millis))
  const after = headers?.get("retry-after") ?? ""
  if (isNumber(after)) return Duration.seconds(Number(after))
  const from = timeOf(headers?.get("date") ?? "") ?? now
  const until = timeOf(after)
  return until === undefined ? undefined : Duration.millis(Math.max(0, until - from))
}

const isNumber = (text: string) => /^\d+(\.\d+)?$/.test(text)

// `DateTime` takes much more for a date than HTTP does, such as "-1".
const timeOf = (date: string): number | undefined =>
  /^[A-Z][a-z]+,? .*\d\d:\d\d:\d\d/.test(date)
    ? Option.getOrUndefined(Option.map(DateTime.make(date), DateTime.toEpochMillis))
    : undefined

/**
 * What every answer under the mount has in common: its security headers, and errors as problem details (RFC 9457).
 *
 * @since 0.1.0
 */
import * as Headers from "effect/http/Headers"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as ProblemDetails from "effect/http/ProblemDetails"
import { STATUS_CODES } from "node:http"

/**
 * The headers that every answer has. The page runs its own scripts and styles only, and nobody frames it.
 *
 * @category constants
 * @since 0.1.0
 */
export const securityHeaders: Readonly<Record<string, string>> = {
  "content-security-policy": [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "connect-src 'self'",
    "img-src 'self' data:",
    "frame-ancestors 'none'",
    "base-uri 'none'",
    "form-action 'self'"
  ].join("; "),
  "x-content-type-options": "nosniff",
  "referrer-policy": "same-origin",
  "x-frame-options": "DENY",
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-resource-policy": "same-origin"
}

/**
 * An answer with the security headers. What says nothing of caches is not stored in any.
 *
 * @category combinators
 * @since 0.1.0
 */
export const secure = (response: HttpServerResponse.HttpServerResponse): HttpServerResponse.HttpServerResponse =>
  HttpServerResponse.setHeaders(
    response,
    "cache-control" in response.headers ? securityHeaders : { ...securityHeaders, "cache-control": "no-store" }
  )

/**
 * An error as a problem: the status' own title, and what is wrong with this request.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (
  status: number,
  detail?: string,
  headers: Headers.Input = {}
): HttpServerResponse.HttpServerResponse =>
  HttpServerResponse.setHeaders(
    ProblemDetails.toResponse({
      type: ProblemDetails.blankType,
      title: titles[status] ?? STATUS_CODES[status] ?? "Error",
      status,
      ...(detail === undefined ? {} : { detail })
    }),
    headers
  )

// As RFC 9110 has them; Node has the older names.
const titles: Readonly<Record<number, string>> = { 413: "Content Too Large", 422: "Unprocessable Content" }

/**
 * An error that came without a problem, such as an empty answer of the framework, as one.
 *
 * @category combinators
 * @since 0.1.0
 */
export const fromResponse = (
  response: HttpServerResponse.HttpServerResponse
): HttpServerResponse.HttpServerResponse => {
  const { body, headers, status } = response
  const bare = body._tag === "Empty" || body.contentType?.startsWith("text/plain") === true
  return status >= 400 && bare
    ? make(status, undefined, Headers.removeMany(headers, ["content-type", "content-length"]))
    : response
}

/**
 * Too many wrong tokens came from this address.
 *
 * @category constructors
 * @since 0.1.0
 */
export const limited = (retryAfterSeconds: number): HttpServerResponse.HttpServerResponse =>
  make(429, "Too many wrong tokens came from this address: wait", { "retry-after": String(retryAfterSeconds) })

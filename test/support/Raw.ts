/**
 * HTTP requests as they are, with headers that `fetch` would not let one set.
 */
import { assert } from "@effect/vitest"
import { Effect } from "effect"
import * as Http from "node:http"
import * as Net from "node:net"

export interface Answer {
  readonly status: number
  readonly headers: Http.IncomingHttpHeaders
  readonly body: string
}

export interface Request {
  readonly method?: string | undefined
  readonly path?: string | undefined
  readonly headers?: Http.OutgoingHttpHeaders | undefined
  /** Several chunks are sent without a content-length. */
  readonly body?: string | ReadonlyArray<string> | undefined
  /** Of the answer. */
  readonly encoding?: BufferEncoding | undefined
}

/** What a client of the API sends with a change. */
export const json = { "content-type": "application/json" }

/** Sends a request to a server on this machine; whatever it answers has the security headers. */
export const send = (url: string, { body, encoding, headers = {}, method = "GET", path = "/" }: Request = {}) =>
  Effect.callback<Answer>((resume) => {
    const { hostname, port } = new URL(url)
    const request = Http.request({
      host: hostname.replace(/^\[(.*)\]$/, "$1"),
      port,
      method,
      path,
      agent: false,
      setHost: !("host" in headers),
      headers: Object.fromEntries(Object.entries(headers).filter(([, value]) => value !== undefined))
    })
    request.on("response", (response) => {
      const chunks: Array<Buffer> = []
      response.on("data", (chunk: Buffer) => chunks.push(chunk))
      response.on("end", () => {
        const answer = {
          status: response.statusCode!,
          headers: response.headers,
          body: Buffer.concat(chunks).toString(encoding)
        }
        resume(Effect.sync(() => {
          assertSafe(answer)
          return answer
        }))
      })
      response.on("error", (error) => resume(Effect.die(error)))
    })
    // The answer can come before the body is sent.
    request.on("error", (error) => resume(Effect.die(error)))
    if (typeof body === "string" || body === undefined) request.end(body)
    else {
      for (const chunk of body) request.write(chunk)
      request.end()
    }
  })

/** Writes bytes and reads until the server closes the connection. */
export const bytes = (url: string, text: string) =>
  Effect.callback<Answer>((resume) => {
    const { hostname, port } = new URL(url)
    let read = ""
    const socket = Net.connect(Number(port), hostname.replace(/^\[(.*)\]$/, "$1"), () => socket.write(text))
    socket.setEncoding("latin1").on("data", (chunk: string) => {
      read += chunk
    })
    socket.on("error", () => {})
    socket.on("close", () => {
      const [head = "", body = ""] = read.split("\r\n\r\n")
      const [line = "", ...fields] = head.split("\r\n")
      const answer = {
        status: Number(line.split(" ")[1]),
        headers: Object.fromEntries(
          fields.map((field) => {
            const colon = field.indexOf(":")
            return [field.slice(0, colon).toLowerCase(), field.slice(colon + 1).trim()]
          })
        ),
        body
      }
      resume(Effect.sync(() => {
        assertSafe(answer)
        return answer
      }))
    })
    return Effect.sync(() => socket.destroy())
  })

const securityHeaders = {
  "content-security-policy":
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
  "x-content-type-options": "nosniff",
  "referrer-policy": "same-origin",
  "x-frame-options": "DENY",
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-resource-policy": "same-origin"
}

const assertSafe = ({ body, headers, status }: Answer) => {
  for (const [name, value] of Object.entries(securityHeaders)) {
    assert.strictEqual(headers[name], value, `${name} of an answer ${status}`)
  }
  assert.isDefined(headers["cache-control"], `cache-control of an answer ${status}`)
  for (const name of Object.keys(headers)) assert.notMatch(name, /^access-control-|^x-powered-by$|^server$/)
  assert.notMatch(body, /\n\s+at .+:\d+/, "a stack trace")
  if (status >= 400 && body !== "" && headers["content-type"]?.startsWith("text/html") !== true) {
    assert.strictEqual(headers["content-type"], "application/problem+json", body)
    assert.strictEqual(JSON.parse(body).status, status)
  }
}

/** The detail of a problem. */
export const detail = ({ body }: Answer): string => JSON.parse(body).detail

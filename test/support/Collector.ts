/**
 * An OpenTelemetry collector: a server that keeps the spans and the metrics it is sent as OTLP JSON.
 */
import { Effect } from "effect"
import * as Http from "node:http"
import type { AddressInfo } from "node:net"

export interface Span {
  readonly traceId: string
  readonly spanId: string
  readonly parentSpanId: string | undefined
  readonly name: string
  readonly kind: number
  readonly attributes: Readonly<Record<string, unknown>>
  readonly links: ReadonlyArray<string>
  readonly status: number
  readonly exceptions: ReadonlyArray<Readonly<Record<string, unknown>>>
  readonly resource: Readonly<Record<string, unknown>>
}

export interface Collector {
  readonly url: string
  readonly spans: ReadonlyArray<Span>
  readonly metrics: ReadonlySet<string>
  readonly headers: ReadonlyArray<Http.IncomingHttpHeaders>
  /** How many requests were open at a time. */
  readonly mostOpen: () => number
}

const attributes = (list: ReadonlyArray<{ readonly key: string; readonly value: object }> = []) =>
  Object.fromEntries(list.map(({ key, value }) => [key, Object.values(value)[0]]))

export const make = Effect.gen(function*() {
  const spans: Array<Span> = []
  const metrics = new Set<string>()
  const headers: Array<Http.IncomingHttpHeaders> = []
  let open = 0
  let mostOpen = 0
  const server = Http.createServer((request, response) => {
    mostOpen = Math.max(mostOpen, ++open)
    response.once("close", () => open--)
    let body = ""
    request.on("data", (chunk) => body += chunk)
    request.on("end", () => {
      headers.push(request.headers)
      const { resourceMetrics = [], resourceSpans = [] } = JSON.parse(body)
      for (const { resource, scopeSpans } of resourceSpans) {
        for (const span of scopeSpans.flatMap((scope: any) => scope.spans)) {
          spans.push({
            ...span,
            attributes: attributes(span.attributes),
            links: span.links.map(({ spanId }: any) => spanId),
            status: span.status.code,
            exceptions: span.events.filter(({ name }: any) => name === "exception")
              .map((event: any) => attributes(event.attributes)),
            resource: attributes(resource.attributes)
          })
        }
      }
      for (const { scopeMetrics } of resourceMetrics) {
        for (const { name } of scopeMetrics.flatMap((scope: any) => scope.metrics)) metrics.add(name)
      }
      response.end("{}")
    })
  })
  yield* Effect.acquireRelease(
    Effect.callback<void>((resume) => {
      server.listen(0, "127.0.0.1", () => resume(Effect.void))
    }),
    () =>
      Effect.sync(() => {
        server.close()
        server.closeAllConnections()
      })
  )
  const { port } = server.address() as AddressInfo
  return { url: `http://127.0.0.1:${port}`, spans, metrics, headers, mostOpen: () => mostOpen } satisfies Collector
})

/**
 * A TCP proxy in front of a PostgreSQL server that counts what goes through it.
 */
import { Effect, Redacted } from "effect"
import * as Net from "node:net"

export interface StatementCounter {
  /** The same address by way of the counter. */
  readonly url: Redacted.Redacted
  /** Statements executed so far. */
  readonly statements: () => number
  /** Connections that are open. */
  readonly connections: () => number
  /** Whether the server has answered whatever was sent, on every connection. */
  readonly idle: () => boolean
}

const execute = "E".charCodeAt(0)
const simpleQuery = "Q".charCodeAt(0)
const readyForQuery = "Z".charCodeAt(0)

export const make = Effect.fn("StatementCounter.make")(function*(url: Redacted.Redacted) {
  const address = new URL(Redacted.value(url))
  const sockets = new Set<Net.Socket>()
  const busy = new Set<Net.Socket>()
  let statements = 0

  const server = yield* Effect.acquireRelease(
    Effect.callback<Net.Server>((resume) => {
      const server = Net.createServer({ noDelay: true }, (client) => {
        const upstream = Net.connect({ host: address.hostname, port: Number(address.port || 5432), noDelay: true })
        const asks = messages(false, (type) => {
          if (type === execute || type === simpleQuery) statements++
        })
        const answers = messages(true, (type) => {
          if (type === readyForQuery) busy.delete(client)
        })
        sockets.add(client)
        busy.add(client)
        client.on("data", (chunk: Buffer) => {
          busy.add(client)
          asks(chunk)
        })
        upstream.on("data", answers)
        client.pipe(upstream)
        upstream.pipe(client)
        client.on("close", () => {
          sockets.delete(client)
          busy.delete(client)
          upstream.destroy()
        })
        client.on("error", () => upstream.destroy())
        upstream.on("error", () => client.destroy())
      }).listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
    }),
    (server) =>
      Effect.sync(() => {
        server.close()
        sockets.forEach((socket) => socket.destroy())
      })
  )
  const own = new URL(address)
  own.host = `127.0.0.1:${(server.address() as Net.AddressInfo).port}`
  return {
    url: Redacted.make(own.href),
    statements: () => statements,
    connections: () => sockets.size,
    idle: () => busy.size === 0
  } satisfies StatementCounter
})

// The first message of a client has no type; every other one: one byte of type, four of length.
const messages = (typed: boolean, each: (type: number) => void) => {
  let buffer = Buffer.alloc(0)
  let started = typed
  return (chunk: Buffer) => {
    buffer = Buffer.concat([buffer, chunk])
    while (buffer.length >= (started ? 5 : 4)) {
      const length = started ? 1 + buffer.readInt32BE(1) : buffer.readInt32BE(0)
      if (buffer.length < length) return
      if (started) each(buffer[0]!)
      started = true
      buffer = buffer.subarray(length)
    }
  }
}

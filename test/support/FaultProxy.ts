/**
 * A TCP proxy in front of a PostgreSQL server that breaks connections the ways networks do.
 */
import { Deferred, Effect, Redacted } from "effect"
import * as Net from "node:net"

export interface FaultProxy {
  readonly port: number
  /** The same address by way of the proxy. */
  readonly url: (url: Redacted.Redacted) => Redacted.Redacted
  /** Where new connections go; those that are open stay. */
  readonly setTarget: (host: string, port: number) => Effect.Effect<void>
  /**
   * Accepts connections and forwards nothing, either way, on old and new ones; not even that a side has closed.
   * Switched off, everything that was held up arrives.
   */
  readonly blackhole: (on: boolean) => Effect.Effect<void>
  /** Lets replies through at so many bytes a second, of all connections together. */
  readonly throttle: (bytesPerSecond: number) => Effect.Effect<void>
  /** Refuses new connections, as if nothing listened. */
  readonly refuse: (on: boolean) => Effect.Effect<void>
  /** Resets every connection. */
  readonly killAll: Effect.Effect<void>
  /**
   * Forwards the next request that matches, throws its whole reply away, and then resets the connection or lets it hang. The
   * deferred is done when the server has finished the reply. A request is matched as it was sent, in one piece: look for a
   * parameter's value, because a statement that is prepared is sent by name.
   */
  readonly dropNextReply: (
    matches: (request: Buffer) => boolean,
    after?: "reset" | "hang"
  ) => Effect.Effect<Deferred.Deferred<void>>
}

interface Trap {
  readonly matches: (request: Buffer) => boolean
  readonly after: "reset" | "hang"
  readonly sprung: Deferred.Deferred<void>
}

interface Link {
  readonly client: Net.Socket
  server: Net.Socket | undefined
  swallowing: Trap | undefined
  tail: Buffer
  silent: boolean
}

export const make = Effect.fn("FaultProxy.make")(function*(target: { readonly host: string; readonly port: number }) {
  let { host, port } = target
  let blackhole = false
  let trap: Trap | undefined
  let rate = Infinity
  let lineFreeAt = 0
  const links = new Set<Link>()

  const held = (link: Link) => blackhole || link.silent

  const forward = (link: Link, from: Net.Socket, to: Net.Socket, inspect: (chunk: Buffer) => boolean) => {
    from.on("data", (chunk: Buffer) => {
      if (!inspect(chunk)) return
      if (from === link.server && rate < Infinity) return later(link, from, to, chunk)
      if (to.write(chunk)) return
      from.pause()
      to.once("drain", () => {
        if (!held(link)) from.resume()
      })
    })
    from.on("end", () => to.end())
    from.on("error", () => from.destroy())
    from.on("close", () => {
      if (held(link)) return
      links.delete(link)
      to.destroySoon()
    })
  }

  // The line is busy for as long as the chunk takes.
  const later = (link: Link, from: Net.Socket, to: Net.Socket, chunk: Buffer) => {
    lineFreeAt = Math.max(lineFreeAt, performance.now()) + chunk.length / rate * 1000
    from.pause()
    setTimeout(() => {
      if (to.writable) to.write(chunk)
      if (!held(link)) from.resume()
    }, Math.max(1, lineFreeAt - performance.now()))
  }

  const request = (link: Link) => (chunk: Buffer) => {
    if (trap?.matches(chunk) === true) {
      link.swallowing = trap
      link.tail = Buffer.alloc(0)
      trap = undefined
    }
    return true
  }

  const reply = (link: Link) => (chunk: Buffer) => {
    if (link.swallowing === undefined) return true
    link.tail = Buffer.concat([link.tail, chunk]).subarray(-6)
    if (link.tail.subarray(0, 5).equals(readyForQuery)) {
      const { after, sprung } = link.swallowing
      link.swallowing = undefined
      if (after === "reset") reset(link)
      else silence(link)
      Deferred.doneUnsafe(sprung, Effect.void)
    }
    return false
  }

  const connect = (link: Link) => {
    const server = Net.connect({ host, port, noDelay: true })
    link.server = server
    forward(link, link.client, server, request(link))
    forward(link, server, link.client, reply(link))
    link.client.resume()
  }

  const silence = (link: Link) => {
    link.silent = true
    link.client.pause()
    link.server?.pause()
  }

  const reset = (link: Link) => {
    links.delete(link)
    link.client.resetAndDestroy()
    link.server?.resetAndDestroy()
  }

  const heal = (link: Link) => {
    if (link.silent) return
    if (link.server === undefined) return connect(link)
    if (link.client.destroyed || link.server.destroyed) return reset(link)
    link.client.resume()
    link.server.resume()
  }

  const listener = Net.createServer({ noDelay: true, pauseOnConnect: true }, (client) => {
    const link: Link = { client, server: undefined, swallowing: undefined, tail: Buffer.alloc(0), silent: false }
    links.add(link)
    client.on("error", () => client.destroy())
    if (!blackhole) heal(link)
  })

  const listen = (port: number) =>
    Effect.callback<number>((resume) => {
      listener.listen(port, "127.0.0.1", () => {
        const address = listener.address()
        resume(Effect.succeed(typeof address === "object" && address !== null ? address.port : port))
      })
    })
  const killAll = Effect.sync(() => links.forEach(reset))
  // Ends when the last connection has; the port is closed at once.
  const close = Effect.sync(() => {
    listener.close()
  })

  const own = yield* Effect.acquireRelease(listen(0), () => Effect.andThen(close, killAll))

  return {
    port: own,
    url: (url) => {
      const address = new URL(Redacted.value(url))
      address.host = `127.0.0.1:${own}`
      return Redacted.make(address.href)
    },
    setTarget: (newHost, newPort) =>
      Effect.sync(() => {
        host = newHost
        port = newPort
      }),
    blackhole: (on) =>
      Effect.sync(() => {
        blackhole = on
        for (const link of links) {
          if (!on) heal(link)
          else {
            link.client.pause()
            link.server?.pause()
          }
        }
      }),
    throttle: (bytesPerSecond) =>
      Effect.sync(() => {
        rate = bytesPerSecond
      }),
    refuse: (on) =>
      Effect.suspend(() => {
        if (on) return close
        return listener.listening ? Effect.void : Effect.asVoid(listen(own))
      }),
    killAll,
    dropNextReply: (matches, after = "reset") =>
      Effect.sync(() => {
        const sprung = Deferred.makeUnsafe<void>()
        trap = { matches, after, sprung }
        return sprung
      })
  } satisfies FaultProxy
})

// The end of a reply: "Z", a length of 5, and then one byte for the state of the transaction.
const readyForQuery = Buffer.from([0x5a, 0, 0, 0, 5])

/** A port for a server that comes back to it. */
import { Effect } from "effect"
import * as Net from "node:net"

const first = 20_000
const last = 32_000

/**
 * A port of 127.0.0.1 that is free, below those that the system gives to connections and to servers that ask for any: what
 * listened there can come back, and who looks for it meanwhile meets nobody else.
 */
export const free: Effect.Effect<number> = Effect.callback<number>((resume) => {
  const attempt = () => {
    const port = first + Math.floor(Math.random() * (last - first))
    const server = Net.createServer()
    server.once("error", attempt)
    server.listen(port, "127.0.0.1", () => server.close(() => resume(Effect.succeed(port))))
  }
  attempt()
})

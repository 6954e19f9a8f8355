/**
 * A provider whose every token is the time at which it was sent, on the clock that all processes of the bench share.
 *
 * It speaks the streaming protocol of Chat Completions and waits for a client that does not read.
 */
import { once } from "node:events"
import * as Http from "node:http"
import type { AddressInfo } from "node:net"
import { type Mark, now } from "../protocol.ts"
import { serve } from "../serve.ts"
import { type ProviderCalls, tokensPerSecond } from "./calls.ts"

let tokens = 0
let finished = false
const open = new Set<Http.ServerResponse>()
const closed: Array<Mark> = []

const chunk = (choices: ReadonlyArray<unknown>, usage: unknown = null) =>
  `data: ${
    JSON.stringify({ id: "bench", object: "chat.completion.chunk", created: 0, model: "bench", choices, usage })
  }\n\n`

const delta = (content: string) => chunk([{ index: 0, delta: { content }, finish_reason: null }])

const stream = async (prompt: string, response: Http.ServerResponse) => {
  const ended = once(response, "close")
  response.writeHead(200, { "content-type": "text/event-stream" })
  open.add(response)
  const start = now()
  let sent = 0
  let ready = response.write(chunk([{ index: 0, delta: { role: "assistant", content: "" }, finish_reason: null }]))
  const timer = setInterval(() => {
    if (!ready) return
    const due = Math.floor((now() - start) / 1000 * tokensPerSecond)
    while (sent < due && ready) {
      ready = response.write(delta(`${now().toFixed(3)} `))
      sent++
      tokens++
    }
    if (!ready) response.once("drain", () => ready = true)
    if (!finished) return
    response.write(chunk([{ index: 0, delta: {}, finish_reason: "stop" }]))
    response.write(chunk([], { prompt_tokens: 1, completion_tokens: sent, total_tokens: sent + 1 }))
    response.end("data: [DONE]\n\n")
    clearInterval(timer)
  }, 1000 / tokensPerSecond)
  await ended
  if (!response.writableEnded) closed.push([prompt, now()])
  clearInterval(timer)
  open.delete(response)
}

const server = Http.createServer((request, response) => {
  let body = ""
  request.setEncoding("utf8")
  request.on("data", (text: string) => body += text)
  request.once("end", () => void stream(JSON.parse(body).messages.at(-1).content, response))
})

serve(
  {
    listen: async () => {
      server.listen(0, "127.0.0.1")
      await once(server, "listening")
      return `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`
    },
    sent: async () => ({ tokens, open: open.size }),
    closed: async () => closed,
    finish: async () => {
      finished = true
    }
  } satisfies ProviderCalls
)

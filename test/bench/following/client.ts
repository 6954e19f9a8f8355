/**
 * A process that follows tasks over HTTP and keeps the time at which each event came.
 */
import * as Http from "node:http"
import { type Mark, now, usage } from "../protocol.ts"
import { serve } from "../serve.ts"

const marks: Array<Mark> = []

/** Resolves when the stream has begun. */
const read = (port: number, id: string) =>
  new Promise<void>((resolve, reject) => {
    const request = Http.get({ port, host: "127.0.0.1", path: `/api/tasks/${id}/events`, agent: false }, (response) => {
      let rest = ""
      response.setEncoding("utf8")
      response.on("data", (text: string) => {
        resolve()
        const at = now()
        const blocks = (rest + text).split("\n\n")
        rest = blocks.pop()!
        for (const block of blocks) {
          if (block.startsWith("id: ")) marks.push([`${id} ${block.slice(4, block.indexOf("\n"))}`, at])
        }
      })
    })
    request.on("error", reject)
  })

const calls = {
  /** Follows all of them. */
  open: async ({ ids, port }: { readonly ids: ReadonlyArray<string>; readonly port: number }) => {
    for (let from = 0; from < ids.length; from += 50) {
      await Promise.all(ids.slice(from, from + 50).map((id) => read(port, id)))
    }
  },
  /** What came since the last call. */
  marks: async () => marks.splice(0),
  usage: async () => usage()
}

export type ClientCalls = typeof calls

serve(calls)

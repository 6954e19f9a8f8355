/**
 * The worker process: answers the calls of the bench for the system named by its first argument.
 */
import type { Calls, Connected, Implementation, Mark, Recorder, Request } from "./protocol.ts"
import { now } from "./protocol.ts"
import { systems } from "./systems.ts"

const started: Array<Mark> = []
const interrupted: Array<Mark> = []
let count = 0
let first = 0
let expected = Infinity
let record = false
let reach: (first: number) => void = () => undefined
const reached = new Promise<number>((resolve) => {
  reach = resolve
})

const recorder: Recorder = {
  started: (task) => {
    count += 1
    if (count === 1) first = now()
    if (record) started.push([task, now()])
    if (count === expected) reach(first)
  },
  interrupted: (task) => {
    interrupted.push([task, now()])
  }
}

const calls = (implementation: Implementation): Calls => {
  let connected: Connected | undefined
  return {
    prepare: implementation.prepare,
    connect: async (options) => {
      expected = options.expected
      record = options.record
      connected = await implementation.connect(options, recorder)
    },
    go: async () => connected?.start(),
    reached: () => reached,
    usage: async () => {
      const { system, user } = process.cpuUsage()
      return { cpuMicros: user + system, rssBytes: process.memoryUsage.rss() }
    },
    samples: async () => ({ started, interrupted }),
    stop: async () => connected?.stop()
  }
}

const system = systems.find(({ name }) => name === process.argv[2])
if (system === undefined || process.send === undefined) throw new Error("this file is started by the bench")

const answers = calls(await system.load())
process.on("message", ({ argument, call, id }: Request) => {
  const answer = answers[call] as (argument: unknown) => Promise<unknown>
  answer(argument).then(
    (value) => process.send?.({ id, value }),
    (error: unknown) => process.send?.({ id, error: error instanceof Error ? error.stack : String(error) })
  )
})
// A terminal sends Ctrl-C to the whole group; when to end is the parent's to say, or its death's.
process.on("SIGINT", () => undefined)
process.on("disconnect", () => process.exit(1))

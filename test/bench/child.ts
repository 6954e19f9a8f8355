/**
 * The worker process: answers the calls of the bench for the system named by its first argument.
 */
import type { Calls, Connected, Implementation, Mark, Recorder } from "./protocol.ts"
import { now, usage } from "./protocol.ts"
import { serve } from "./serve.ts"
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

const calls = (implementation: Implementation) => {
  let connected: Connected | undefined
  return {
    prepare: implementation.prepare,
    fill: async ({ tasks, url }) => implementation.fill?.(url, tasks),
    produce: async ({ atOnce, bulk, tasks, url }) => {
      const { enqueue, stop } = await implementation.produce!(url)
      let next = 1
      const produce = async (last: number) => {
        while (next <= last) {
          const from = next
          next += bulk
          await enqueue(from, bulk)
        }
      }
      const all = (last: number) => Promise.all(Array.from({ length: atOnce }, () => produce(last)))
      // What comes first warms both sides up.
      const warm = Math.ceil(tasks / 10 / bulk) * bulk
      await all(warm)
      const start = now()
      await all(warm + tasks)
      const took = now() - start
      await stop()
      return took
    },
    connect: async (options) => {
      expected = options.expected
      record = options.record
      connected = await implementation.connect(options, recorder)
    },
    go: async () => connected?.start(),
    reached: () => reached,
    usage: async () => usage(),
    samples: async () => ({ started, interrupted }),
    stop: async () => connected?.stop()
  } satisfies Calls
}

const system = systems.find(({ name }) => name === process.argv[2])
if (system === undefined) throw new Error(`there is no system "${process.argv[2]}"`)

serve(calls(await system.load()))

/**
 * graphile-worker with its batching switched on: a local queue of some size, and completions gathered per turn of the event
 * loop. It deletes the rows of what is done, with their results.
 */
import { setTimeout as sleep } from "node:timers/promises"
import {
  connections,
  type ConnectOptions,
  type Implementation,
  payload,
  type Recorder,
  sleepMillis
} from "../protocol.ts"
import { load } from "../rivals/load.ts"

const insertAtOnce = 10_000

export const graphile = (size: number): Implementation => {
  const utils = async (url: string) => {
    const { Logger, makeWorkerUtils } = await load("graphile-worker")
    return makeWorkerUtils({ connectionString: url, logger: new Logger(() => () => undefined) })
  }
  return {
    prepare: async (url) => {
      const made = await utils(url)
      await made.migrate()
      await made.release()
    },
    fill: async (url, tasks) => {
      const made = await utils(url)
      const start = Date.now() - 3_600_000
      for (let from = 1; from <= tasks; from += insertAtOnce) {
        const jobs = Array.from({ length: Math.min(insertAtOnce, tasks - from + 1) }, (_, i) => ({
          identifier: "bench",
          payload: payload(from + i),
          runAt: new Date(start + from + i)
        }))
        await made.addJobs(jobs)
      }
      await made.release()
    },
    connect: async (options: ConnectOptions, recorder: Recorder) => {
      const { Logger, run } = await load("graphile-worker")
      let runner: any
      return {
        start: async () => {
          runner = await run({
            connectionString: options.url,
            noHandleSignals: true,
            logger: new Logger(() => () => undefined),
            preset: {
              worker: {
                concurrentJobs: options.concurrency,
                maxPoolSize: connections,
                localQueue: { size },
                completeJobBatchDelay: 0,
                failJobBatchDelay: 0
              }
            },
            taskList: {
              bench: async (_: unknown, { job }: any) => {
                recorder.started(String(job.id))
                if (options.job === "sleep") await sleep(sleepMillis)
              }
            }
          })
        },
        stop: async () => runner?.stop()
      }
    }
  }
}

/**
 * pg-boss with the batches that were its fastest: 2,000 jobs each for two workers, whatever concurrency was asked for. Its
 * supervisor and scheduler are off, which favours it.
 */
import { setTimeout as sleep } from "node:timers/promises"
import { connections, type Implementation, payload, sleepMillis } from "../protocol.ts"
import { load } from "../rivals/load.ts"

const batchSize = 2000
const workers = 2
const insertAtOnce = 10_000

const open = async (url: string) => {
  const { PgBoss } = await load("pg-boss")
  const boss = new PgBoss({ connectionString: url, max: connections, supervise: false, schedule: false })
  boss.on("error", (error: unknown) => process.stderr.write(`pg-boss: ${String(error)}\n`))
  await boss.start()
  return boss
}

export const pgBoss: Implementation = {
  prepare: async (url) => {
    const boss = await open(url)
    await boss.createQueue("bench")
    await boss.stop()
  },
  fill: async (url, tasks) => {
    const boss = await open(url)
    for (let from = 1; from <= tasks; from += insertAtOnce) {
      const length = Math.min(insertAtOnce, tasks - from + 1)
      await boss.insert("bench", Array.from({ length }, (_, i) => ({ data: payload(from + i) })))
    }
    await boss.stop()
  },
  connect: async (options, recorder) => {
    const boss = await open(options.url)
    return {
      start: async () => {
        for (let worker = 0; worker < workers; worker++) {
          await boss.work("bench", { batchSize, pollingIntervalSeconds: 0.5 }, async (jobs: ReadonlyArray<any>) => {
            for (const { id } of jobs) recorder.started(id)
            if (options.job === "sleep") await sleep(sleepMillis)
          })
        }
      },
      stop: () => boss.stop()
    }
  }
}

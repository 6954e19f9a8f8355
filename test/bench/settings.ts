/**
 * What the command line chooses.
 */
import { parseArgs } from "node:util"
import { type System, systems } from "./systems.ts"

export const workloadNames = [
  "drain",
  "slots",
  "enqueue",
  "pickup",
  "idle",
  "cancel",
  "followers",
  "streams",
  "history"
] as const

export type WorkloadName = typeof workloadNames[number]

export interface Settings {
  readonly workloads: ReadonlyArray<WorkloadName>
  readonly systems: ReadonlyArray<System>
  readonly rounds: number
  readonly tasks: number
  readonly concurrency: ReadonlyArray<number>
  readonly write: string | undefined
}

export const usage = `npm run bench -- [workload ...] [options]

  workloads             drain, slots, enqueue, pickup, idle, cancel and followers by default; streams and history take some minutes more
  --rounds <n>          rounds of every measurement (3)
  --tasks <n>           tasks of a drain (50000)
  --concurrency <n,n>   concurrencies of the drain (50); the goals name 10, 50 and 100
  --only <system,…>     ${systems.map(({ name }) => name).join(", ")}: all in drains, the first two elsewhere
  --write <file>        also put the report between the markers of a Markdown file
  --help

  BENCH_DATABASE_URL    a server to use instead of a throw-away cluster; its role creates databases and is a superuser`

const list = <A>(name: string, text: string, known: ReadonlyArray<A>, key: (item: A) => string): ReadonlyArray<A> =>
  text.split(",").map((word) => {
    const item = known.find((item) => key(item) === word)
    if (item === undefined) throw new Error(`${name}: "${word}" is none of ${known.map(key).join(", ")}`)
    return item
  })

const count = (name: string, text: string): number => {
  if (!/^[1-9]\d{0,6}$/.test(text)) throw new Error(`${name}: "${text}" is not a number from 1 to 9999999`)
  return Number(text)
}

/** Reads the arguments; `undefined` if help was asked for. Throws what is wrong with them. */
export const parse = (args: ReadonlyArray<string>): Settings | undefined => {
  const { positionals, values } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      rounds: { type: "string", default: "3" },
      tasks: { type: "string", default: "50000" },
      concurrency: { type: "string", default: "50" },
      only: { type: "string", default: systems.map(({ name }) => name).join() },
      write: { type: "string" },
      help: { type: "boolean", default: false }
    }
  })
  if (values.help) return undefined
  return {
    workloads: positionals.length === 0
      ? ["drain", "slots", "enqueue", "pickup", "idle", "cancel", "followers"]
      : list("workload", positionals.join(","), workloadNames, String),
    systems: list("--only", values.only, systems, ({ name }) => name),
    rounds: count("--rounds", values.rounds),
    tasks: count("--tasks", values.tasks),
    concurrency: values.concurrency.split(",").map((text) => count("--concurrency", text)),
    write: values.write
  }
}

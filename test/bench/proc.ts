/**
 * CPU time and memory from `/proc`. Everything is `undefined` where there is none.
 */
import { readdirSync, readFileSync } from "node:fs"

/** `/proc` counts in hundredths of a second, whatever the kernel's own clock. */
const ticksPerSecond = 100

const read = (path: string): string | undefined => {
  try {
    return readFileSync(`/proc/${path}`, "utf8")
  } catch {
    return undefined
  }
}

interface Stat {
  readonly command: string
  readonly parent: number
  readonly ownTicks: number
  /** Of children that have ended. */
  readonly childTicks: number
}

const stat = (pid: number): Stat | undefined => {
  const text = read(`${pid}/stat`)
  if (text === undefined) return undefined
  const end = text.lastIndexOf(")")
  const fields = text.slice(end + 2).split(" ")
  const field = (index: number) => Number(fields[index])
  return {
    command: text.slice(text.indexOf("(") + 1, end),
    parent: field(1),
    ownTicks: field(11) + field(12),
    childTicks: field(13) + field(14)
  }
}

/** The postmaster of a backend, if the backend is a process of this machine. */
export const postmasterOf = (backend: number, database: string): number | undefined => {
  const found = stat(backend)
  if (found?.command !== "postgres" || !read(`${backend}/cmdline`)?.includes(` ${database} `)) return undefined
  return found.parent
}

const processes = () =>
  readdirSync("/proc").filter((name) => /^\d+$/.test(name)).flatMap((name) => {
    const found = stat(Number(name))
    return found === undefined ? [] : [{ pid: Number(name), ...found }]
  })

/** CPU seconds of a process and all its descendants, the ended ones included. */
export const treeSeconds = (root: number): number | undefined => {
  const own = stat(root)
  if (own === undefined) return undefined
  const all = processes()
  const sum = (pid: number): number =>
    all.filter(({ parent }) => parent === pid)
      .reduce((ticks, child) => ticks + child.ownTicks + child.childTicks + sum(child.pid), 0)
  return (own.ownTicks + own.childTicks + sum(root)) / ticksPerSecond
}

/** Stops a process and its children, so that nothing of it answers; gives what `continueTree` needs. */
export const stopTree = (root: number): ReadonlyArray<number> => {
  process.kill(root, "SIGSTOP")
  const children = processes().filter(({ parent }) => parent === root).map(({ pid }) => pid)
  for (const pid of children) process.kill(pid, "SIGSTOP")
  return [root, ...children]
}

export const continueTree = (stopped: ReadonlyArray<number>): void => {
  for (const pid of stopped) process.kill(pid, "SIGCONT")
}

/** CPU seconds that all programs of the machine have used, time stolen by other machines included. */
export const machineSeconds = (): number | undefined => {
  const line = read("stat")?.split("\n", 1)[0]
  if (line === undefined) return undefined
  const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0, steal = 0] = line.trim().split(/\s+/).slice(1).map(
    Number
  )
  return (user + nice + system + irq + softirq + steal) / ticksPerSecond
}

/** The largest resident set that a process has had. */
export const peakMegabytes = (pid: number): number | undefined => {
  const peak = /^VmHWM:\s+(\d+) kB/m.exec(read(`${pid}/status`) ?? "")?.[1]
  return peak === undefined ? undefined : Number(peak) / 1024
}

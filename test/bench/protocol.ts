/**
 * What the bench asks of a worker process, and what a system provides to be measured in one.
 */

/** `end` is a no-op; `sleep` takes `sleepMillis`; `wait` runs until it is cancelled. */
export type Job = "end" | "sleep" | "wait"

export const sleepMillis = 20

/** How the worker of one run is set up. */
export interface ConnectOptions {
  readonly url: string
  readonly concurrency: number
  /** Whether LISTEN wakes the worker, or its poll alone. */
  readonly notifications: boolean
  readonly job: Job
  /** How many handlers have to start before `reached` resolves. */
  readonly expected: number
  /** Whether the time of every start is kept; a drain keeps the first only. */
  readonly record: boolean
}

/** CPU time of the process so far, and its resident set. */
export interface Usage {
  readonly cpuMicros: number
  readonly rssBytes: number
}

/** A task's id and when something happened to it, on the clock of `now`. */
export type Mark = readonly [task: string, at: number]

/** What the handlers saw. */
export interface Samples {
  readonly started: ReadonlyArray<Mark>
  readonly interrupted: ReadonlyArray<Mark>
}

/** `bulk` is how many tasks one call takes; 1 is the call for a single one. */
export interface Production {
  readonly url: string
  readonly tasks: number
  readonly atOnce: number
  readonly bulk: number
}

/** The calls a worker process answers over IPC. */
export interface Calls {
  /** Creates the system's tables. */
  readonly prepare: (url: string) => Promise<void>
  /** Queues tasks through the system's own bulk call. */
  readonly fill: (order: { readonly url: string; readonly tasks: number }) => Promise<void>
  /** Enqueues tasks one by one, so many at a time, or in bulks of so many, and gives the milliseconds that took. */
  readonly produce: (order: Production) => Promise<number>
  /** Opens and warms the connections, and claims nothing yet. */
  readonly connect: (options: ConnectOptions) => Promise<void>
  /** Starts the worker. */
  readonly go: () => Promise<void>
  /** Waits for the expected number of handlers to start, and gives the time of the first start. */
  readonly reached: () => Promise<number>
  readonly usage: () => Promise<Usage>
  readonly samples: () => Promise<Samples>
  /** Stops claiming, waits for the running tasks, and closes the connections. */
  readonly stop: () => Promise<void>
}

/** What the handler of every system reports. */
export interface Recorder {
  readonly started: (task: string) => void
  readonly interrupted: (task: string) => void
}

/** A worker that is connected and not yet claiming. */
export interface Connected {
  readonly start: () => Promise<void>
  readonly stop: () => Promise<void>
}

/** A producer that is connected. */
export interface Producer {
  readonly enqueue: (from: number, tasks: number) => Promise<unknown>
  readonly stop: () => Promise<void>
}

/** What a system provides to be measured. */
export interface Implementation {
  readonly prepare: (url: string) => Promise<void>
  /** What a producer uses, connected and warm: one call that stores so many tasks. */
  readonly produce?: ((url: string) => Promise<Producer>) | undefined
  /** Of a system whose table is its own making. */
  readonly fill?: ((url: string, tasks: number) => Promise<void>) | undefined
  readonly connect: (options: ConnectOptions, recorder: Recorder) => Promise<Connected>
}

/** What every system is given: about 75 bytes of JSON. */
export const payload = (order: number) => ({
  to: `user${order}@example.com`,
  subject: "Your receipt",
  order
})

/** How many connections every system opens before the clock starts. */
export const connections = 10

/** Milliseconds on the machine's monotonic clock, which all processes share. */
export const now = (): number => Number(process.hrtime.bigint()) / 1e6

/** What this process has used so far. */
export const usage = (): Usage => {
  const { system, user } = process.cpuUsage()
  return { cpuMicros: user + system, rssBytes: process.memoryUsage.rss() }
}

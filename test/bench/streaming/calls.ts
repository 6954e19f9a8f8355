/**
 * What the two processes of the streams workload answer.
 */
import type { Mark, Usage } from "../protocol.ts"

/** How far the provider is. */
export interface Sent {
  readonly tokens: number
  /** Streams that are open now. */
  readonly open: number
}

export interface ProviderCalls {
  /** Starts to serve, and gives the base URL of its API. */
  readonly listen: () => Promise<string>
  readonly sent: () => Promise<Sent>
  /** The prompts of the streams that the client has closed, and when. */
  readonly closed: () => Promise<ReadonlyArray<Mark>>
  /** Ends every stream after its current token, as a model does that has finished. */
  readonly finish: () => Promise<void>
}

export interface WorkerOptions {
  readonly url: string
  readonly provider: string
  readonly concurrency: number
}

export interface WorkerCalls {
  readonly start: (options: WorkerOptions) => Promise<void>
  readonly usage: () => Promise<Usage>
  /** What the heap holds after a full collection, in bytes. */
  readonly heap: () => Promise<number>
  readonly stop: () => Promise<void>
}

export const tokensPerSecond = 50

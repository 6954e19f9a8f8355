/**
 * Systems with and without notifications, as the latency workloads compare them.
 */
import { naive, spindle, type System } from "./systems.ts"

export interface Variant {
  readonly label: string
  readonly system: System
  readonly notifications: boolean
}

export const notified: Variant = { label: "spindle", system: spindle, notifications: true }

export const unnotified: Variant = { label: "spindle, notifications off", system: spindle, notifications: false }

export const polling: Variant = { label: "naive", system: naive, notifications: false }

/** LISTEN, one claim, one handler: the bare mechanism, and so the yardstick of every latency. */
export const listening: Variant = { label: "naive with LISTEN", system: naive, notifications: true }

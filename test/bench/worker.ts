/**
 * The worker process of one run of a system.
 */
import type { Effect, Scope } from "effect"
import * as Ipc from "./ipc.ts"
import type { Program } from "./program.ts"
import type { Calls } from "./protocol.ts"
import type { System } from "./systems.ts"

export type Worker = Ipc.Process<Calls>

/** Starts a process for one run of a system. */
export const spawn = (system: System): Effect.Effect<Worker, never, Program | Scope.Scope> =>
  Ipc.spawn<Calls>(`the worker of ${system.name}`, "child.js", system.name)

/**
 * The two ways out: results to stdout, progress to stderr.
 */
import { Effect } from "effect"

export const print = (text: string) => Effect.sync(() => process.stdout.write(`${text}\n`))

export const progress = (text: string) => Effect.sync(() => process.stderr.write(`${text}\n`))

import { Data } from "effect"

/** A run that has not come to its end, and why. */
export class BenchError extends Data.TaggedError("BenchError")<{ readonly message: string }> {}

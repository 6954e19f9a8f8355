/**
 * What the product has to reach, and what it aims for.
 *
 * Goals are ratios to the naive loop of the same alternating run, or counts that no machine changes; never absolute rates.
 */
export interface Goal {
  readonly id: string
  readonly what: string
  readonly better: "higher" | "lower"
  readonly due: number
  readonly aimed: number
  readonly unit: "×" | "" | " B" | " MB" | " ms"
}

export const throughput: Goal = {
  id: "G2",
  what: "drain at concurrency 50, × naive",
  better: "higher",
  due: 9,
  aimed: 13,
  unit: "×"
}

export const throughputOfCeiling: Goal = { ...throughput, id: "G1", what: "drain, × ceiling", due: 0.65, aimed: 0.8 }

/** With a local queue of 500; it deletes what is done. */
export const throughputOfGraphile: Goal = { ...throughput, id: "G1", what: "drain, × graphile", due: 1, aimed: 1.25 }

export const throughputOfBestGraphile: Goal = {
  ...throughput,
  id: "G1",
  what: "drain, × graphile at its best",
  due: 0.8,
  aimed: 1
}

export const throughputOfPgBoss: Goal = { ...throughput, what: "drain, × best pg-boss", due: 1.6, aimed: 2.1 }

export const workerCpu: Goal = {
  id: "G5",
  what: "worker CPU per task, × ceiling",
  better: "lower",
  due: 2,
  aimed: 1.5,
  unit: "×"
}

export const serverCpu: Goal = { ...workerCpu, what: "server CPU per task, × ceiling", due: 1.35, aimed: 1.15 }

export const slots: Goal = {
  id: "G6",
  what: "500 slots of 20 ms, × ideal time",
  better: "lower",
  due: 1.5,
  aimed: 1.2,
  unit: "×"
}

export const enqueue: Goal = {
  id: "G8",
  what: "single enqueues, 32 at a time, × plain insert",
  better: "higher",
  due: 0.45,
  aimed: 1.5,
  unit: "×"
}

export const enqueueBulk: Goal = { ...enqueue, what: "bulk enqueue, × plain bulk", due: 0.7, aimed: 0.9 }

export const throughputElsewhere = (concurrency: number): Goal => ({
  id: "G3",
  what: `drain at concurrency ${concurrency}, × naive`,
  better: "higher",
  due: 8,
  aimed: 12,
  unit: "×"
})

export const statements: Goal = {
  id: "G4",
  what: "statements per task in a drain",
  better: "lower",
  due: 0.05,
  aimed: 0.02,
  unit: ""
}

export const commits: Goal = { ...statements, what: "commits per task in a drain" }

export const wal: Goal = { id: "G4", what: "WAL per task", better: "lower", due: 1300, aimed: 1100, unit: " B" }

/** Set against graphile-worker (1.2 and 1.0 times), which took 1.12 times as long as a bare LISTEN and claim. */
export const pickupMedian: Goal = {
  id: "G7",
  what: "pickup p50, × naive with LISTEN",
  better: "lower",
  due: 1.34,
  aimed: 1.12,
  unit: "×"
}

/** Set against graphile-worker (1.3 and 1.0 times), which took 1.33 times as long as a bare LISTEN and claim. */
export const pickupTail: Goal = {
  id: "G7",
  what: "pickup p99, × naive with LISTEN",
  better: "lower",
  due: 1.72,
  aimed: 1.33,
  unit: "×"
}

export const history: Goal = {
  id: "G9",
  what: "rate with 1 M finished rows, of the empty table's",
  better: "higher",
  due: 0.85,
  aimed: 0.93,
  unit: "×"
}

export const backlog: Goal = { ...history, what: "rate with 1 M queued rows, of the empty table's" }

export const idleMemory: Goal = { id: "G10", what: "RSS, idle", better: "lower", due: 100, aimed: 85, unit: " MB" }

export const idleStatements: Goal = {
  id: "G10",
  what: "statements per second, idle",
  better: "lower",
  due: 2,
  aimed: 1,
  unit: ""
}

export const peakMemory: Goal = {
  id: "G10",
  what: "peak RSS in a drain at concurrency 50",
  better: "lower",
  due: 160,
  aimed: 130,
  unit: " MB"
}

export const cancelMedian: Goal = {
  id: "G11",
  what: "cancel p50, × naive with LISTEN",
  better: "lower",
  due: 2,
  aimed: 1.3,
  unit: "×"
}

export const cancelUnnotified: Goal = {
  id: "G11",
  what: "cancel p99 without notifications",
  better: "lower",
  due: 5000,
  aimed: 1000,
  unit: " ms"
}

export const streamDelay: Goal = {
  id: "S1",
  what: "delay p95 from token to readable row, 200 streams",
  better: "lower",
  due: 60,
  aimed: 30,
  unit: " ms"
}

export const streamStatements: Goal = {
  id: "S1",
  what: "statements per second, 200 streams of 50 tokens/s",
  better: "lower",
  due: 400,
  aimed: 150,
  unit: ""
}

export const followersLatency: Goal = {
  id: "S2",
  what: "event commit to SSE client p95, 1,000 followers",
  better: "lower",
  due: 50,
  aimed: 20,
  unit: " ms"
}

export const followersConnections: Goal = {
  id: "S2",
  what: "extra connections for 1,000 followers",
  better: "lower",
  due: 2,
  aimed: 2,
  unit: ""
}

export const followersIdle: Goal = {
  id: "S2",
  what: "statements per second, 1,000 idle followers",
  better: "lower",
  due: 2,
  aimed: 1.3,
  unit: ""
}

export const streamCancel: Goal = {
  id: "S1",
  what: "cancel p95 from commit to the provider's closed connection, 200 streams",
  better: "lower",
  due: 300,
  aimed: 50,
  unit: " ms"
}

const bound = ({ better, unit }: Goal, value: number) => `${better === "higher" ? "≥" : "≤"} ${value}${unit}`

export const due = (goal: Goal): string => bound(goal, goal.due)

export const aimed = (goal: Goal): string => bound(goal, goal.aimed)

/** What a measured value amounts to. */
export const verdict = (goal: Goal, value: number): "aim reached" | "met" | "missed" => {
  const reaches = (limit: number) => goal.better === "higher" ? value >= limit : value <= limit
  return reaches(goal.aimed) ? "aim reached" : reaches(goal.due) ? "met" : "missed"
}

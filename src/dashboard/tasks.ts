/** Lists of tasks as addresses, and how they are read. */
import * as Effect from "effect/Effect"
import type { Count, Filter, Status, TaskPage } from "../server/Views.ts"
import type * as Task from "../Task.ts"
import type { Client } from "./client.ts"

const fields = ["type", "queue", "tag", "userId", "q"] as const
const statuses: ReadonlyArray<string> = ["queued", "processing", "completed", "failed", "cancelled"] satisfies Array<
  Status
>

/** What an address asks for; unknown statuses are ignored. */
export const filterOf = (query: URLSearchParams): Filter => {
  const status = query.get("status") ?? ""
  return {
    ...(statuses.includes(status) ? { status: status as Status } : {}),
    ...Object.fromEntries(fields.flatMap((field) => {
      const value = query.get(field)?.trim() ?? ""
      return value === "" ? [] : [[field, value]]
    }))
  }
}

/** Whether it leaves tasks out: the server acts on nothing less. */
export const isNarrow = (filter: Filter): boolean => Object.keys(filter).length > 0

/** A filter and a page of it as a name that is the same for the same. */
export const addressOf = (filter: Filter, before: string | undefined): string =>
  `tasks:${JSON.stringify([filter.status, ...fields.map((field) => filter[field]), before])}`

/** A task's id; undefined for what is none. */
export const idOf = (text: string): Task.TaskId | undefined =>
  /^[1-9]\d{0,18}$/.test(text) ? BigInt(text) as Task.TaskId : undefined

const cursor = (text: string | undefined) => {
  const id = text === undefined ? undefined : idOf(text)
  return id === undefined ? {} : { before: id }
}

export type Page = TaskPage

/** How many empty pages are walked through before the reader is asked. */
const patience = 20

/** A page of tasks. Where the server has searched for a while and found none, the search goes on from there. */
export const page = (
  client: Client,
  filter: Filter,
  before: string | undefined,
  limit: number
): Effect.Effect<Page, unknown> =>
  Effect.gen(function*() {
    let found = yield* client.tasks.list({ query: { ...filter, ...cursor(before), limit } })
    for (let turn = 0; turn < patience && found.tasks.length === 0 && found.next !== null; turn++) {
      const further = yield* client.tasks.list({ query: { ...filter, before: found.next, limit } })
      found = { ...further, total: atLeast(found.total, further.tasks.length) }
    }
    // The pages before were empty: what is shown is all there is.
    return before === undefined && found.next === null
      ? { ...found, total: { count: found.tasks.length, capped: false } }
      : found
  })

/** How many there are by status, and `all`. */
export type Counts = Readonly<Record<Status | "all", Count>>

export const countOf = (counts: Counts | undefined, status: Status | undefined): Count | undefined =>
  counts?.[status ?? "all"]

export const counts = (
  client: Client,
  others: Filter,
  statuses: ReadonlyArray<Status>
): Effect.Effect<Counts, unknown> =>
  Object.keys(others).length === 0
    ? Effect.map(client.overview.get(), ({ depth }) => ({ ...depth, all: total(Object.values(depth)) }))
    : Effect.map(
      Effect.forEach(
        statuses,
        (status) =>
          Effect.map(
            client.tasks.list({ query: { ...others, status, limit: 1 } }),
            ({ total }) => [status, total] as const
          )
      ),
      (each) => ({
        ...Object.fromEntries(each) as Record<Status, Count>,
        all: total(each.map(([, count]) => count))
      })
    )

const atLeast = ({ capped, count }: Count, seen: number): Count => ({ count: Math.max(count, seen), capped })

/** Where counting stops. */
const cap = 10_000

/** A sum in which one count has stopped does not pretend to be exact to the last digit. */
export const total = (counts: ReadonlyArray<Count>): Count => {
  const count = counts.reduce((sum, { count }) => sum + count, 0)
  const capped = counts.some(({ capped }) => capped)
  return { count: capped && count > cap ? Math.floor(count / cap) * cap : count, capped }
}

/** The better of two counts of the same: one that is exact, the first before the second, or the higher one. */
export const better = (first: Count | undefined, second: Count | undefined): Count | undefined => {
  if (first === undefined || second === undefined) return first ?? second
  if (!first.capped) return first
  return !second.capped || second.count > first.count ? second : first
}

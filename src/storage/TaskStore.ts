/**
 * The worker's side of the tables: every statement it sends, on its own small pool.
 *
 * @since 0.1.0
 */
import * as PgTypes from "@effect/sql-pg/PgTypes"
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Schema from "effect/Schema"
import type * as SqlClient from "effect/sql/SqlClient"
import * as Db from "../Db.ts"
import * as Json from "../internal/Json.ts"
import type * as TaskEvent from "../TaskEvent.ts"
import * as Claim from "./Claim.ts"
import type { Indexes, OptionalColumns } from "./Contract.ts"
import * as Hold from "./Hold.ts"
import * as Names from "./Names.ts"
import * as Parameters from "./Parameters.ts"
import * as Payload from "./Payload.ts"
import * as Places from "./Places.ts"
import * as StorageError from "./StorageError.ts"
import * as Write from "./Write.ts"

/**
 * A task and one of its claims.
 *
 * @category models
 * @since 0.1.0
 */
export interface Held {
  readonly id: bigint
  readonly epoch: bigint
}

/**
 * What a claim brought.
 *
 * @category models
 * @since 0.1.0
 */
export interface Claimed {
  readonly tasks: ReadonlyArray<Claim.ClaimedRow>
  /** When less was due than there were slots: milliseconds until the next task is, if one is queued. */
  readonly nextDueMillis: number | undefined
  /** Where to go on, when all of it came from the only place that had something. */
  readonly cursor: Claim.Cursor | undefined
  /** Whether more than one (type, queue) has something queued. */
  readonly several: boolean
  /** Whether there are too many places to look at all of them, and not all were. */
  readonly crowded: boolean
  /** Whether more is due, but others have locked it. */
  readonly blocked: boolean
  /** When nothing was taken: a type that has something due, which cannot be locked. */
  readonly waiting: string | undefined
}

/**
 * What a claim of known levels brought, and, for each of them, in how many milliseconds its first tasks are due, of which
 * some may just have been taken.
 */
export interface ClaimedKnown {
  readonly tasks: ReadonlyArray<Claim.ClaimedRow>
  readonly waits: ReadonlyArray<ReadonlyArray<number>>
}

/** A payload is undefined when it is larger than a worker takes. */
export type Brought = Pick<Claim.ClaimedRow, "payload" | "metadata">

/**
 * A task whose lease, in seconds since 1970 by the server's clock, has ended or will soon.
 *
 * @category models
 * @since 0.1.0
 */
export interface Expiring extends Held {
  readonly lease: number
  readonly now: number
}

/**
 * A task that was taken from a worker that no longer renews its lease.
 *
 * @category models
 * @since 0.1.0
 */
export interface Swept {
  readonly id: bigint
  readonly type: string
  readonly status: "queued" | "completed" | "failed" | "cancelled"
  readonly attempts: number
  readonly worker: string
}

const patience = "5 seconds"
const writePatience = "12 seconds"

type Result<A> = Effect.Effect<A, StorageError.StorageError>

/**
 * Never waits for a row that somebody else has locked. Errors say whether the same call can succeed later.
 *
 * @category services
 * @since 0.1.0
 */
export class TaskStore extends Context.Service<TaskStore, {
  readonly claim: (request: Claim.ClaimRequest) => Result<Claimed>
  /** Goes on where a claim stopped. Looks at nothing else. */
  readonly claimFurther: (
    request: Claim.Terms,
    cursor: Claim.Cursor,
    limit: number
  ) => Result<Claimed>
  /** Claims from these levels, whose queues take turns in this order. Looks at nothing else. */
  readonly claimKnown: (request: Claim.KnownRequest) => Result<ClaimedKnown>
  /** What such a claim would take, unless somebody else is faster. */
  readonly claimable: (request: Claim.ClaimRequest | Claim.KnownRequest) => Result<ReadonlyArray<bigint>>
  /** Claims these tasks, those of them that are due. */
  readonly claimThese: (request: Claim.Terms, ids: ReadonlyArray<bigint>) => Result<ReadonlyArray<Claim.ClaimedRow>>
  /** Fails a queued task that no claim can take. */
  readonly failUnclaimable: (id: bigint, error: TaskEvent.Failure) => Result<void>
  /** What a claim left behind; undefined when the task is no longer this worker's. */
  readonly readPayload: (workerId: string, held: Held) => Result<Brought | undefined>
  /** What is queued at these places, from a position on; fewer than `limit` are the last. */
  readonly look: (
    where: Places.Where,
    from: Places.Position | undefined,
    limit: number
  ) => Result<ReadonlyArray<Places.Found & Places.Position>>
  /** What is queued of the tasks with ids above `after`, the highest id, and whether there were more of them than `limit`. */
  readonly newest: (types: ReadonlyArray<string>, after: bigint | undefined, limit: number) => Result<{
    readonly found: ReadonlyArray<Places.Found>
    readonly last: bigint
    readonly more: boolean
  }>
  readonly write: (
    workerId: string,
    events: ReadonlyArray<Write.EventEntry>,
    outcomes: ReadonlyArray<Write.OutcomeEntry>
  ) => Result<Write.Written>
  readonly inspect: (
    ids: ReadonlyArray<bigint>
  ) => Result<
    ReadonlyArray<Held & { readonly status: string; readonly lockedBy: string | null; readonly free: boolean }>
  >
  /** All that is the worker's, renewed or not; `except` are not. */
  readonly renew: (
    workerId: string,
    leaseMillis: number,
    except: ReadonlyArray<bigint>
  ) => Result<ReadonlyArray<Held>>
  readonly renewThese: (workerId: string, leaseMillis: number, ids: ReadonlyArray<bigint>) => Result<unknown>
  readonly own: (workerId: string) => Result<ReadonlyArray<Held>>
  readonly cancelled: (
    workerId: string,
    ids: ReadonlyArray<bigint>
  ) => Result<ReadonlyArray<Held & { readonly cancelledForMillis: number | null }>>
  /** A page of what will have expired in so many milliseconds, in the order of ids. The last page is not full. */
  readonly expiring: (withinMillis: number, after: bigint) => Result<ReadonlyArray<Expiring>>
  readonly sweep: (found: ReadonlyArray<Expiring>) => Result<ReadonlyArray<Swept>>
  /** Some of the tasks that were cancelled and not closed, newest first, and where to go on, if there are more to look at. */
  readonly unclosed: (
    from: bigint | undefined
  ) => Result<{ readonly found: ReadonlyArray<Held>; readonly next: bigint | undefined }>
  readonly close: (found: ReadonlyArray<Held>) => Result<number>
  /** Some of the due tasks, in these queues or in all, of types that are not known. */
  readonly unknown: (
    knownTypes: ReadonlyArray<string>,
    queues: ReadonlyArray<string> | undefined,
    except: ReadonlyArray<bigint>
  ) => Result<ReadonlyArray<bigint>>
  readonly failUnknown: (
    ids: ReadonlyArray<bigint>
  ) => Result<ReadonlyArray<{ readonly id: bigint; readonly type: string }>>
}>()("spindle/TaskStore") {
  static readonly make = (options: {
    readonly sql: SqlClient.SqlClient
    readonly schema: string
    readonly columns: OptionalColumns
    readonly indexes: Pick<Indexes, "ended">
    /** Whether events refer to tasks by a foreign key. */
    readonly referencing: boolean
  }) => {
    const { columns, indexes, referencing, schema, sql } = options
    const s = Names.quote(schema)
    const run = <Row extends object>(operation: string, text: string, parameters: ReadonlyArray<unknown>) =>
      StorageError.refine(operation)(sql.unsafe<Row>(text, parameters))
    // A connection that died in silence must not hold a loop for ever. Claims and heartbeats have a patience of
    // their own.
    const ask = <Row extends object>(
      operation: string,
      text: string,
      parameters: ReadonlyArray<unknown>,
      within: Duration.Input = patience
    ) =>
      Effect.flatMap(
        Db.patiently(run<Row>(operation, text, parameters), within),
        Option.match({
          onNone: () =>
            Effect.fail(new StorageError.StorageError({ operation, transient: true, cause: "no answer in time" })),
          onSome: Effect.succeed
        })
      )
    const claims = (allQueues: boolean, only?: "ids") => ({
      one: Claim.statement(s, columns, allQueues, "one", only),
      all: Claim.statement(s, columns, allQueues, "all", only),
      greedy: Claim.statement(s, columns, allQueues, "greedy", only)
    })
    const claimAll = claims(true)
    const claimListed = claims(false)
    const idsOfAll = claims(true, "ids")
    const idsOfListed = claims(false, "ids")
    const known = Claim.known(s, columns)
    const idsOfKnown = Claim.known(s, columns, "ids")
    const these = Claim.these(s, columns)
    const fail = Claim.fail(s)
    const readPayload = Payload.read(s, columns)
    const lookAll = Places.look(s, false)
    const lookListed = Places.look(s, true)
    const newest = Places.newest(s)
    const further = Claim.further(s, columns)
    const write = Write.statement(s, schema, columns, referencing)
    const completions = Write.completions(s, schema, columns)
    const renew = Hold.renew(s)
    const renewThese = Hold.renewThese(s)
    const own = Hold.own(s)
    const cancelled = Hold.cancelled(s)
    const inspect = Hold.inspect(s)
    const expiring = Hold.expiring(s)
    const sweep = Hold.sweep(s, schema)
    const unclosed = Hold.unclosed(s, indexes.ended)
    const close = Hold.close(s, schema)
    const otherTypes = Hold.otherTypes(s)
    const dueAnywhere = Hold.due(s, true)
    const dueListed = Hold.due(s, false)
    const failUnknown = Hold.failUnknown(s, schema)
    const nothingWritten: Write.Written = { accepted: [], cancelled: [], overruled: [], refused: [], blocked: [] }
    const writeAll: TaskStore["Service"]["write"] = (workerId, events, outcomes) =>
      Effect.map(
        ask<{ readonly [Key in keyof Write.Written]: Write.Written[Key] | null }>(
          "write events and outcomes",
          write,
          Write.parameters(workerId, events, outcomes),
          writePatience
        ),
        ([row]) => ({
          accepted: row?.accepted ?? [],
          cancelled: row?.cancelled ?? [],
          overruled: row?.overruled ?? [],
          refused: row?.refused ?? [],
          blocked: row?.blocked ?? []
        })
      )
    const complete = (workerId: string, outcomes: ReadonlyArray<Write.OutcomeEntry>) =>
      Effect.map(
        ask<{ readonly accepted: ReadonlyArray<bigint> }>(
          "write events and outcomes",
          completions,
          Write.completionParameters(workerId, outcomes),
          writePatience
        ),
        ([row]) => row?.accepted ?? []
      )
    return TaskStore.of({
      claim: (request) =>
        Effect.map(
          run<ClaimRow>(
            "claim tasks",
            (request.queues === undefined ? claimAll : claimListed)[request.reach],
            Claim.parameters(request)
          ),
          decodeClaim
        ),
      claimFurther: (request, cursor, limit) =>
        Effect.map(
          run<ClaimRow>("claim tasks", further, Claim.furtherParameters(request, cursor, limit)),
          decodeClaim
        ),
      claimKnown: (request) =>
        Effect.map(
          run<ClaimRow & LevelRow>("claim tasks", known, Claim.knownParameters(request)),
          (rows) => {
            const waits: Array<ReadonlyArray<number>> = []
            for (const row of rows) if (row.id === null) waits[row.place - 1] = row.waits
            return { tasks: decodeTasks(rows), waits }
          }
        ),
      claimable: (request) => {
        const ids = "levels" in request
          ? ask<{ readonly id: bigint }>("look for tasks", idsOfKnown, Claim.knownParameters(request))
          : ask<{ readonly id: bigint }>(
            "look for tasks",
            (request.queues === undefined ? idsOfAll : idsOfListed)[request.reach],
            Claim.parameters(request)
          )
        return Effect.map(ids, (rows) => rows.map(({ id }) => id))
      },
      claimThese: ({ inlineBytes, leaseMillis, workerId }, ids) =>
        Effect.map(
          run<ClaimRow>("claim a task", these, [
            workerId,
            leaseMillis,
            Parameters.int8(ids),
            PgTypes.int4(inlineBytes)
          ]),
          decodeTasks
        ),
      failUnclaimable: (id, error) =>
        Effect.asVoid(ask("fail a task", fail, [PgTypes.int8(id), PgTypes.text(JSON.stringify(error))])),
      readPayload: (workerId, { epoch, id }) =>
        Effect.map(
          run<{ readonly payload: string; readonly oversized: boolean; readonly metadata: string | null }>(
            "read the payload",
            readPayload,
            [PgTypes.int8(id), PgTypes.int8(epoch), workerId]
          ),
          ([row]) => row && { payload: row.oversized ? undefined : row.payload, metadata: metadataOf(row.metadata) }
        ),
      look: (where, from, limit) =>
        Effect.map(
          ask<PlaceRow & Places.Position>(
            "look for queued tasks",
            where.queues === undefined ? lookAll : lookListed,
            Places.lookParameters(where, from, limit)
          ),
          (rows) => rows.map(({ wait, ...row }) => ({ ...row, waitMillis: wait }))
        ),
      newest: (types, after, limit) =>
        Effect.map(
          ask<PlaceRow & { readonly last: bigint | null; readonly more: boolean | null }>(
            "look for new tasks",
            newest,
            [
              Parameters.text(types),
              PgTypes.int8(after ?? null),
              PgTypes.int4(limit)
            ]
          ),
          (rows) => ({
            found: rows.slice(0, -1).map(({ priority, queue, type, wait }) => ({
              type,
              queue,
              priority,
              waitMillis: wait
            })),
            last: rows.at(-1)?.last ?? 0n,
            more: rows.at(-1)?.more ?? false
          })
        ),
      write: (workerId, events, outcomes) => {
        const plain = events.length === 0 ? outcomes.filter(Write.isPlain) : []
        if (plain.length === 0) return writeAll(workerId, events, outcomes)
        return Effect.flatMap(complete(workerId, plain), (accepted) => {
          if (accepted.length === outcomes.length) return Effect.succeed({ ...nothingWritten, accepted })
          const taken = new Set(accepted)
          return Effect.map(
            writeAll(workerId, events, outcomes.filter(({ taskId }) => !taken.has(taskId))),
            (written) => ({ ...written, accepted: [...accepted, ...written.accepted] })
          )
        })
      },
      inspect: (ids) => ask("read tasks", inspect, [Parameters.int8(ids)]),
      renew: (workerId, leaseMillis, except) =>
        run("renew leases", renew, [workerId, PgTypes.int8(BigInt(leaseMillis)), Parameters.int8(except)]),
      renewThese: (workerId, leaseMillis, ids) =>
        run("renew leases", renewThese, [workerId, PgTypes.int8(BigInt(leaseMillis)), Parameters.int8(ids)]),
      own: (workerId) => run("read what is held", own, [workerId]),
      cancelled: (workerId, ids) => ask("look for cancelled tasks", cancelled, [workerId, Parameters.int8(ids)]),
      expiring: (withinMillis, after) =>
        ask("look for expired leases", expiring, [PgTypes.int8(BigInt(Math.ceil(withinMillis))), PgTypes.int8(after)]),
      sweep: (found) =>
        ask("sweep expired leases", sweep, [...heldColumns(found), Parameters.float8(found.map(({ lease }) => lease))]),
      unclosed: (from) =>
        Effect.map(
          ask<{ readonly id: bigint; readonly epoch: bigint | null }>(
            "look for cancelled tasks that are not closed",
            unclosed,
            [PgTypes.int8(from ?? maxId)]
          ),
          (rows) => ({
            found: rows.filter((row): row is Held => row.epoch !== null),
            next: rows.find(({ epoch }) => epoch === null)?.id
          })
        ),
      close: (found) => Effect.map(ask("close cancelled tasks", close, heldColumns(found)), (rows) => rows.length),
      unknown: (knownTypes, queues, except) =>
        Effect.flatMap(
          ask<{ readonly type: string }>("look for unknown types", otherTypes, [Parameters.text(knownTypes)]),
          (types) =>
            types.length === 0 ? Effect.succeed([]) : Effect.map(
              ask<{ readonly id: bigint }>(
                "look for unknown types",
                queues === undefined ? dueAnywhere : dueListed,
                [
                  Parameters.text(types.map(({ type }) => type)),
                  Parameters.int8(except),
                  ...queues === undefined ? [] : [Parameters.text(queues)]
                ]
              ),
              (rows) => rows.map(({ id }) => id)
            )
        ),
      failUnknown: (ids) => ask("fail unknown types", failUnknown, [Parameters.int8(ids)])
    })
  }
}

const maxId = 2n ** 63n - 1n

const heldColumns = (held: ReadonlyArray<Held>) => [
  Parameters.int8(held.map(({ id }) => id)),
  Parameters.int8(held.map(({ epoch }) => epoch))
]

interface ClaimRow {
  readonly id: bigint | null
  readonly epoch: bigint
  readonly type: string
  readonly queue: string
  readonly priority: number
  readonly attempts: number
  readonly max_attempts: number
  readonly run_at: number
  readonly created_at: number
  readonly claimed_at: number
  readonly payload: string
  readonly later: boolean
  readonly metadata: string | null
  readonly timeout_ms: number | null
  readonly tag: string | null
  readonly user_id: string | null
  readonly places?: number
  readonly blocked: boolean | null
  readonly crowded: boolean | null
  readonly waiting: string | null
  readonly next_due: number | null
}

interface LevelRow {
  readonly place: number
  readonly waits: ReadonlyArray<number>
}

interface PlaceRow {
  readonly type: string
  readonly queue: string
  readonly priority: number
  readonly wait: number
}

// `update … returning` promises no order.
const byTurn = (a: Claim.ClaimedRow, b: Claim.ClaimedRow) =>
  b.priority - a.priority || a.runAt - b.runAt || (a.id < b.id ? -1 : 1)

const metadataOf = (text: string | null) => text === null ? {} : Json.parse(text) as Schema.JsonObject

const decodeTasks = (rows: ReadonlyArray<ClaimRow>): ReadonlyArray<Claim.ClaimedRow> => {
  const tasks: Array<Claim.ClaimedRow> = []
  for (const row of rows) {
    if (row.id === null) continue
    tasks.push({
      id: row.id,
      epoch: row.epoch,
      type: row.type,
      queue: row.queue,
      priority: row.priority,
      payload: row.payload,
      metadata: metadataOf(row.metadata),
      later: row.later,
      attempts: row.attempts,
      maxAttempts: row.max_attempts,
      timeoutMillis: row.timeout_ms,
      tag: row.tag,
      userId: row.user_id,
      runAt: row.run_at,
      createdAt: row.created_at,
      claimedAt: row.claimed_at
    })
  }
  return tasks.toSorted(byTurn)
}

const decodeClaim = (rows: ReadonlyArray<ClaimRow>): Claimed => {
  const tasks = decodeTasks(rows)
  const short = rows.find(({ id }) => id === null)
  const last = tasks.at(-1)
  const places = rows[0]?.places ?? 1
  // A time that is no exact number of microseconds is no place to go on from.
  const exact = last !== undefined && Number.isSafeInteger(Math.round(last.runAt * 1000))
  return {
    tasks,
    nextDueMillis: short?.next_due ?? undefined,
    blocked: short?.blocked ?? false,
    crowded: places > Claim.mostPlaces || (short?.crowded ?? false),
    waiting: short?.waiting ?? undefined,
    several: places > 1,
    cursor: places <= 1 && exact ? last : undefined
  }
}

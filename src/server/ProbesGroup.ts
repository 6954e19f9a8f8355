/**
 * The group `probes`: for orchestrators and monitoring.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Option from "effect/Option"
import * as Api from "../Api.ts"
import * as Db from "../Db.ts"
import { Browse } from "../storage/Browse.ts"
import * as Worker from "../Worker.ts"
import * as Metrics from "./Metrics.ts"
import * as Session from "./Session.ts"
import type * as Views from "./Views.ts"

const patience = "2 seconds"

/**
 * Where a worker runs in the process it is the worker that is told of, and no statement is sent: its loops know whether
 * the database answers. Elsewhere `/readyz` asks the database. Whoever needs a token and shows none is told the status alone, as
 * problems have the words of the database in them.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = HttpApiBuilder.group(
  Api.Api,
  "probes",
  Effect.fnUntraced(function*(handlers) {
    const browse = yield* Browse
    const worker = yield* Effect.serviceOption(Worker.Worker)
    const metrics = yield* Metrics.make
    const reach = Db.patiently(
      browse.look("reach the database", ({ run }) => run(() => "select 1", [])),
      patience
    ).pipe(
      Effect.match({
        onFailure: ({ message }) => [message],
        onSuccess: Option.match({
          onNone: () => [`The database does not answer within ${patience}`],
          onSome: () => []
        })
      }),
      Effect.map((problems): Worker.Health => ({ alive: true, ready: problems.length === 0, problems, loops: [] }))
    )
    const reached = yield* Effect.cachedWithTTL(reach, "1 second")
    const alone: Worker.Health = { alive: true, ready: true, problems: [], loops: [] }
    const answer = (health: Worker.Health, ok: boolean) =>
      Effect.map(
        Session.Admitted,
        (admitted) =>
          HttpServerResponse.jsonUnsafe(view(admitted ? health : { ...health, problems: [], loops: [] }, ok), {
            status: ok ? 200 : 503,
            headers: { "cache-control": "no-store" }
          })
      )
    return handlers
      .handleRaw("livez", () =>
        Effect.flatMap(
          Option.match(worker, { onNone: () => Effect.succeed(alone), onSome: ({ health }) => health }),
          (health) => answer(health, health.alive)
        ))
      .handleRaw("readyz", () =>
        Effect.flatMap(
          Option.match(worker, { onNone: () => reached, onSome: ({ health }) => health }),
          (health) => answer(health, health.ready)
        ))
      .handle("metrics", () => metrics.render)
  })
)

const view = ({ loops, problems }: Worker.Health, ok: boolean): Views.Health => ({
  status: ok ? "ok" : "failing",
  problems,
  loops: loops.map(({ lastTurnAgo, name, ok }) => ({
    name,
    ok,
    lastTurnAgoMs: lastTurnAgo === undefined ? null : Math.round(Duration.toMillis(lastTurnAgo))
  }))
})

/**
 * The group `sessions`: who is asking, and what they may.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as HttpApiBuilder from "effect/http-api/HttpApiBuilder"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Api from "../Api.ts"
import { version } from "../internal/Version.ts"
import * as Problem from "./Problem.ts"
import { Session } from "./Session.ts"

/**
 * @category layers
 * @since 0.1.0
 */
export const layer = HttpApiBuilder.group(
  Api.Api,
  "sessions",
  Effect.fnUntraced(function*(handlers) {
    const session = yield* Session
    const { readOnly, tokenRequired } = session
    return handlers.handleAll({
      get: () => Effect.succeed({ version, readOnly, tokenRequired }),
      login: Effect.fnUntraced(function*({ payload, request }) {
        const verdict = yield* session.login(request, payload.token)
        switch (verdict._tag) {
          case "admitted":
            return HttpServerResponse.empty({ cookies: yield* session.start(request) })
          case "refused":
            return yield* new Api.Unauthorized({ detail: "This is not the token" })
          case "limited":
            return Problem.limited(verdict.retryAfterSeconds)
        }
      }),
      logout: () =>
        Effect.map(
          HttpServerRequest.HttpServerRequest,
          (request) => HttpServerResponse.empty({ cookies: session.end(request) })
        )
    })
  })
)

/** The server's API, typed by its own definition. */
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { flow } from "effect/Function"
import * as HttpApiClient from "effect/http-api/HttpApiClient"
import * as FetchHttpClient from "effect/http/FetchHttpClient"
import * as HttpClient from "effect/http/HttpClient"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as Predicate from "effect/Predicate"
import { Api } from "../Api.ts"
import * as Clock from "./clock.ts"

/** The path below which the server lives, without a slash at the end. */
export const prefix = document.querySelector<HTMLMetaElement>("meta[name=spindle-prefix]")?.content ?? ""

const client = Effect.runSync(
  HttpApiClient.make(Api, {
    baseUrl: location.origin + prefix,
    transformClient: flow(
      // The server wants it of every change, also of those without a body.
      HttpClient.mapRequest(HttpClientRequest.setHeader("content-type", "application/json")),
      HttpClient.tap(({ headers: { date } }) =>
        Effect.sync(() => {
          if (date !== undefined) Clock.estimate(Date.parse(date))
        })
      )
    )
  }).pipe(Effect.provide(FetchHttpClient.layer))
)
export type Client = typeof client

/** Why a call did not succeed: the server's own words where it answered. */
export interface Problem {
  readonly tag: string
  readonly message: string
  /** Nobody answered, or not for now: the same call may succeed later. */
  readonly away: boolean
  /** Of a conflict: what stands in the way. */
  readonly outcome?: string
  /** Of a request that does not fit: where, the steps joined by slashes, and what is wrong there. */
  readonly places?: ReadonlyMap<string, string>
}

export type Answer<A> = { readonly ok: true; readonly value: A } | { readonly ok: false; readonly problem: Problem }

interface Place {
  readonly path: ReadonlyArray<string | number>
  readonly message: string
}

const problemOf = (cause: Cause.Cause<unknown>): Problem => {
  const error = Cause.squash(cause)
  const tag = Predicate.hasProperty(error, "_tag") ? String(error._tag) : "Defect"
  const detail = Predicate.hasProperty(error, "detail") && typeof error.detail === "string" ? error.detail : undefined
  if (tag === "HttpClientError") {
    const status = Predicate.hasProperty(error, "response") && Predicate.hasProperty(error.response, "status")
      ? Number(error.response.status)
      : undefined
    if (status === 401) return { tag: "Unauthorized", message: "A token is needed.", away: false }
    if (status === undefined) return { tag, message: "The server cannot be reached.", away: true }
    return status < 400
      ? { tag, message: "The server's answer broke off.", away: true }
      : { tag, message: `The server answered with ${status}.`, away: status >= 500 }
  }
  if (tag === "Unavailable") return { tag, message: detail ?? "The database is away, or busy.", away: true }
  const message = detail ?? (error instanceof Error && error.message !== "" ? error.message : tag)
  if (Predicate.hasProperty(error, "errors") && Array.isArray(error.errors)) {
    const places = new Map<string, string>()
    for (const { message, path } of error.errors as ReadonlyArray<Place>) {
      const place = path.join("/")
      if (!places.has(place)) places.set(place, message)
    }
    return { tag, message, away: false, places }
  }
  return Predicate.hasProperty(error, "outcome")
    ? { tag, message, away: false, outcome: String(error.outcome) }
    : { tag, message, away: false }
}

let leaving = false
// The browser may keep the page as it was left, and show it to whoever goes back.
addEventListener("pageshow", () => {
  leaving = false
})

/** Ends the session. What is refused meanwhile is refused because of it, and leads nowhere else. */
export const signOut = async (): Promise<Problem | undefined> => {
  leaving = true
  const answer = await call((client) => client.sessions.logout())
  if (answer.ok || answer.problem.tag === "Unauthorized") {
    location.assign(`${prefix}/login`)
    return
  }
  leaving = false
  return answer.problem
}

/** Runs an effect of the page. Where the token has run out, the page is loaded again and the server asks for it. */
export const run = async <A>(effect: Effect.Effect<A, unknown>, signal?: AbortSignal): Promise<Answer<A>> => {
  const exit = await Effect.runPromiseExit(effect, { signal })
  if (Exit.isSuccess(exit)) return { ok: true, value: exit.value }
  const problem = problemOf(exit.cause)
  if (problem.tag === "Unauthorized" && !leaving) {
    leaving = true
    location.assign(`${prefix}/login?from=${encodeURIComponent(location.pathname + location.search)}`)
  }
  return { ok: false, problem }
}

/** Calls the server. */
export const call = <A>(ask: (client: Client) => Effect.Effect<A, unknown>, signal?: AbortSignal): Promise<Answer<A>> =>
  run(ask(client), signal)

export { client }

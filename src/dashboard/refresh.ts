/** What is shown stays fresh: polled while the page is seen, sooner when the worker says that something happened. */
import type * as Effect from "effect/Effect"
import { useCallback, useEffect, useRef, useState } from "preact/hooks"
import { call, type Client, type Problem } from "./client.ts"
import * as Store from "./store.ts"

/** The reader has stopped the refreshing. */
export const paused = Store.make(false)
/** That questions go unanswered, since when and why; undefined while all are answered. */
export const lost = Store.make<{ readonly since: number; readonly message: string } | undefined>(undefined)
export const visible = Store.make(document.visibilityState === "visible")
document.addEventListener("visibilitychange", () => visible.set(document.visibilityState === "visible"))

/** Rises whenever something happened that may change what is shown. */
export const happened = Store.make(0)

const unanswered = new Map<string, Problem>()

const note = (key: string, problem: Problem | undefined) => {
  if (problem?.away === true) unanswered.set(key, problem)
  else unanswered.delete(key)
  const [first] = unanswered.values()
  if (first === undefined) lost.set(undefined)
  else if (lost.get()?.message !== first.message) {
    lost.set({ since: lost.get()?.since ?? Date.now(), message: first.message })
  }
}

export interface Resource<A> {
  /** The latest that came; what it was before while the next is on its way. */
  readonly value: A | undefined
  /** Why the latest attempt did not succeed. */
  readonly problem: Problem | undefined
  /** The value is what was shown under the key before, until the answer is there. */
  readonly stale: boolean
  /** When the value came, by `performance.now()`. */
  readonly at: number
  readonly reload: () => void
}

const betweenHints = 600

/**
 * Asks at once, then every `every` milliseconds. `key` names what is asked for: with another key the old value goes, or
 * stays until the new one is there where `keep` is set.
 */
export const useResource = <A>(
  key: string,
  ask: (client: Client) => Effect.Effect<A, unknown>,
  options: { readonly every: number; readonly hints?: boolean; readonly hold?: boolean; readonly keep?: boolean }
): Resource<A> => {
  const { every, hints = false, hold = false, keep = false } = options
  const [held, setHeld] = useState<{ key: string; value?: A; problem?: Problem; at: number }>({ key, at: 0 })
  const asking = useRef(ask)
  asking.current = ask
  const load = useRef<() => void>(() => {})

  useEffect(() => {
    if (hold) return
    let timer: ReturnType<typeof setTimeout> | undefined
    let inFlight: AbortController | undefined
    let again = false
    let latest = -Infinity
    const wanted = () => visible.get() && !paused.get()

    const loadNow = async () => {
      if (inFlight !== undefined) {
        again = true
        return
      }
      clearTimeout(timer)
      again = false
      latest = performance.now()
      const controller = new AbortController()
      inFlight = controller
      const answer = await call(asking.current, controller.signal)
      if (controller.signal.aborted) return
      inFlight = undefined
      note(key, answer.ok ? undefined : answer.problem)
      const at = performance.now()
      setHeld((before) => {
        const kept = before.key === key && before.value !== undefined ? { value: before.value, at: before.at } : { at }
        return answer.ok ? { key, value: answer.value, at } : { key, ...kept, problem: answer.problem }
      })
      plan(again ? betweenHints : answer.ok ? every : Math.min(every, 1500))
    }
    const plan = (delay: number) => {
      clearTimeout(timer)
      timer = wanted() ? setTimeout(() => void loadNow(), delay) : undefined
    }
    const hint = () => {
      if (!wanted()) return
      if (inFlight === undefined) plan(Math.max(60, latest + betweenHints - performance.now()))
      else again = true
    }
    const resume = () => {
      if (wanted()) void loadNow()
      else clearTimeout(timer)
    }

    load.current = () => void loadNow()
    const stops = [visible.subscribe(resume), paused.subscribe(resume), ...(hints ? [happened.subscribe(hint)] : [])]
    void loadNow()
    return () => {
      for (const stop of stops) stop()
      clearTimeout(timer)
      inFlight?.abort()
      note(key, undefined)
      load.current = () => {}
    }
  }, [key, every, hints, hold])

  const reload = useCallback(() => load.current(), [])
  return held.key === key
    ? { value: held.value, problem: held.problem, stale: false, at: held.at, reload }
    : keep && held.value !== undefined
    ? { value: held.value, problem: undefined, stale: true, at: held.at, reload }
    : { value: undefined, problem: undefined, stale: false, at: 0, reload }
}

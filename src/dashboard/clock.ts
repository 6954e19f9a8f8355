/** The server's time on the reader's clock, and one ticker for everything that counts. */
import type * as DateTime from "effect/DateTime"

let offset = 0

let estimated = 0

/** What the server's clock says now, as told by an answer that has just come. */
export const synchronize = (serverNow: number) => {
  const measured = serverNow - Date.now()
  // An answer that took its time says less than the one before.
  if (Math.abs(measured - offset) > 250) offset = measured
}

/**
 * The same in whole seconds, and perhaps by the clock of another machine: it says how wrong the reader's clock is where
 * nothing better does, and when that is set anew.
 */
export const estimate = (serverNow: number) => {
  const measured = serverNow + 500 - Date.now()
  if (Math.abs(measured - estimated) <= 1500) return
  offset += measured - estimated
  estimated = measured
}

/** The server's time, in milliseconds. */
export const now = () => Date.now() + offset

export const millis = (at: DateTime.DateTime): number => at.epochMilliseconds

const tickers = new Set<() => void>()
let timer: ReturnType<typeof setInterval> | undefined

/** Calls it ten times a second while the page is seen. */
export const onTick = (tick: () => void): () => void => {
  tickers.add(tick)
  timer ??= setInterval(() => {
    if (document.visibilityState === "visible") { for (const each of tickers) each() }
  }, 100)
  return () => {
    tickers.delete(tick)
    if (tickers.size > 0) return
    clearInterval(timer)
    timer = undefined
  }
}

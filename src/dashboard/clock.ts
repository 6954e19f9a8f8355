/** The server's time on the reader's clock, and one ticker for everything that counts. */
import type * as DateTime from "effect/DateTime"

let offset = 0

/**
 * What the server's clock says now, as told by an answer that has just come. One that differs less from what is known says
 * nothing new: it took its time.
 */
export const synchronize = (serverNow: number, tolerance = 250) => {
  const measured = serverNow - Date.now()
  if (Math.abs(measured - offset) > tolerance) offset = measured
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

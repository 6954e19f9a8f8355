/** Times, spans and counts as they are read. */

const two = (value: number) => String(value).padStart(2, "0")

/** A span of time in its two largest units: `0 ms`, `41 ms`, `1.2 s`, `3 m 05 s`, `2 h 10 m`, `4 d 03 h`. */
export const duration = (millis: number): string => {
  const ms = Math.max(0, millis)
  if (ms < 1) return ms > 0 ? "<1 ms" : "0 ms"
  if (ms < 999.5) return `${Math.round(ms)} ms`
  if (ms < 9_950) return `${(ms / 1000).toFixed(1)} s`
  const seconds = Math.round(ms / 1000)
  if (seconds < 60) return `${seconds} s`
  const minutes = Math.floor(seconds / 60)
  if (minutes < 60) return `${minutes} m ${two(seconds % 60)} s`
  const hours = Math.floor(minutes / 60)
  if (hours < 24) return `${hours} h ${two(minutes % 60)} m`
  return `${Math.floor(hours / 24)} d ${two(hours % 24)} h`
}

/** What a span of time is typed in. */
export const units = [["ms", 1], ["s", 1000], ["min", 60_000], ["h", 3_600_000], ["days", 86_400_000]] as const

/** The largest unit of which it is a whole number; seconds for none. */
export const unitOf = (millis: number): number =>
  millis > 0 ? units.findLast(([, unit]) => millis % unit === 0)?.[1] ?? 1 : 1000

/** A span that is still growing: tenths of a second for the first minute. */
export const elapsed = (millis: number): string => {
  const ms = Math.max(0, millis)
  return ms < 60_000 ? `${(Math.floor(ms / 100) / 10).toFixed(1)} s` : duration(Math.floor(ms / 1000) * 1000)
}

/** How long ago, to the second. */
export const ago = (millis: number): string => {
  if (millis < -1000) return `in ${duration(Math.ceil(-millis / 1000) * 1000)}`
  if (millis < 1000) return "just now"
  const whole = Math.floor(millis / 1000) * 1000
  return `${whole < 10_000 ? `${whole / 1000} s` : duration(whole)} ago`
}

/** In the reader's own zone, which is named: `2026-11-21 14:03:09 UTC+1`. */
export const time = (at: Date): string =>
  `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${clock(at)} ${zone(at)}`

/** `UTC`, `UTC+1`, `UTC-3:30` */
export const zone = (at: Date): string => {
  const east = -at.getTimezoneOffset()
  if (east === 0) return "UTC"
  const minutes = Math.abs(east) % 60
  return `UTC${east < 0 ? "-" : "+"}${Math.floor(Math.abs(east) / 60)}${minutes === 0 ? "" : `:${two(minutes)}`}`
}

/** `14:03:09` */
export const clock = (at: Date): string => `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`

/** `12,345`; with `+` where counting stopped there, and `?` where it did not get that far. */
export const count = (count: number, capped = false): string =>
  capped && count === 0 ? "?" : count.toLocaleString("en-US") + (capped ? "+" : "")

/** `1 task`, `12,345 tasks`. */
export const plural = (count: number, one: string, many = `${one}s`): string =>
  `${count.toLocaleString("en-US")} ${count === 1 ? one : many}`

/** `0.4`, `12`, `1,204`: a rate with two digits that matter. */
export const rate = (value: number): string =>
  value === 0 ? "0" : value < 10 ? value.toFixed(1) : Math.round(value).toLocaleString("en-US")

export const bytes = (length: number): string =>
  length < 1024 ?
    `${length} B` :
    length < 1024 * 1024 ?
    `${(length / 1024).toFixed(1)} kB` :
    `${(length / 1024 / 1024).toFixed(1)} MB`

/** Addresses below the prefix, with the browser's own history. */
import { prefix } from "./client.ts"
import * as Store from "./store.ts"

export interface Place {
  /** Below the prefix, beginning with a slash. */
  readonly path: string
  readonly query: URLSearchParams
  /** What travels with this entry of the history. */
  readonly state: unknown
}

const here = (): Place => ({
  path: location.pathname.slice(prefix.length) || "/",
  query: new URLSearchParams(location.search),
  state: (history.state as { readonly of?: unknown } | null)?.of
})

export const place = Store.make(here())
export const usePlace = () => Store.useStore(place)

history.scrollRestoration = "manual"
const scrolled = new Map<string, number>()
let key: string = (history.state as { readonly key?: string } | null)?.key ?? "first"

const keepScroll = () => scrolled.set(key, scrollY)

addEventListener("popstate", () => {
  keepScroll()
  key = (history.state as { readonly key?: string } | null)?.key ?? "first"
  place.set(here())
  restoreScroll()
})

/** Rows arrive after the page is drawn: the place is looked for until it is there, or the reader has moved. */
const restoreScroll = () => {
  const to = scrolled.get(key) ?? 0
  const deadline = performance.now() + 2000
  const seek = () => {
    scrollTo(0, to)
    if (Math.abs(scrollY - to) > 2 && performance.now() < deadline) requestAnimationFrame(seek)
  }
  const stop = new AbortController()
  const give = () => stop.abort()
  for (const event of ["wheel", "touchstart", "keydown"]) {
    addEventListener(event, give, { once: true, passive: true, signal: stop.signal })
  }
  requestAnimationFrame(seek)
}

/** The address of a page, for a link. */
export const href = (path: string, query?: Readonly<Record<string, string | undefined>>): string => {
  const given = Object.entries(query ?? {}).filter((entry): entry is [string, string] => !!entry[1])
  return prefix + path + (given.length === 0 ? "" : `?${new URLSearchParams(given)}`)
}

export const go = (to: string, options?: { readonly replace?: boolean; readonly state?: unknown }) => {
  const replace = options?.replace === true
  if (!replace) keepScroll()
  key = replace ? key : crypto.randomUUID?.() ?? String(performance.now())
  history[replace ? "replaceState" : "pushState"]({ key, of: options?.state }, "", to)
  place.set(here())
  if (!replace) scrollTo(0, 0)
}

/** Links of the page stay on the page, unless the reader wants them elsewhere. */
document.addEventListener("click", (event) => {
  const link = event.target instanceof Element ? event.target.closest("a") : null
  const plain = event.button === 0 && !(event.metaKey || event.ctrlKey || event.shiftKey || event.altKey)
  if (link === null || !plain || event.defaultPrevented || link.target !== "" || link.hasAttribute("download")) return
  const url = new URL(link.href)
  if (url.origin !== location.origin || !(url.pathname === prefix || url.pathname.startsWith(`${prefix}/`))) return
  if (link.hasAttribute("data-external")) return
  event.preventDefault()
  if (url.pathname === location.pathname && url.search === location.search && url.hash !== "") {
    const target = document.getElementById(url.hash.slice(1))
    target?.scrollIntoView()
    target?.focus({ preventScroll: true })
    return
  }
  go(url.pathname + url.search)
})

/** Keys of the page, and of what is shown on it. */
import { useLayoutEffect } from "preact/hooks"

export interface Binding {
  /** As typed: `?`, `j`, `g o` for one after the other, `Enter`. */
  readonly keys: string
  readonly says: string
  readonly run: (event: KeyboardEvent) => void
}

const bound: Array<ReadonlyArray<Binding>> = []
let before = ""
let beforeAt = 0

/** What can be pressed now, the page's own first. */
export const bindings = (): ReadonlyArray<Binding> => bound.flat()

const typing = (target: EventTarget | null) =>
  target instanceof HTMLElement &&
  (target.isContentEditable || /^(textarea|select)$/i.test(target.tagName) ||
    (target instanceof HTMLInputElement && !/^(checkbox|radio|button|submit)$/.test(target.type)))

addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return
  if (document.querySelector("dialog[open]") !== null) return
  if (typing(event.target)) {
    if (event.key === "Escape") (event.target as HTMLElement).blur()
    return
  }
  const sequence = event.timeStamp - beforeAt < 1200 ? `${before} ${event.key}` : event.key
  before = event.key
  beforeAt = event.timeStamp
  const all = bound.toReversed().flat()
  const found = all.find(({ keys }) => keys === sequence) ?? all.find(({ keys }) => keys === event.key)
  if (found === undefined) return
  // Enter on a link or a button is its own.
  if (event.key === "Enter" && event.target instanceof Element && event.target.closest("a, button") !== null) return
  before = ""
  event.preventDefault()
  found.run(event)
})

/**
 * Keys that hold while the part is shown; those of the page go before those that hold everywhere. They are bound before
 * the part is seen: whoever reacts to what they see must not reach the keys of what was there before.
 */
export const useKeys = (own: ReadonlyArray<Binding>, where: "page" | "everywhere" = "page") =>
  useLayoutEffect(() => {
    if (where === "page") bound.push(own)
    else bound.unshift(own)
    return () => void bound.splice(bound.indexOf(own), 1)
  })

const rows = () => [...document.querySelectorAll<HTMLElement>("[data-row]")]

/** The row that has the focus. */
export const currentRow = (): HTMLElement | null => document.activeElement?.closest<HTMLElement>("[data-row]") ?? null

/** Moves the focus from row to row. */
export const moveRow = (by: 1 | -1) => {
  const all = rows()
  const current = currentRow()
  const index = current === null ? (by === 1 ? 0 : all.length - 1) : all.indexOf(current) + by
  const row = all[Math.min(Math.max(index, 0), all.length - 1)]
  row?.focus({ preventScroll: true })
  row?.scrollIntoView({ block: "nearest" })
}

/** Moving through lists and opening what has the focus. */
export const rowKeys: ReadonlyArray<Binding> = [
  { keys: "j", says: "Next row", run: () => moveRow(1) },
  { keys: "k", says: "Previous row", run: () => moveRow(-1) },
  { keys: "Enter", says: "Open the row", run: () => currentRow()?.querySelector("a")?.click() }
]

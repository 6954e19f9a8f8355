import * as Store from "../store.ts"

interface Toast {
  readonly key: number
  readonly text: string
  readonly kind: "good" | "bad" | "plain"
}

const toasts = Store.make<ReadonlyArray<Toast>>([])
const longest = 500
let next = 0

const drop = (key: number) => toasts.set(toasts.get().filter((toast) => toast.key !== key))

/** Tells what happened, for some seconds. */
export const say = (text: string, kind: Toast["kind"] = "plain") => {
  const key = next++
  const shown = text.length > longest ? `${text.slice(0, longest)}…` : text
  toasts.set([...toasts.get().slice(-3), { key, text: shown, kind }])
  setTimeout(() => drop(key), kind === "bad" ? 12_000 : 6_000)
}

export const Toasts = () => (
  <div class="toasts" role="status">
    {Store.useStore(toasts).map(({ key, kind, text }) => (
      <div key={key} class={`toast ${kind}`}>
        <span>{text}</span>
        <button type="button" class="plain" aria-label="Dismiss" onClick={() => drop(key)}>×</button>
      </div>
    ))}
  </div>
)

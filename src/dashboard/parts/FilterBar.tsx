import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks"
import type { Filter } from "../../server/Views.ts"
import { useKeys } from "../keyboard.ts"
import { useResource } from "../refresh.ts"
import { go, href } from "../router.ts"

const fields = [
  ["q", "Search", "id, payload, error …"],
  ["type", "Type", "any"],
  ["queue", "Queue", "any"],
  ["tag", "Tag", "any"],
  ["userId", "User", "any"]
] as const

type Name = typeof fields[number][0]
type Draft = { readonly [name in Name]: string }

const draftOf = (filter: Filter): Draft => ({
  q: filter.q ?? "",
  type: filter.type ?? "",
  queue: filter.queue ?? "",
  tag: filter.tag ?? "",
  userId: filter.userId ?? ""
})

const empty = draftOf({})

/** Narrows the list. What is typed becomes the address after a moment, or at once with Enter. */
export const FilterBar = ({ filter }: { readonly filter: Filter }) => {
  const [draft, setDraft] = useState(draftOf(filter))
  const search = useRef<HTMLInputElement>(null)
  // Going back does not stop at every word.
  const typed = useRef(false)
  const timer = useRef<ReturnType<typeof setTimeout>>(undefined)
  const types = useResource("types", (client) => client.overview.types(), { every: 60_000 })
  const address = (draft: Draft) => href("/tasks", { status: filter.status, ...trimmed(draft) })

  const before = useRef(filter)
  // Before anything more can be typed: that is not to be lost.
  useLayoutEffect(() => {
    clearTimeout(timer.current)
    const asked = address(draftOf(filter))
    const narrowed = asked !== address(draftOf(before.current))
    before.current = filter
    if (narrowed) setDraft((draft) => address(draft) === asked ? draft : draftOf(filter))
    // Another status, or another page: what has been typed meanwhile goes along.
    else apply(draft, true)
  }, [filter])
  useEffect(() => () => clearTimeout(timer.current), [])
  useKeys([{ keys: "/", says: "Search", run: () => search.current?.focus() }])

  const apply = (draft: Draft, replace: boolean) => {
    clearTimeout(timer.current)
    if (address(draft) !== address(draftOf(filter))) go(address(draft), { replace })
  }
  const change = (name: Name, value: string) => {
    const next = { ...draft, [name]: value }
    setDraft(next)
    clearTimeout(timer.current)
    timer.current = setTimeout(() => {
      apply(next, typed.current)
      typed.current = true
    }, 500)
  }
  const filled = fields.some(([name]) => draft[name] !== "")
  return (
    <form
      class="filters"
      role="search"
      onSubmit={(event) => {
        event.preventDefault()
        apply(draft, false)
      }}
    >
      {fields.map(([name, label, placeholder]) => (
        <label key={name} class={name}>
          <span>{label}</span>
          <input
            ref={(element) => {
              if (name === "q") search.current = element
            }}
            type="text"
            inputMode={name === "q" ? "search" : "text"}
            name={name}
            value={draft[name]}
            placeholder={placeholder}
            {...name === "type" ? { list: "known-types" } : {}}
            autocomplete="off"
            autocapitalize="off"
            spellcheck={false}
            onBlur={() => {
              typed.current = false
            }}
            onInput={(event) => change(name, event.currentTarget.value)}
          />
        </label>
      ))}
      <datalist id="known-types">
        {(types.value ?? []).map(({ type }) => <option key={type} value={type} />)}
      </datalist>
      <button
        type="button"
        class="clear"
        disabled={!filled}
        onClick={() => {
          setDraft(empty)
          apply(empty, false)
        }}
      >
        Clear
      </button>
    </form>
  )
}

const trimmed = (draft: Draft): Draft => ({
  q: draft.q.trim(),
  type: draft.type.trim(),
  queue: draft.queue.trim(),
  tag: draft.tag.trim(),
  userId: draft.userId.trim()
})

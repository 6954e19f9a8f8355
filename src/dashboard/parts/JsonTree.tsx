import { useState } from "preact/hooks"
import * as Json from "../json.ts"
import { Copy } from "./Copy.tsx"
import { LongText } from "./LongText.tsx"

const pageSize = 100

/** A value as a tree whose branches open and close. */
export const JsonTree = (
  { label, value }: { readonly label: string; readonly value: Json.Json }
) => (
  <div class="json" role="group" aria-label={label}>
    <Copy text={() => Json.pretty(value)} says={`Copy ${label} as JSON`} />
    {Json.isContainer(value)
      ? <Members value={value} depth={0} />
      : (
        <div>
          <Leaf value={value} />
        </div>
      )}
  </div>
)

const Members = (
  { depth, value }: { readonly value: Json.JsonObject | ReadonlyArray<Json.Json>; readonly depth: number }
) => {
  const [shown, setShown] = useState(pageSize)
  const all = Json.entries(value)
  if (all.length === 0) return <div class="muted">{Array.isArray(value) ? "[ ]" : "{ }"}</div>
  return (
    <ul>
      {all.slice(0, shown).map(([name, member]) => (
        <Member key={name} name={name} value={member} depth={depth} index={Array.isArray(value)} />
      ))}
      {all.length > shown && (
        <li>
          <button type="button" class="link" onClick={() => setShown(shown + pageSize * 5)}>
            {`${all.length - shown} more`}
          </button>
        </li>
      )}
    </ul>
  )
}

const Member = (
  { depth, index, name, value }: {
    readonly name: string
    readonly value: Json.Json
    readonly depth: number
    readonly index: boolean
  }
) => {
  const container = Json.isContainer(value) && Json.entries(value).length > 0
  const [open, setOpen] = useState(container && depth < 2 && Json.entries(value as Json.JsonObject).length <= 20)
  const label = <span class={index ? "index" : "key"}>{name}</span>
  if (!Json.isContainer(value)) {
    return (
      <li>
        {label}
        <span class="muted">:</span> <Leaf value={value} />
      </li>
    )
  }
  if (!container) {
    return (
      <li>
        {label}
        <span class="muted">: {Json.summary(value)}</span>
      </li>
    )
  }
  return (
    <li>
      <button type="button" class="branch" aria-expanded={open} onClick={() => setOpen(!open)}>
        {label}
        <span class="muted">{open ? (Array.isArray(value) ? ": [" : ": {") : `: ${Json.summary(value)}`}</span>
      </button>
      {open && (
        <>
          <Members value={value} depth={depth + 1} />
          <span class="muted close">{Array.isArray(value) ? "]" : "}"}</span>
        </>
      )}
    </li>
  )
}

const Leaf = ({ value }: { readonly value: null | boolean | number | string | Json.Exact }) => {
  if (Json.isMasked(value)) return <span class="masked" title="The server does not show it">masked</span>
  if (value instanceof Json.Exact) return <span class="number">{String(value)}</span>
  if (typeof value !== "string") return <span class={value === null ? "null" : typeof value}>{String(value)}</span>
  return <LongText class="string" text={value} show={Json.quoted} />
}

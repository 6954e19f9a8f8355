import { useState } from "preact/hooks"

/** Beyond this a text is cut until the reader asks for all of it. */
const longText = 2000

/** A text that may be long: its beginning, then the whole in a box of its own. */
export const LongText = (
  { class: name = "", show = (text) => text, text }: {
    readonly class?: string
    readonly text: string
    readonly show?: (text: string) => string
  }
) => {
  const [whole, setWhole] = useState(false)
  if (text.length <= longText) return <span class={name}>{show(text)}</span>
  return (
    <span class={`${name} ${whole ? "whole" : ""}`} tabIndex={whole ? 0 : undefined}>
      {show(whole ? text : text.slice(0, longText))}
      <button type="button" class="link" aria-expanded={whole} onClick={() => setWhole(!whole)}>
        {whole ? "Show its beginning" : `… all ${text.length.toLocaleString("en-US")} characters`}
      </button>
    </span>
  )
}

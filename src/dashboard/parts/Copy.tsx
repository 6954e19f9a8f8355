import { useEffect, useRef, useState } from "preact/hooks"
import { Icon } from "./Icon.tsx"

/** Works without a secure context too, where the clipboard is out of reach. */
const write = async (text: string): Promise<boolean> => {
  if (navigator.clipboard !== undefined) {
    return navigator.clipboard.writeText(text).then(() => true, () => false)
  }
  const area = document.createElement("textarea")
  area.value = text
  area.className = "offscreen"
  document.body.append(area)
  area.select()
  const done = document.execCommand("copy")
  area.remove()
  return done
}

export const Copy = (
  { icon = "copy", says, text }: {
    readonly text: () => string
    readonly says: string
    readonly icon?: "copy" | "link"
  }
) => {
  const [state, setState] = useState<"idle" | "check" | "cross">("idle")
  const timer = useRef<ReturnType<typeof setTimeout>>(undefined)
  useEffect(() => () => clearTimeout(timer.current), [])
  const copy = async () => {
    setState(await write(text()) ? "check" : "cross")
    clearTimeout(timer.current)
    timer.current = setTimeout(() => setState("idle"), 1500)
  }
  return (
    <button type="button" class="plain copy" aria-label={says} title={says} onClick={() => void copy()}>
      <Icon name={state === "idle" ? icon : state} />
    </button>
  )
}

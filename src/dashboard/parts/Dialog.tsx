import type { ComponentChildren } from "preact"
import { useEffect, useRef } from "preact/hooks"
import { place } from "../router.ts"
import * as Store from "../store.ts"

export const Dialog = (
  { children, close, label }: {
    readonly label: string
    readonly close: () => void
    readonly children: ComponentChildren
  }
) => {
  const dialog = useRef<HTMLDialogElement>(null)
  useEffect(() => {
    const opener = document.activeElement
    dialog.current?.showModal()
    return () => {
      if (opener instanceof HTMLElement && opener.isConnected) opener.focus({ preventScroll: true })
    }
  }, [])
  return (
    <dialog
      ref={dialog}
      aria-label={label}
      onClose={close}
      onClick={(event) => {
        if (event.target === dialog.current) close()
      }}
    >
      <div class="dialog">{children}</div>
    </dialog>
  )
}

interface Question {
  readonly title: string
  readonly text: string
  /** What the button that goes ahead says. */
  readonly action: string
  readonly danger: boolean
  readonly answer: (goAhead: boolean) => void
}

const question = Store.make<Question | undefined>(undefined)

// What it was about is not seen any more.
place.subscribe(() => question.get()?.answer(false))

/** Asks before something is done that cannot be undone. */
export const confirm = (asked: Omit<Question, "answer">): Promise<boolean> =>
  new Promise((resolve) => {
    question.get()?.answer(false)
    question.set({
      ...asked,
      answer: (goAhead) => {
        question.set(undefined)
        resolve(goAhead)
      }
    })
  })

export const Confirmation = () => {
  const asked = Store.useStore(question)
  if (asked === undefined) return null
  const { action, answer, danger, text, title } = asked
  return (
    <Dialog label={title} close={() => answer(false)}>
      <h2>{title}</h2>
      <p>{text}</p>
      <div class="row end">
        <button type="button" onClick={() => answer(false)}>Back</button>
        <button type="button" class={danger ? "danger" : "primary"} autofocus onClick={() => answer(true)}>
          {action}
        </button>
      </div>
    </Dialog>
  )
}

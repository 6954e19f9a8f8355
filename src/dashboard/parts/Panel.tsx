import type { ComponentChildren } from "preact"

/** A part of a page under a heading of its own. */
export const Panel = (
  { aside, children, class: name = "", id, title }: {
    readonly title: string
    readonly id?: string
    readonly class?: string
    readonly aside?: ComponentChildren
    readonly children: ComponentChildren
  }
) => (
  <section class={`panel ${name}`} aria-label={title} id={id}>
    <header>
      <h2>{title}</h2>
      {aside}
    </header>
    {children}
  </section>
)

/** What is said where there is nothing to show. */
export const Empty = ({ children }: { readonly children: ComponentChildren }) => <p class="empty">{children}</p>

/** Why there is nothing to show. */
export const Trouble = (
  { again, message, title }: { readonly title: string; readonly message: string; readonly again?: () => void }
) => (
  <div class="panel trouble" role="alert">
    <h2>{title}</h2>
    <p>{message}</p>
    {again !== undefined && <button type="button" onClick={again}>Try again</button>}
  </div>
)

import type { ComponentChildren } from "preact"
import { useEffect, useState } from "preact/hooks"
import { prefix, signOut } from "../client.ts"
import * as Format from "../format.ts"
import { bindings, useKeys } from "../keyboard.ts"
import { lost, paused, useResource } from "../refresh.ts"
import { go, href, usePlace } from "../router.ts"
import { session, useMayAct, useSession } from "../session.ts"
import * as Store from "../store.ts"
import * as Theme from "../theme.ts"
import { Confirmation, Dialog } from "./Dialog.tsx"
import { Icon } from "./Icon.tsx"
import { say, Toasts } from "./Toasts.tsx"

const pages = [
  { path: "/", name: "Overview", keys: "g o" },
  { path: "/tasks", name: "Tasks", keys: "g t" },
  { path: "/queues", name: "Queues", keys: "g q" },
  { path: "/enqueue", name: "Enqueue", keys: "e" },
  { path: "/docs", name: "API", keys: "g d" }
] as const

/** What surrounds every page. */
export const Shell = ({ children }: { readonly children: ComponentChildren }) => {
  const { path } = usePlace()
  const trouble = Store.useStore(lost)
  const isPaused = Store.useStore(paused)
  const mayAct = useMayAct()
  const known = useSession()
  const [help, setHelp] = useState(false)
  const resource = useResource("session", (client) => client.sessions.get(), { every: 30_000 })
  useEffect(() => {
    if (resource.value !== undefined) session.set(resource.value)
  }, [resource.value])

  const shown = pages.filter(({ path }) => path !== "/enqueue" || mayAct || known === undefined)
  useKeys([
    { keys: "?", says: "These keys", run: () => setHelp(true) },
    ...shown.map(({ keys, name, path }) => ({ keys, says: name, run: () => go(href(path)) })),
    {
      keys: "/",
      says: "Search the tasks",
      run: () => {
        go(href("/tasks"))
        requestAnimationFrame(() => document.querySelector<HTMLElement>("[role=search] input")?.focus())
      }
    },
    { keys: "s", says: "Pause or go on refreshing", run: () => paused.set(!paused.get()) }
  ], "everywhere")

  return (
    <>
      <a class="skip" href="#main">To the content</a>
      <header class="top">
        <a class="brand" href={href("/")}>
          <img src={`${prefix}/logo.svg`} width="24" height="24" alt="" />
          <span>Spindle</span>
        </a>
        <nav aria-label="Pages">
          {shown.map(({ name, path: to }) => (
            <a key={to} href={href(to)} aria-current={isAt(path, to) ? "page" : undefined}>{name}</a>
          ))}
        </nav>
        <div class="controls">
          {known?.readOnly === true && (
            <span class="badge" title="WORKER_HTTP_READONLY is set, or readOnly of an embedded dashboard">
              read-only
            </span>
          )}
          <button
            type="button"
            class={`plain live ${trouble !== undefined ? "lost" : isPaused ? "paused" : ""}`}
            aria-pressed={isPaused}
            aria-label="Pause refreshing"
            title={isPaused ? "Refreshing is paused: go on (s)" : "Refreshes by itself: pause (s)"}
            onClick={() => paused.set(!isPaused)}
          >
            <i class="dot" />
            <span class="word">{trouble !== undefined ? "lost" : isPaused ? "paused" : "live"}</span>
            <Icon name={isPaused ? "play" : "pause"} />
          </button>
          <ThemeButton />
          <button type="button" class="plain" aria-label="Keys" title="Keys (?)" onClick={() => setHelp(true)}>
            <Icon name="help" />
          </button>
          {known?.tokenRequired === true && (
            <button
              type="button"
              class="plain"
              aria-label="Sign out"
              title="Sign out"
              onClick={() => void leave()}
            >
              <Icon name="exit" />
            </button>
          )}
        </div>
      </header>
      {trouble !== undefined && (
        <div class="banner" role="alert">
          <Icon name="warning" />
          <span>
            <b>Disconnected, retrying.</b> What you see is from {Format.clock(new Date(trouble.since))}.{" "}
            {trouble.message}
          </span>
        </div>
      )}
      <main id="main" class={trouble === undefined ? "" : "stale"} tabIndex={-1}>{children}</main>
      <Toasts />
      <Confirmation />
      {help && <Help close={() => setHelp(false)} />}
    </>
  )
}

const isAt = (path: string, to: string) => path === to || (to !== "/" && path.startsWith(`${to}/`))

const leave = async () => {
  const problem = await signOut()
  if (problem !== undefined) say(`You are still signed in: ${problem.message}`, "bad")
}

const icons = { system: "system", light: "sun", dark: "moon" } as const

const ThemeButton = () => {
  const theme = Store.useStore(Theme.theme)
  const label = `Theme: ${theme}`
  return (
    <button
      type="button"
      class="plain"
      aria-label={label}
      title={label}
      onClick={() => Theme.choose(Theme.next(theme))}
    >
      <Icon name={icons[theme]} />
    </button>
  )
}

const Help = ({ close }: { readonly close: () => void }) => {
  // The page's own keys stand before those that hold everywhere, and hide them where they are the same.
  const [all] = useState(() => {
    const seen = new Map<string, string>()
    for (const { keys, says } of bindings().toReversed()) if (!seen.has(keys)) seen.set(keys, says)
    return [...seen].toReversed()
  })
  return (
    <Dialog label="Keys" close={close}>
      <h2>Keys</h2>
      <dl class="keys">
        {all.map(([keys, says]) => (
          <div key={keys}>
            <dt>{keys.split(" ").map((key, index) => <kbd key={index}>{key}</kbd>)}</dt>
            <dd>{says}</dd>
          </div>
        ))}
        <div>
          <dt>
            <kbd>Esc</kbd>
          </dt>
          <dd>Close, leave a field</dd>
        </div>
      </dl>
      <div class="row end">
        <button type="button" autofocus onClick={close}>Close</button>
      </div>
    </Dialog>
  )
}

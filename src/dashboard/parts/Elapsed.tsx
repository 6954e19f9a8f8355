import { useEffect, useLayoutEffect, useRef } from "preact/hooks"
import * as Clock from "../clock.ts"
import * as Format from "../format.ts"

/** A time that goes on, written straight into the page: ten times a second, without drawing anything anew. */
const Ticking = ({ text }: { readonly text: () => string }) => {
  const element = useRef<HTMLSpanElement>(null)
  const latest = useRef(text)
  latest.current = text
  const write = () => {
    const next = latest.current()
    if (element.current !== null && element.current.textContent !== next) element.current.textContent = next
  }
  useLayoutEffect(write)
  useEffect(() => Clock.onTick(write), [])
  return <span class="num" ref={element} />
}

/**
 * How long it runs: `ms` when the answer came, by `performance.now()`. A later answer that differs by less than half a
 * second does not make it jump.
 */
export const Running = ({ at, ms }: { readonly at: number; readonly ms: number }) => {
  const since = useRef(at - ms)
  if (Math.abs(since.current - (at - ms)) > 500) since.current = at - ms
  return <Ticking text={() => Format.elapsed(performance.now() - since.current)} />
}

/** How long ago, or in how long, by the server's clock. */
export const Ago = ({ at }: { readonly at: { readonly epochMilliseconds: number } }) => (
  <time dateTime={new Date(at.epochMilliseconds).toISOString()} title={Format.time(new Date(at.epochMilliseconds))}>
    <Ticking text={() => Format.ago(Clock.now() - at.epochMilliseconds)} />
  </time>
)

/** Since a moment of the server's clock. */
export const Since = ({ at }: { readonly at: { readonly epochMilliseconds: number } }) => (
  <Ticking text={() => Format.elapsed(Clock.now() - at.epochMilliseconds)} />
)

/** A moment in the reader's zone. */
export const Moment = ({ at }: { readonly at: { readonly epochMilliseconds: number } }) => (
  <time class="num" dateTime={new Date(at.epochMilliseconds).toISOString()}>
    {Format.time(new Date(at.epochMilliseconds))}
  </time>
)

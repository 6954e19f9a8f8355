/** A value that parts of the page look at. */
import { useEffect, useState } from "preact/hooks"

export interface Store<A> {
  readonly get: () => A
  readonly set: (value: A) => void
  readonly subscribe: (look: (value: A) => void) => () => void
}

export const make = <A>(initial: A): Store<A> => {
  let value = initial
  const lookers = new Set<(value: A) => void>()
  return {
    get: () => value,
    set: (next) => {
      if (Object.is(next, value)) return
      value = next
      for (const look of Array.from(lookers)) look(next)
    },
    subscribe: (look) => {
      lookers.add(look)
      return () => void lookers.delete(look)
    }
  }
}

/** The value, drawn again whenever it changes. */
export const useStore = <A>(store: Store<A>): A => {
  const [value, setValue] = useState(store.get())
  useEffect(() => {
    setValue(() => store.get())
    return store.subscribe((next) => setValue(() => next))
  }, [store])
  return value
}

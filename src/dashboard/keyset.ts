/** Walking through keyset pages, newest first: only the way down has a cursor, the way up is remembered. */

/** Where a page begins; undefined for the newest. */
export type Cursor = string | undefined

/** The cursors of the pages before this one, the newest page first. */
export type Trail = ReadonlyArray<string | null>

export interface Step {
  readonly cursor: Cursor
  readonly trail: Trail
}

export const older = (trail: Trail, cursor: Cursor, next: string): Step => ({
  cursor: next,
  trail: [...trail, cursor ?? null]
})

/** The page before; undefined on the newest page, and where nobody remembers the way. */
export const newer = (trail: Trail): Step | undefined => {
  const last = trail.at(-1)
  return last === undefined ? undefined : { cursor: last ?? undefined, trail: trail.slice(0, -1) }
}

/** The trail as it was kept in the browser's history, whatever is there. */
export const trailOf = (state: unknown): Trail =>
  Array.isArray(state) && state.every((each) => each === null || typeof each === "string") ? state : []

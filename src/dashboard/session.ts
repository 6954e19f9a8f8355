/** Who is looking, and what they may. */
import * as Store from "./store.ts"

export interface Session {
  readonly version: string
  readonly readOnly: boolean
  readonly tokenRequired: boolean
}

export const session = Store.make<Session | undefined>(undefined)

export const useSession = () => Store.useStore(session)

/** Whether the page may act; not before the server has said so. */
export const useMayAct = () => useSession()?.readOnly === false

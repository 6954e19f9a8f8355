/**
 * The calls that a process of the bench answers. Nothing is imported here: what a process loads is what its system needs.
 */

/** What a process can be asked. */
export type Calls = { readonly [call: string]: (argument: any) => Promise<any> }

export interface Request {
  readonly id: number
  readonly call: string
  readonly argument: unknown
}

export interface Reply {
  readonly id: number
  readonly value?: unknown
  readonly error?: string | undefined
}

/** The process's own end: answers the bench for as long as that lives. */
export const serve = (calls: Calls): void => {
  if (process.send === undefined) throw new Error("this file is started by the bench")
  process.on("message", ({ argument, call, id }: Request) => {
    calls[call]!(argument).then(
      (value) => process.send?.({ id, value }),
      (error: unknown) => process.send?.({ id, error: error instanceof Error ? error.stack : String(error) })
    )
  })
  // A terminal sends Ctrl-C to the whole group; when to end is the parent's to say, or its death's.
  process.on("SIGINT", () => undefined)
  process.on("disconnect", () => process.exit(1))
}

import { useRef } from "preact/hooks"
import type { TaskDetail } from "../../server/Views.ts"
import { Ago } from "./Elapsed.tsx"

/** How fresh the worker's hold on the task is. */
export const Lease = ({ task }: { readonly task: TaskDetail }) => {
  const seen = useRef<{ readonly expires: number; readonly renewed: boolean; readonly at: number }>(undefined)
  if (task.leaseExpiresAt === null) return <span class="muted">nobody holds it</span>
  const expires = task.leaseExpiresAt.epochMilliseconds
  if (seen.current?.expires !== expires) {
    seen.current = { expires, renewed: seen.current !== undefined, at: task.timing.now.epochMilliseconds }
  }
  return (
    <span>
      {seen.current.renewed
        ? (
          <>
            seen renewed <Ago at={{ epochMilliseconds: seen.current.at }} />
            {", "}
          </>
        )
        : null}
      expires <Ago at={task.leaseExpiresAt} />
    </span>
  )
}

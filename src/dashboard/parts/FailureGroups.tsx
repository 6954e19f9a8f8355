import { useState } from "preact/hooks"
import type { Filter } from "../../server/Views.ts"
import * as Format from "../format.ts"
import { useResource } from "../refresh.ts"
import { href } from "../router.ts"
import { addressOf } from "../tasks.ts"
import { Ago } from "./Elapsed.tsx"

const few = 5

/** What fails alike, where something does: each leads to its tasks. */
export const FailureGroups = ({ filter }: { readonly filter: Omit<Filter, "status"> }) => {
  const [all, setAll] = useState(false)
  const { value = [] } = useResource(
    `failures:${addressOf(filter, undefined)}`,
    (client) => client.tasks.failures({ query: filter }),
    { every: 10_000, keep: true }
  )
  if (!value.some(({ count }) => count > 1)) return null
  return (
    <section class="panel groups" aria-label="What fails alike">
      <ul>
        {value.slice(0, all ? undefined : few).map(({ count, finishedAt, id, message, tag, type }) => (
          <li key={String(id)}>
            <span class="num amount">{`${Format.count(count)} ×`}</span>
            <a
              class="what"
              title={message}
              href={count === 1
                ? href(`/tasks/${id}`)
                : href("/tasks", { ...filter, status: "failed", type, q: message.trim() || filter.q })}
            >
              <b>{tag}</b> {message}
            </a>
            <span class="muted type">{type}</span>
            <span class="muted when">{finishedAt !== null && <Ago at={finishedAt} />}</span>
          </li>
        ))}
      </ul>
      {value.length > few && (
        <button type="button" class="link" onClick={() => setAll(!all)}>
          {all ? "Show fewer" : `${Format.count(value.length - few)} more kinds of failure`}
        </button>
      )}
    </section>
  )
}

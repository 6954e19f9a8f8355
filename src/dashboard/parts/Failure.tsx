import type { Failure as Model } from "../../TaskEvent.ts"
import type { Json } from "../json.ts"
import { JsonTree } from "./JsonTree.tsx"
import { LongText } from "./LongText.tsx"

const kinds: Readonly<Record<Model["kind"], string>> = {
  failure: "an error of the task",
  defect: "a bug",
  timeout: "it took longer than its timeout",
  interrupted: "the handler interrupted itself",
  discarded: "the handler gave up",
  rejected: "the payload does not fit, or nobody handles the type",
  lease_expired: "the worker died or lost the database"
}

export const Failure = ({ error }: { readonly error: Model }) => (
  <div class="failure">
    <p>
      <b>{error.tag}</b> <span class="muted" title={kinds[error.kind]}>{error.kind.replaceAll("_", " ")}</span>
    </p>
    <p class="message">
      <LongText text={error.message} />
    </p>
    {error.data !== undefined && error.data !== null && <JsonTree label="error data" value={error.data as Json} />}
    {error.stack !== undefined && (
      <details>
        <summary>Stack</summary>
        <pre tabIndex={0}>{error.stack}</pre>
      </details>
    )}
  </div>
)

import * as DateTime from "effect/DateTime"
import type * as Schema from "effect/Schema"
import { useEffect, useMemo, useRef, useState } from "preact/hooks"
import type { NewTask, TypeDefinition } from "../../server/Views.ts"
import { call } from "../client.ts"
import * as Form from "../form.ts"
import * as Format from "../format.ts"
import * as Json from "../json.ts"
import { Empty, Panel, Trouble } from "../parts/Panel.tsx"
import { Field, JsonField } from "../parts/PayloadForm.tsx"
import { say } from "../parts/Toasts.tsx"
import { useResource } from "../refresh.ts"
import { go, href, usePlace } from "../router.ts"
import { useMayAct, useSession } from "../session.ts"
import { idOf } from "../tasks.ts"

/** What the form begins with. */
interface Draft {
  readonly type: string
  readonly payload: Json.Json | undefined
  /** Where the server has masked the payload: these texts are empty in it. */
  readonly masked: ReadonlyArray<string>
  readonly options: Partial<Record<OptionName, string>>
}

export const Enqueue = () => {
  const { query } = usePlace()
  const session = useSession()
  const mayAct = useMayAct()
  const types = useResource("types", (client) => client.overview.types(), { every: 60_000 })
  const from = idOf(query.get("from") ?? "")
  const [draft, setDraft] = useState<Draft>()
  const [missing, setMissing] = useState<string>()

  useEffect(() => {
    const blank = { type: query.get("type") ?? "", payload: undefined, masked: [], options: {} }
    if (from === undefined) return setDraft(blank)
    setDraft(undefined)
    let left = false
    void call((client) => client.tasks.get({ params: { id: from } })).then((answer) => {
      if (left) return
      if (!answer.ok) return setMissing(answer.problem.message)
      const { maxAttempts, omitted, payload, priority, queue, tag, timeoutMs, type, userId } = answer.value
      if (omitted.some(({ value }) => value === "payload")) {
        return setMissing("Its payload is too large to be edited here.")
      }
      const given = payload as Json.Json
      setDraft({
        type,
        payload: Json.unmasked(given),
        masked: Json.maskedPaths(given),
        options: {
          queue,
          priority: String(priority),
          maxAttempts: String(maxAttempts),
          ...(timeoutMs === null ? {} : { timeoutMs: String(timeoutMs) }),
          ...(tag === null ? {} : { tag }),
          ...(userId === null ? {} : { userId })
        }
      })
    })
    return () => {
      left = true
    }
  }, [from, query.get("type")])

  if (session !== undefined && !mayAct) {
    return (
      <Trouble
        title="This server only shows"
        message="WORKER_HTTP_READONLY is set, or readOnly of an embedded dashboard: tasks are enqueued elsewhere."
      />
    )
  }
  if (missing !== undefined) return <Trouble title={`Task ${from} cannot be edited`} message={missing} />
  if (types.value === undefined) {
    return types.problem === undefined
      ? <Empty>…</Empty>
      : <Trouble title="The types cannot be read" message={types.problem.message} again={types.reload} />
  }
  return (
    <>
      <h1>
        {from === undefined ? "Enqueue a task" : (
          <>
            Run task <a href={href(`/tasks/${from}`)}>{String(from)}</a> with other values
          </>
        )}
      </h1>
      {draft === undefined
        ? <Empty>…</Empty>
        : <TaskForm key={`${from}:${draft.type}`} draft={draft} types={types.value} />}
    </>
  )
}

const optionFields = [
  ["queue", "Queue", "text"],
  ["priority", "Priority", "integer"],
  ["maxAttempts", "Attempts at most", "integer"],
  ["timeoutMs", "Timeout in ms", "integer"],
  ["delayMs", "Delay in ms", "integer"],
  ["runAt", "Not before", "time"],
  ["tag", "Tag", "text"],
  ["userId", "User", "text"],
  ["uniqueKey", "Unique key", "text"]
] as const

type OptionName = typeof optionFields[number][0]

const TaskForm = ({ draft, types }: { readonly draft: Draft; readonly types: ReadonlyArray<TypeDefinition> }) => {
  const [type, setType] = useState(draft.type)
  const definition = types.find((each) => each.type === type)
  const field = useMemo(
    () => definition?.payload == null ? undefined : Form.fromSchema(definition.payload as Json.Json),
    [definition]
  )
  const begin = draft.type === type && draft.payload !== undefined
    ? draft.payload
    : field === undefined
    ? undefined
    : Form.initial(field)
  const [edited, setEdited] = useState<{ readonly type: string; readonly payload: Json.Json | undefined }>()
  const payload = edited?.type === type ? edited.payload : begin
  const setPayload = (payload: Json.Json | undefined) => setEdited({ type, payload })
  const formable = field !== undefined && field.kind !== "raw" &&
    (payload === undefined || Form.covers(field, payload) || edited?.type === type)
  const [wantRaw, setWantRaw] = useState(false)
  const raw = wantRaw || !formable
  const [options, setOptions] = useState(draft.options)
  const [problem, setProblem] = useState<string>()
  const [busy, setBusy] = useState(false)
  const place = useRef<HTMLParagraphElement>(null)

  const refuse = (message: string) => {
    setProblem(message)
    requestAnimationFrame(() => place.current?.scrollIntoView({ block: "nearest" }))
  }

  const submit = async (form: HTMLFormElement) => {
    const changed = payload === undefined ? undefined : Json.inexactIn(payload, "")
    if (changed !== undefined) return refuse(`${changed}.`)
    const broken = form.querySelector<HTMLElement>("textarea.code[aria-invalid=true]")
    if (broken !== null) {
      broken.focus()
      return refuse("What is not JSON cannot be sent: correct it first.")
    }
    const unfilled = draft.type === type && payload !== undefined ? Json.unfilled(payload, draft.masked) : []
    if (unfilled.length > 0) return refuse(`Fill in what the server masks: ${unfilled.join(", ")}.`)
    const given = optionsOf(options)
    if (typeof given === "string") return refuse(given)
    setBusy(true)
    setProblem(undefined)
    const answer = await call((client) =>
      client.tasks.enqueue({
        payload: { ...given, type: type.trim(), ...(payload === undefined ? {} : { payload: payload as Schema.Json }) }
      })
    )
    setBusy(false)
    if (!answer.ok) return refuse(answer.problem.message)
    const { duplicate, id } = answer.value
    say(
      duplicate ? `Nothing was enqueued: task ${id} holds the unique key.` : `Task ${id} is enqueued.`,
      duplicate ? "plain" : "good"
    )
    go(href(`/tasks/${id}`))
  }

  return (
    <form
      class="enqueue"
      onSubmit={(event) => {
        event.preventDefault()
        void submit(event.currentTarget)
      }}
    >
      <Panel
        title="Task"
        aside={field !== undefined && field.kind !== "raw" && (
          <div class="segments" role="group" aria-label="How the payload is edited">
            <button
              type="button"
              aria-pressed={!raw}
              disabled={!formable}
              onClick={() =>
                setWantRaw(false)}
            >
              Form
            </button>
            <button
              type="button"
              aria-pressed={raw}
              onClick={() =>
                setWantRaw(true)}
            >
              JSON
            </button>
          </div>
        )}
      >
        <div class="property">
          <div class="label">
            <label for="type">Type</label>
          </div>
          <input
            id="type"
            type="text"
            list="types"
            required
            autocomplete="off"
            autocapitalize="off"
            spellcheck={false}
            placeholder={types.length === 0 ? "a type" : types.map(({ type }) => type).slice(0, 3).join(", ")}
            value={type}
            onInput={(event) => setType(event.currentTarget.value)}
          />
          <datalist id="types">{types.map(({ type }) => <option key={type} value={type} />)}</datalist>
        </div>
        {type !== "" && definition === undefined && (
          <p class="note">
            No worker of this process handles this type: its payload is not checked here, and another worker has to run
            it.
          </p>
        )}
        {draft.masked.length > 0 && draft.type === type && (
          <p class="note">
            The server masks these values, so they are empty here and have to be filled in: {draft.masked.join(", ")}
          </p>
        )}
        {type === ""
          ? <TypeList types={types} choose={setType} />
          : (
            <fieldset>
              <legend>Payload</legend>
              {raw || field === undefined
                ? (
                  <JsonField
                    key={`${type}:json`}
                    label="Payload as JSON"
                    value={payload}
                    rows={8}
                    change={setPayload}
                  />
                )
                : <Field key={`${type}:form`} label="Payload" field={field} value={payload} change={setPayload} />}
            </fieldset>
          )}
      </Panel>
      <Panel title="Options">
        <div class="options">
          {optionFields.map(([name, label, kind]) => (
            <div key={name} class="property">
              <div class="label">
                <label for={`option-${name}`}>{label}</label>
              </div>
              <input
                id={`option-${name}`}
                {...kind === "time" ? { type: "datetime-local" as const, step: 1 } : { type: "text" as const }}
                inputMode={kind === "integer" ? "numeric" : "text"}
                autocomplete="off"
                placeholder={placeholder(name, definition)}
                value={options[name] ?? ""}
                onInput={(event) => setOptions({ ...options, [name]: event.currentTarget.value })}
              />
            </div>
          ))}
        </div>
      </Panel>
      <div class="row end">
        <p class="problem" role="alert" ref={place}>{problem ?? ""}</p>
        <button type="submit" class="primary" disabled={busy || type.trim() === ""}>Enqueue</button>
      </div>
    </form>
  )
}

const TypeList = (
  { choose, types }: { readonly types: ReadonlyArray<TypeDefinition>; readonly choose: (type: string) => void }
) => (
  <ul class="types">
    {types.map(({ maxAttempts, queue, type }) => (
      <li key={type}>
        <button type="button" onClick={() => choose(type)}>
          <b>{type}</b>
          <span class="muted">{`queue ${queue}, ${Format.plural(maxAttempts, "attempt")} at most`}</span>
        </button>
      </li>
    ))}
  </ul>
)

const placeholder = (name: OptionName, definition: TypeDefinition | undefined): string => {
  switch (name) {
    case "queue":
      return definition?.queue ?? "default"
    case "priority":
      return String(definition?.priority ?? 0)
    case "maxAttempts":
      return definition === undefined ? "" : String(definition.maxAttempts)
    case "timeoutMs":
      return definition?.timeoutMs == null ? "" : String(definition.timeoutMs)
    case "delayMs":
      return "0"
    default:
      return ""
  }
}

type Options = Omit<NewTask, "type" | "payload" | "metadata">

/** What was typed as the server wants it, or what is wrong with it. */
const optionsOf = (options: Draft["options"]): Options | string => {
  const result: { -readonly [name in keyof Options]: Options[name] } = {}
  for (const [name, label, kind] of optionFields) {
    const text = options[name]?.trim() ?? ""
    if (text === "") continue
    if (kind === "integer") {
      const value = Number(text)
      if (!Number.isSafeInteger(value)) return `${label} is “${text}”, but must be an integer.`
      result[name] = value
    } else if (kind === "time") {
      const at = new Date(text)
      if (Number.isNaN(at.getTime())) return `${label} is “${text}”, which is no time.`
      result[name] = DateTime.makeUnsafe(at)
    } else {
      result[name] = text
    }
  }
  return result.runAt !== undefined && result.delayMs !== undefined
    ? "A task has a delay or a time before which it does not run, not both."
    : result
}

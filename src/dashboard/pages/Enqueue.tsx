import * as DateTime from "effect/DateTime"
import type * as Schema from "effect/Schema"
import { useEffect, useMemo, useRef, useState } from "preact/hooks"
import type { NewTask, TypeDefinition } from "../../server/Views.ts"
import { call } from "../client.ts"
import * as Form from "../form.ts"
import * as Format from "../format.ts"
import * as Json from "../json.ts"
import { Empty, Panel, Trouble } from "../parts/Panel.tsx"
import { Field, JsonField, Refused } from "../parts/PayloadForm.tsx"
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
  ["timeoutMs", "Timeout", "span"],
  ["delayMs", "Delay", "span"],
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
  const [places, setPlaces] = useState<Form.Problems>(new Map())
  const [busy, setBusy] = useState(false)
  const place = useRef<HTMLParagraphElement>(null)

  const form = useRef<HTMLFormElement>(null)
  const changed = (path: string) => {
    if ([...places.keys()].some((at) => at === path || at.startsWith(`${path}/`))) {
      setPlaces(new Map([...places].filter(([at]) => at !== path && !at.startsWith(`${path}/`))))
    }
  }

  /** Says what is wrong where it is; what has no place on the page is said beside the button. */
  const refuse = (message: string, at: Form.Problems = new Map()) => {
    setPlaces(new Map([...at].map(([path, message]) => [path, Form.plainly(message)])))
    setProblem(undefined)
    requestAnimationFrame(() => {
      const said = form.current?.querySelector("[role=alert].problem:not(:empty)")
      if (said == null) {
        setProblem(Form.plainly(message).slice(0, longest))
        return requestAnimationFrame(() => place.current?.scrollIntoView({ block: "nearest" }))
      }
      const input = form.current!.querySelector<HTMLElement>(":is(input, textarea, select)[aria-invalid=true]")
      input?.focus({ preventScroll: true })
      ;(input ?? said).scrollIntoView({ block: "center" })
    })
  }

  const submit = async (form: HTMLFormElement) => {
    const broken = form.querySelector<HTMLElement>("textarea[data-broken=true]")
    const changed = payload === undefined ? undefined : Json.inexactIn(payload, "")
    if (changed !== undefined) return refuse(`${changed}.`)
    // What is wrong with it stands below it.
    if (broken !== null) return broken.focus()
    const unfilled = draft.type === type && payload !== undefined ? Json.unfilled(payload, draft.masked) : []
    if (unfilled.length > 0) {
      return refuse(
        `Fill in what the server masks: ${unfilled.join(", ")}.`,
        new Map(unfilled.map((path) => [`payload/${path.replaceAll(/[[.]/g, "/").replaceAll("]", "")}`, masked]))
      )
    }
    const given = optionsOf(options)
    if (given instanceof Map) return refuse("", given)
    setBusy(true)
    setProblem(undefined)
    setPlaces(new Map())
    const answer = await call((client) =>
      client.tasks.enqueue({
        payload: {
          ...given as Options,
          type: type.trim(),
          ...(payload === undefined ? {} : { payload: payload as Schema.Json })
        }
      })
    )
    setBusy(false)
    if (!answer.ok) return refuse(answer.problem.message, answer.problem.places)
    const { duplicate, id } = answer.value
    say(
      duplicate ? `Nothing was enqueued: task ${id} holds the unique key.` : `Task ${id} is enqueued.`,
      duplicate ? "plain" : "good"
    )
    go(href(`/tasks/${id}`))
  }

  return (
    <form
      ref={form}
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
            <Refused.Provider value={{ problems: places, changed }}>
              <fieldset>
                <legend>Payload</legend>
                {raw || field === undefined
                  ? (
                    <JsonField
                      key={`${type}:json`}
                      label="Payload as JSON"
                      path="payload"
                      value={payload}
                      rows={8}
                      change={setPayload}
                    />
                  )
                  : (
                    <Field
                      key={`${type}:form`}
                      label="Payload"
                      path="payload"
                      field={field}
                      value={payload}
                      change={setPayload}
                    />
                  )}
              </fieldset>
            </Refused.Provider>
          )}
      </Panel>
      <Panel title="Options">
        <div class="options">
          {optionFields.map(([name, label, kind]) => (
            <div key={name} class="property">
              <div class="label">
                <label for={`option-${name}`}>{label}</label>
                {kind === "time" && <span class="muted hint">{`your time, ${Format.zone(zoned(options[name]))}`}</span>}
              </div>
              {kind === "span"
                ? (
                  <Span
                    id={`option-${name}`}
                    label={label}
                    invalid={places.has(name)}
                    value={options[name] ?? ""}
                    otherwise={name === "timeoutMs" ? definition?.timeoutMs ?? undefined : 0}
                    change={(value) => {
                      changed(name)
                      setOptions({ ...options, [name]: value })
                    }}
                  />
                )
                : (
                  <input
                    id={`option-${name}`}
                    {...kind === "time" ? { type: "datetime-local" as const, step: 1 } : { type: "text" as const }}
                    inputMode={kind === "integer" ? "numeric" : "text"}
                    autocomplete="off"
                    aria-invalid={places.has(name)}
                    placeholder={placeholder(name, definition)}
                    value={options[name] ?? ""}
                    onInput={(event) => {
                      changed(name)
                      setOptions({ ...options, [name]: event.currentTarget.value })
                    }}
                  />
                )}
              {places.has(name) && <p class="problem" role="alert">{places.get(name)}</p>}
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
    default:
      return ""
  }
}

type Options = Omit<NewTask, "type" | "payload" | "metadata">

/** What was typed as the server wants it, or what is wrong with each. */
const optionsOf = (options: Draft["options"]): Options | Map<string, string> => {
  const result: { -readonly [name in keyof Options]: Options[name] } = {}
  const wrong = new Map<string, string>()
  for (const [name, , kind] of optionFields) {
    const text = options[name]?.trim() ?? ""
    if (text === "") continue
    if (kind === "integer" || kind === "span") {
      const value = Number(text)
      if (!Number.isSafeInteger(value)) {
        wrong.set(name, `“${text}” is not ${kind === "span" ? "a number" : "an integer"}.`)
      } else result[name] = value
    } else if (kind === "time") {
      const at = new Date(text)
      if (Number.isNaN(at.getTime())) wrong.set(name, `“${text}” is not a time.`)
      else result[name] = DateTime.makeUnsafe(at)
    } else {
      result[name] = text
    }
  }
  if (result.runAt !== undefined && result.delayMs !== undefined) {
    wrong.set("runAt", "A task has a delay or a time before which it does not run, not both.")
  }
  return wrong.size > 0 ? wrong : result
}

/** The moment that is meant, or now: a zone's offset changes over the year. */
const zoned = (text: string | undefined) => {
  const at = new Date(text ?? "")
  return Number.isNaN(at.getTime()) ? new Date() : at
}

const longest = 500
const masked = "The server masks it: fill it in."

/** A span of time, a number with its unit; the value is in milliseconds, or what was typed where that is no number. */
const Span = (
  { change, id, invalid, label, otherwise, value }: {
    readonly id: string
    readonly label: string
    readonly invalid: boolean
    readonly value: string
    /** What it is when nothing is typed. */
    readonly otherwise: number | undefined
    readonly change: (value: string) => void
  }
) => {
  const [unit, setUnit] = useState(() => Format.unitOf(Number(value) || otherwise || 0))
  const [text, setText] = useState(value === "" ? "" : String(Number(value) / unit))
  const tell = (text: string, unit: number) => {
    const millis = Math.round(Number(text) * unit)
    change(text.trim() === "" ? "" : Number.isSafeInteger(millis) ? String(millis) : text)
  }
  return (
    <div class="span">
      <input
        id={id}
        type="text"
        inputMode="decimal"
        autocomplete="off"
        aria-invalid={invalid}
        placeholder={otherwise === undefined ? "" : String(otherwise / unit)}
        value={text}
        onInput={({ currentTarget: { value } }) => {
          setText(value)
          tell(value, unit)
        }}
      />
      <select
        aria-label={`Unit of the ${label.toLowerCase()}`}
        value={String(unit)}
        onChange={({ currentTarget: { value } }) => {
          setUnit(Number(value))
          tell(text, Number(value))
        }}
      >
        {Format.units.map(([name, millis]) => <option key={name} value={String(millis)}>{name}</option>)}
      </select>
    </div>
  )
}

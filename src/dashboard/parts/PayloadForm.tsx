import { createContext } from "preact"
import { useContext, useId, useState } from "preact/hooks"
import * as Form from "../form.ts"
import * as Json from "../json.ts"

interface Props<F extends Form.Field = Form.Field> {
  readonly field: F
  readonly value: Json.Json | undefined
  readonly change: (value: Json.Json | undefined) => void
  /** Where the value is in the request. */
  readonly path: string
}

/** What was refused, and where; told until the value there is changed. */
export const Refused = createContext<{
  readonly problems: Form.Problems
  readonly changed: (path: string) => void
}>({ problems: new Map(), changed: () => {} })

type Of<Kind extends Form.Field["kind"]> = Props<Extract<Form.Field, { readonly kind: Kind }>>

/** A field by its kind, with what is wrong with it. The value is what is sent: undefined is left out. */
export const Field = (given: Props & Named) => {
  const { changed, problems } = useContext(Refused)
  const problem = problems.get(given.path)
  const props = {
    ...given,
    change: (value: Json.Json | undefined) => {
      changed(given.path)
      given.change(value)
    }
  }
  if (props.field.kind === "raw") return <JsonField {...props} />
  return (
    <>
      {byKind({ ...props, invalid: problem !== undefined })}
      {problem !== undefined && <p class="problem" role="alert">{problem}</p>}
    </>
  )
}

const byKind = (props: Props & Named) => {
  const { field } = props
  switch (field.kind) {
    case "text":
      return <TextField {...props} field={field} />
    case "number":
      return <NumberField {...props} field={field} />
    case "boolean":
      return <BooleanField {...props} field={field} />
    case "choice":
      return <ChoiceField {...props} field={field} />
    case "list":
      return <ListField {...props} field={field} />
    case "object":
      return <ObjectField {...props} field={field} />
    case "union":
      return <UnionField {...props} field={field} />
    case "raw":
      return null
  }
}

/** An id for a label elsewhere, or the name itself. */
type Named = { readonly id?: string; readonly label?: string; readonly invalid?: boolean }

const TextField = ({ change, field, id, invalid = false, label, path, value }: Of<"text"> & Named) => {
  const given = typeof value === "string" ? value : ""
  // A box stays one while it is typed into.
  const [inLines, setInLines] = useState(() => Form.hasLines(field, path.replace(/\/\d+$/, ""), given))
  return inLines
    ? (
      <textarea
        id={id}
        aria-label={label}
        aria-invalid={invalid}
        class="grow"
        rows={Math.min(10, Math.max(2, given.split("\n").length, Math.ceil(given.length / 90)))}
        value={given}
        onInput={(event) => change(event.currentTarget.value)}
      />
    )
    : (
      <input
        id={id}
        aria-label={label}
        aria-invalid={invalid}
        {...field.secret ? { type: "password" as const } : { type: "text" as const }}
        autocomplete="off"
        value={given}
        onInput={(event) => change(event.currentTarget.value)}
        onPaste={(event) => {
          const pasted = event.clipboardData?.getData("text") ?? ""
          if (field.secret || !pasted.includes("\n")) return
          // One line would lose the others.
          event.preventDefault()
          const { selectionEnd, selectionStart } = event.currentTarget
          setInLines(true)
          change(given.slice(0, selectionStart ?? given.length) + pasted + given.slice(selectionEnd ?? given.length))
        }}
      />
    )
}

const NumberField = ({ change, field, id, invalid = false, label, value }: Of<"number"> & Named) => {
  const [text, setText] = useState(value === undefined ? "" : String(value))
  const problem = numberProblem(text, field.integer)
  return (
    <>
      <input
        id={id}
        aria-label={label}
        type="text"
        inputMode={field.integer ? "numeric" : "decimal"}
        autocomplete="off"
        aria-invalid={invalid || problem !== undefined}
        value={text}
        onInput={({ currentTarget }) => {
          setText(currentTarget.value)
          const typed = currentTarget.value.trim()
          // What is no number is sent as it is, and the server says what it wants.
          change(typed === "" ? undefined : numberProblem(typed, field.integer) === undefined ? Number(typed) : typed)
        }}
      />
      {problem !== undefined && <p class="problem">{problem}</p>}
    </>
  )
}

const numberProblem = (text: string, integer: boolean): string | undefined => {
  if (text.trim() === "") return undefined
  const value = Number(text)
  if (Number.isNaN(value) || !/^[\d.eE+-]+$/.test(text.trim())) return "This is not a number."
  if (integer && !Number.isInteger(value)) return "This is not an integer."
  return Json.isExact(text.trim()) ? undefined : `This would become ${value}.`
}

const BooleanField = ({ change, id, invalid = false, label, value }: Of<"boolean"> & Named) => (
  <input
    id={id}
    aria-label={label}
    aria-invalid={invalid}
    type="checkbox"
    checked={value === true}
    onChange={(event) => change(event.currentTarget.checked)}
  />
)

const ChoiceField = ({ change, field: { options }, id, invalid = false, label, value }: Of<"choice"> & Named) => (
  <select
    id={id}
    aria-label={label}
    aria-invalid={invalid}
    disabled={options.length === 1}
    value={String(Math.max(0, options.findIndex((option) => JSON.stringify(option) === JSON.stringify(value))))}
    onChange={(event) => change(options[Number(event.currentTarget.value)])}
  >
    {options.map((option, index) => (
      <option key={index} value={String(index)}>{typeof option === "string" ? option : JSON.stringify(option)}</option>
    ))}
  </select>
)

const ListField = ({ change, field: { item }, path, value }: Of<"list">) => {
  const items = Array.isArray(value) ? value as ReadonlyArray<Json.Json> : []
  // What an item is called stays with it when another one goes.
  const [keys, setKeys] = useState(() => items.map((_, index) => index))
  const [next, setNext] = useState(items.length)
  return (
    <div class="list-field">
      {items.map((each, index) => (
        <div key={keys[index] ?? index} class="item">
          <div>
            <Field
              field={item}
              label={`Item ${index + 1}`}
              path={`${path}/${index}`}
              value={each}
              change={(changed) => change(items.map((before, at) => at === index ? changed ?? null : before))}
            />
          </div>
          <button
            type="button"
            class="plain"
            aria-label={`Remove item ${index + 1}`}
            onClick={() => {
              setKeys(keys.filter((_, at) => at !== index))
              change(items.filter((_, at) => at !== index))
            }}
          >
            ×
          </button>
        </div>
      ))}
      <button
        type="button"
        class="small"
        onClick={() => {
          setKeys([...keys, next])
          setNext(next + 1)
          change([...items, Form.initial(item) ?? null])
        }}
      >
        Add
      </button>
    </div>
  )
}

const ObjectField = ({ change, field: { properties }, path, value }: Of<"object">) => {
  const object = Json.isObject(value) ? value : {}
  const set = (name: string, member: Json.Json | undefined) => {
    const { [name]: _, ...others } = object
    change(member === undefined ? others : { ...object, [name]: member })
  }
  return (
    <div class="object-field">
      {properties.length === 0 && <p class="muted">It has no fields.</p>}
      {properties.map((property) => (
        <Property
          key={property.name}
          property={property}
          path={`${path}/${property.name}`}
          value={object[property.name]}
          change={(value) => set(property.name, value)}
        />
      ))}
    </div>
  )
}

const Property = (
  { change, path, property: { field, name, required }, value }: {
    readonly property: Form.Property
    readonly path: string
    readonly value: Json.Json | undefined
    readonly change: (value: Json.Json | undefined) => void
  }
) => {
  const id = useId()
  // Empty is left out, where that is enough to say it.
  const simple = field.kind === "text" || field.kind === "number"
  const [given, setGiven] = useState(required || simple || value !== undefined)
  const pattern = field.kind === "text" ? field.pattern : undefined
  const nested = field.kind === "object" || field.kind === "list" || field.kind === "union"
  const hint = field.kind === "text" || field.kind === "number" ? field.hint : undefined
  const label = (
    <>
      <span class="name">{field.title ?? name}</span>
      {field.title !== undefined && field.title !== name && <code class="muted">{name}</code>}
    </>
  )
  return (
    <div
      class={`property ${nested ? "nested" : ""}`}
      role={nested ? "group" : undefined}
      aria-label={nested ? name : undefined}
    >
      <div class="label">
        {nested ? <span>{label}</span> : <label for={id}>{label}</label>}
        {hint !== undefined && <span class="muted hint" title={pattern}>{hint}</span>}
        {!required && simple && <span class="muted hint">optional</span>}
        {!required && !simple && (
          <label class="optional">
            <input
              type="checkbox"
              checked={given}
              onChange={({ currentTarget: { checked } }) => {
                setGiven(checked)
                change(checked ? Form.initial(field) : undefined)
              }}
            />
            <span class="muted">{given ? "given" : "left out"}</span>
          </label>
        )}
      </div>
      {given && (
        <Field
          id={id}
          field={field}
          path={path}
          value={value}
          change={(value) => change(simple && !required && value === "" ? undefined : value)}
        />
      )}
      {field.description !== undefined && <p class="muted">{field.description}</p>}
    </div>
  )
}

const UnionField = ({ change, field: { options }, path, value }: Of<"union">) => {
  const [chosen, setChosen] = useState(() => Math.max(0, options.findIndex(({ field }) => Form.fits(field, value))))
  const option = options[chosen]
  return (
    <div class="union-field">
      <div class="segments" role="group" aria-label="Alternatives">
        {options.map(({ field, label }, index) => (
          <button
            key={index}
            type="button"
            aria-pressed={index === chosen}
            onClick={() => {
              setChosen(index)
              change(Form.initial(field))
            }}
          >
            {label}
          </button>
        ))}
      </div>
      {option !== undefined && (
        <Field key={chosen} field={option.field} label={option.label} path={path} value={value} change={change} />
      )}
    </div>
  )
}

/** JSON as text; what is not JSON is not sent. */
export const JsonField = (
  { change, id, label, path, rows = 4, value }: Omit<Props, "field"> & Named & {
    readonly rows?: number
  }
) => {
  const { changed, problems } = useContext(Refused)
  const refused = Form.problemsBelow(problems, path)
  const [text, setText] = useState(value === undefined ? "" : Json.pretty(value))
  const [problem, setProblem] = useState(() => value === undefined ? undefined : Json.inexactIn(value, ""))
  return (
    <>
      <textarea
        id={id}
        aria-label={label}
        class="code"
        rows={Math.max(rows, Math.min(24, text.split("\n").length))}
        spellcheck={false}
        autocapitalize="off"
        aria-invalid={problem !== undefined || refused.length > 0}
        data-broken={problem !== undefined}
        value={text}
        onInput={({ currentTarget }) => {
          setText(currentTarget.value)
          changed(path)
          const parsed = currentTarget.value.trim() === ""
            ? { ok: true as const, value: undefined }
            : Json.parse(currentTarget.value)
          setProblem(parsed.ok ? undefined : parsed.message)
          if (parsed.ok) change(parsed.value)
        }}
      />
      {problem !== undefined && <p class="problem" role="status">{problem}</p>}
      {refused.map((each) => <p key={each} class="problem" role="alert">{each}</p>)}
    </>
  )
}

import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks"
import * as Waiting from "../../internal/Waiting.ts"
import type { TaskDetail } from "../../server/Views.ts"
import type * as Task from "../../Task.ts"
import * as Format from "../format.ts"
import type { Json } from "../json.ts"
import { type Follow, useEvents } from "../live.ts"
import { type Event, isClosing, Pace, type Text, Transcript } from "../transcript.ts"
import { Badge } from "./Badge.tsx"
import { Ago, Moment } from "./Elapsed.tsx"
import { JsonTree } from "./JsonTree.tsx"
import { LongText } from "./LongText.tsx"
import { Empty, Panel } from "./Panel.tsx"

const states: Readonly<Record<Follow, string>> = {
  connecting: "connecting",
  open: "live",
  waiting: "reconnecting",
  ended: "ended"
}

interface Props {
  readonly id: Task.TaskId
  readonly story: string
  readonly task: TaskDetail
  /** Something closed a claim: what else is shown of the task has changed. */
  readonly closed: () => void
}

/** What the task says while it runs. */
export const StreamView = ({ closed, id, story, task }: Props) => {
  const transcript = useRef(new Transcript())
  const pace = useRef(new Pace())
  const frame = useRef<number>(undefined)
  const [, draw] = useState(0)
  const state = useEvents(id, story, (events) => {
    const { current } = transcript
    const before = current.text?.epoch === events.at(-1)?.id.epoch ? current.text?.length ?? 0 : 0
    for (const event of events) current.receive(event)
    pace.current.add(performance.now(), Math.max(0, (current.text?.length ?? 0) - before))
    if (events.some(({ event }) => isClosing(event))) closed()
    // Once for all that comes between two pictures.
    frame.current ??= requestAnimationFrame(() => {
      frame.current = undefined
      draw((turn) => turn + 1)
    })
  })
  useEffect(() => () => cancelAnimationFrame(frame.current ?? 0), [])
  useEffect(() => {
    if (state === "open") pace.current.open(performance.now())
  }, [state])
  const processing = task.status === "processing"
  const { closed: end, count, dropped, earlier, events, progress, text, usage } = transcript.current
  // A box that will be filled has its height from the start, and keeps it.
  const tall = useRef(false)
  tall.current ||= (story === "open" && task.waiting.length === 0) || text !== undefined ||
    task.attemptsEnded.at(-1)?.outcome === "done"
  const speed = state === "open" && processing ? pace.current.perSecond(performance.now()) : undefined

  return (
    <Panel
      title="Stream"
      class="stream"
      aside={
        <span class={`follow ${state} ${task.status}`} role="status">
          <i class="dot" />
          {state === "open" && task.status === "queued"
            ? task.attempts > 0 ? "waiting for the next attempt" : "not started"
            : state === "ended" || end === undefined || isFinal(end)
            ? states[state]
            : "waiting for the next attempt"}
        </span>
      }
    >
      <div class="meters num">
        <span>{Format.plural(count, "event")}</span>
        {text !== undefined && <span>{Format.plural(text.length, "character")}</span>}
        {speed !== undefined && speed > 0 && (
          <span title="A token of English text has four characters on average">
            {`${Format.rate(speed)} characters/s ≈ ${Format.rate(speed / 4)} tokens/s`}
          </span>
        )}
        {usage !== undefined && (
          <span>
            {`${Format.count(usage.inputTokens)} tokens in, ${Format.count(usage.outputTokens)} out`}
            {usage.model !== undefined && <span class="muted">· {usage.model}</span>}
          </span>
        )}
      </div>
      <div class={`said ${tall.current ? "tall" : ""}`}>
        {task.status === "queued" && <Why task={task} />}
        {progress !== undefined && (
          <div class="progress">
            <progress max={1} value={progress.fraction} aria-label="Progress" />
            <span class="num">{`${Math.round(progress.fraction * 100)} %`}</span>
            <span class="muted">{progress.message === undefined ? null : <LongText text={progress.message} />}</span>
          </div>
        )}
        {earlier.map((text, index) => (
          <details key={String(text.epoch)}>
            <summary>
              {`What an earlier attempt said (${index + 1} of ${earlier.length}, ${
                Format.plural(text.length, "character")
              })`}
            </summary>
            <Growing key={String(text.epoch)} text={text} length={text.length} />
          </details>
        ))}
        {earlier.length > 0 && text !== undefined && <p class="over">It started over.</p>}
        {text !== undefined
          ? <Growing key={String(text.epoch)} text={text} length={text.length} />
          : count === 0
          ? (
            <Empty>
              {state === "connecting"
                ? "…"
                : processing
                ? "It has not said anything yet."
                : task.status === "queued"
                ? ""
                : "It has said nothing."}
            </Empty>
          )
          : null}
        <EventList events={events} dropped={dropped} />
      </div>
      <span class="offscreen" aria-live="polite">
        {end === undefined ? "" : `Attempt ${task.attempts}: ${end.event}`}
      </span>
    </Panel>
  )
}

/** Why nothing is said. */
const Why = ({ task: { runAt, waiting } }: { readonly task: TaskDetail }) => (
  <ul class="why">
    {waiting.length === 0 && <li>It is about to run.</li>}
    {waiting.map((reason) => (
      <li key={reason._tag}>
        {reason._tag === "Later" && reason.inMs < Waiting.neverMillis
          ? (
            <>
              It is due <Ago at={runAt} />, at <Moment at={runAt} />.
            </>
          )
          : `${Waiting.words(reason)}${reason._tag === "Unclaimed" ? "" : "."}`}
      </li>
    ))}
  </ul>
)

const isFinal = ({ event }: Event) => event === "done" || event === "error" || event === "cancelled"

/**
 * Text that grows at its end. Only what is new touches the page: a line is an element of its own, which is laid out when
 * it is seen, so that a megabyte is no burden. It stays at its end unless the reader has scrolled up.
 */
const Growing = ({ length, text }: { readonly text: Text; readonly length: number }) => {
  const box = useRef<HTMLDivElement>(null)
  const written = useRef(0)
  const atEnd = useRef(true)
  const top = useRef(0)
  const height = useRef(0)
  const touchedAt = useRef(-Infinity)
  const touch = () => {
    touchedAt.current = performance.now()
  }

  const stay = () => {
    if (box.current === null || !atEnd.current) return
    box.current.scrollTop = box.current.scrollHeight
    height.current = box.current.scrollHeight
  }

  useLayoutEffect(() => {
    const { current } = box
    if (current === null) return
    const fresh = text.pieces.slice(written.current).join("")
    written.current = text.pieces.length
    if (fresh === "") return
    append(current, fresh)
    stay()
  }, [length])
  // A line has its height once it is about to be seen: the end moves by itself.
  useEffect(() => {
    const { current } = box
    if (current === null) return
    current.addEventListener("contentvisibilityautostatechange", stay)
    // What comes below it takes of its height.
    const resized = new ResizeObserver(stay)
    resized.observe(current)
    return () => resized.disconnect()
  }, [])

  return (
    <div
      class="text"
      ref={box}
      tabIndex={0}
      role="log"
      aria-live="off"
      aria-label="Text of the task"
      onWheel={touch}
      onTouchMove={touch}
      onPointerDown={touch}
      onKeyDown={touch}
      onScroll={({ currentTarget: box }) => {
        // Where no line has got its height, only the reader moves it: also by a search, or a scrollbar that is held.
        const moved = box.scrollHeight === height.current || performance.now() - touchedAt.current < 1000
        const up = moved && box.scrollTop < top.current
        top.current = box.scrollTop
        if (box.scrollHeight - box.scrollTop - box.clientHeight < 24) atEnd.current = true
        else if (up) atEnd.current = false
        else stay()
      }}
    />
  )
}

const longestLine = 4000

const append = (box: HTMLElement, fresh: string) => {
  const lines = fresh.split("\n")
  let line = box.lastElementChild
  const begin = () => {
    line = document.createElement("p")
    box.append(line)
    return line
  }
  lines.forEach((piece, index) => {
    if (line === null || index > 0) line = begin()
    if (piece === "") return
    const last = line.lastChild
    // A node that has grown long is left alone.
    if (last instanceof globalThis.Text && last.length < longestLine) last.appendData(piece)
    else line.append(piece)
  })
}

const most = 200

const EventList = ({ dropped, events }: { readonly events: ReadonlyArray<Event>; readonly dropped: number }) => {
  const [shown, setShown] = useState(most)
  if (events.length === 0) return null
  const hidden = Math.max(0, events.length - shown)
  return (
    <details class="events" open={events.length <= 20}>
      <summary>{`${Format.plural(events.length + dropped, "event")} beside text and progress`}</summary>
      {dropped > 0 && <p class="muted">{`The first ${Format.count(dropped)} are not kept here.`}</p>}
      {hidden > 0 && (
        <button type="button" class="link" onClick={() => setShown(shown + most)}>{`${hidden} earlier ones`}</button>
      )}
      <ol>
        {events.slice(hidden).map(({ data, event, id }) => (
          <li key={`${id.epoch}-${id.seq}`}>
            <span class="num muted position">{`${id.epoch}-${id.seq}`}</span>
            {isClosing(event) ? <Badge state={event as "done"} /> : <b>{event}</b>}
            <Told event={event} data={data} />
          </li>
        ))}
      </ol>
    </details>
  )
}

const Told = ({ data, event }: { readonly event: string; readonly data: Json }) => (
  <JsonTree label={`data of ${event}`} value={data} />
)

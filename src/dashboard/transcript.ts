/** What a task has said so far, gathered from its events. */
import { isObject, type Json, type JsonObject } from "./json.ts"

export interface Event {
  readonly id: { readonly epoch: bigint; readonly seq: number }
  readonly event: string
  readonly data: Json
}

/** The text of one attempt. */
export interface Text {
  readonly epoch: bigint
  /** Pieces in the order they came; they only grow. */
  readonly pieces: Array<string>
  length: number
}

export interface Usage {
  readonly inputTokens: number
  readonly outputTokens: number
  readonly totalTokens: number
  readonly model: string | undefined
}

const closing = new Set(["done", "error", "retry", "released", "cancelled"])
export const isClosing = (event: string) => closing.has(event)

/** At most this many events are kept for the list. */
export const kept = 1000

export class Transcript {
  /** The text of the attempt that spoke last. */
  text: Text | undefined
  /** The texts of attempts before it, oldest first. */
  readonly earlier: Array<Text> = []
  progress: { readonly fraction: number; readonly message: string | undefined } | undefined
  usage: Usage | undefined
  /** Everything but text and progress, oldest first. */
  readonly events: Array<Event> = []
  dropped = 0
  /** How the latest claim was closed; undefined while one is open, or before any. */
  closed: Event | undefined
  count = 0
  private epoch: bigint | undefined
  private last: Event["id"] | undefined

  receive(event: Event): void {
    // A connection that was lost may tell again what it had told.
    if (this.last !== undefined && !isAfter(event.id, this.last)) return
    this.last = event.id
    this.count++
    const closes = isClosing(event.event)
    // The epoch of whoever closes a task that nobody holds is no attempt.
    const speaks = !closes || event.event === "done" || event.event === "retry"
    if (speaks && event.id.epoch !== this.epoch) this.begin(event.id.epoch)
    this.closed = closes ? event : undefined
    const data = isObject(event.data) ? event.data : {}
    switch (event.event) {
      case "text_delta":
        return this.say(event.id.epoch, typeof data.text === "string" ? data.text : "")
      case "progress":
        if (typeof data.fraction === "number") {
          this.progress = { fraction: data.fraction, message: textOf(data.message) }
        }
        return
      case "usage":
        this.usage = add(this.usage, data)
    }
    this.events.push(event)
    if (this.events.length <= kept) return
    this.events.shift()
    this.dropped++
  }

  private begin(epoch: bigint) {
    this.epoch = epoch
    if (this.text !== undefined) this.earlier.push(this.text)
    this.text = undefined
    this.progress = undefined
    this.usage = undefined
  }

  private say(epoch: bigint, piece: string) {
    this.text ??= { epoch, pieces: [], length: 0 }
    this.text.pieces.push(piece)
    this.text.length += piece.length
  }
}

const isAfter = (a: Event["id"], b: Event["id"]) => a.epoch > b.epoch || (a.epoch === b.epoch && a.seq > b.seq)

const textOf = (value: Json | undefined) => typeof value === "string" ? value : undefined

const add = (usage: Usage | undefined, data: JsonObject): Usage => ({
  inputTokens: (usage?.inputTokens ?? 0) + Number(data.inputTokens ?? 0),
  outputTokens: (usage?.outputTokens ?? 0) + Number(data.outputTokens ?? 0),
  totalTokens: (usage?.totalTokens ?? 0) + Number(data.totalTokens ?? 0),
  model: textOf(data.model) ?? usage?.model
})

/** How many characters came within the last seconds. */
export class Pace {
  private readonly marks: Array<{ readonly at: number; readonly length: number }> = []
  private from = -Infinity

  private readonly windowMs: number

  constructor(windowMs = 3000) {
    this.windowMs = windowMs
  }

  /** A stream opened: what comes within its first two seconds has mostly been said before. */
  open(at: number): void {
    this.marks.length = 0
    this.from = at + 2000
  }

  add(at: number, length: number): void {
    if (at < this.from) return
    this.marks.push({ at, length })
    this.forget(at)
  }

  /** Characters a second; undefined while too little has come to say. */
  perSecond(now: number): number | undefined {
    this.forget(now)
    const first = this.marks[0]
    if (first === undefined || now - first.at < 500) return undefined
    return this.marks.slice(1).reduce((sum, { length }) => sum + length, 0) / ((now - first.at) / 1000)
  }

  private forget(now: number) {
    while (this.marks[0] !== undefined && now - this.marks[0].at > this.windowMs) this.marks.shift()
  }
}

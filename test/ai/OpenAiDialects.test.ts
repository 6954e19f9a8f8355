/** The ways in which endpoints answer, through a worker: what is whole is paid for once, and what is cut is never whole. */
import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import * as AiTasks from "../../src/ai/AiTasks.ts"
import * as OpenAiModel from "../../src/ai/OpenAiModel.ts"
import * as ModelServer from "../support/ModelServer.ts"
import * as Harness from "../support/WorkerHarness.ts"

const { begin, chunk, counted, done, error, event, finish, text, usage } = ModelServer

type Answer = (exchange: ModelServer.Exchange) => Effect.Effect<void>

/** `completed` with text, reason and total of tokens, or the tag of the first failure and whether it is tried again. */
type Expected =
  | readonly [text: string, reason: string, tokens: number | null]
  | readonly [tag: string, retried: boolean]

const sends = (...pieces: ReadonlyArray<string | Uint8Array>): Answer => (exchange) =>
  Effect.andThen(exchange.send(...pieces), exchange.end)
const labelled = (type: string, ...pieces: ReadonlyArray<string>): Answer => (exchange) =>
  Effect.andThen(exchange.open({ "content-type": type }), sends(...pieces)(exchange))
const cuts = (...pieces: ReadonlyArray<string>): Answer => (exchange) =>
  Effect.andThen(exchange.send(...pieces), exchange.cut)
/** And says nothing more. */
const holds = (...pieces: ReadonlyArray<string>): Answer => (exchange) => exchange.send(...pieces)
const json = (body: unknown): Answer => (exchange) => exchange.reply(200, body)

const a = "The capital of France "
const b = "is Paris."
const whole = [a + b, "stop", 18] as const
const uncounted = [a + b, "stop", null] as const
const unsaid = [a + b, "unknown", null] as const
const cut = ["MalformedOutput", true] as const
const down = ["ModelUnavailable", true] as const

const tokens = (count: number) => ({ usage: { prompt_tokens: 11, completion_tokens: count } })
/** A gateway's chunk that says each time that the model has stopped, and what it has used. */
const each = (content: string, count = 7) => chunk({ content }, "stop", tokens(count))
const thinks = (content: string) => chunk({ reasoning_content: content }, "stop", tokens(1))
const message = (content: string, more: object = {}) => ({
  id: "chatcmpl-test",
  object: "chat.completion",
  model: ModelServer.model,
  choices: [{ index: 0, message: { role: "assistant", content }, finish_reason: "stop", ...more }],
  usage: counted
})
const bare = (content: string, reason: string | null = null) => `${chunk({ content }, reason).slice(6).trim()}\n`
const lines = (...pieces: ReadonlyArray<string>) => pieces.join("").replaceAll("\n\n", "\n")

const dialects: Readonly<Record<string, readonly [Answer, Expected]>> = {
  "reason and usage with every chunk": [sends(each(a, 3), each(b), done), whole],
  "a thought first, with reason and usage": [sends(thinks("hm"), each(a, 3), each(b), done), whole],
  "an empty chunk first, with reason and usage": [sends(each("", 0), each(a, 3), each(b), done), whole],
  "text after a chunk of its own with reason and usage": [
    sends(text(a), chunk({}, "stop", tokens(3)), text(b), chunk({}, "stop", tokens(7)), done),
    whole
  ],
  "reason and usage with every chunk, without [DONE]": [sends(each(a, 3), each(b)), whole],
  "reason and usage with every chunk, cut": [cuts(each(a, 3), each(b)), down],
  "reason and usage with every chunk, cut after the first": [cuts(each(a, 3)), down],
  "reason and usage with every chunk, and no more after the second": [holds(each(a, 3), each(b)), down],
  "reason and usage with every chunk, and then an error": [sends(each(a), event(error("oops", { code: 500 }))), down],
  "usage first": [sends(chunk({}, null, tokens(7)), text(a), text(b), finish(), done), whole],
  "usage with every chunk": [sends(chunk({ content: a }, null, tokens(1)), text(b), finish(), usage, done), whole],
  "usage twice": [sends(text(a), text(b), finish(), event({ choices: [], ...tokens(1) }), usage, done), whole],
  "usage that is empty in the end": [
    sends(text(a), text(b), finish(), usage, event({ choices: [], usage: {} })),
    whole
  ],
  "usage before the reason": [sends(text(a), text(b), usage, finish(), done), whole],
  "usage in the choice": [
    sends(text(a), event({ choices: [{ delta: { content: b }, finish_reason: "stop", usage: counted }] }), done),
    whole
  ],
  "two reasons": [sends(text(a), text(b), finish("length"), finish("stop"), usage, done), whole],
  "two reasons, the other way round": [sends(text(a), finish("stop"), finish("length"), done), [a, "length", null]],
  "a reason that is empty": [sends(chunk({ content: a }, ""), chunk({ content: b }, ""), finish(), usage, done), whole],
  "a reason that is empty, cut": [sends(chunk({ content: a }, "")), cut],
  "a reason in capitals": [sends(text(a), finish("MAX_TOKENS"), done), [a, "length", null]],
  "a reason that objects know": [sends(text(a), finish("constructor"), done), [a, "other", null]],
  "no reason, but [DONE]": [sends(begin, text(a), text(b), done), unsaid],
  "no reason, but usage and [DONE]": [sends(text(a), text(b), usage, done), [a + b, "unknown", 18]],
  "no reason and no text, but [DONE]": [sends(begin, done), cut],
  "thoughts alone and [DONE]": [sends(chunk({ reasoning: "hm" }), done), cut],
  "no reason and no [DONE]": [sends(begin, text(a), text(b)), cut],
  "no reason, but usage, and no [DONE]": [sends(text(a), text(b), usage), cut],
  "a reason, and the end": [sends(text(a), text(b), finish()), uncounted],
  "a reason with the last text, and the end": [sends(text(a), chunk({ content: b }, "stop")), uncounted],
  "a reason, and a cut": [cuts(text(a), text(b), finish()), uncounted],
  "a reason with the last text, usage, and a cut": [cuts(text(a), chunk({ content: b }, "stop"), usage), whole],
  "text, and a cut": [cuts(text(a)), down],
  "half a chunk, and the end": [sends(text(a), text(b).slice(0, 50)), cut],
  "half a chunk after the reason, and the end": [sends(text(a), text(b), finish(), usage.slice(0, 50)), uncounted],
  "a chunk that is lost before [DONE]": [sends(text(a), `${text(b).slice(0, 50)}\n`, done), cut],
  "a chunk that is lost before [DONE], held open": [holds(text(a), `${text(b).slice(0, 50)}\ndata: [DONE]`), cut],
  "[DONE] without a blank line": [sends(text(a), text(b), finish(), "data: [DONE]"), uncounted],
  "[DONE] without a blank line, held open": [holds(text(a), text(b), "data: [DONE]\n"), unsaid],
  "[DONE] without the end of its line, held open": [holds(text(a), text(b), "data:[DONE]"), unsaid],
  "[DONE] alone": [sends(text(a), text(b), "[DONE]\n"), unsaid],
  "no blank lines": [sends(lines(text(a), text(b), finish(), usage, done)), whole],
  "no spaces": [sends(...[text(a), text(b), finish(), done].map((_) => _.replace("data: ", "data:"))), uncounted],
  "CRLF": [sends(...[text(a), text(b), finish(), usage, done].map((_) => _.replaceAll("\n", "\r\n"))), whole],
  "CRLF, cut in between": [
    sends(...[text(a), text(b), usage, done].flatMap((_) => [_.replace("\n\n", "\r"), "\n\r", "\n"])),
    [a + b, "unknown", 18]
  ],
  "CR": [sends(...[text(a), text(b), finish(), usage, done].map((_) => _.replaceAll("\n", "\r"))), whole],
  "a byte order mark": [sends(`\uFEFF${text(a)}`, text(b), finish(), usage, done), whole],
  "comments, ids and names": [
    sends(
      ": PROCESSING\n\n",
      `id: 1\nevent: message\n${text(a)}`,
      ":\n\n",
      `retry: 5\n${text(b)}`,
      finish(),
      usage,
      done
    ),
    whole
  ],
  "data in several lines": [
    sends(
      text(a),
      `data: ${JSON.stringify(JSON.parse(text(b).slice(6)), null, 1).replaceAll("\n", "\ndata: ")}\n\n`,
      done
    ),
    unsaid
  ],
  "a message in place of a delta": [
    sends(event({ choices: [{ message: { content: a } }] }), event({ choices: [{ message: { content: b } }] }), done),
    [a + b, "unknown", null]
  ],
  "a message that repeats the deltas": [
    sends(text(a), text(b), event({ choices: [{ message: { content: a + b }, finish_reason: "stop" }] }), usage, done),
    whole
  ],
  "a message beside each delta": [
    sends(
      event({ choices: [{ delta: { content: a }, message: { content: a } }] }),
      event({ choices: [{ delta: { content: b }, message: { content: a + b }, finish_reason: "stop" }] }),
      done
    ),
    uncounted
  ],
  "a whole answer as an event": [sends(event(message(a + b)), done), whole],
  "empty choices": [
    sends(event({ choices: [] }), text(a), event({ choices: [null] }), text(b), finish(), done),
    uncounted
  ],
  "a stream labelled JSON": [labelled("application/json", text(a), text(b), finish(), usage, done), whole],
  "a stream labelled a page": [labelled("text/html", text(a), text(b), finish(), usage, done), whole],
  "a stream labelled text, cut": [labelled("text/plain", text(a)), cut],
  "a stream without a label": [labelled("", text(a), text(b), finish(), done), uncounted],
  "a whole answer": [json(message(a + b)), whole],
  "a whole answer without a reason": [json(message(a + b, { finish_reason: null })), [a + b, "unknown", 18]],
  "a whole answer that was cut off": [json(message(a, { finish_reason: "length" })), [a, "length", 18]],
  "a whole answer labelled as a stream": [sends("\n", JSON.stringify(message(a + b))), whole],
  "a whole answer in many lines": [sends(...JSON.stringify(message(a + b), null, 2).split(/(?<=\n)/)), whole],
  "a whole answer in pieces, held open": [holds(...(JSON.stringify(message(a + b)).match(/.{1,40}/g) ?? [])), whole],
  "a whole answer as a list of chunks": [
    json([text(a), text(b), finish(), usage].map((_) => JSON.parse(_.slice(6)))),
    whole
  ],
  "half of a whole answer": [sends(JSON.stringify(message(a + b)).slice(0, 150)), cut],
  "half of a whole answer, and a cut": [cuts(JSON.stringify(message(a + b)).slice(0, 150)), down],
  "half of a whole answer, and no more": [holds(JSON.stringify(message(a + b)).slice(0, 150)), down],
  "a whole answer that is withheld": [json(message("", { finish_reason: "content_filter" })), [
    "ContentFiltered",
    false
  ]],
  "a chunk a line": [labelled("application/x-ndjson", bare(a), bare(b, "stop")), uncounted],
  "a chunk a line, and [DONE]": [labelled("application/x-ndjson", bare(a), bare(b), "[DONE]"), unsaid],
  "a chunk a line, cut": [labelled("application/x-ndjson", bare(a), bare(b)), cut],
  "JSON without an answer": [json({ choices: [] }), cut],
  "JSON of another API": [json({ object: "response", output: [] }), ["InvalidRequest", false]],
  "an error with 200": [json(error("slow down", { code: "rate_limit_exceeded" })), ["RateLimited", true]],
  "an error with 200, of another form": [json({ object: "error", message: "no", code: 404 }), [
    "InvalidRequest",
    false
  ]],
  "an error with 200, as only a message": [json({ code: 401, msg: "invalid token" }), ["AuthenticationFailed", false]],
  "an error with 200, labelled a stream": [sends(JSON.stringify(error("no"))), ["InvalidRequest", false]],
  "no such path, with 200": [json({ error: "Unexpected endpoint or method. (POST /x)" }), ["InvalidRequest", false]],
  "an error behind the text": [sends(text(a), event(error("no", { code: 503 }))), down],
  "an error behind the text, bare": [sends(text(a), JSON.stringify(error("no", { code: 503 }))), down],
  "an error of vLLM's older form": [
    sends(text(a), event({ object: "error", message: "no", type: "BadRequestError", code: 400 }), done),
    ["InvalidRequest", false]
  ],
  "an error of llama.cpp's older form": [
    sends(text(a), "error: {\"code\":401,\"message\":\"no\",\"type\":\"authentication_error\"}\n\n"),
    ["AuthenticationFailed", false]
  ],
  "errors that say nothing": [
    sends(
      chunk({ content: a }, null, { error: { message: "", code: null } }),
      chunk({ content: b }, null, { error: {} }),
      done
    ),
    unsaid
  ],
  "events of a gateway's own": [sends("event: ping\ndata: {\"message\":\"wait\"}\n\n", text(a), text(b), done), unsaid],
  "an error that is no JSON": [sends(text(a), "event: error\ndata: boom\n\n"), down],
  "a page": [labelled("text/html", "<!doctype html>", "<p>"), ["InvalidRequest", false]],
  "a page, labelled a stream": [sends("\n<html>"), ["InvalidRequest", false]],
  "usage, and no more": [holds(text(a), text(b), finish(), usage), whole],
  "everything in one chunk, and no more": [holds(each(a + b)), whole],
  "a reason and usage without text, and no more": [holds(begin, finish(), usage), down],
  "text, and no more": [holds(text(a)), down],
  "thoughts and a reason, and no more": [holds(thinks("hm")), down]
}

describe("an endpoint that answers with", () => {
  it.live("what others do not, is understood", () =>
    Effect.gen(function*() {
      const server = yield* ModelServer.make((exchange) => dialects[exchange.body.messages[0].content]![0](exchange))
      yield* Harness.launch(
        AiTasks.AiTasks,
        Layer.provide(AiTasks.layer, OpenAiModel.layer({ baseUrl: server.url, model: "m", idleTimeout: "1 second" })),
        { lease: "30 seconds", concurrency: 200 }
      )
      const sql = yield* PgClient.PgClient
      const prompts = Object.keys(dialects)
      yield* sql`
        insert into spindle.tasks (type, payload)
        select 'ai_response', jsonb_build_object('prompt', prompt) from unnest(${prompts}::text[]) prompt`
      const closed = sql<{ readonly prompt: string; readonly type: string; readonly data: any; readonly result: any }>`
        select payload ->> 'prompt' as prompt, e.type, e.data, t.result from spindle.tasks t
          join spindle.task_events e on e.task_id = t.id and e.epoch = 1 and e.type in ('done', 'error', 'retry')`
      const rows = yield* Harness.eventually("the ends", closed, ({ length }) => length === prompts.length)

      const actual = Object.fromEntries(rows.map(({ data, prompt, result, type }) => [
        prompt,
        type === "done"
          ? [result.text, result.finishReason, result.usage?.totalTokens ?? null]
          : [data.tag, type === "retry"]
      ]))
      assert.deepStrictEqual(
        actual,
        Object.fromEntries(Object.entries(dialects).map(([prompt, [, expected]]) => [prompt, [...expected]]))
      )
      const streamed = yield* sql<{ readonly prompt: string }>`
        select payload ->> 'prompt' as prompt from spindle.tasks t where status = 'completed' and (
          attempts <> 1
          or result ->> 'text' <> (select string_agg(data ->> 'text', '' order by seq) from spindle.task_events
                                    where task_id = t.id and type = 'text_delta')
          or (result ->> 'usage' is not null)::int <> (select count(*) from spindle.task_events
                                    where task_id = t.id and type = 'usage'))`
      assert.deepStrictEqual(streamed, [])
    }).pipe(Harness.onDatabase))
})

// Mistakes, and what `tsc` must say of the line below each; test/TaskGroupMistakes.test.ts reads both.
import { Data, Effect, Schema } from "effect"
import * as Task from "../../../src/Task.ts"
import * as TaskEvent from "../../../src/TaskEvent.ts"
import * as TaskGroup from "../../../src/TaskGroup.ts"

class Busy extends Schema.TaggedError<Busy>()("Busy", { seconds: Schema.Int }) {}
class Lost extends Data.TaggedError("Lost")<{}> {}
const Answer = Task.make("chat:answer", {
  payload: { prompt: Schema.String },
  success: Schema.Struct({ text: Schema.String }),
  error: Busy,
  event: TaskEvent.TextDelta,
  retry: { on: { Busy: "retry" } }
})
const Mail = Task.make("send_email", { payload: { to: Schema.String } })
const group = TaskGroup.make(Answer, Mail)
const send = { send_email: ({ to }: { readonly to: string }) => Effect.log(to) }
const fetchText = (prompt: string) => Effect.tryPromise(() => Promise.resolve(prompt))

// a name that is misspelt

export const plain = group.toLayer({
  ...send,
  // the group has no task "chat:anwser", and there is no handler of "chat:answer"
  "chat:anwser": () => Effect.succeed({ text: "" })
})
export const traced = group.of({
  // the group has no task "chat:anwser", and there is no handler of "chat:answer"
  "chat:anwser": Effect.fnUntraced(function*(_payload: unknown) {
    yield* Effect.void
    return { text: "" }
  }),
  send_email: Effect.fnUntraced(function*({ to }) {
    yield* Effect.log(to)
  })
})
export const built = group.toLayer(Effect.gen(function*() {
  yield* Effect.void
  return group.of({
    ...send,
    // the group has no task "chat:anwser", and there is no handler of "chat:answer"
    "chat:anwser": Effect.fnUntraced(function*() {
      yield* Effect.void
      return { text: "" }
    })
  })
}))
// Property '"chat:answer"' is missing
export const returned = group.toLayer(Effect.succeed({ ...send, "chat:anwser": () => Effect.succeed({ text: "" }) }))
// Property '"chat:answer"' is missing
export const missing = group.of(send)
// is missing the following properties from type '{ readonly "chat:answer": unknown; readonly send_email: unknown; }'
export const empty = group.toLayer({})

// an error that the task does not declare

export const untyped = group.of({
  ...send,
  // the task does not declare the error UnknownError: name it in the task's "error", or catch it
  "chat:answer": Effect.fnUntraced(function*({ prompt }, { emit }) {
    const text = yield* fetchText(prompt)
    yield* emit({ _tag: "text_delta", text })
    return { text }
  })
})
export const tagged = group.toLayer({
  ...send,
  // the task does not declare the error Lost: name it in the task's "error", or catch it
  "chat:answer": ({ prompt }) => prompt === "" ? new Lost() : new Busy({ seconds: 1 })
})
export const untagged = group.of({
  ...send,
  // the handler fails with an error that has no _tag, which a task cannot declare: catch it, or map it to one that has
  "chat:answer": () => Effect.fail("boom" as const)
})
// the task does not declare the error Lost: name it in the task's "error", or catch it
export const one = group.toLayerHandler("send_email", () => new Lost())

// a handler that is no Effect

export const promise = group.of({
  ...send,
  // a handler returns an Effect, and this one a Promise: call what is asynchronous with Effect.tryPromise
  "chat:answer": async ({ prompt }, { attempt }) => ({ text: await Promise.resolve(`${prompt} ${attempt}`) })
})
export const either = group.toLayer({
  ...send,
  // a handler returns an Effect, and this one a Promise: call what is asynchronous with Effect.tryPromise
  "chat:answer": ({ prompt }) => prompt === "" ? Effect.succeed({ text: "" }) : Promise.resolve({ text: prompt })
})
// a handler returns an Effect, and this one a Promise: call what is asynchronous with Effect.tryPromise
export const onePromise = group.toLayerHandler("send_email", async ({ to }) => void await Promise.resolve(to))
export const generator = group.of({
  ...send,
  // a handler returns an Effect, and this one a generator: wrap the function in Effect.fnUntraced
  "chat:answer": function*() {
    yield* Effect.void
    return { text: "" }
  }
})
export const value = group.of({
  ...send,
  // a handler returns an Effect: a plain value is Effect.succeed(value)
  "chat:answer": ({ prompt }) => ({ text: prompt })
})

// what TypeScript says well by itself

export const result = group.of({
  ...send,
  // Property 'text' is missing in type '{ txt: string; }'
  "chat:answer": () => Effect.succeed({ txt: "" })
})
export const payload = group.of({
  ...send,
  // Property 'question' is missing in type '{ readonly prompt: string; }'
  "chat:answer": ({ question }: { readonly question: string }) => Effect.succeed({ text: question })
})

/**
 * A language model behind OpenAI's Chat Completions API: OpenAI itself, and every endpoint that speaks the same protocol,
 * such as Ollama, vLLM, llama.cpp or OpenRouter.
 *
 * @since 0.1.0
 */
import * as AiError from "effect/ai/AiError"
import * as LanguageModel from "effect/ai/LanguageModel"
import * as OpenAiStructuredOutput from "effect/ai/OpenAiStructuredOutput"
import type * as Response from "effect/ai/Response"
import type * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Config from "effect/Config"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type * as OpenAI from "openai"
import * as Variable from "../config/Variable.ts"
import * as OpenAiAnswer from "./internal/OpenAiAnswer.ts"
import * as OpenAiError from "./internal/OpenAiError.ts"
import * as OpenAiRequest from "./internal/OpenAiRequest.ts"
import * as OpenAiStream from "./internal/OpenAiStream.ts"
import { ModelSettings } from "./ModelSettings.ts"

/**
 * Where the model is.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  /** Default: none is sent, which suits endpoints of one's own. */
  readonly apiKey?: Redacted.Redacted | undefined
  /** With the version, as in `http://localhost:11434/v1`. Default: `openAiUrl`. */
  readonly baseUrl?: string | undefined
  /**
   * The model of requests that name none in their `ModelSettings`. Default at OpenAI: `gpt-6-luna`. Another endpoint has
   * models of its own, so there a request without a model fails.
   */
  readonly model?: string | undefined
  /**
   * How long a provider may send nothing once its answer has begun. An answer that has a text and a reason is complete then;
   * any other fails with `InternalProviderError`. Default: 60 seconds.
   */
  readonly idleTimeout?: Duration.Input | undefined
}

/**
 * Where OpenAI serves.
 *
 * @category constants
 * @since 0.1.0
 */
export const openAiUrl = "https://api.openai.com/v1"

/**
 * The options that the environment names: `OPENAI_API_KEY`, `OPENAI_BASE_URL`, `OPENAI_MODEL` and `AI_IDLE_TIMEOUT`. None
 * if neither a key nor an endpoint is set.
 *
 * @category config
 * @since 0.1.0
 */
export const config: Config.Config<Option.Option<Options>> = Config.map(
  Config.all({
    apiKey: Config.mapEffect(Config.option(Config.Redacted("OPENAI_API_KEY")), (given) => {
      const key = Option.filter(given, (key) => Redacted.value(key) !== "")
      return Option.exists(key, (key) => !/^[!-~]+$/.test(Redacted.value(key)))
        ? Effect.fail(
          Variable.malformed(
            "OPENAI_API_KEY",
            "a text that no request can carry",
            "letters, digits and signs, no spaces"
          )
        )
        : Effect.succeed(key)
    }),
    baseUrl: Config.mapEffect(Config.option(Config.String("OPENAI_BASE_URL")), (given) => {
      const url = Option.filter(given, (text) => text !== "")
      return Option.exists(url, (text) => !isBaseUrl(text))
        ? Effect.fail(Variable.malformed("OPENAI_BASE_URL", withoutSecrets(url.pipe(Option.getOrThrow)), allowedUrl))
        : Effect.succeed(url)
    }),
    model: Variable.make("OPENAI_MODEL", "the name of a model", (text) => Option.some(text)),
    idleTimeout: Variable.make(
      "AI_IDLE_TIMEOUT",
      "a whole number of milliseconds from 100 to 86400000",
      Variable.wholeNumber(100, 86_400_000)
    )
  }),
  ({ apiKey, baseUrl, idleTimeout, model }) =>
    Option.isNone(apiKey) && Option.isNone(baseUrl) ? Option.none() : Option.some({
      apiKey: Option.getOrUndefined(apiKey),
      baseUrl: Option.getOrUndefined(baseUrl),
      model: Option.getOrUndefined(model),
      idleTimeout: Option.getOrUndefined(idleTimeout)
    })
)

const allowedUrl = `like ${openAiUrl}, without a user or a password`

const isBaseUrl = (text: string) => {
  const url = URL.parse(text)
  return url !== null && /^https?:$/.test(url.protocol) && url.username === "" && url.password === "" && url.hash === ""
}

const withoutSecrets = (text: string) =>
  text.includes("@") ? "a text with an @" : JSON.stringify(text.replace(/[?#].*$/s, ""))

/**
 * The host that answers, and the model it is asked for. Undefined where each request has to name one.
 *
 * @category accessors
 * @since 0.1.0
 */
export const providerOf = ({ baseUrl = openAiUrl, model }: Options): {
  readonly host: string
  readonly model: string | undefined
} => {
  const { host, hostname } = new URL(baseUrl)
  return { host, model: OpenAiRequest.model(hostname, model)?.model }
}

/**
 * A language model at OpenAI or a compatible endpoint. It reads `ModelSettings` at each request.
 *
 * - OpenAI's default is its model for many small tasks: cheap, quick, with structured output, and the successor that
 *   OpenAI names for its earlier small models. It is asked not to think before it writes (`reasoning_effort: none`): then
 *   it takes a `temperature`, the first word comes at once, and `maxOutputTokens` are all spent on the answer. A model that
 *   somebody has named thinks as much as it does by default; most of OpenAI's then refuse a `temperature`.
 * - Every answer is streamed, also to `generateText`. Interrupting a request closes its connection at once.
 * - The package's own retries are off, and so is every time limit but that of connecting and `idleTimeout`: how long an
 *   answer may take is for the task's timeout to say.
 * - The body of an answer is read as what it is, a stream of events or JSON, whatever its label. It ends with `[DONE]`, or
 *   with the connection after a `finish_reason`; a connection that ends without either has broken off.
 * - `maxOutputTokens` is sent as `max_completion_tokens` to OpenAI and Azure, whose newer models take nothing else, and
 *   as `max_tokens` to all others, where every server knows it. An endpoint that asks for the new name gets it at once.
 * - A JSON document is asked for with `response_format: json_schema`; `strict` is set if the schema keeps OpenAI's rules
 *   for it. An endpoint that refuses is asked again at once for any JSON document, with the schema in a system message;
 *   one that refuses this too, for text. One that refuses `stream_options` is asked again without.
 * - Text and images can be sent, and tools of one's own, which the model then calls.
 * - A refusal is no answer: it fails with `ContentPolicyError`. What a model thinks comes as `reasoning` parts.
 *
 * Fails with `AiError` only. A key is never part of one, nor is anything that looks like a key.
 *
 * @category layers
 * @since 0.1.0
 * @example
 * ```ts
 * import { Layer } from "effect"
 * import * as AiTasks from "effect-spindle/ai/AiTasks"
 * import * as OpenAiModel from "effect-spindle/ai/OpenAiModel"
 *
 * const Local = OpenAiModel.layer({ baseUrl: "http://localhost:11434/v1", model: "llama3.2" })
 * const AiTasksLive = AiTasks.layer.pipe(Layer.provide(Local))
 * ```
 */
export const layer = (options: Options): Layer.Layer<LanguageModel.LanguageModel> =>
  Layer.effect(LanguageModel.LanguageModel, make(options))

/**
 * The same with the options that the environment names.
 *
 * @category layers
 * @since 0.1.0
 */
export const layerConfig: Layer.Layer<LanguageModel.LanguageModel, Config.ConfigError> = Layer.unwrap(
  Effect.flatMap(
    config,
    Option.match({
      onNone: () =>
        Effect.fail(
          Variable.malformed("OPENAI_API_KEY", "not set", "a key, unless OPENAI_BASE_URL is an endpoint without")
        ),
      onSome: (options) => Effect.succeed(layer(options))
    })
  )
)

const make = Effect.fnUntraced(function*(options: Options) {
  const { baseUrl = openAiUrl, model: chosen } = options
  const idleMillis = Duration.toMillis(options.idleTimeout ?? "60 seconds")
  if (!isBaseUrl(baseUrl)) {
    return yield* Effect.die(new Error(`baseUrl is ${withoutSecrets(baseUrl)}, but must be ${allowedUrl}`))
  }
  const { hostname, origin, pathname } = new URL(baseUrl)
  const apiKey = options.apiKey === undefined ? undefined : Redacted.value(options.apiKey)
  const request: OpenAiError.Request = { url: `${origin}${pathname.replace(/\/$/, "")}/chat/completions`, apiKey }
  const client = yield* makeClient(baseUrl, apiKey)

  const bodyOf = Effect.fnUntraced(function*(options: LanguageModel.ProviderOptions) {
    const settings = yield* ModelSettings
    const model = OpenAiRequest.model(hostname, settings.model ?? chosen)
    if (model === undefined) {
      return yield* new AiError.InvalidRequestError({
        parameter: "model",
        description: `No model is named, and ${hostname} has no default: name one in the request or in OPENAI_MODEL`
      })
    }
    const body: OpenAI.OpenAI.ChatCompletionCreateParamsStreaming = {
      ...model,
      messages: yield* OpenAiRequest.messages(options.prompt),
      ...yield* OpenAiRequest.tools(options),
      stream: true,
      stream_options: { include_usage: true },
      ...(settings.maxOutputTokens !== undefined && OpenAiRequest.tokenLimit(hostname, settings.maxOutputTokens))
    }
    const format = yield* OpenAiRequest.documentOf(options.responseFormat, settings)
    if (format !== undefined) body.response_format = format
    if (settings.temperature !== undefined) body.temperature = settings.temperature
    return body
  })

  const ask = (
    body: OpenAI.OpenAI.ChatCompletionCreateParamsStreaming,
    signal: AbortSignal
  ): Effect.Effect<globalThis.Response, Cause.UnknownError> =>
    Effect.catch(Effect.tryPromise(() => client.chat.completions.create(body, { signal }).asResponse()), (error) => {
      const other = OpenAiRequest.adapted(body, OpenAiError.refusalOf(error.cause))
      return other === undefined ? Effect.fail(error) : ask(other, signal)
    })

  const failed = ({ cause }: Cause.UnknownError): Effect.Effect<never, AiError.AiErrorReason> =>
    Effect.flatMap(Clock.currentTimeMillis, (now) => Effect.fail(OpenAiError.reasonOf(cause, request, now)))

  const answer = (
    options: LanguageModel.ProviderOptions,
    method: string
  ): Stream.Stream<Response.StreamPartEncoded, AiError.AiError> =>
    Stream.unwrap(Effect.gen(function*() {
      const body = yield* bodyOf(options)
      // The scope is that of the stream: where it closes early, the request ends.
      const aborter = yield* Effect.acquireRelease(
        Effect.sync(() => new AbortController()),
        (aborter) => Effect.sync(() => aborter.abort())
      )
      const response = yield* Effect.catch(ask(body, aborter.signal), failed)
      const { end, hasBegun, isWhole, read } = OpenAiAnswer.reader()
      const clock = yield* Clock.Clock
      const now = () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
      const begun = Latch.makeUnsafe()
      let heardAt = 0
      let isSilent = false
      // One timer for an answer and not one for each piece: it looks at when the last piece came.
      const watch = Effect.gen(function*() {
        yield* begun.await
        while (now() < heardAt + idleMillis) yield* Effect.sleep(heardAt + idleMillis - now())
        isSilent = true
        aborter.abort()
      })
      yield* Effect.forkScoped(watch)
      const heard = (isOpen: boolean) => {
        heardAt = now()
        if (isOpen) begun.openUnsafe()
      }
      return OpenAiStream.chunks(response, request.url, heard).pipe(
        Stream.mapAccumArray(() => undefined, (_, chunks) => {
          const parts = chunks.flatMap(read)
          if (hasBegun()) begun.openUnsafe()
          return [undefined, parts]
        }),
        Stream.catch((error) => {
          // A connection that breaks after the last word has broken nothing.
          if (isWhole(isSilent ? "silent" : "broken")) return Stream.empty
          if (isSilent) return Stream.fail(silence(idleMillis))
          return error._tag === "UnknownError" ? Stream.fromEffect(failed(error)) : Stream.fail(error)
        }),
        Stream.concat(end)
      )
    })).pipe(Stream.mapError((reason) => AiError.make({ module: "OpenAiModel", method, reason })))

  return yield* LanguageModel.make({
    codecTransformer: OpenAiStructuredOutput.toCodecOpenAI,
    streamText: (options) => answer(options, "streamText"),
    generateText: (options) => Effect.map(Stream.runCollect(answer(options, "generateText")), whole)
  })
})

const silence = (idleMillis: number) =>
  new AiError.InternalProviderError({
    description: `nothing came from the provider for ${
      Duration.format(Duration.millis(idleMillis))
    } (AI_IDLE_TIMEOUT), and the answer has no end`
  })

const makeClient = Effect.fnUntraced(function*(
  baseURL: string,
  apiKey: string | undefined
): Effect.fn.Return<OpenAI.OpenAI, never, Scope.Scope> {
  // Only who asks a model pays for loading these.
  const [{ OpenAI }, Undici] = yield* Effect.promise(() =>
    Promise.all([import("openai"), import("@effect/platform-node/Undici")])
  )
  const dispatcher = yield* Effect.acquireRelease(
    // With HTTP/1.1 the connection of a request is its own, and closing it disturbs no other.
    Effect.sync(() => new Undici.Agent({ allowH2: false, headersTimeout: 0, bodyTimeout: 0 })),
    (agent) => Effect.promise(() => agent.destroy())
  )
  const defaultHeaders = apiKey === undefined ? { Authorization: null } : {}
  const client = new OpenAI({
    baseURL,
    // The package insists on a key; without one, the header is left out.
    apiKey: apiKey ?? "none",
    adminAPIKey: null,
    // Unless they are set, the package takes them from the environment, whoever the endpoint belongs to.
    organization: null,
    project: null,
    maxRetries: 0,
    timeout: 2 ** 31 - 1,
    logLevel: "off",
    // The same fetch in other types: those of the platform, and of the package that it comes from.
    fetch: (url, init) => Undici.fetch(url as any, { ...init as any, dispatcher }) as any
  })
  // Here, and not among the options, as those are joined by OPENAI_CUSTOM_HEADERS.
  client["_options"].defaultHeaders = defaultHeaders
  return client
})

const whole = (parts: ReadonlyArray<Response.StreamPartEncoded>): Array<Response.PartEncoded> => {
  const content: Array<Response.PartEncoded> = []
  for (const part of parts) {
    switch (part.type) {
      case "response-metadata":
      case "tool-call":
      case "finish": {
        content.push(part)
        break
      }
      case "text-delta":
      case "reasoning-delta": {
        const type = part.type === "text-delta" ? "text" : "reasoning"
        const last = content.at(-1)
        const text = last?.type === type ? last.text + part.delta : part.delta
        content.splice(last?.type === type ? -1 : content.length, 1, { type, text })
      }
    }
  }
  return content
}

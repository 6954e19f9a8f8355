/**
 * What a task asks of the language model beside the prompt.
 *
 * Effect's `LanguageModel` has no portable way to choose a model or a
 * temperature for one request, so the AI tasks put them into this reference and
 * a provider's layer reads it at each request. A provider that does not know
 * the reference answers with its own settings.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import type * as JsonSchema from "effect/JsonSchema"

/**
 * Settings of one request. What is absent is the provider's to choose.
 *
 * @category models
 * @since 0.1.0
 */
export interface Settings {
  /** The provider's name of the model. */
  readonly model?: string | undefined
  /** How freely the model chooses its words, from 0 to 2. */
  readonly temperature?: number | undefined
  /** After how many tokens the answer is cut off, with `finishReason` `length`. */
  readonly maxOutputTokens?: number | undefined
  /**
   * The answer is to be one JSON document that fits this schema. A provider with structured output enforces it; with any
   * other, the prompt has to say it too, and the reader has to check.
   */
  readonly json?: { readonly name: string; readonly schema: JsonSchema.JsonSchema } | undefined
}

/**
 * The settings of the current request.
 *
 * @category references
 * @since 0.1.0
 */
export const ModelSettings: Context.Reference<Settings> = Context.Reference("spindle/ai/ModelSettings", {
  defaultValue: (): Settings => ({})
})

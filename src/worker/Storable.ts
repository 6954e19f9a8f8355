/**
 * JSON as PostgreSQL can store it.
 *
 * @since 0.1.0
 */
import type * as Schema from "effect/Schema"

/**
 * JSON text, and whether something had to be replaced in it.
 *
 * @category models
 * @since 0.1.0
 */
export interface Storable {
  readonly text: string
  readonly sanitized: boolean
}

/**
 * The largest result, error or event that is stored, in characters of JSON text.
 *
 * @category constants
 * @since 0.1.0
 */
export const maxBytes = 16 * 1024 * 1024

// NUL and surrogates appear escaped in JSON text; a doubled backslash before them only costs the slow way.
const suspicious = /\\u(0000|d[89a-f])/

/**
 * `jsonb` has no NUL and no half surrogate pairs: each becomes U+FFFD, in keys as well as in values.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (json: Schema.Json): Storable => {
  // Nothing at all, as a schema that takes anything lets it pass, is null.
  const text = JSON.stringify(json) ?? "null"
  if (!suspicious.test(text)) return { text, sanitized: false }
  const cleaned = JSON.stringify(clean(json))
  return { text: cleaned, sanitized: cleaned !== text }
}

const cleanText = (text: string): string => text.replaceAll("\0", "\uFFFD").toWellFormed()

const clean = (json: Schema.Json): Schema.Json =>
  typeof json === "string"
    ? cleanText(json)
    : Array.isArray(json)
    ? json.map(clean)
    : typeof json === "object" && json !== null
    ? Object.fromEntries(Object.entries(json).map(([key, value]) => [cleanText(key), clean(value as Schema.Json)]))
    : json

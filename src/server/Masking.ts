/**
 * Hides what looks secret in the values of tasks before they leave the server.
 *
 * Keys decide, at any depth and in any case or style, numbered or not. The words `pass`, `pw` and `creds` count where they stand
 * alone; `token`, `pwd`, `jwt` and `bearer` also at the end of another; `password`, `passwd`, `passphrase`, `secret`,
 * `credential`, `authorization` and `cookie` anywhere, and so does `key` after `api`, `access`, `private`, `secret`,
 * `signing`, `encryption`, `auth`, `account` or `master`. Below such a key every text is masked, also those in lists and
 * objects: of `tokens: ["a", "b"]` the number of tokens is left. Numbers, booleans and null are left as they are, so that
 * `maxOutputTokens: 500` stays readable. What is nested deeper than 200 is shown as `…`. Text that merely contains a secret is not recognized.
 *
 * @since 0.1.0
 */
import type * as Schema from "effect/Schema"
import * as Json from "../internal/Json.ts"

/**
 * What stands for a masked text.
 *
 * @category constants
 * @since 0.1.0
 */
export const mask = "••••••"

/**
 * The same value, masked.
 *
 * @category combinators
 * @since 0.1.0
 */
export const masked = (value: Schema.Json): Schema.Json => walk(value, false, 0)

/**
 * Whether what stands under a key is masked.
 *
 * @category predicates
 * @since 0.1.0
 */
export const isSecret = (key: string): boolean => {
  const words = key.replaceAll(/(\p{Ll}|\d)(\p{Lu})/gu, "$1 $2").replaceAll(/(\p{Lu})(\p{Lu}\p{Ll})/gu, "$1 $2")
    .toLowerCase().split(/[^\p{L}\d]+/u).map((word) => word.replace(/(?<!\d)\d+$/, ""))
  return words.some((word) => secretWord.test(word)) || secretPhrase.test(words.join(""))
}

// whole words, as `tokenizer` and `keyboard` are none
const secretWord = /^(?:pass|pw|creds|(?:token|pwd|jwt|bearer)s?)$/

const secretPhrase =
  /(?:passw(?:or)?d|passphrase|secret|credential|authorization|cookie|(?:api|access|private|secret|signing|encryption|auth|account|master)keys?|(?:token|pwd|jwt|bearer)s?$)/

// A row that was written by plain SQL can be deeper than any stack.
const walk = (value: Schema.Json, secret: boolean, depth: number): Schema.Json => {
  if (typeof value === "string") return secret ? mask : value
  if (typeof value !== "object" || value === null || value instanceof Json.Exact) return value
  if (depth >= Json.maxDepth) return "…"
  if (Array.isArray(value)) return value.map((item) => walk(item, secret, depth + 1))
  return Object.fromEntries(
    Object.entries(value).map(([key, item]) => [key, walk(item, secret || isSecret(key), depth + 1)])
  )
}

/**
 * What is wrong with the JSON of a request although it can be parsed: nobody would find in the database what was sent.
 *
 * @since 0.1.0
 */
import { maxDepth } from "../internal/NewTask.ts"

// Texts, brackets and numbers; what is malformed is for the parser to say.
const tokens = /"[^"\\]*(?:\\[^][^"\\]*)*"?|[[\]{}]|-?\d[\d.eE+-]*/g

/**
 * The first thing that cannot be stored as it is.
 *
 * @category getters
 * @since 0.1.0
 */
export const issue = (json: string): string | undefined => {
  let depth = 0
  for (const [token] of json.matchAll(tokens)) {
    const first = token[0]!
    if (first === "\"") continue
    if (first === "[" || first === "{") {
      depth++
      // The body holds the payload.
      if (depth > maxDepth + 1) return `The JSON is nested deeper than ${maxDepth}`
    } else if (first === "]" || first === "}") depth--
    else if (token.length > 15 && /^-?\d+$/.test(token) && String(Number(token)) !== token) {
      const shown = token.length > 40 ? `${token.slice(0, 40)}…` : token
      return `The integer ${shown} would be stored as ${Number(token)}: send a text, or a number that JavaScript has`
    }
  }
  return undefined
}

/**
 * How schemas, channels and values are written into the text of statements.
 *
 * @since 0.1.0
 */

/**
 * A schema's name is a plain lower-case identifier, short enough that its channels fit PostgreSQL's 63 bytes.
 *
 * @category constants
 * @since 0.1.0
 */
export const schemaPattern = /^[a-z_][a-z0-9_]{0,46}$/

/**
 * An identifier in double quotes.
 *
 * @category combinators
 * @since 0.1.0
 */
export const quote = (identifier: string): string => `"${identifier.replaceAll("\"", "\"\"")}"`

/**
 * A text value in single quotes.
 *
 * @category combinators
 * @since 0.1.0
 */
export const literal = (text: string): string => `'${text.replaceAll("'", "''")}'`

/**
 * The channels of the database contract.
 *
 * @category models
 * @since 0.1.0
 */
export type Channel = "task_queued" | "task_cancelled" | "task_events"

/**
 * The channel of a schema, as in `listen`.
 *
 * @category combinators
 * @since 0.1.0
 */
export const channel = (schema: string, name: Channel): string => `${schema}_${name}`

/**
 * What the definitions of the handled types say, for forms and for people.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import * as SchemaAST from "effect/SchemaAST"
import type { HandlerRegistry } from "../HandlerRegistry.ts"
import type * as Task from "../Task.ts"
import type * as Views from "./Views.ts"

/**
 * The types by name.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = ({ get, types }: HandlerRegistry["Service"]): ReadonlyArray<Views.TypeDefinition> =>
  types.toSorted().flatMap((type) => Option.toArray(get(type))).map(({ task }) => ({
    type: task.type,
    queue: task.options.queue ?? "default",
    priority: 0,
    maxAttempts: task.options.maxAttempts ?? 3,
    timeoutMs: task.options.timeout === undefined ? null : Duration.toMillis(task.options.timeout),
    payload: payloadOf(task)
  }))

const dialect = "https://json-schema.org/draft/2020-12/schema"

const payloadOf = ({ payloadSchema }: Task.Any): Schema.Json =>
  // stored as an empty object
  SchemaAST.isVoid(payloadSchema.ast)
    ? { $schema: dialect, type: "object" }
    : Result.getOrElse(
      Result.try((): Schema.Json => {
        const { definitions, schema } = Schema.toJsonSchemaDocument(payloadSchema)
        return JSON.parse(JSON.stringify({
          $schema: dialect,
          ...schema,
          ...(Object.keys(definitions).length === 0 ? {} : { $defs: definitions })
        }))
      }),
      () => null
    )

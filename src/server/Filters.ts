/**
 * Whether the tables can be asked what a filter asks: those of another application may lack columns.
 *
 * @since 0.1.0
 */
import * as Effect from "effect/Effect"
import * as Api from "../Api.ts"
import type { Tables } from "../storage/Browse.ts"
import type { Filter } from "../storage/TaskPages.ts"

/**
 * Names the columns that are not there.
 *
 * @category combinators
 * @since 0.1.0
 */
export const check = ({ columns, schema }: Tables, filter: Filter): Effect.Effect<void, Api.Unprocessable> => {
  const absent = [
    ...(filter.tag !== undefined && !columns.tag ? ["tag"] : []),
    ...(filter.userId !== undefined && !columns.userId ? ["user_id"] : [])
  ]
  return absent.length === 0 ? Effect.void : Effect.fail(
    new Api.Unprocessable({ detail: `There is no column ${absent.join(", ")} in ${schema}.tasks to filter by` })
  )
}

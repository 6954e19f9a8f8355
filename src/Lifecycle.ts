/**
 * What happens in this process, as it happens: for logs, metrics and the embedding application.
 *
 * Other processes' tasks are not seen here; the database is the record.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as PubSub from "effect/PubSub"
import type * as Schema from "effect/Schema"
import type * as Task from "./Task.ts"
import type * as TaskEvent from "./TaskEvent.ts"

/**
 * - `Created`: enqueued by this process
 * - `Started`: an attempt began
 * - `Completed`: with the encoded result and how long the attempt ran
 * - `Failed`: an attempt failed; `willRetry` tells whether the task runs again
 * - `Cancelled`: and the handler, if one ran, has unwound
 * - `Released`: put back without charging the attempt (shutdown, snooze)
 *
 * @since 0.1.0
 * @category models
 */
export type Event = Data.TaggedEnum<{
  Created: { readonly task: Task.Row }
  Started: { readonly task: Task.Row; readonly attempt: number }
  Completed: { readonly task: Task.Row; readonly result: Schema.Json; readonly duration: Duration.Duration }
  Failed: { readonly task: Task.Row; readonly error: TaskEvent.Failure; readonly willRetry: boolean }
  Cancelled: { readonly task: Task.Row }
  Released: { readonly task: Task.Row }
}>

/**
 * Constructors and matchers of the events.
 *
 * @since 0.1.0
 * @category constructors
 */
export const Event = Data.taggedEnum<Event>()

/**
 * Where the events go: unless it is provided, one bus for the whole process. A
 * subscriber that is more than 1024 events behind loses the oldest; it never
 * holds a task up.
 *
 * @since 0.1.0
 * @category references
 */
export const Bus: Context.Reference<PubSub.PubSub<Event>> = Context.Reference("spindle/Lifecycle/Bus", {
  defaultValue: () => Effect.runSync(PubSub.sliding<Event>(1024))
})

/**
 * Tells whoever has subscribed to the bus. Costs next to nothing when nobody has.
 *
 * @since 0.1.0
 * @category publishing
 */
export const publish = (event: Event): Effect.Effect<void> =>
  Effect.withFiber((fiber) => Effect.asVoid(PubSub.publish(fiber.getRef(Bus), event)))

/**
 * The AI tasks as one group, implemented on whichever language model is provided.
 *
 * @since 0.1.0
 */
import type * as LanguageModel from "effect/ai/LanguageModel"
import type * as Layer from "effect/Layer"
import type * as Task from "../Task.ts"
import * as TaskGroup from "../TaskGroup.ts"
import * as AiGenerateFields from "./AiGenerateFields.ts"
import * as AiGenerateRecords from "./AiGenerateRecords.ts"
import * as AiResponse from "./AiResponse.ts"

/**
 * The tasks that ask a language model.
 *
 * @category groups
 * @since 0.1.0
 */
export class AiTasks extends TaskGroup.make(
  AiResponse.AiResponse,
  AiGenerateRecords.AiGenerateRecords,
  AiGenerateFields.AiGenerateFields
) {}

/**
 * The handlers of the AI tasks.
 *
 * @category layers
 * @since 0.1.0
 * @example
 * ```ts
 * import { Layer } from "effect"
 * import * as AiTasks from "effect-spindle/ai/AiTasks"
 * import * as DemoModel from "effect-spindle/ai/DemoModel"
 *
 * const AiTasksLive = AiTasks.layer.pipe(Layer.provide(DemoModel.layer))
 * ```
 */
export const layer: Layer.Layer<Task.ToHandler<TaskGroup.Tasks<typeof AiTasks>>, never, LanguageModel.LanguageModel> =
  AiTasks.toLayer({
    ai_response: AiResponse.handler,
    ai_generate_records: AiGenerateRecords.handler,
    ai_generate_fields: AiGenerateFields.handler
  })

// What users write once and share between producers and workers: no handler code, no database.
import { Schema } from "effect"
import * as RetryPolicy from "../../src/RetryPolicy.ts"
import * as Task from "../../src/Task.ts"
import * as TaskEvent from "../../src/TaskEvent.ts"
import * as TaskGroup from "../../src/TaskGroup.ts"

export class ModelUnavailable extends Schema.TaggedError<ModelUnavailable>()("ModelUnavailable", {
  model: Schema.String
}) {}

export class RateLimited extends Schema.TaggedError<RateLimited>()("RateLimited", {
  retryAfter: Schema.Duration
}) {}

export class PromptRefused extends Schema.TaggedError<PromptRefused>()("PromptRefused", {
  reason: Schema.String
}) {}

export class AiResponse extends Task.make("ai_response", {
  payload: { conversationId: Schema.String, prompt: Schema.NonEmptyString },
  success: Schema.Struct({ text: Schema.String, tokens: Schema.Int }),
  error: Schema.Union([ModelUnavailable, RateLimited, PromptRefused]),
  event: Schema.Union([
    TaskEvent.TextDelta,
    TaskEvent.Usage,
    Schema.TaggedStruct("citation", { url: Schema.String })
  ]),
  queue: "ai",
  maxAttempts: 5,
  timeout: "2 minutes",
  unique: ({ conversationId }) => ({ key: conversationId }),
  retry: {
    backoff: RetryPolicy.exponential({ base: "500 millis", factor: 3, cap: "1 minute", jitter: 0.5 }),
    on: {
      ModelUnavailable: "retry",
      RateLimited: ({ retryAfter }) => ({ retryAfter }),
      PromptRefused: "fail",
      timeout: "fail"
    }
  }
}) {}

export class SendEmail extends Task.make("send_email", {
  payload: { to: Schema.String, subject: Schema.String },
  retry: { backoff: RetryPolicy.fixed("30 seconds") }
}) {}

export class ChargeCard extends Task.make("charge_card", {
  payload: { orderId: Schema.String, cents: Schema.Int },
  success: Schema.Struct({ receipt: Schema.String })
}) {}

export class AppTasks extends TaskGroup.make(AiResponse, SendEmail, ChargeCard) {}

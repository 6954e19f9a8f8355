/**
 * What a language model can do to a task, and whether trying again helps.
 *
 * Every provider reports its errors as Effect's `AiError`. The AI tasks store
 * them as one of six tagged failures, which say what a caller can do about it.
 *
 * @since 0.1.0
 */
import type * as AiError from "effect/ai/AiError"
import * as Duration from "effect/Duration"
import * as Predicate from "effect/Predicate"
import * as Schema from "effect/Schema"
import type * as RetryPolicy from "../RetryPolicy.ts"

/**
 * The provider wants fewer requests, or is overloaded and says until when. Tried again after `retryAfter`, an hour at most,
 * if the provider named a time; after the usual backoff if it named none, or less than a second.
 *
 * @category errors
 * @since 0.1.0
 */
export class RateLimited extends Schema.TaggedError<RateLimited>("spindle/ai/RateLimited")("RateLimited", {
  message: Schema.String,
  /** Milliseconds on the wire. */
  retryAfter: Schema.optionalKey(Schema.DurationFromMillis)
}) {}

/**
 * The provider cannot be reached or is out of order. Tried again.
 *
 * @category errors
 * @since 0.1.0
 */
export class ModelUnavailable
  extends Schema.TaggedError<ModelUnavailable>("spindle/ai/ModelUnavailable")("ModelUnavailable", {
    message: Schema.String
  })
{}

/**
 * The provider does not accept the request, and would not accept it again: a
 * model that does not exist, a prompt that is too long. Not tried again.
 *
 * @category errors
 * @since 0.1.0
 */
export class InvalidRequest extends Schema.TaggedError<InvalidRequest>("spindle/ai/InvalidRequest")("InvalidRequest", {
  message: Schema.String
}) {}

/**
 * The prompt or the answer was withheld by the provider's content policy. Not tried again.
 *
 * @category errors
 * @since 0.1.0
 */
export class ContentFiltered
  extends Schema.TaggedError<ContentFiltered>("spindle/ai/ContentFiltered")("ContentFiltered", {
    message: Schema.String
  })
{}

/**
 * The provider does not serve this account until its owner acts: the key is
 * wrong, lacks a permission, or its quota is used up. Not tried again.
 *
 * @category errors
 * @since 0.1.0
 */
export class AuthenticationFailed
  extends Schema.TaggedError<AuthenticationFailed>("spindle/ai/AuthenticationFailed")("AuthenticationFailed", {
    message: Schema.String
  })
{}

/**
 * The model's answer is incomplete or not what was asked for. Models are not
 * deterministic, so it is tried again.
 *
 * @category errors
 * @since 0.1.0
 */
export class MalformedOutput
  extends Schema.TaggedError<MalformedOutput>("spindle/ai/MalformedOutput")("MalformedOutput", {
    message: Schema.String
  })
{}

/**
 * The errors of the AI tasks.
 *
 * @category errors
 * @since 0.1.0
 */
export const ModelError = Schema.Union([
  RateLimited,
  ModelUnavailable,
  InvalidRequest,
  ContentFiltered,
  AuthenticationFailed,
  MalformedOutput
])
/**
 * The errors of the AI tasks.
 *
 * @category errors
 * @since 0.1.0
 */
export type ModelError = typeof ModelError.Type

// A provider that says "at once" would get every attempt at once; one that names a year, none.
const afterLimit = ({ retryAfter }: RateLimited): RetryPolicy.Decision =>
  retryAfter === undefined || Duration.isLessThan(retryAfter, Duration.seconds(1))
    ? "retry"
    : { retryAfter: Duration.min(retryAfter, Duration.hours(1)) }

/**
 * When the AI tasks are tried again. A provider's own wish counts from a second to an hour.
 *
 * @category retrying
 * @since 0.1.0
 */
export const retry: RetryPolicy.RetryPolicy<ModelError> = {
  on: {
    RateLimited: afterLimit,
    ModelUnavailable: "retry",
    InvalidRequest: "fail",
    ContentFiltered: "fail",
    AuthenticationFailed: "fail",
    MalformedOutput: "retry"
  }
}

/**
 * Finds the failure that stands for a provider's error. Its message is one line.
 *
 * Reasons for a limit or a quota have no room for the provider's words; a layer that has some puts them into its metadata,
 * as `message`.
 *
 * @category conversions
 * @since 0.1.0
 */
export const fromReason = (reason: AiError.AiErrorReason): ModelError => {
  const message = messageOf(reason)
  switch (reason._tag) {
    case "RateLimitError":
      return new RateLimited({ message, ...(reason.retryAfter && { retryAfter: reason.retryAfter }) })
    case "InternalProviderError":
      return new ModelUnavailable({ message })
    case "NetworkError":
      return reason.reason === "TransportError" ? new ModelUnavailable({ message }) : new InvalidRequest({ message })
    case "UnknownError":
      return isRefusal(reason.http?.response?.status)
        ? new InvalidRequest({ message })
        : new ModelUnavailable({ message })
    case "InvalidRequestError":
    case "InvalidUserInputError":
    case "UnsupportedSchemaError":
    case "ToolConfigurationError":
    case "ToolkitRequiredError":
    case "InvalidToolResultError":
    case "ToolResultEncodingError":
      return new InvalidRequest({ message })
    case "ContentPolicyError":
      return new ContentFiltered({ message })
    case "AuthenticationError":
    case "QuotaExhaustedError":
      return new AuthenticationFailed({ message })
    case "InvalidResponseError":
    case "InvalidOutputError":
    case "StructuredOutputError":
    case "ToolNotFoundError":
    case "ToolParameterValidationError":
      return new MalformedOutput({ message })
  }
}

const messageOf = (reason: AiError.AiErrorReason): string => {
  // What follows the first line is advice to whoever wrote the program.
  if (reason._tag !== "RateLimitError" && reason._tag !== "QuotaExhaustedError") {
    return reason.message.split("\n", 1)[0]!
  }
  const words = Object.values(reason.metadata).map((_) => Predicate.hasProperty(_, "message") ? _.message : undefined)
    .find(Predicate.isString)
  return words === undefined ? reason.message : `${reason.message.replace(/\.$/, "")}: ${words}`
}

// Request Timeout, Conflict and Too Early pass by themselves; the other 4xx do not
const isRefusal = (status: number | undefined): boolean =>
  status !== undefined && status >= 400 && status < 500 && status !== 408 && status !== 409 && status !== 425

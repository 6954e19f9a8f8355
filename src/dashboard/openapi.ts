/** The OpenAPI document as a reader wants it: routes by group, with parameters, bodies, answers and a curl line. */
import { isObject, type Json, type JsonObject } from "./json.ts"

export interface Route {
  readonly id: string
  readonly method: string
  readonly path: string
  readonly summary: string | undefined
  readonly description: string | undefined
  readonly parameters: ReadonlyArray<{
    readonly name: string
    readonly in: string
    readonly required: boolean
    readonly type: string
    readonly description: string | undefined
  }>
  readonly body: string | undefined
  readonly answers: ReadonlyArray<{ readonly status: string; readonly description: string; readonly type: string }>
}

export interface Group {
  readonly name: string
  readonly routes: ReadonlyArray<Route>
}

const methods = ["get", "post", "put", "patch", "delete"]

export const groups = (document: Json): ReadonlyArray<Group> => {
  if (!isObject(document) || !isObject(document.paths)) return []
  const byName = new Map<string, Array<Route>>()
  for (const [path, item] of Object.entries(document.paths)) {
    if (!isObject(item)) continue
    for (const method of methods) {
      const operation = item[method]
      if (!isObject(operation)) continue
      const tag = Array.isArray(operation.tags) ? String(operation.tags[0]) : "Other"
      byName.set(tag, [...byName.get(tag) ?? [], route(method, path, operation, document)])
    }
  }
  return [...byName].map(([name, routes]) => ({ name, routes }))
}

const route = (method: string, path: string, operation: JsonObject, document: JsonObject): Route => ({
  id: `${method}-${path.replaceAll(/[^a-z0-9]+/gi, "-")}`,
  method: method.toUpperCase(),
  path,
  summary: text(operation.summary),
  description: text(operation.description),
  parameters: list(operation.parameters).map((parameter) => ({
    name: String(parameter.name),
    in: String(parameter.in),
    required: parameter.required === true,
    type: typeOf(parameter.schema ?? {}, document),
    description: text(parameter.description)
  })),
  body: isObject(operation.requestBody) ? contentType(operation.requestBody, document) : undefined,
  answers: Object.entries(isObject(operation.responses) ? operation.responses : {}).map(([status, answer]) => ({
    status,
    description: isObject(answer) ? text(answer.description) ?? "" : "",
    type: isObject(answer) ? contentType(answer, document) ?? "" : ""
  }))
})

const text = (value: Json | undefined) => typeof value === "string" ? value : undefined

const list = (value: Json | undefined): ReadonlyArray<JsonObject> =>
  Array.isArray(value) ? (value as ReadonlyArray<Json>).filter(isObject) : []

const contentType = (holder: JsonObject, document: JsonObject): string | undefined => {
  if (!isObject(holder.content)) return undefined
  const [media, content] = Object.entries(holder.content)[0] ?? []
  if (media === undefined || !isObject(content)) return undefined
  return media.endsWith("json") ? typeOf(content.schema ?? {}, document) : media
}

/** A schema in the notation of TypeScript, as far as it is short enough to be read. */
export const typeOf = (schema: Json, document: JsonObject, depth = 0): string => {
  if (!isObject(schema)) return "unknown"
  if (typeof schema.$ref === "string") {
    const name = schema.$ref.split("/").at(-1)!
    const target = schema.$ref.slice(2).split("/").reduce<Json | undefined>(
      (at, step) => isObject(at) ? at[step] : undefined,
      document
    )
    return depth > 3 || target === undefined ? name : typeOf(target, document, depth + 1)
  }
  if (Array.isArray(schema.allOf) && schema.type === undefined) {
    return schema.allOf.map((each: Json) => typeOf(each, document, depth)).join(" & ")
  }
  if (schema.const !== undefined) return JSON.stringify(schema.const)
  if (Array.isArray(schema.enum)) return schema.enum.map((each: Json) => JSON.stringify(each)).join(" | ")
  const union = schema.anyOf ?? schema.oneOf
  if (Array.isArray(union)) {
    return [...new Set(union.map((each: Json) => typeOf(each, document, depth)))].join(" | ")
  }
  switch (schema.type) {
    case "array":
      return `Array<${typeOf(schema.items ?? {}, document, depth + 1)}>`
    case "object": {
      if (!isObject(schema.properties)) return "object"
      const required = Array.isArray(schema.required) ? schema.required as ReadonlyArray<Json> : []
      const indent = "  ".repeat(depth + 1)
      const lines = Object.entries(schema.properties).map(([name, property]) =>
        `${indent}${name}${required.includes(name) ? "" : "?"}: ${typeOf(property, document, depth + 1)}`
      )
      return lines.length === 0 ? "{}" : `{\n${lines.join("\n")}\n${"  ".repeat(depth)}}`
    }
    case undefined:
      return "unknown"
    default:
      return String(schema.type)
  }
}

/** A line to try the route with. */
export const curl = (route: Route, origin: string, tokenRequired: boolean): string =>
  [
    "curl",
    ...(route.answers.some(({ type }) => type === "text/event-stream") ? ["-N"] : []),
    ...(tokenRequired ? [`-H "Authorization: Bearer $WORKER_HTTP_TOKEN"`] : []),
    ...(route.method === "GET"
      ? []
      : [`-X ${route.method}`, "-H 'content-type: application/json'", `-d '${example(route)}'`]),
    `'${origin}${route.path.replaceAll(/\{(\w+)\}/g, (_, name: string) => name === "id" ? "42" : name)}'`
  ].join(" ")

const example = ({ path }: Route): string => {
  if (path.endsWith("/bulk")) return `{"action":"retry","filter":{"status":"failed"}}`
  if (path.endsWith("/login")) return `{"token":"…"}`
  if (path.endsWith("/tasks") || path.endsWith("/tasks/")) return `{"type":"ai_response","payload":{"prompt":"Hello"}}`
  return "{}"
}

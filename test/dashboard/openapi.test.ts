import { assert, describe, it } from "@effect/vitest"
import { OpenApi } from "effect/http-api"
import { Api } from "../../src/Api.ts"
import type { Json } from "../../src/dashboard/json.ts"
import * as Document from "../../src/dashboard/openapi.ts"

const document = JSON.parse(JSON.stringify(OpenApi.fromApi(Api))) as Json
const routes = Document.groups(document).flatMap(({ routes }) => routes)
const route = (method: string, path: RegExp) => {
  const found = routes.find((route) => route.method === method && path.test(route.path))
  assert.isDefined(found, `${method} ${path}`)
  return found!
}

describe("the API's description", () => {
  it("has every route once, each with an id of its own", () => {
    assert.isAbove(routes.length, 10)
    assert.strictEqual(new Set(routes.map(({ id }) => id)).size, routes.length)
  })

  it("says what each is for", () => {
    for (const { path, summary } of routes) assert.isNotEmpty(summary, path)
    assert.match(route("GET", /events$/).description!, /Last-Event-ID/)
  })

  it("says parameters, bodies and answers in the notation of TypeScript", () => {
    const list = route("GET", /^\/api\/tasks\/?$/)
    const status = list.parameters.find(({ name }) => name === "status")
    assert.strictEqual(status?.required, false)
    assert.match(status!.type, /"queued" \| "processing" \| "completed" \| "failed" \| "cancelled"/)
    assert.match(list.answers.find(({ status }) => status === "200")!.type, /tasks: Array<\{/)
    assert.match(route("POST", /bulk$/).body!, /action: "cancel" \| "retry"/)
  })

  it("gives a line that can be run", () => {
    assert.strictEqual(
      Document.curl(route("GET", /events$/), "http://localhost:5000", true),
      `curl -N -H "Authorization: Bearer $WORKER_HTTP_TOKEN" 'http://localhost:5000/api/tasks/${
        /\{id\}/.test(route("GET", /events$/).path) ? "42" : ":id"
      }/events'`
    )
    const enqueue = Document.curl(route("POST", /^\/api\/tasks\/?$/), "http://localhost:5000", false)
    assert.match(enqueue, /-X POST -H 'content-type: application\/json' -d '\{"type":"ai_response"/)
    assert.doesNotThrow(() => JSON.parse(/-d '(.*?)'/.exec(enqueue)![1]!))
  })

  it("shows schemas that refer to themselves, and takes documents that are none", () => {
    const self = {
      components: { schemas: { Node: { type: "object", properties: { next: { $ref: "#/components/schemas/Node" } } } } }
    }
    assert.include(Document.typeOf({ $ref: "#/components/schemas/Node" }, self), "Node")
    assert.strictEqual(Document.typeOf({ $ref: "#/nowhere/Thing" }, {}), "Thing")
    assert.strictEqual(Document.typeOf({ allOf: [{ type: "string" }, { const: 1 }] }, {}), "string & 1")
    for (const nothing of [null, [], {}, { paths: null }, { paths: { "/x": { get: 1 } } }]) {
      assert.deepStrictEqual(Document.groups(nothing as Json), [])
    }
  })
})

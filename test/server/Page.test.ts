import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Latch, Layer, Redacted } from "effect"
import { HttpRouter } from "effect/http"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Zlib from "node:zlib"
import * as Access from "../../src/server/Access.ts"
import * as Page from "../../src/server/Page.ts"
import * as Server from "../../src/server/Server.ts"
import * as Session from "../../src/server/Session.ts"
import * as Provider from "../support/Provider.ts"
import * as Raw from "../support/Raw.ts"

const script = `export const text = "${"x".repeat(5000)}"`

/** What the build leaves behind, in small. */
const built: Readonly<Record<string, string>> = {
  "index.html": `<!doctype html><html><head><meta charset="utf-8">
    <meta name="spindle-prefix" content="">
    <link rel="icon" href="./logo.svg"><link rel="stylesheet" href="./assets/index-1a2b.css">
    <script type="module" src="./assets/index-3c4d.js"></script></head><body></body></html>`,
  "login.html": `<!doctype html><html><head><meta name="spindle-prefix" content="">
    <link rel="icon" href="./logo.svg"><script type="module" src="./assets/login-5e6f.js"></script>
    <link rel="modulepreload" href="./assets/shared-7a8b.js"></head><body>Sign in</body></html>`,
  "logo.svg": "<svg xmlns=\"http://www.w3.org/2000/svg\"/>",
  "assets/index-1a2b.css": "body { margin: 0 }",
  "assets/index-3c4d.js": script,
  "assets/login-5e6f.js": "export {}",
  "assets/shared-7a8b.js": "export {}"
}

const serve = Effect.fnUntraced(function*(options: {
  readonly prefix?: string
  readonly token?: string
  readonly files?: Readonly<Record<string, string>>
}) {
  const directory = Path.join(yield* Provider.temporaryDirectory, "dashboard")
  for (const [name, content] of Object.entries(options.files ?? built)) {
    Fs.mkdirSync(Path.dirname(Path.join(directory, name)), { recursive: true })
    Fs.writeFileSync(Path.join(directory, name), content)
  }
  Fs.writeFileSync(Path.join(directory, "../outside.txt"), "outside")
  const settings = {
    token: options.token === undefined ? undefined : Redacted.make(options.token),
    readOnly: false,
    allowedHosts: [],
    prefix: options.prefix ?? ""
  }
  const server = yield* Server.listen({ ...settings, host: "127.0.0.1", port: 0 })
  const closing = yield* Latch.make()
  const page = yield* Effect.provideService(Page.make(settings.prefix), Page.Directory, directory)
  const context = yield* Page.layer(page).pipe(
    Layer.provideMerge(HttpRouter.layer),
    Layer.provide(server.services),
    Layer.fresh,
    Layer.build
  )
  const handle = Access.guard(Context.get(context, HttpRouter.HttpRouter).asHttpEffect(), {
    session: Session.make(settings),
    closing,
    allowedHosts: [],
    loginPage: page.login,
    isPublic: page.isPublic,
    methodsOf: () => []
  })
  yield* server.mount({ handle, closing })
  return {
    url: server.url,
    get: (path: string, headers?: Raw.Request["headers"]) => Raw.send(server.url, { path, headers })
  }
})

const html = { accept: "text/html" }

describe("the page", () => {
  it.live("is one document for all of its routes, whose addresses start with the prefix", () =>
    Effect.gen(function*() {
      const { get } = yield* serve({ prefix: "/ops/spindle" })
      for (const path of ["/", "/tasks", "/tasks/42", "/queues", "/enqueue", "/docs", "/tasks?status=failed"]) {
        const { body, headers, status } = yield* get(path)
        assert.deepStrictEqual([status, headers["content-type"]], [200, "text/html; charset=utf-8"], path)
        assert.strictEqual(headers["cache-control"], "no-cache")
        assert.include(body, "<meta name=\"spindle-prefix\" content=\"/ops/spindle\">")
        assert.include(body, "src=\"/ops/spindle/assets/index-3c4d.js\"")
        assert.include(body, "href=\"/ops/spindle/logo.svg\"")
        assert.notInclude(body, "./")
      }
      for (const path of ["/index.html", "/tasks/42/more", "/nothing"]) {
        assert.strictEqual((yield* get(path, html)).status, 404, path)
      }
    }))

  it.live("escapes the prefix, and says it where the document does not", () =>
    Effect.gen(function*() {
      const { get } = yield* serve({
        prefix: "/\"><script>&$&",
        files: { "index.html": "<html><head><script src=\"./a.js\"></script></head></html>" }
      })
      const escaped = "/&quot;>&lt;script>&amp;$&amp;"
      assert.strictEqual(
        (yield* get("/")).body,
        `<html><head><meta name="spindle-prefix" content="${escaped}"><script src="${escaped}/a.js"></script></head></html>`
      )
    }))

  it.live("has files that never change under a name, and files that are asked for again", () =>
    Effect.gen(function*() {
      const { get } = yield* serve({})
      const asset = yield* get("/assets/index-3c4d.js")
      assert.deepStrictEqual([asset.status, asset.body], [200, script])
      assert.match(asset.headers["content-type"]!, /^(text|application)\/javascript; charset=utf-8$/)
      assert.strictEqual(asset.headers["cache-control"], "max-age=31536000, immutable")
      const logo = yield* get("/logo.svg")
      assert.deepStrictEqual([logo.headers["content-type"], logo.headers["cache-control"]], [
        "image/svg+xml",
        "no-cache"
      ])
      assert.strictEqual((yield* get("/assets/index-1a2b.css")).headers["content-type"], "text/css; charset=utf-8")

      const etag = logo.headers.etag!
      assert.match(etag, /^"[\w-]{22}"$/)
      for (const known of [etag, `W/${etag}`, `"other", ${etag}`]) {
        const again = yield* get("/logo.svg", { "if-none-match": known })
        assert.deepStrictEqual([again.status, again.body, again.headers.etag], [304, "", etag], known)
      }
      assert.strictEqual((yield* get("/logo.svg", { "if-none-match": "\"other\"" })).status, 200)
    }))

  it.live("is compressed for those who take it", () =>
    Effect.gen(function*() {
      const { url } = yield* serve({})
      const response = yield* Effect.promise(() =>
        fetch(`${url}assets/index-3c4d.js`, { headers: { "accept-encoding": "gzip" } })
      )
      assert.strictEqual(response.headers.get("content-encoding"), "gzip")
      assert.strictEqual(response.headers.get("vary"), "Accept-Encoding")
      assert.match(response.headers.get("etag")!, /^W\//)
      assert.strictEqual(yield* Effect.promise(() => response.text()), script)
      const raw = yield* Raw.send(url, {
        path: "/assets/index-3c4d.js",
        headers: { "accept-encoding": "br" },
        encoding: "latin1"
      })
      assert.strictEqual(Zlib.brotliDecompressSync(Buffer.from(raw.body, "latin1")).toString(), script)
    }))

  it.live("has no file that was not built", () =>
    Effect.gen(function*() {
      const { get } = yield* serve({})
      for (
        const path of [
          "/../outside.txt",
          "/assets/../../outside.txt",
          "/%2e%2e/outside.txt",
          "/..%2foutside.txt",
          "/assets/..%5c..%5coutside.txt",
          "/assets",
          "/assets/",
          "//logo.svg",
          "/logo.svg%00.html",
          "/__proto__",
          "/constructor"
        ]
      ) assert.include([404, 400], (yield* get(path)).status, path)
    }))

  it.live("asks for the token, with nothing but what that takes", () =>
    Effect.gen(function*() {
      const { get } = yield* serve({ token: "0123456789abcdef0123456789abcdef", prefix: "/spindle" })
      // Before anybody has asked for the page itself.
      for (const path of ["/assets/login-5e6f.js", "/assets/shared-7a8b.js", "/logo.svg", "/login"]) {
        assert.strictEqual((yield* get(path)).status, 200, path)
      }
      for (const path of ["/assets/index-3c4d.js", "/assets/index-1a2b.css", "/login.html", "/index.html"]) {
        assert.strictEqual((yield* get(path)).status, 401, path)
      }
      const page = yield* get("/tasks/42", html)
      assert.strictEqual(page.status, 401)
      assert.include(page.body, "Sign in")
      assert.include(page.body, "content=\"/spindle\"")
    }))

  it.live("says so where it is not built", () =>
    Effect.gen(function*() {
      const { get } = yield* serve({ files: {} })
      for (const path of ["/", "/login"]) {
        const answer = yield* get(path, html)
        assert.strictEqual(answer.status, 503)
        assert.include(Raw.detail(answer), "npm run build")
      }
      assert.strictEqual((yield* get("/logo.svg")).status, 404)
    }))
})

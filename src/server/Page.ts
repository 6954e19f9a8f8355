/**
 * The dashboard's page, as it was built into `dist/dashboard`.
 *
 * All of it is read when the first part is asked for, and kept: a request finds a file by its name in a table, never by a path on the disk.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import { flow } from "effect/Function"
import * as HttpMiddleware from "effect/http/HttpMiddleware"
import * as HttpPlatform from "effect/http/HttpPlatform"
import * as HttpRouter from "effect/http/HttpRouter"
import * as HttpServerError from "effect/http/HttpServerError"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Mime from "effect/http/Mime"
import * as Option from "effect/Option"
import * as Crypto from "node:crypto"
import * as Fs from "node:fs/promises"
import * as Path from "node:path"
import * as Problem from "./Problem.ts"

/**
 * Where the built page is. This module runs from `dist/server` and, in tests, from `src/server`.
 *
 * @category references
 * @since 0.1.0
 */
export const Directory: Context.Reference<string> = Context.Reference("spindle/server/Page/Directory", {
  defaultValue: () =>
    Path.join(import.meta.dirname, import.meta.filename.endsWith(".ts") ? "../../dist/dashboard" : "../dashboard")
})

/**
 * The paths that are the page's own; what is shown there it decides itself.
 *
 * @category constants
 * @since 0.1.0
 */
export const routes = ["/", "/tasks", "/tasks/:id", "/queues", "/enqueue", "/docs"] as const

/**
 * @category models
 * @since 0.1.0
 */
export interface Page {
  /** The page itself, for all of its routes. */
  readonly index: Effect.Effect<Response, never, HttpServerRequest.HttpServerRequest>
  /** None where the page is not built. */
  readonly login: Effect.Effect<Option.Option<Response>>
  /** Any other file, by its path. */
  readonly file: (path: string) => Effect.Effect<Option.Option<Response>, never, HttpServerRequest.HttpServerRequest>
  /** Whether the login page needs it. */
  readonly isPublic: (path: string) => Effect.Effect<boolean>
}

type Response = HttpServerResponse.HttpServerResponse

interface File {
  readonly body: Uint8Array
  readonly type: string
  readonly etag: string
}

/**
 * The page below a prefix, which is put before the addresses in its documents, and into `spindle-prefix` for its scripts.
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = Effect.fnUntraced(function*(prefix: string): Effect.fn.Return<Page> {
  const directory = yield* Directory
  const files = yield* Effect.cached(
    Effect.orElseSucceed(Effect.tryPromise(() => read(directory, prefix)), () => new Map<string, File>())
  )
  const loginFiles = yield* Effect.cached(
    Effect.map(files, (files) => references(files.get("/login.html"), prefix))
  )
  return {
    index: Effect.flatMap(files, (files) => {
      const file = files.get("/index.html")
      return file === undefined ? Effect.succeed(notBuilt) : respond(file, "no-cache")
    }),
    login: Effect.map(files, (files) => Option.map(Option.fromUndefinedOr(files.get("/login.html")), whole)),
    file: (path) =>
      Effect.flatMap(files, (files) => {
        const file = path.endsWith(".html") ? undefined : files.get(path)
        if (file === undefined) return Effect.succeedNone
        // The build names these by what is in them.
        return Effect.asSome(respond(file, path.startsWith("/assets/") ? "max-age=31536000, immutable" : "no-cache"))
      }),
    isPublic: (path) => path === "/login" ? Effect.succeed(true) : Effect.map(loginFiles, (files) => files.has(path))
  }
})

const notBuilt = Problem.make(503, "The page is not built: run `npm run build`, and start again")

const read = async (directory: string, prefix: string): Promise<Map<string, File>> => {
  const entries = await Fs.readdir(directory, { recursive: true, withFileTypes: true })
  return new Map(
    await Promise.all(
      entries.filter((entry) => entry.isFile()).map(async (entry) => {
        const path = Path.join(entry.parentPath, entry.name)
        const content = await Fs.readFile(path)
        const body = path.endsWith(".html") ? Buffer.from(withPrefix(content.toString(), prefix)) : content
        const type = Option.getOrElse(Mime.getType(path), () => "application/octet-stream")
        return [`/${Path.relative(directory, path).replaceAll(Path.sep, "/")}`, {
          body,
          type: type.startsWith("text/") || type.endsWith("javascript") ? `${type}; charset=utf-8` : type,
          etag: `"${Crypto.createHash("sha256").update(body).digest("base64url").slice(0, 22)}"`
        }] as const
      })
    )
  )
}

const prefixMeta = /<meta name="spindle-prefix" content="[^"]*"\s*\/?>/

const withPrefix = (html: string, prefix: string) => {
  const escaped = prefix.replaceAll("&", "&amp;").replaceAll("\"", "&quot;").replaceAll("<", "&lt;")
  const meta = `<meta name="spindle-prefix" content="${escaped}">`
  return (prefixMeta.test(html) ? html.replace(prefixMeta, () => meta) : html.replace("<head>", () => `<head>${meta}`))
    .replaceAll(/\b(src|href)="\.\//g, (_, name) => `${name}="${escaped}/`)
}

const references = (file: File | undefined, prefix: string): ReadonlySet<string> =>
  new Set(
    [...Buffer.from(file?.body ?? []).toString().matchAll(/\b(?:src|href)="([^"]*)"/g)]
      .map(([, path]) => path!)
      .filter((path) => path.startsWith(`${prefix}/`))
      .map((path) => path.slice(prefix.length))
  )

const whole = ({ body, type }: File) => HttpServerResponse.uint8Array(body, { contentType: type })

const respond = (file: File, cacheControl: string) =>
  Effect.map(HttpServerRequest.HttpServerRequest, ({ headers }) => {
    const known = headers["if-none-match"]?.split(",").some((tag) => tag.trim().replace(/^W\//, "") === file.etag)
    const response = known === true ? HttpServerResponse.empty({ status: 304 }) : whole(file)
    return HttpServerResponse.setHeaders(response, { etag: file.etag, "cache-control": cacheControl })
  })

/**
 * The routes of the page.
 *
 * @category layers
 * @since 0.1.0
 */
export const layer = (page: Page) =>
  HttpRouter.use(Effect.fnUntraced(function*(router) {
    const platform = yield* HttpPlatform.HttpPlatform
    const compressed = flow(HttpMiddleware.compression(), Effect.provideService(HttpPlatform.HttpPlatform, platform))
    for (const path of routes) yield* router.add("GET", path, compressed(page.index))
    yield* router.add(
      "GET",
      "/login",
      compressed(
        Effect.flatMap(page.login, Option.match({ onNone: () => Effect.succeed(notBuilt), onSome: Effect.succeed }))
      )
    )
    yield* router.add("GET", "/*", (request) => {
      const path = request.url.split(/[?#]/, 1)[0]!
      return compressed(
        Effect.flatMap(page.file(path), Option.match({ onNone: () => nothing(request), onSome: Effect.succeed }))
      )
    })
  }))

// As the router says it of a path that nobody added, which the way in answers.
const nothing = (request: HttpServerRequest.HttpServerRequest) =>
  Effect.die(new HttpServerError.HttpServerError({ reason: new HttpServerError.RouteNotFound({ request }) }))

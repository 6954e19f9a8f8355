/**
 * The dashboard as somebody sees it: Chromium, before the server of a real service.
 *
 * Whatever a page does is watched: an error in its console, a violation of its content security policy or a request to
 * another origin fails the test.
 */
import { assert } from "@effect/vitest"
import { Context, Effect, Layer, Redacted, type Scope } from "effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Playwright from "playwright-core"
import * as Cli from "./Cli.ts"
import { TestDatabase } from "./TestDatabase.ts"

export type Page = Playwright.Page
export type Locator = Playwright.Locator

const flags = [
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync"
]

const executable = () => {
  const directories = (process.env.PATH ?? "").split(Path.delimiter)
  const places = process.env.CHROMIUM_PATH !== undefined
    ? [process.env.CHROMIUM_PATH]
    : ["/usr/bin/chromium", ...directories.map((directory) => Path.join(directory, "chromium"))]
  const found = places.find((place) => Fs.existsSync(place))
  if (found !== undefined) return found
  throw new Error(
    process.env.CHROMIUM_PATH === undefined
      ? "The tests of the dashboard need Chromium: apt-get install -y chromium, or name its executable in CHROMIUM_PATH"
      : `CHROMIUM_PATH is ${JSON.stringify(process.env.CHROMIUM_PATH)}, where there is no executable`
  )
}

/** One browser for a file of tests; its profile is new, and gone with it. */
export class Browser extends Context.Service<Browser, Playwright.Browser>()("spindle/test/Browser") {
  static readonly layer = Layer.effect(
    this,
    Effect.acquireRelease(
      Effect.promise(() =>
        Playwright.chromium.launch({ executablePath: executable(), args: flags, chromiumSandbox: false })
      ),
      (browser) => Effect.promise(() => browser.close())
    )
  )
}

export interface Site {
  /** With a slash at the end. */
  readonly url: string
  readonly service: Cli.Running
}

const tasks = Path.join(import.meta.dirname, "../dashboard/fixtures/tasks.ts")

/** Starts a service on the test's database, and waits until it answers. */
export const start = Effect.fnUntraced(function*(
  env: Cli.Environment = {}
): Effect.fn.Return<Site, never, TestDatabase | Scope.Scope> {
  const { url } = yield* TestDatabase
  const service = yield* Cli.spawn({ DATABASE_URL: Redacted.value(url), ...env }, ["start", "--tasks", tasks])
  yield* service.says(env.WORKER_HTTP_PORT === "off" ? "worker started" : "address=http")
  return { url: /address=(http:\S+)/.exec(service.output().stderr)?.[1] ?? "", service }
})

/** One service for a file of tests. */
export class Dashboard extends Context.Service<Dashboard, Site>()("spindle/test/Dashboard") {
  static readonly layer = Layer.effect(this, start({ JOB_CONCURRENCY: "20", WORKER_ID: "shown" }))
}

/** A migrated database, a service on it and a browser. */
export const layer = Layer.merge(Browser.layer, Dashboard.layer).pipe(Layer.provideMerge(TestDatabase.layerSql()))

export interface Options extends Playwright.BrowserContextOptions {
  /** Console messages that belong to what the test does: the browser notes every answer of 400 and above. */
  readonly expected?: RegExp | undefined
  readonly site?: Site | undefined
}

export interface Visit {
  readonly page: Page
  readonly context: Playwright.BrowserContext
  readonly url: string
  /** Opens a page of the dashboard. */
  readonly open: (path: string) => Promise<void>
}

/** Lets somebody visit the dashboard, and holds that nothing went wrong on any page they saw. */
export const visit = Effect.fnUntraced(function*(run: (visit: Visit) => Promise<void>, options: Options = {}) {
  const { expected, site, ...given } = options
  const browser = yield* Browser
  const { url } = site ?? (yield* Dashboard)
  const context = yield* Effect.acquireRelease(
    Effect.promise(() => browser.newContext({ viewport: { width: 1280, height: 900 }, ...given })),
    (context) => Effect.promise(() => context.close())
  )
  const wrong: Array<string> = []
  context.setDefaultTimeout(15_000)
  context.on("console", (message) => {
    const text = message.text()
    if ((message.type() === "error" || message.type() === "warning") && expected?.test(text) !== true) {
      wrong.push(`console: ${text} (${message.location().url})`)
    }
  })
  context.on("weberror", (error) => wrong.push(`error: ${error.error().stack ?? error.error().message}`))
  context.on("request", (request) => {
    const { origin, protocol } = new URL(request.url())
    if (protocol !== "data:" && origin !== new URL(url).origin) wrong.push(`request: ${request.url()}`)
  })
  yield* Effect.promise(async () => {
    await context.addInitScript(() =>
      addEventListener("securitypolicyviolation", ({ blockedURI, violatedDirective }) => {
        // eslint-disable-next-line no-console
        console.error(`violates ${violatedDirective}: ${blockedURI}`)
      })
    )
    const page = await context.newPage()
    await run({
      page,
      context,
      url,
      open: async (path) => {
        await page.goto(new URL(path, url).href)
      }
    })
  })
  assert.deepStrictEqual(wrong, [])
}, Effect.scoped)

/** Asks the API as a program does. */
export const ask = async <A>(url: string, path: string, body?: unknown): Promise<A> => {
  const response = await fetch(
    new URL(path, url),
    body === undefined
      ? {}
      : { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) }
  )
  const answer = await response.text()
  assert.isTrue(response.ok, `${response.status} ${answer}`)
  return JSON.parse(answer) as A
}

/** Enqueues a task, and returns its id. */
export const enqueue = async (url: string, type: string, payload: unknown, options?: object): Promise<string> =>
  (await ask<{ readonly id: string }>(url, "/api/tasks", { type, payload, ...options })).id

/** The text of a task that is over, as the API has it. */
export const textOf = async (url: string, id: string): Promise<string> => {
  const stream = await fetch(new URL(`/api/tasks/${id}/events`, url)).then((response) => response.text())
  return [...stream.matchAll(/event: text_delta\ndata: (.*)/g)].map(([, data]) => JSON.parse(data!).text).join("")
}

/** Waits until a task has this status. */
export const awaitStatus = async (url: string, id: string, status: string): Promise<void> => {
  for (;;) {
    const task = await ask<{ readonly status: string }>(url, `/api/tasks/${id}`)
    if (task.status === status) return
  }
}

/** The page and its server: one that goes away, one that asks for a token, and one that only shows. */
import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import * as Browser from "../support/Browser.ts"
import * as Port from "../support/Port.ts"

const token = "0123456789abcdef0123456789abcdef"
const banner = (page: Browser.Page) => page.getByRole("alert").filter({ hasText: "Disconnected, retrying." })
const lengthOver = (page: Browser.Page, length: number) =>
  page.waitForFunction((length) => (document.querySelector("[role=log]")?.textContent?.length ?? 0) > length, length)
const textOf = (page: Browser.Page) => page.getByRole("log").evaluate((box) => box.textContent)
const follow = (page: Browser.Page, state: string) => page.locator(".follow", { hasText: state }).waitFor()
const run = (effect: Effect.Effect<void>) => Effect.runPromise(effect)

layer(Browser.layer, { excludeTestServices: true })("the page before its server", (it) => {
  it.effect.each(["SIGTERM", "SIGKILL"] as const)(
    "says that it is lost by %s, and goes on by itself",
    (signal) =>
      Effect.gen(function*() {
        const port = String(yield* Port.free)
        const shown = { WORKER_HTTP_PORT: port, WORKER_TASK_TYPES: "call", WORKER_QUEUES: "nothing" }
        // The task runs in another process, which stays.
        const elsewhere = { WORKER_HTTP_PORT: "off", WORKER_TASK_TYPES: "demo:stream" }
        const [first] = yield* Effect.all([Browser.start(shown), Browser.start(elsewhere)], { concurrency: 2 })
        const context = yield* Effect.context<Effect.Services<ReturnType<typeof Browser.start>>>()
        const restart = (env: Record<string, string>) => Effect.runPromiseWith(context)(Browser.start(env))
        yield* Browser.visit(async ({ context, open, page, url }) => {
          const id = await Browser.enqueue(url, "demo:stream", { tokens: 100_000, perSecond: 40 })
          await Browser.awaitStatus(url, id, "processing")
          await open(`/tasks/${id}`)
          await follow(page, "live")
          await lengthOver(page, 0)
          const overview = await context.newPage()
          await overview.goto(url)
          await overview.getByText(/^version \d/).waitFor()
          await overview.locator(".health .fine, .health .warnings").waitFor()

          await run(first.service.signal(signal))
          await run(Effect.asVoid(first.service.ended))
          await banner(overview).waitFor()
          await overview.getByRole("button", { name: "Pause refreshing" }).getByText("lost").waitFor()
          assert.isTrue(await overview.locator("main").evaluate(({ classList }) => classList.contains("stale")))
          await overview.getByText("The server cannot be reached.").first().waitFor()
          assert.isAbove(await overview.locator(".panel").count(), 4, "what was known is still shown")
          await banner(page).waitFor()
          await follow(page, "reconnecting")
          const before = await textOf(page)
          assert.match(before, /^(token \d+ )+$/)

          await restart(shown)
          await banner(overview).waitFor({ state: "detached" })
          await overview.getByRole("button", { name: "Pause refreshing" }).getByText("live").waitFor()
          assert.isFalse(await overview.locator("main").evaluate(({ classList }) => classList.contains("stale")))
          await lengthOver(page, before.length)
          assert.isTrue((await textOf(page)).startsWith(before))
          await Browser.ask(url, `/api/tasks/${id}/cancel`, {})
          await follow(page, "ended")
          const text = await textOf(page)
          assert.strictEqual(text, await Browser.textOf(url, id))
          assert.deepStrictEqual(
            [...text.matchAll(/\d+/g)].map(([number]) => Number(number)),
            Array.from(text.matchAll(/token/g), (_, index) => index + 1)
          )
          assert.strictEqual(await page.getByText("It started over.").count(), 0)
          await page.locator("header.title .badge", { hasText: "cancelled" }).waitFor()
        }, { site: first, expected: /net::ERR_|50[0-9]/ })
      }),
    120_000
  )

  it.effect("is lost where an answer breaks off, and goes on by itself", () =>
    Browser.visit(async ({ open, page }) => {
      await page.addInitScript(() => {
        const real = fetch
        Object.assign(window, { breaks: true })
        window.fetch = async (...asked) => {
          const answer = await real(...asked)
          if (!answer.url.endsWith("/api/queues") || !(window as any).breaks) return answer
          const broken = new ReadableStream({ start: (controller) => controller.error(new TypeError("network error")) })
          return new Response(broken, answer)
        }
      })
      await open("/queues")
      await page.getByRole("alert").getByText("The server's answer broke off.").first().waitFor()
      await page.evaluate(() => Object.assign(window, { breaks: false }))
      await page.getByText("No queue has a task yet").or(page.locator("table.queues")).waitFor()
      await banner(page).waitFor({ state: "detached" })
    }))

  it.effect("asks for the token, and then shows the page that was asked for", () =>
    Effect.gen(function*() {
      const site = yield* Browser.start({ WORKER_HTTP_TOKEN: token, WORKER_TASK_TYPES: "call" })
      yield* Browser.visit(async ({ context, open, page, url }) => {
        await open("/tasks?tag=mine")
        const field = page.getByLabel("Token")
        await field.waitFor()
        assert.strictEqual(await field.getAttribute("type"), "password")
        await field.fill("not the token")
        await page.getByRole("button", { name: "Sign in" }).click()
        await page.getByRole("alert").filter({ hasText: "This is not the token." }).waitFor()
        await field.fill(token)
        await page.keyboard.press("Enter")
        await page.getByRole("heading", { name: "Tasks", exact: true }).waitFor()
        assert.strictEqual(page.url(), new URL("/tasks?tag=mine", url).href)
        await page.getByText("No task matches.").waitFor()
        const [cookie] = await context.cookies()
        assert.deepInclude(cookie, { httpOnly: true, sameSite: "Strict" })
        assert.strictEqual(await page.evaluate(() => document.cookie), "")
        assert.notInclude(JSON.stringify([await context.storageState(), page.url()]), token)

        const signOut = page.getByRole("button", { name: "Sign out" })
        const logout = (url: URL) => url.pathname === "/api/logout"
        await page.route(logout, (route) => route.abort())
        await signOut.click()
        await page.getByText("You are still signed in: The server cannot be reached.").waitFor()
        await page.unroute(logout)
        // What the page asks meanwhile is refused, and asked again, before it learns that the session has ended.
        await page.route(logout, async (route) => {
          const response = await route.fetch()
          const first = await page.waitForResponse((other) => other.status() === 401)
          await page.waitForResponse((other) => other.status() === 401 && other.url() === first.url())
          await route.fulfill({ response })
        })
        await signOut.click()
        await page.waitForURL(/\/login$/)
        await page.getByLabel("Token").fill(token)
        await page.keyboard.press("Enter")
        await page.getByRole("heading", { name: "Overview" }).waitFor({ state: "attached" })

        // A session that ends while a page is open leads to the login page, and back.
        await page.getByRole("link", { name: "Queues" }).click()
        await page.getByText("No queue has a task yet").or(page.locator("table.queues")).waitFor()
        await context.clearCookies()
        await page.waitForURL(/\/login\?from=%2Fqueues$/)
        await page.getByLabel("Token").fill(token)
        await page.keyboard.press("Enter")
        await page.waitForURL(/\/queues$/)

        // It does so again on a page that the browser has kept, when one goes back to it.
        const asksForToken = () => page.waitForRequest((request) => request.url().endsWith("/login?from=%2Fqueues"))
        await page.route((url) => url.pathname === "/login", (route) => route.fulfill({ status: 204 }))
        await Promise.all([asksForToken(), context.clearCookies()])
        await Promise.all([
          asksForToken(),
          page.evaluate(() => dispatchEvent(new PageTransitionEvent("pageshow", { persisted: true })))
        ])
      }, { site, expected: /401|ERR_FAILED/ })
      // It leads nowhere else.
      yield* Browser.visit(async ({ open, page, url }) => {
        for (const from of ["https://example.com/", "//example.com/", "javascript:alert(1)", "/\\example.com"]) {
          await open(`/login?${new URLSearchParams({ from })}`)
          await page.getByLabel("Token").fill(token)
          await page.keyboard.press("Enter")
          await page.getByRole("navigation", { name: "Pages" }).waitFor()
          assert.strictEqual(new URL(page.url()).origin, new URL(url).origin, from)
        }
      }, { site, expected: /401/ })
    }), 60_000)

  it.effect("has no actions where the server only shows", () =>
    Effect.gen(function*() {
      const { url: other } = yield* Browser.Dashboard
      const site = yield* Browser.start({ WORKER_HTTP_READONLY: "true", WORKER_TASK_TYPES: "call" })
      yield* Browser.visit(async ({ open, page }) => {
        const id = await Browser.enqueue(other, "call", { url: "", apiKey: "", times: 1 }, { delayMs: 3_600_000 })
        await open("/tasks")
        await page.locator(`tr[data-row="${id}"]`).waitFor()
        await page.getByText("read-only").waitFor()
        assert.strictEqual(await page.locator("input[type=checkbox]").count(), 0)
        assert.strictEqual(await page.locator(".bulk").count(), 0)
        await page.locator(`tr[data-row="${id}"] a`).click()
        await page.getByText("This server only shows.").waitFor()
        assert.strictEqual(await page.locator(".actions").count(), 0)
        await page.keyboard.press("c")
        await page.keyboard.press("?")
        const keys = page.getByRole("dialog", { name: "Keys" })
        await keys.waitFor()
        assert.strictEqual(await keys.getByText("Cancel the task").count(), 0)
        await page.keyboard.press("Escape")
        assert.strictEqual(
          await page.getByRole("navigation", { name: "Pages" }).getByRole("link", { name: "Enqueue" }).count(),
          0
        )
        await open("/enqueue")
        await page.getByText("WORKER_HTTP_READONLY is set").waitFor()
        assert.strictEqual(await page.getByRole("button", { name: "Enqueue" }).count(), 0)
      }, { site })
    }), 60_000)
})

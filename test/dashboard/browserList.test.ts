/** The list of tasks: finding them, walking through them, and acting on many. */
import { PgClient } from "@effect/sql-pg"
import { assert, layer } from "@effect/vitest"
import { Deferred, Effect, Fiber } from "effect"
import * as Browser from "../support/Browser.ts"

const rows = (page: Browser.Page) => page.locator("tr[data-row]")
const idsOf = (page: Browser.Page) =>
  rows(page).evaluateAll((rows) => rows.map((row) => (row as HTMLElement).dataset.row!))
const current = (page: Browser.Page) =>
  page.evaluate(() => (document.activeElement as HTMLElement | null)?.dataset.row ?? null)
const tab = (page: Browser.Page, status: string, count: number) =>
  page.getByRole("navigation", { name: "Status" }).getByRole("link", { name: `${status} ${count}`, exact: true })
const toast = (page: Browser.Page, text: string) => page.locator(".toast", { hasText: text }).waitFor()
const settled = (page: Browser.Page, count: number) =>
  page.waitForFunction((count) => document.querySelectorAll("tr[data-row]").length === count, count)
const inAll = (page: Browser.Page, count: number) => page.getByText(`${count} in all`).waitFor()

/** Tasks that nobody runs, with a tag of their own. */
const scheduled = Effect.fnUntraced(function*(tag: string, count: number, type = "call") {
  const sql = yield* PgClient.PgClient
  const found = yield* sql<{ readonly id: string }>`
    insert into spindle.tasks (type, tag, payload, run_at)
    select ${type}, ${tag}, jsonb_build_object('number', n), now() + interval '1 day'
      from generate_series(1, ${count}::int) n
    returning id::text`
  return found.map(({ id }) => id).toReversed()
})

/** Tasks that have ended, one of each kind. */
const ended = Effect.fnUntraced(function*(tag: string) {
  const sql = yield* PgClient.PgClient
  yield* sql`
    insert into spindle.tasks (type, tag, payload, status, attempts, epoch, started_at, finished_at, error)
    select 'demo:sleep', ${tag}, '{"ms": 0}', status, 1, 1, now(), now(),
           case status when 'failed' then '{"kind": "defect", "tag": "Boom", "message": "broke"}'::jsonb end
      from unnest(array['completed', 'failed', 'cancelled']) status`
  const found = yield* sql<{ readonly status: string; readonly id: string }>`
    select status, id::text from spindle.tasks where tag = ${tag}`
  return Object.fromEntries(found.map(({ id, status }) => [status, id])) as Record<string, string>
})

const statusesOf = Effect.fnUntraced(function*(tag: string) {
  const sql = yield* PgClient.PgClient
  const found = yield* sql<{ readonly status: string; readonly count: number }>`
    select status, count(*)::int as count from spindle.tasks where tag = ${tag} group by 1`
  return Object.fromEntries(found.map(({ count, status }) => [status, count]))
})

layer(Browser.layer, { excludeTestServices: true })("the list of tasks", (it) => {
  it.effect("is narrowed by typing, and its address shows the same to somebody else", () =>
    Effect.gen(function*() {
      const wanted = yield* scheduled("wanted", 3)
      yield* scheduled("other", 4)
      yield* Browser.visit(async ({ context, open, page }) => {
        await open("/tasks")
        await rows(page).first().waitFor()
        await page.getByLabel("Tag").fill("wanted")
        await settled(page, 3)
        await page.waitForURL(/\/tasks\?tag=wanted$/)
        await page.getByLabel("Search").fill(`"number": 2`)
        await settled(page, 1)
        assert.deepStrictEqual(await idsOf(page), [wanted[1]!])
        const address = page.url()

        const another = await context.newPage()
        await another.goto(address)
        await settled(another, 1)
        assert.deepStrictEqual(await idsOf(another), [wanted[1]!])
        assert.strictEqual(await another.getByLabel("Tag").inputValue(), "wanted")
        assert.strictEqual(await another.getByLabel("Search").inputValue(), `"number": 2`)
        await another.close()

        await page.reload()
        await settled(page, 1)
        await page.goBack()
        await settled(page, 3)
        assert.strictEqual(await page.getByLabel("Search").inputValue(), "")
        await rows(page).first().getByRole("link").click()
        await page.getByRole("heading", { name: `Task ${wanted[0]}` }).waitFor()
        await page.goBack()
        await settled(page, 3)
        await page.getByRole("button", { name: "Clear" }).click()
        await page.waitForURL(/\/tasks$/)
        await page.getByLabel("Search").fill("no such text anywhere")
        await page.getByText("No task matches.").waitFor()
      })
    }))

  it.effect("keeps what is typed while the page follows its address", () =>
    Effect.gen(function*() {
      const [, wanted] = yield* scheduled("hasty", 3)
      yield* Browser.visit(async ({ open, page }) => {
        await open("/tasks?tag=nobody")
        await page.getByText("No task matches.").waitFor()
        // Before the page is painted anew, as on a machine with much to do.
        await page.evaluate(async (wanted) => {
          const next = () =>
            new Promise((resolve) => {
              const { port1, port2 } = new MessageChannel()
              port1.addEventListener("message", resolve)
              port1.start()
              port2.postMessage("next")
            })
          document.querySelector<HTMLButtonElement>("button.clear")!.click()
          await next()
          const search = document.querySelector<HTMLInputElement>("[name=q]")!
          search.value = wanted
          search.dispatchEvent(new Event("input", { bubbles: true }))
        }, wanted!)
        await page.waitForURL((url) => url.search === `?q=${wanted}`)
        await rows(page).first().and(page.locator(`[data-row="${wanted}"]`)).waitFor()
        assert.strictEqual(await page.getByLabel("Search").inputValue(), wanted)
      })
    }))

  it.effect("takes along what has just been typed when another status is chosen", () =>
    Effect.gen(function*() {
      const ids = yield* scheduled("along", 2)
      yield* Browser.visit(async ({ open, page }) => {
        const choose = (typed: string, selector: string) =>
          page.evaluate(([typed, selector]) => {
            const search = document.querySelector<HTMLInputElement>("[name=q]")!
            search.value = typed!
            search.dispatchEvent(new Event("input", { bubbles: true }))
            document.querySelector<HTMLElement>(selector!)!.click()
          }, [typed, selector])
        await open("/tasks?tag=along")
        await settled(page, 2)
        await choose(ids[0]!, ".tabs a.queued")
        await page.waitForURL((url) => url.search === `?status=queued&q=${ids[0]}&tag=along`)
        await settled(page, 1)
        assert.strictEqual(await page.getByLabel("Search").inputValue(), ids[0])
        await page.goBack()
        await page.waitForURL((url) => url.search === "?tag=along")
        assert.strictEqual(await page.getByLabel("Search").inputValue(), "")
        await settled(page, 2)
        await page.getByLabel("Search").fill("nothing")
        await page.getByRole("button", { name: "Clear" }).click()
        await page.waitForURL(/\/tasks$/)
        assert.strictEqual(await page.getByLabel("Search").inputValue(), "")
      })
    }))

  it.effect("goes to older pages and back, and remembers the way through a reload", () =>
    Effect.gen(function*() {
      const ids = yield* scheduled("long", 120)
      yield* Browser.visit(async ({ context, open, page }) => {
        await open("/tasks?tag=long")
        const first = ids.slice(0, 50)
        const second = ids.slice(50, 100)
        const third = ids.slice(100)
        const shows = (ids: ReadonlyArray<string>, on = page) =>
          on.waitForFunction(
            (ids) =>
              [...document.querySelectorAll<HTMLElement>("tr[data-row]")].map((row) => row.dataset.row).join() === ids,
            ids.join()
          )
        await shows(first)
        await inAll(page, 120)
        const newer = page.getByRole("button", { name: "Newer" })
        const older = page.getByRole("button", { name: "Older" })
        assert.isTrue(await newer.isDisabled())
        await older.click()
        await shows(second)
        await page.keyboard.press("n")
        await shows(third)
        assert.isTrue(await older.isDisabled())
        await page.reload()
        await shows(third)
        await newer.click()
        await shows(second)
        await page.keyboard.press("p")
        await shows(first)
        await page.goBack()
        await shows(second)

        const another = await context.newPage()
        await another.goto(page.url())
        await shows(second, another)
        await another.getByRole("button", { name: "Newest" }).click()
        await shows(first, another)
      })
    }))

  it.effect("has a tab for each status with its count, which follows what happens", () =>
    Effect.gen(function*() {
      yield* ended("tabs")
      yield* scheduled("tabs", 2)
      yield* Browser.visit(async ({ open, page }) => {
        await open("/tasks?tag=tabs")
        for (const [status, count] of [["all", 5], ["queued", 2], ["processing", 0], ["failed", 1]] as const) {
          await tab(page, status, count).waitFor()
        }
        await tab(page, "failed", 1).click()
        await settled(page, 1)
        await page.getByRole("cell", { name: "Boom broke" }).waitFor()
        assert.strictEqual(new URL(page.url()).search, "?tag=tabs&status=failed")
        assert.strictEqual(await tab(page, "failed", 1).getAttribute("aria-current"), "page")
      })
      yield* Browser.visit(async ({ open, page, url }) => {
        await open("/tasks?status=processing")
        await tab(page, "processing", 0).waitFor()
        const id = await Browser.enqueue(url, "demo:sleep", { ms: 3_600_000 })
        await settled(page, 1)
        await tab(page, "processing", 1).waitFor()
        await Browser.ask(url, `/api/tasks/${id}/cancel`, {})
        await settled(page, 0)
        await tab(page, "processing", 0).waitFor()
      })
    }))

  it.effect("cancels everything that matches after a question", () =>
    Effect.gen(function*() {
      yield* scheduled("many", 300)
      yield* Browser.visit(async ({ open, page }) => {
        await open("/tasks?tag=many")
        await settled(page, 50)
        await page.getByLabel("Select all on this page").check()
        await page.getByText("50 tasks selected").waitFor()
        await page.getByRole("button", { name: "Select all 300 tasks that match" }).click()
        const cancel = page.locator(".bulk").getByRole("button", { name: "Cancel" })
        await cancel.click()
        await page.getByRole("dialog", { name: "Cancel all 300 tasks that match?" }).waitFor()
        await page.keyboard.press("Escape")
        await page.getByRole("dialog").waitFor({ state: "detached" })
        await tab(page, "queued", 300).waitFor()
        await cancel.click()
        await page.getByRole("dialog").getByRole("button", { name: "Cancel all 300 tasks that match" }).click()
        await toast(page, "300 tasks cancelled.")
        await page.goto(page.url())
        await tab(page, "cancelled", 300).waitFor()
        await tab(page, "queued", 0).waitFor()
      })
      assert.deepStrictEqual(yield* statusesOf("many"), { cancelled: 300 })
    }))

  it.effect("says how many tasks others have locked", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      yield* scheduled("locked", 5)
      const locked = yield* Deferred.make<void>()
      const free = yield* Deferred.make<void>()
      const holder = yield* Effect.forkChild(sql.withTransaction(Effect.gen(function*() {
        yield* sql`select from spindle.tasks where tag = 'locked' order by id limit 2 for update`
        yield* Deferred.succeed(locked, undefined)
        yield* Deferred.await(free)
      })))
      yield* Deferred.await(locked)
      yield* Browser.visit(async ({ open, page }) => {
        await open("/tasks?tag=locked")
        await settled(page, 5)
        await page.getByLabel("Select all on this page").check()
        await page.locator(".bulk").getByRole("button", { name: "Cancel" }).click()
        await page.getByRole("dialog").getByRole("button", { name: "Cancel 5 tasks" }).click()
        await toast(page, "3 tasks cancelled. 2 tasks stayed, as another transaction holds them: try again.")
      })
      yield* Deferred.succeed(free, undefined)
      yield* Fiber.join(holder)
    }))

  it.effect("runs completed tasks again only where nothing else is looked at", () =>
    Effect.gen(function*() {
      const ids = yield* ended("again")
      yield* Browser.visit(async ({ open, page, url }) => {
        const bodies: Array<any> = []
        page.on("request", (request) => {
          if (request.url().endsWith("/bulk")) bodies.push(request.postDataJSON())
        })
        const again = async (tasks: string) => {
          await settled(page, Number(tasks))
          await page.getByLabel("Select all on this page").check()
          await page.locator(".bulk").getByRole("button", { name: "Run again" }).click()
          const dialog = page.getByRole("dialog")
          await dialog.getByRole("button", { name: `Run ${tasks} task${tasks === "1" ? "" : "s"} again` }).click()
        }
        await open("/tasks?tag=again")
        await again("3")
        await toast(page, "2 tasks queued again. 1 task stayed: the action does not apply to their state.")
        assert.deepStrictEqual(bodies.map(({ filter }) => filter.status), ["failed", "cancelled"])
        await Browser.awaitStatus(url, ids.failed!, "completed")
        await Browser.awaitStatus(url, ids.cancelled!, "completed")
        const untouched = await Browser.ask<any>(url, `/api/tasks/${ids.completed}`)
        assert.strictEqual(untouched.epoch, "1")

        await open("/tasks?tag=again&status=completed")
        await again("3")
        await toast(page, "3 tasks queued again.")
        assert.strictEqual(bodies.at(-1).filter.status, "completed")
      })
    }))

  it.effect("goes by the server's clock, however wrong that of the browser is", () =>
    Effect.gen(function*() {
      const [id] = yield* scheduled("skewed", 1)
      yield* Browser.visit(async ({ open, page }) => {
        await page.clock.install({ time: Date.now() + 26 * 3_600_000 })
        await open("/tasks?tag=skewed")
        const row = page.locator(`tr[data-row="${id}"]`)
        await row.locator(".badge.scheduled").waitFor()
        await row.locator(".when", { hasText: /just now|^\d+ s ago/ }).waitFor()
      })
    }))

  it.effect("keeps a page until the next one is there, and does not go on from it twice", () =>
    Effect.gen(function*() {
      const ids = yield* scheduled("turned", 60)
      yield* Browser.visit(async ({ open, page }) => {
        await open("/tasks?tag=turned")
        await settled(page, 50)
        const asked = Promise.withResolvers<void>()
        const answer = Promise.withResolvers<void>()
        await page.route(
          (address) => address.pathname === "/api/tasks" && address.searchParams.has("before"),
          async (route) => {
            asked.resolve()
            await answer.promise
            await route.continue()
          }
        )
        await page.getByRole("button", { name: "Older" }).click()
        await asked.promise
        assert.deepStrictEqual(await idsOf(page), ids.slice(0, 50))
        assert.isTrue(await page.getByRole("button", { name: "Older" }).isDisabled())
        answer.resolve()
        await settled(page, 10)
        await inAll(page, 60)
        await page.unrouteAll({ behavior: "wait" })
      })
    }))

  it.effect("offers only what can be done, groups what fails alike, and says priorities and why tasks wait", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      yield* sql`
        insert into spindle.tasks (type, tag, status, attempts, epoch, started_at, finished_at, error)
        select 'call', 'alike', 'failed', 1, 1, now(), now(), '{"kind": "failure", "tag": "Down", "message": "no answer"}'
          from generate_series(1, 60)`
      yield* sql`insert into spindle.tasks (type, tag, priority) values ('nobody:knows', 'alike', 7)`
      yield* Browser.visit(async ({ open, page }) => {
        await open("/tasks?tag=alike&status=failed")
        await settled(page, 50)
        await page.getByLabel("Select all on this page").check()
        const bulk = (name: string) => page.locator(".bulk").getByRole("button", { name, exact: true })
        assert.isTrue(await bulk("Cancel").isDisabled())
        assert.isFalse(await bulk("Run again").isDisabled())
        await page.getByRole("button", { name: "Select all 60 tasks that match" }).click()
        assert.isTrue(await bulk("Cancel").isDisabled())
        await page.locator(".groups li", { hasText: "60 ×" }).getByRole("link", { name: "Down no answer" }).click()
        await page.waitForURL(/q=no/)
        await inAll(page, 60)

        await open("/tasks?tag=alike&status=queued")
        const row = rows(page).first()
        await row.getByRole("cell", { name: "no worker here handles it" }).waitFor()
        assert.strictEqual(await row.locator(".priority").textContent(), "7")
        for (const width of [390, 1000, 1440]) {
          await page.setViewportSize({ width, height: 800 })
          await row.locator(width > 960 ? ".priority" : ".meta", { hasText: "7" }).waitFor()
          await row.locator(".error", { hasText: "no worker here" }).waitFor()
        }
        await row.getByRole("link").click()
        await page.locator(".why", { hasText: "No worker of this process handles the type nobody:knows." }).waitFor()
        await page.locator(".follow", { hasText: "not started" }).waitFor()
      })
    }))

  it.effect("withdraws its question when the reader goes elsewhere", () =>
    Effect.gen(function*() {
      const [id] = yield* scheduled("asked", 1)
      yield* Browser.visit(async ({ open, page }) => {
        await open("/tasks?tag=asked")
        await page.locator(".tabs a.queued").click()
        await page.getByLabel(`Select task ${id}`).check()
        await page.locator(".bulk").getByRole("button", { name: "Cancel", exact: true }).click()
        await page.getByRole("dialog").waitFor()
        await page.goBack()
        await page.getByRole("dialog").waitFor({ state: "detached" })
        await page.locator(`tr[data-row="${id}"] .badge.scheduled`).waitFor()
      })
    }))

  it.effect("is used with the keyboard alone", () =>
    Effect.gen(function*() {
      const ids = yield* scheduled("keys", 3)
      yield* Browser.visit(async ({ open, page }) => {
        await open("/")
        const overview = page.getByRole("heading", { name: "Overview" })
        await overview.waitFor({ state: "attached" })
        await page.keyboard.press("/")
        await page.locator("[name=q]:focus").waitFor()
        await page.goBack()
        await overview.waitFor({ state: "attached" })
        // Keys that belong together are pressed within a moment: the second does not wait to hear of the first.
        await Promise.all([page.keyboard.press("g"), page.keyboard.press("t")])
        await page.waitForURL(/\/tasks$/)
        await rows(page).first().waitFor()
        await page.getByText("Select tasks to act on many at once").waitFor()
        await page.keyboard.press("/")
        await page.keyboard.type("keys")
        await page.keyboard.press("Enter")
        await page.waitForURL(/q=keys$/)
        await settled(page, 3)
        await page.keyboard.type("j")
        assert.strictEqual(await page.getByLabel("Search").inputValue(), "keysj", "while typing a key is a letter")
        await page.keyboard.press("Backspace")
        // Whether the letter was looked for meanwhile or not: now it is not.
        await page.keyboard.press("Enter")
        await page.waitForURL(/q=keys$/)
        await settled(page, 3)
        await page.keyboard.press("Escape")
        await page.keyboard.press("j")
        assert.strictEqual(await current(page), ids[0])
        await page.keyboard.press("j")
        await page.keyboard.press("j")
        await page.keyboard.press("j")
        assert.strictEqual(await current(page), ids[2], "the last row is the last")
        await page.keyboard.press("k")
        assert.strictEqual(await current(page), ids[1])
        await page.keyboard.press("x")
        await page.getByText("1 task selected").waitFor()
        await page.keyboard.press("Escape")
        await page.getByText("Select tasks to act on many at once").waitFor()
        await page.keyboard.press("?")
        const help = page.getByRole("dialog", { name: "Keys" })
        await help.getByText("Select the row").waitFor()
        await page.keyboard.press("j")
        await page.keyboard.press("Escape")
        await help.waitFor({ state: "detached" })
        assert.strictEqual(await current(page), ids[1], "the focus is back where it was")
        await page.keyboard.press("Enter")
        await page.getByRole("heading", { name: `Task ${ids[1]}` }).waitFor()
        await page.keyboard.press("c")
        await page.getByRole("dialog", { name: `Cancel task ${ids[1]}?` }).waitFor()
        await page.keyboard.press("Enter")
        await page.locator("header.title .badge", { hasText: "cancelled" }).waitFor()
      })
    }))
})

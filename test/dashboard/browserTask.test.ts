/** Enqueuing a task, looking at it while it runs, and acting on it. */
import { PgClient } from "@effect/sql-pg"
import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import * as Browser from "../support/Browser.ts"

const log = (page: Browser.Page) => page.getByRole("log").last()
const textOf = (page: Browser.Page) =>
  log(page).evaluate((box) => [...box.children].map(({ textContent }) => textContent).join("\n"))
const lengthOver = (page: Browser.Page, length: number) =>
  page.waitForFunction((length) => (document.querySelector("[role=log]")?.textContent?.length ?? 0) > length, length)
const answer = (page: Browser.Page, button: string) =>
  page.getByRole("dialog").getByRole("button", { name: button, exact: true }).click()
const action = (page: Browser.Page, name: string) => page.locator(".actions").getByRole("button", { name, exact: true })
const follow = (page: Browser.Page, state: string) => page.locator(".follow", { hasText: state }).waitFor()
const badge = (page: Browser.Page, state: string) => page.locator("header.title .badge", { hasText: state }).waitFor()
const toast = (page: Browser.Page, text: string) => page.locator(".toast", { hasText: text }).waitFor()

layer(Browser.layer, { excludeTestServices: true })("a task on the page", (it) => {
  it.effect("shows a text grow that was asked for with the form, until it is cancelled", () =>
    Browser.visit(async ({ open, page, url }) => {
      await open("/enqueue")
      await page.getByRole("button", { name: /^demo:stream/ }).click()
      await page.getByLabel("tokens", { exact: true }).fill("100000")
      await page.getByLabel("perSecond", { exact: true }).fill("40")
      await page.getByRole("button", { name: "Enqueue" }).click()
      await page.waitForURL(/\/tasks\/\d+$/)
      const id = /\d+$/.exec(page.url())![0]
      await follow(page, "live")
      await lengthOver(page, 0)
      const first = await textOf(page)
      await lengthOver(page, first.length)
      assert.isTrue((await textOf(page)).startsWith(first))

      await action(page, "Cancel").click()
      await answer(page, "Cancel the task")
      await toast(page, `Task ${id} is cancelled.`)
      await badge(page, "cancelled")
      await follow(page, "ended")
      const steps = page.locator(".cancel .steps li")
      assert.deepStrictEqual(await steps.locator("b").allTextContents(), [
        "Requested",
        "Handler interrupted",
        "Finalizers done",
        "Closed"
      ])
      await page.locator(".cancel .steps", { hasText: /\+ [\d.]+ m?s.*\+ [\d.]+ m?s.*= [\d.]+ m?s/s }).waitFor()
      assert.strictEqual(await textOf(page), await Browser.textOf(url, id))
      assert.isTrue(await action(page, "Cancel").isDisabled())
    }))

  it.effect("says so when a task had ended before it could be cancelled", () =>
    Browser.visit(async ({ open, page, url }) => {
      const id = await Browser.enqueue(url, "demo:sleep", { ms: 3_600_000 })
      await Browser.awaitStatus(url, id, "processing")
      await open(`/tasks/${id}`)
      await action(page, "Cancel").click()
      await answer(page, "Back")
      await page.getByRole("dialog").waitFor({ state: "detached" })
      await badge(page, "processing")
      await action(page, "Cancel").click()
      await page.getByRole("dialog").waitFor()
      await Browser.ask(url, `/api/tasks/${id}/cancel`, {})
      await answer(page, "Cancel the task")
      await toast(page, "It had been cancelled already.")

      const other = await Browser.enqueue(url, "demo:sleep", { ms: 0 }, { delayMs: 3_600_000 })
      await open(`/tasks/${other}`)
      await action(page, "Cancel").click()
      await page.getByRole("dialog").waitFor()
      await Browser.ask(url, `/api/tasks/${other}/run-now`, {})
      await Browser.awaitStatus(url, other, "completed")
      await answer(page, "Cancel the task")
      await toast(page, "It had completed already: there was nothing left to cancel.")
      await badge(page, "completed")
      assert.strictEqual(await action(page, "Cancel").getAttribute("title"), "It is completed already")
    }))

  it.effect("starts the text over when a failed task runs again", () =>
    Browser.visit(async ({ open, page, url }) => {
      const id = await Browser.enqueue(url, "echo", { text: "so it goes" })
      await open(`/tasks/${id}`)
      await badge(page, "failed")
      await follow(page, "ended")
      await page.locator(".events li", { hasText: "error" }).waitFor()
      assert.strictEqual(await textOf(page), "attempt 1: so it goes")
      await action(page, "Run again").click()
      await answer(page, "Run it again")
      await toast(page, `Task ${id} is queued again.`)
      await page.getByText("It started over.").waitFor()
      await page.getByText("What an earlier attempt said (1 of 1, 21 characters)").waitFor()
      await follow(page, "ended")
      await badge(page, "failed")
      assert.strictEqual(await textOf(page), "attempt 1: so it goes")
    }))

  const endings = [
    ["done", "completed", "demo:stream", { tokens: 20, perSecond: 20 }],
    ["error", "failed", "echo", { text: "an error of the task is none of the connection" }]
  ] as const

  for (const [event, status, type, payload] of endings) {
    it.effect(`is done with a stream that ended with ${event}`, () =>
      Browser.visit(async ({ open, page, url }) => {
        const id = await Browser.enqueue(url, type, payload, { delayMs: 3_600_000 })
        const answers: Array<number> = []
        page.on("response", (response) => {
          if (response.url().includes("/events")) answers.push(response.status())
        })
        await open(`/tasks/${id}`)
        await badge(page, "scheduled")
        await follow(page, "not started")
        await page.locator(".why", { hasText: /It is due in .*, at \S+ \S+ UTC/ }).waitFor()
        // Asked once more when the row says that it is over: whoever has read the end by then is told that nothing follows.
        const again = page.waitForResponse((response) => response.url().includes("/events"))
        const told = page.locator(".events li .badge", { hasText: event })
        const row = (address: URL) => address.pathname === `/api/tasks/${id}`
        if (event === "done") {
          await page.route(row, async (route) => {
            await told.waitFor()
            await route.continue()
          })
        }
        await action(page, "Run now").click()
        await toast(page, `Task ${id} is due now.`)
        await badge(page, status)
        await told.waitFor()
        await page.unroute(row)
        await again
        await follow(page, "ended")
        const polled = page.waitForResponse((response) => response.url().endsWith(`/api/tasks/${id}`))
        await page.getByRole("button", { name: "Pause refreshing" }).click()
        await page.getByRole("button", { name: "Pause refreshing" }).click()
        await polled
        await follow(page, "ended")
        assert.strictEqual(answers.length, 2)
        if (event === "done") assert.deepStrictEqual(answers, [200, 204])
      }))
  }

  it.effect("tells what is too large to be shown, in place of the value", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      const [row] = yield* sql<{ readonly id: string }>`
        insert into spindle.tasks (type, payload, run_at)
        values ('call', jsonb_build_object('blob', repeat('x', 300000)), now() + interval '1 day')
        returning id::text`
      yield* Browser.visit(async ({ open, page }) => {
        await open(`/tasks/${row!.id}`)
        const payload = page.getByRole("region", { name: "Payload" })
        await payload.getByText(/It is 293\.\d kB of JSON, too much to be shown here/).waitFor()
        assert.strictEqual(await payload.locator("code").textContent(), `spindle show ${row!.id}`)
        assert.strictEqual(await payload.locator(".json").count(), 0)
        await page.getByRole("link", { name: "Edit and run again" }).click()
        await page.getByText("Its payload is too large to be edited here.").waitFor()
      })
    }))

  it.effect("answers while megabytes of text arrive", () =>
    Browser.visit(async ({ open, page, url }) => {
      const id = await Browser.enqueue(url, "flood", { pieces: 2048 })
      await open(`/tasks/${id}`)
      await lengthOver(page, 20_000)
      await page.getByRole("button", { name: "Keys" }).click()
      await page.getByRole("dialog", { name: "Keys" }).waitFor()
      await lengthOver(page, (await textOf(page)).length)
      await page.keyboard.press("Escape")
      await page.getByRole("dialog").waitFor({ state: "detached" })
      await lengthOver(page, 1_024_000)
      await Browser.ask(url, `/api/tasks/${id}/cancel`, {})
      await badge(page, "cancelled")
      await follow(page, "ended")
      const numbers = [...(await textOf(page)).matchAll(/\d{5}/g)].map(([number]) => Number(number))
      assert.isAtLeast(numbers.length, 1000)
      assert.deepStrictEqual(numbers, Array.from(numbers, (_, index) => index))
      await page.getByRole("link", { name: "Queues" }).click()
      await page.getByRole("heading", { name: "Queues", exact: true }).waitFor()
    }))

  it.effect("stays at the end of a text that was long before it was looked at, until the reader goes up", () =>
    Browser.visit(async ({ open, page, url }) => {
      const belowOver = (distance: number) =>
        page.waitForFunction((distance) => {
          const { clientHeight = 0, scrollHeight = 0, scrollTop = 0 } = document.querySelector("[role=log]") ?? {}
          return (scrollHeight - scrollTop - clientHeight > 24) === distance > 24 && scrollHeight > clientHeight
        }, distance)
      const id = await Browser.enqueue(url, "flood", { pieces: 600 })
      await Browser.awaitStatus(url, id, "processing")
      await open(`/tasks/${id}`)
      await lengthOver(page, 600_000)
      await Browser.ask(url, `/api/tasks/${id}/cancel`, {})
      await follow(page, "ended")
      await belowOver(0)
      // As a search in the page does, or a scrollbar that is held for long.
      await log(page).evaluate((box) => box.scrollTo(0, 0))
      await page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve))))
      await belowOver(1000)
      await log(page).evaluate((box) => box.scrollTo(0, box.scrollHeight))
      await belowOver(0)
      await log(page).hover()
      await page.mouse.wheel(0, -3000)
      await belowOver(1000)
      await page.setViewportSize({ width: 1000, height: 900 })
      await belowOver(1000)
    }))

  it.effect("shows beside the form what the server refuses, and keeps what was typed", () =>
    Browser.visit(async ({ open, page }) => {
      await open("/enqueue?type=email:send")
      await page.getByLabel("to", { exact: true }).fill("nobody")
      await page.getByLabel("subject", { exact: true }).fill("Kept")
      await page.getByRole("button", { name: "Enqueue" }).click()
      const to = page.locator(".property", { has: page.getByLabel("to", { exact: true }) }).last()
      await to.getByRole("alert").filter({ hasText: "Expected an address such as" }).waitFor()
      await page.locator("input[aria-invalid=true]:focus").waitFor()
      assert.strictEqual(await page.locator("[aria-invalid=true]").count(), 1)
      assert.strictEqual(new URL(page.url()).pathname, "/enqueue")
      assert.strictEqual(await page.getByLabel("subject", { exact: true }).inputValue(), "Kept")

      await page.getByLabel("Priority").fill("soon")
      await page.getByRole("button", { name: "Enqueue" }).click()
      await page.getByText("“soon” is not an integer.").waitFor()
      await page.getByLabel("Priority").fill("")
      await page.getByLabel("to", { exact: true }).fill("a@example.com")
      await page.getByLabel("Delay", { exact: true }).fill("3600")
      await page.getByRole("button", { name: "Enqueue" }).click()
      await page.waitForURL(/\/tasks\/\d+$/)
      await badge(page, "scheduled")
    }, { expected: /422/ }))

  it.effect("sends no JSON that is broken off, nor what was there before it", () =>
    Browser.visit(async ({ open, page, url }) => {
      await open("/enqueue?type=echo")
      await page.getByLabel("text", { exact: true }).fill("said")
      await page.getByLabel("left out").click()
      const extra = page.getByLabel("extra", { exact: true })
      await extra.fill(`{"a": 1}`)
      await extra.fill(`{"a": 1`)
      const submit = page.getByRole("button", { name: "Enqueue" })
      await submit.click()
      await page.waitForFunction(() => document.activeElement?.getAttribute("data-broken") === "true")
      await page.locator(".property .problem", { hasText: "JSON" }).waitFor()
      await page.getByRole("button", { name: "JSON", exact: true }).click()
      await page.getByLabel("Payload as JSON").fill("{")
      await submit.click()
      await page.getByRole("button", { name: "Form", exact: true }).click()
      await page.getByRole("button", { name: "JSON", exact: true }).click()
      await submit.click()
      await page.waitForURL(/\/tasks\/\d+$/)
      const { payload } = await Browser.ask<any>(url, `/api${new URL(page.url()).pathname}`)
      assert.deepStrictEqual(payload, { text: "said", extra: { a: 1 } })
    }))

  it.effect("asks again for what is masked, and never sends the mask", () =>
    Browser.visit(async ({ open, page, url }) => {
      const id = await Browser.enqueue(url, "call", { url: "https://example.com", apiKey: "the secret", times: 3 })
      await open(`/tasks/${id}`)
      await page.getByRole("region", { name: "Payload" }).getByText("masked").waitFor()
      await page.getByRole("link", { name: "Edit and run again" }).click()
      await page.locator(".note", { hasText: "apiKey" }).waitFor()
      assert.strictEqual(await page.getByLabel("url", { exact: true }).inputValue(), "https://example.com")
      assert.strictEqual(await page.getByLabel("apiKey", { exact: true }).inputValue(), "")
      const enqueues: Array<unknown> = []
      page.on("request", (request) => {
        if (request.method() === "POST") enqueues.push(request.postDataJSON())
      })
      const submit = page.getByRole("button", { name: "Enqueue" })
      await submit.click()
      const problem = (says: string) => page.getByRole("alert").getByText(says, { exact: true }).waitFor()
      await problem("The server masks it: fill it in.")
      await page.getByRole("button", { name: "JSON", exact: true }).click()
      await page.locator("textarea.code").fill(`{"url": "https://example.com", "apiKey": "••••••", "times": 3}`)
      await submit.click()
      await problem("apiKey: The server masks it: fill it in.")
      assert.deepStrictEqual(enqueues, [])
      await page.getByRole("button", { name: "Form", exact: true }).click()
      await page.getByLabel("apiKey", { exact: true }).fill("another secret")
      await submit.click()
      await page.waitForURL((address) => /\/tasks\/\d+$/.test(address.pathname) && !address.href.endsWith(`/${id}`))
      assert.deepStrictEqual((enqueues[0] as any).payload, {
        url: "https://example.com",
        apiKey: "another secret",
        times: 3
      })
    }))

  it.effect("shows a number that JavaScript does not have, and sends it only as a text", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      const payload = `{"url": "https://example.com", "apiKey": "k", "times": 1970670598291982290}`
      const [known, foreign] = yield* sql<{ readonly id: bigint }>`
        insert into spindle.tasks (type, payload, status, finished_at)
        select type, ${payload}::text::jsonb, 'failed', now()
          from unnest(array['call', 'foreign']) as type returning id`
      yield* sql`insert into spindle.task_events (task_id, epoch, seq, type, data)
                 values (${foreign!.id}, 0, 1, 'error', '{"id": 0.1000000000000000055}')`
      yield* Browser.visit(async ({ open, page }) => {
        const posted: Array<string> = []
        page.on("request", (request) => {
          if (request.method() === "POST") posted.push(request.postData() ?? "")
        })
        const submit = page.getByRole("button", { name: "Enqueue" })
        const refused = (path: string) =>
          page.locator(".row.end .problem", { hasText: `The number 1970670598291982290 at ${path} would become` })
            .waitFor()

        await open(`/tasks/${known!.id}`)
        await page.getByRole("region", { name: "Payload" }).getByText("1970670598291982290", { exact: true }).waitFor()
        await page.getByRole("link", { name: "Edit and run again" }).click()
        const times = page.getByLabel("times", { exact: true })
        assert.strictEqual(await times.inputValue(), "1970670598291982290")
        await page.getByLabel("apiKey", { exact: true }).fill("k")
        await submit.click()
        await refused("times")
        await times.fill("2970670598291982290")
        await page.getByText("This would become 2970670598291982300.").waitFor()

        await open(`/tasks/${foreign!.id}`)
        await page.locator(".events .json", { hasText: "0.1000000000000000055" }).waitFor()
        await page.getByRole("link", { name: "Edit and run again" }).click()
        const text = page.getByLabel("Payload as JSON")
        assert.include(await text.inputValue(), `"times": 1970670598291982290,`)
        await submit.click()
        await refused("times")
        assert.deepStrictEqual(posted, [])
        await text.fill(`{"times": "1970670598291982290"}`)
        await submit.click()
        await page.waitForURL((address) =>
          /\/tasks\/\d+$/.test(address.pathname) && !address.href.endsWith(`/${foreign!.id}`)
        )
        assert.strictEqual(posted.length, 1)
        assert.include(posted[0]!, `"payload":{"times":"1970670598291982290"}`)
      })
    }))
})

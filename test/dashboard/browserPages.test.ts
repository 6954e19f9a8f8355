/** Every page: what it shows by itself, how it fits, and that what tasks say is text. */
import { PgClient } from "@effect/sql-pg"
import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Zlib from "node:zlib"
import * as Browser from "../support/Browser.ts"

const counter = (page: Browser.Page, name: string) =>
  page.locator(`.counters .${name} dd`).textContent().then((text) => Number(text!.replaceAll(",", "")))
const counts = (page: Browser.Page, name: string, count: number) =>
  page.waitForFunction(
    ([name, count]) => document.querySelector(`.counters .${name} dd`)?.textContent === count,
    [name, String(count)] as const
  )
const boxes = (page: Browser.Page) =>
  page.locator("main section").evaluateAll((sections) =>
    sections.map((section) => {
      const { height, width, x, y } = section.getBoundingClientRect()
      return [section.getAttribute("aria-label"), x, y, width, height]
    })
  )
/** Waits for what is measured when the width has changed, and drawn by it. */
const painted = async (page: Browser.Page, width: number) => {
  await page.waitForFunction((width) => innerWidth === width, width)
  await page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve))))
}

interface Shift {
  readonly sources: ReadonlyArray<{ readonly node: Node | null }>
}

/** Something of everything, so that no page is empty. */
const furnish = Effect.gen(function*() {
  const sql = yield* PgClient.PgClient
  yield* sql`
    insert into spindle.tasks (type, queue, tag, user_id, payload, run_at)
    select 'furniture:' || repeat('long-', n), 'queue-' || n, repeat('tag', n), 'user-' || n,
           jsonb_build_object('words', repeat('unbroken', n * 20)), now() + interval '1 day'
      from generate_series(1, 8) n`
})

layer(Browser.layer, { excludeTestServices: true })("the pages", (it) => {
  it.effect("the overview counts what happens by itself, and nothing on it moves", () =>
    Browser.visit(async ({ open, page, url }) => {
      await open("/")
      await page.waitForFunction(() =>
        !document.querySelector("main")!.textContent.includes("…") && document.querySelectorAll("canvas").length === 4
      )
      const documents: Array<string> = []
      page.on("request", (request) => {
        if (request.isNavigationRequest()) documents.push(request.url())
      })
      await page.evaluate(() => {
        const shifts: Array<string> = []
        Object.assign(window, { shifts })
        new PerformanceObserver((list) => {
          for (const entry of list.getEntries() as unknown as ReadonlyArray<Shift>) {
            // Rows of a table come and go, and words beside a heading grow to the left.
            for (const { node } of entry.sources) {
              const element = node instanceof Element ? node : node?.parentElement
              if (element?.closest("table, span") === null) shifts.push(element.outerHTML.slice(0, 200))
            }
          }
        }).observe({ type: "layout-shift", buffered: false })
      })
      const before = await boxes(page)
      assert.isAbove(before.length, 5)
      const upFor = (time: string) =>
        page.locator(".facts.line").evaluate((facts, time) => {
          facts.querySelector("dd span")!.textContent = time
          return [...facts.children].map((fact) => JSON.stringify(fact.getBoundingClientRect()))
        }, time)
      const facts = await upFor("9.9 s")
      for (const time of ["10.0 s", "1 m 00 s", "59 m 59 s"]) assert.deepStrictEqual(await upFor(time), facts, time)
      const completed = await counter(page, "completed")
      const claimed = await counter(page, "claimed")

      const id = await Browser.enqueue(url, "demo:sleep", { ms: 3_600_000 })
      const running = page.getByRole("region", { name: "Running now" }).locator(`tr[data-row="${id}"]`)
      await running.waitFor()
      await counts(page, "claimed", claimed + 1)
      const since = await running.locator("td").last().textContent()
      await page.waitForFunction(
        ([id, since]) => document.querySelector(`tr[data-row="${id}"] td:last-child`)?.textContent !== since,
        [id, since] as const
      )
      await Browser.ask(url, `/api/tasks/${id}/cancel`, {})
      await running.waitFor({ state: "detached" })
      await Browser.enqueue(url, "demo:sleep", { ms: 1 })
      await counts(page, "completed", completed + 1)
      await page.getByRole("region", { name: "Ended last" }).getByText("cancelled").first().waitFor()
      // Twice by the clock, whatever the worker says.
      for (let turn = 0; turn < 2; turn++) await page.waitForResponse((response) => response.url().endsWith("/series"))

      const after = await boxes(page)
      // The table of queues, at the end of the page, gets a row for a new queue.
      assert.deepStrictEqual(after.slice(0, -1), before.slice(0, -1))
      assert.deepStrictEqual(documents, [])
      assert.deepStrictEqual(await page.evaluate(() => (window as unknown as { shifts: Array<string> }).shifts), [])
    }))

  it.effect("the overview shows what others do within its refresh", () =>
    Effect.gen(function*() {
      const sql = yield* Effect.context<PgClient.PgClient>()
      yield* Browser.visit(async ({ open, page }) => {
        await open("/")
        const figure = page.locator(".tile.queued .figure")
        await page.locator(".tile.queued .figure", { hasText: /^\d+$/ }).waitFor()
        const before = Number(await figure.textContent())
        await Effect.runPromiseWith(sql)(furnish)
        await page.locator(".tile.queued .figure", { hasText: new RegExp(`^${before + 8}$`) }).waitFor()
        await page.getByRole("region", { name: "Queues" }).getByText("queue-8").waitFor()
        await page.keyboard.press("s")
        await page.getByRole("button", { name: "Pause refreshing" }).getByText("paused").waitFor()
      })
    }))

  for (const colorScheme of ["light", "dark"] as const) {
    it.effect(`fit every width in ${colorScheme} colors, and call things by their names`, () =>
      Effect.andThen(
        furnish,
        Browser.visit(async ({ open, page, url }) => {
          const failed = await Browser.enqueue(url, "echo", { text: "unbroken".repeat(60) })
          const paths = [
            "/",
            "/tasks",
            `/tasks/${failed}`,
            `/tasks/${failed}/`,
            "/tasks/nothing",
            "/queues",
            "/enqueue",
            "/enqueue?type=ai_response",
            "/enqueue?type=call",
            "/enqueue?type=unknown",
            `/enqueue?from=${failed}`,
            "/docs",
            "/login"
          ]
          for (const path of paths) {
            await open(path)
            await page.locator("h1, .trouble h2").first().waitFor()
            if (path.includes(failed)) await page.locator("h1", { hasText: failed }).waitFor()
            await page.waitForFunction(() =>
              [...document.querySelectorAll("p.empty")].every(({ textContent }) => textContent !== "…")
            )
            // Everything that a form can ask for.
            const left = page.getByLabel("left out")
            for (let open = await left.count(); open > 0; open = await left.count()) await left.first().click()
            for (const add of await page.getByRole("button", { name: "Add", exact: true }).all()) await add.click()
            for (const width of [390, 768, 1440]) {
              await page.setViewportSize({ width, height: 800 })
              await painted(page, width)
              const wide = await page.evaluate(() => {
                const limit = document.documentElement.clientWidth
                return document.documentElement.scrollWidth <= limit
                  ? []
                  : [...document.querySelectorAll("body *")]
                    .filter((element) => element.getBoundingClientRect().right > limit + 1)
                    .map((element) => `${element.tagName}.${element.className}`)
              })
              assert.deepStrictEqual(wide, [], `${path} at ${width}`)
            }
            const nameless = await page.evaluate(() =>
              [...document.querySelectorAll<HTMLInputElement>("input, select, textarea, button, a[href]")]
                .filter((element) =>
                  (element.labels?.length ?? 0) === 0 && !element.ariaLabel && element.textContent?.trim() === ""
                )
                .map((element) => element.outerHTML)
            )
            assert.deepStrictEqual(nameless, [], path)
            assert.strictEqual(await page.locator("h1, .trouble h2").count(), 1, `${path} has one heading of its own`)
            assert.notStrictEqual(await page.title(), "", path)
          }
        }, { colorScheme })
      ), 90_000)
  }

  it.effect("cut off nothing that matters, at any width", () =>
    Browser.visit(async ({ open, page, url }) => {
      const tag = "cut-off"
      const id = await Browser.enqueue(url, "demo:sleep", { ms: 3_600_000 }, { tag, userId: "u".repeat(200) })
      const later = await Browser.enqueue(url, "demo:sleep", { ms: 1 }, { tag, delayMs: 7_100_000 })
      await Browser.awaitStatus(url, id, "processing")
      const failed = await Browser.enqueue(url, "echo", { text: "مرحبا" })
      await Browser.awaitStatus(url, failed, "failed")
      const cut = (selector: string) =>
        page.locator(selector).evaluateAll((elements) =>
          elements
            .filter((element) => element.clientWidth === 0 || element.scrollWidth > element.clientWidth)
            .map((element) => element.outerHTML)
        )
      for (const width of [390, 768, 1000, 1440]) {
        await page.setViewportSize({ width, height: 800 })
        await open(`/tasks?tag=${tag}&status=processing`)
        const row = (id: string) => `tr[data-row="${id}"]`
        await page.locator(row(id)).waitFor()
        const cells = ["id", "state", "type", "when"].map((name) => `${row(id)} .${name}`).join(", ")
        assert.deepStrictEqual(await cut(cells), [], `a row at ${width}`)
        const tab = (await page.locator(".tabs [aria-current]").boundingBox())!
        assert.isTrue(tab.x >= 0 && tab.x + tab.width <= width, `the tab at ${width}`)
        await open(`/tasks?tag=${tag}&status=queued`)
        await page.locator(row(later)).waitFor()
        assert.deepStrictEqual(
          await cut(`${row(later)} ${width > 960 ? ".took" : ".meta"}`),
          [],
          `when it is due, at ${width}`
        )

        await open("/")
        await page.locator(`.recent ${row(failed)}`).first().waitFor()
        assert.deepStrictEqual(await cut(`.compact ${row(id)} .number:last-child`), [], `how long it runs, at ${width}`)
        const edges = (selector: string) =>
          page.locator(selector).evaluateAll((cells) =>
            cells.map((cell) => Math.round(cell.getBoundingClientRect().x)).filter((x) => x > 0)
          )
        assert.deepStrictEqual(
          await edges(".recent th"),
          await edges(`.recent tbody tr:first-child td`),
          `the head of a table at ${width}`
        )

        await open(`/tasks/${id}`)
        await page.getByText(/expires in/).waitFor()
        assert.deepStrictEqual(await cut(".facts dd"), [], `a fact at ${width}`)
        await open("/enqueue?type=call")
        await page.getByLabel("Not before").waitFor()
        assert.deepStrictEqual(await cut(".property"), [], `a field at ${width}`)
      }
      await open(`/tasks/${failed}`)
      const member = page.locator(".events .json li li", { hasText: "مرحبا" }).first()
      const left = async (part: string) => (await member.locator(part).boundingBox())!.x
      assert.isBelow(await left(".key"), await left(".string"), "what is written from right to left stays in its place")
      await Browser.ask(url, `/api/tasks/${id}/cancel`, {})
      await Browser.ask(url, `/api/tasks/${later}/cancel`, {})
    }))

  for (const colorScheme of ["light", "dark"] as const) {
    it.effect(`have statuses that can be read in ${colorScheme} colors`, () =>
      Browser.visit(async ({ open, page }) => {
        await open("/queues")
        const dim = await page.evaluate(() => {
          const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true })!
          const luminance = (color: string) => {
            canvas.fillStyle = color
            canvas.fillRect(0, 0, 1, 1)
            const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map((byte) => {
              const share = byte / 255
              return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4
            })
            return 0.2126 * r! + 0.7152 * g! + 0.0722 * b!
          }
          const states = [
            "queued",
            "scheduled",
            "processing",
            "completed",
            "failed",
            "retried",
            "cancelled",
            "stopping"
          ]
          return [...states, "released"].flatMap((state) => {
            const badge = document.createElement("span")
            badge.className = `badge ${state}`
            document.querySelector("main")!.append(badge)
            const { backgroundColor, color } = getComputedStyle(badge)
            const [dark, bright] = [luminance(color), luminance(backgroundColor)].toSorted((a, b) => a - b)
            const contrast = (bright! + 0.05) / (dark! + 0.05)
            return contrast < 4.5 ? [`${state}: ${contrast}`] : []
          })
        })
        assert.deepStrictEqual(dim, [])
      }, { colorScheme }))
  }

  it.effect("say of a queue on a phone what they say of it on a desk", () =>
    Browser.visit(async ({ open, page, url }) => {
      await Browser.enqueue(url, "demo:sleep", { ms: 1 }, { queue: "phone", delayMs: 3_600_000 })
      for (const width of [390, 768, 1440]) {
        await page.setViewportSize({ width, height: 800 })
        await open("/queues")
        const cells = page.locator(`tr[data-row="phone"] td`)
        await cells.first().waitFor()
        assert.strictEqual(await cells.count(), 8)
        for (const cell of await cells.all()) {
          assert.isTrue(await cell.isVisible(), `${width}: ${await cell.innerText()}`)
        }
      }
    }))

  it.effect("cut a long text wherever it stands", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      const error = { kind: "failure", tag: "Long", message: "x y ".repeat(17_500) }
      const [row] = yield* sql<{ readonly id: string }>`
        insert into spindle.tasks ${
        sql.insert({ type: "call", status: "failed", epoch: "1", error: JSON.stringify(error) })
      } returning id::text`
      yield* Browser.visit(async ({ open, page }) => {
        await open(`/tasks/${row!.id}`)
        const whole = page.getByRole("region", { name: "Error" }).getByRole("button", { name: "all 70,000 characters" })
        await whole.waitFor()
        assert.isBelow(await page.evaluate(() => document.body.innerText.length), 10_000)
        await whole.click()
        const box = (await page.locator(".whole").first().boundingBox())!
        assert.isAtMost(box.height, 420)
      })
    }))

  it.effect("are printed whole, dark on white", () =>
    Browser.visit(async ({ open, page, url }) => {
      const id = await Browser.enqueue(url, "flood", { pieces: 40 })
      await open(`/tasks/${id}`)
      await page.waitForFunction(() => (document.querySelector("[role=log]")?.textContent.length ?? 0) > 40_000)
      await Browser.ask(url, `/api/tasks/${id}/cancel`, {})
      await page.locator(".follow", { hasText: "ended" }).waitFor()
      await page.emulateMedia({ media: "print" })
      const box = page.getByRole("log")
      assert.isTrue(await box.evaluate(({ clientHeight, scrollHeight }) => clientHeight === scrollHeight))
      assert.isFalse(await page.getByRole("navigation", { name: "Pages" }).isVisible())
      assert.strictEqual(
        await page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor),
        "rgb(246, 247, 249)"
      )
    }, { colorScheme: "dark" }))

  it.effect("show where the focus is, wherever it goes", () =>
    Browser.visit(async ({ open, page }) => {
      await open("/tasks")
      await page.getByLabel("Search").waitFor()
      const seen = new Set<string>()
      for (let press = 0; press < 16; press++) {
        await page.keyboard.press("Tab")
        const { focus, name } = await page.evaluate(() => {
          const element = document.activeElement!
          const { borderColor, boxShadow, outlineStyle, outlineWidth } = getComputedStyle(element)
          const before = `${borderColor} ${boxShadow}`
          return {
            name: element.outerHTML.slice(0, 120),
            focus: (outlineStyle !== "none" && parseFloat(outlineWidth) > 0) || before.includes("inset")
          }
        })
        seen.add(name)
        assert.isTrue(focus, name)
      }
      assert.isAbove(seen.size, 12)
      await page.reload()
      await page.getByLabel("Search").waitFor()
      await page.keyboard.press("Tab")
      await page.keyboard.press("Enter")
      assert.strictEqual(await page.evaluate(() => document.activeElement?.id), "main")
    }))

  const hostile = `<img src=x onerror="window.pwned=1">"><script>window.pwned=1</script>javascript:window.pwned=1`

  it.effect("show what tasks say as text, whatever it is", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      const value = { [hostile]: hostile, list: [hostile] }
      const error = { kind: "defect", tag: hostile, message: hostile, stack: hostile, data: value }
      const [row] = yield* sql<{ readonly id: string }>`
        insert into spindle.tasks ${
        sql.insert({
          type: hostile,
          queue: hostile,
          tag: hostile,
          user_id: hostile,
          unique_key: hostile,
          payload: JSON.stringify(value),
          metadata: JSON.stringify(value),
          error: JSON.stringify(error),
          status: "failed",
          attempts: 1,
          epoch: 1,
          started_at: new Date(),
          finished_at: new Date()
        })
      } returning id::text`
      yield* sql`
        insert into spindle.tasks (type, queue, tag, run_at) values (${hostile}, ${hostile}, ${hostile}, now())`
      const id = row!.id
      yield* Browser.visit(async ({ open, page, url }) => {
        const said = await Browser.enqueue(url, "echo", { text: hostile, extra: { [hostile]: hostile } }, {
          tag: hostile,
          userId: hostile
        })
        await Browser.awaitStatus(url, said, "failed")
        const shows = async (path: string) => {
          await open(path)
          await page.locator("main").getByText(hostile).first().waitFor()
          assert.isUndefined(await page.evaluate(() => (window as any).pwned), path)
          const foreign = await page.evaluate(() =>
            [...document.querySelectorAll("script:not([src]), main img, [onerror], a[href^='javascript:' i], iframe")]
              .map((element) => element.outerHTML)
          )
          assert.deepStrictEqual(foreign, [], path)
        }
        await shows("/")
        await shows("/tasks")
        await shows(`/tasks?${new URLSearchParams({ type: hostile, queue: hostile, q: hostile })}`)
        await shows(`/tasks/${id}`)
        for (const name of ["Payload", "Metadata", "Error", "Facts"]) {
          await page.getByRole("region", { name, exact: true }).getByText(hostile).first().waitFor()
        }
        await shows(`/tasks/${said}`)
        await page.getByRole("log").getByText(hostile).waitFor()
        await page.locator(".events li", { hasText: "note" }).getByText(hostile).first().waitFor()
        await shows("/queues")
        await open(`/enqueue?from=${id}`)
        await page.waitForFunction(
          (hostile) => [...document.querySelectorAll("input")].some(({ value }) => value === hostile),
          hostile
        )
        assert.isUndefined(await page.evaluate(() => (window as any).pwned))
        await open(`/tasks/${encodeURIComponent(hostile)}`)
        await page.getByText("There is no such task").waitFor()
        await open(`/enqueue?type=${encodeURIComponent(hostile)}`)
        await page.getByText("No worker of this process handles this type").waitFor()
        assert.isUndefined(await page.evaluate(() => (window as any).pwned))
      })
      yield* sql`delete from spindle.tasks where type = ${hostile}`
    }))

  it("are small", () => {
    const directory = Path.join(import.meta.dirname, "../../dist/dashboard")
    const index = Fs.readFileSync(Path.join(directory, "index.html"), "utf8")
    const files = ["index.html", ...[...index.matchAll(/(?:src|href)="\.\/([^"]+)"/g)].map(([, path]) => path!)]
    assert.isAtLeast(files.length, 5)
    const sizes = files.map((file) => Zlib.gzipSync(Fs.readFileSync(Path.join(directory, file))).length)
    assert.isAtMost(sizes.reduce((sum, size) => sum + size), 150 * 1024)
  })
})

import { PgClient } from "@effect/sql-pg"
import { assert, layer } from "@effect/vitest"
import { Effect, Redacted } from "effect"
import * as Cli from "../support/Cli.ts"
import { TestDatabase } from "../support/TestDatabase.ts"

layer(TestDatabase.layerSql())("list", (it) => {
  const clear = Effect.gen(function*() {
    const sql = yield* PgClient.PgClient
    yield* sql`delete from spindle.tasks`
  })

  const insert = Effect.fnUntraced(function*(columns: Readonly<Record<string, unknown>>) {
    const sql = yield* PgClient.PgClient
    const [row] = yield* sql<{ readonly id: bigint }>`insert into spindle.tasks ${sql.insert(columns)} returning id`
    return String(row!.id)
  })

  const ids = (...args: ReadonlyArray<string>) =>
    Effect.map(
      Cli.run("list", "--json", ...args),
      ({ stdout }) => stdout.split("\n").slice(0, -1).map((line) => JSON.parse(line).id as string)
    )

  it.effect("prints a table, newest first, a line each", () =>
    Effect.gen(function*() {
      yield* clear
      const created_at = new Date("2026-01-02T03:04:05.006Z")
      const queued = yield* insert({ type: "email:send", tag: "blue", created_at })
      const failed = yield* insert({
        type: "report",
        queue: "slow",
        status: "failed",
        attempts: 3,
        created_at,
        error: JSON.stringify({ kind: "failure", tag: "Busy", message: `try\nlater ${"x".repeat(100)}` })
      })
      const unwinding = yield* insert({ type: "a", status: "cancelled", locked_by: "w", created_at })
      const { code, stderr, stdout } = yield* Cli.run("list")
      assert.deepStrictEqual([code, stderr], [0, ""])
      const words = stdout.split("\n").map((line) => line.split(/ {2,}/))
      const time = "2026-01-02T03:04:05.006Z"
      assert.deepStrictEqual(words, [
        ["ID", "STATUS", "TYPE", "QUEUE", "ATTEMPTS", "CREATED", "TAG", "ERROR"],
        [unwinding, "cancelling", "a", "default", "0/3", time],
        [failed, "failed", "report", "slow", "3/3", time, `Busy: try later ${"x".repeat(43)}…`],
        [queued, "queued", "email:send", "default", "0/3", time, "blue"],
        [""]
      ])
    }))

  it.effect("prints lines of JSON, as show has a task", () =>
    Effect.gen(function*() {
      yield* clear
      const id = yield* insert({ type: "a", payload: "{\"n\": 1}" })
      const { stdout } = yield* Cli.run("list", "--json")
      const { attemptsEnded: _, ...shown } = JSON.parse((yield* Cli.run("show", id, "--json")).stdout)
      assert.deepStrictEqual(JSON.parse(stdout), shown)
    }))

  it.effect("narrows by each of its flags", () =>
    Effect.gen(function*() {
      yield* clear
      const plain = yield* insert({ type: "a" })
      const all = yield* insert({ type: "b", queue: "q", tag: "t", user_id: "u", status: "failed" })
      for (const flag of ["--type=b", "--queue=q", "--tag=t", "--user=u", "--status=failed"]) {
        assert.deepStrictEqual(yield* ids(flag), [all], flag)
      }
      assert.deepStrictEqual(yield* ids("--type=a", "--status=queued"), [plain])
      assert.deepStrictEqual(yield* ids("--type=a", "--tag=t"), [])
      const none = yield* Cli.run("list", "--type=c")
      assert.deepStrictEqual([none.code, none.stdout, none.stderr], [0, "", "No tasks\n"])
    }))

  it.effect("goes on with the page that it names", () =>
    Effect.gen(function*() {
      yield* clear
      const all: Array<string> = []
      for (let i = 0; i < 5; i++) all.unshift(yield* insert({ type: "a" }))
      const { stderr } = yield* Cli.run("list", "--limit=2")
      assert.strictEqual(stderr, `Older ones: --before ${all[1]}\n`)
      assert.deepStrictEqual(yield* ids("--limit=2", "--before", all[1]!), [all[2], all[3]])
      assert.deepStrictEqual(yield* ids("--limit=2", "--before", all[3]!), [all[4]])
    }))

  it.effect("keeps a task's text from commanding the terminal", () =>
    Effect.gen(function*() {
      yield* clear
      yield* insert({ type: "a", tag: "\x1b[2J\x07blue" })
      const { url } = yield* TestDatabase
      const { stdout } = yield* Cli.runIn({ DATABASE_URL: Redacted.value(url) }, ["list"], { terminal: true })
      assert.include(stdout, "  \\u001b[2J\\u0007blue\n")
      assert.notMatch(stdout, /[^\P{Cc}\n]/u)

      yield* insert({ type: "a", tag: "\u009b31m\u202ered\u2028\x7f" })
      const environment = { DATABASE_URL: Redacted.value(url) }
      const json = yield* Cli.runIn(environment, ["list", "--json", "--limit=1"], { terminal: true })
      assert.include(json.stdout, "\\u009b31m\\u202ered\\u2028\\u007f")
      assert.strictEqual(JSON.parse(json.stdout).tag, "\u009b31m\u202ered\u2028\x7f")
      const wrong = yield* Cli.runIn(environment, ["list", "\u009b2J\x1b[31m"], { terminal: true })
      assert.strictEqual(wrong.code, 64)
      assert.include(wrong.stderr, "\\u009b2J\\u001b[31m")
    }))

  it.effect("refuses what is no status, number or task", () =>
    Effect.gen(function*() {
      for (
        const [flag, words] of [
          ["--status=done", "queued"],
          ["--limit=0", "a number from 1 to 200, not 0"],
          ["--limit=201", "a number from 1 to 200, not 201"],
          ["--before=x", "the number of a task, such as 42"]
        ] as const
      ) {
        const { code, stderr, stdout } = yield* Cli.run("list", flag)
        assert.deepStrictEqual([code, stdout], [64, ""], flag)
        assert.include(stderr, words)
      }
    }))

  it.effect("enqueue joins the trace of its environment", () =>
    Effect.gen(function*() {
      const { url } = yield* TestDatabase
      const metadata = (traceparent: string) =>
        Effect.gen(function*() {
          const environment = { DATABASE_URL: Redacted.value(url), TRACEPARENT: traceparent }
          const { stdout } = yield* Cli.runIn(environment, ["enqueue", "a"])
          return JSON.parse((yield* Cli.run("show", stdout.trim(), "--json")).stdout).metadata
        })
      const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
      assert.deepStrictEqual(yield* metadata(traceparent), { traceparent })
      assert.deepStrictEqual(yield* metadata("nonsense"), {})
    }))
})

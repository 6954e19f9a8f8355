import { PgClient } from "@effect/sql-pg"
import { assert, describe, layer } from "@effect/vitest"
import { Effect, Redacted } from "effect"
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import * as Cli from "../support/Cli.ts"
import { TestDatabase } from "../support/TestDatabase.ts"

const enqueue = Effect.fnUntraced(function*(...args: ReadonlyArray<string>) {
  const { code, stderr, stdout } = yield* Cli.run("enqueue", ...args)
  // The tests' types are strange to each other.
  assert.deepStrictEqual([code, stderr.replace(/^None of the last 200 tasks .* tells\.\n$/, "")], [0, ""])
  assert.match(stdout, /^[1-9]\d*\n$/)
  return stdout.trim()
})

const set = Effect.fnUntraced(function*(id: string, status: string, rest = "") {
  const sql = yield* PgClient.PgClient
  yield* sql.unsafe(`update spindle.tasks set status = '${status}' ${rest} where id = ${id}`)
})

layer(TestDatabase.layerSql())("commands on tasks", (it) => {
  it.effect("enqueue prints the id alone, and stores what the flags say", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      const id = yield* enqueue(
        ..."report {\"month\":\"May\"} --queue slow --priority=-5 --delay 2h --unique-key May --tag t".split(" "),
        ..."--user u --max-attempts 7 --timeout 90s".split(" ")
      )
      const [row] = yield* sql`
        select type, payload, queue, priority, unique_key, tag, user_id, max_attempts, timeout_ms,
               extract(epoch from run_at - created_at)::int as delay
          from spindle.tasks where id = ${id}::bigint`
      assert.deepStrictEqual(row, {
        type: "report",
        payload: { month: "May" },
        queue: "slow",
        priority: -5,
        unique_key: "May",
        tag: "t",
        user_id: "u",
        max_attempts: 7,
        timeout_ms: 90_000,
        delay: 7200
      })

      const again = yield* Cli.run("enqueue", "report", "{}", "--unique-key", "May")
      assert.deepStrictEqual([again.code, again.stdout], [0, `${id}\n`])
      assert.include(again.stderr, "there already")

      const json = yield* Cli.run("enqueue", "report", "{}", "--unique-key", "May", "--user-id", "u", "--json")
      assert.deepStrictEqual(JSON.parse(json.stdout), { id, duplicate: true })

      const later = yield* enqueue("report", "[1]", "--run-at", "2030-01-31T08:00:00Z")
      assert.include((yield* Cli.run("show", later)).stdout, "not before    2030-01-31T08:00:00.000Z")
      assert.include((yield* Cli.run("show", yield* enqueue("plain"))).stdout, "Payload\n  {}\n")
    }))

  it.effect("cancel says what it found, and succeeds if the task is cancelled", () =>
    Effect.gen(function*() {
      const id = yield* enqueue("a")
      const cancel = Effect.map(Cli.run("cancel", id), ({ code, stderr, stdout }) => [code, stdout, stderr])
      assert.deepStrictEqual(yield* cancel, [0, "cancelled\n", ""])
      assert.deepStrictEqual(yield* cancel, [0, "already_cancelled\n", ""])
      yield* set(id, "completed")
      assert.deepStrictEqual(yield* cancel, [1, "already_completed\n", ""])
      assert.deepStrictEqual(JSON.parse((yield* Cli.run("cancel", id, "--json")).stdout), {
        id,
        outcome: "already_completed"
      })
      const { code, stdout } = yield* Cli.run("cancel", "9223372036854775807")
      assert.deepStrictEqual([code, stdout], [1, "not_found\n"])
    }))

  it.effect("enqueue takes the payload from standard input, and tells of a type that is strange here", () =>
    Effect.gen(function*() {
      const { url } = yield* TestDatabase
      const env = { DATABASE_URL: Redacted.value(url) }
      const run = (stdin: string, type = "given") => Cli.runIn(env, ["enqueue", type, "-"], { stdin })
      const { stdout } = yield* run("{\"a\": 1}\n")
      assert.include((yield* Cli.run("show", stdout.trim())).stdout, "\"a\": 1")
      const broken = yield* run("{\"a\"")
      assert.deepStrictEqual([broken.code, broken.stdout], [64, ""])
      assert.match(broken.stderr, /^Standard input must be JSON \(/)
      const inexact = yield* run("{\"id\": 1970670598291982290}")
      assert.strictEqual(inexact.code, 64)
      const strange = yield* run("{}", "givn")
      assert.strictEqual(strange.code, 0)
      assert.match(strange.stderr, /has the type givn; they have .*given.*spindle follow \d+/)
      assert.strictEqual((yield* run("{}", "ai_response")).stderr, "")
    }))

  it.effect("show, list and follow say why a task waits", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      const id = yield* enqueue("late", "{}", "--delay", "2h", "--tag", "waits")
      assert.match((yield* Cli.run("show", id)).stderr, /^It is due in (2h|1h 59m)/m)
      assert.match((yield* Cli.run("list", "--tag", "waits")).stdout, /WAITS[^]*not due/)
      yield* sql`update spindle.tasks set run_at = now() - interval '24 minutes' where id = ${id}::bigint`
      const why = /^It has been due for 24m.* and no worker has taken it: does one run that handles the type late\?/m
      assert.match((yield* Cli.run("show", id)).stderr, why)
      yield* sql`update spindle.tasks set status = 'completed', finished_at = now() where id = ${id}::bigint`
      assert.strictEqual((yield* Cli.run("follow", id)).stderr.includes("It "), false)
    }))

  it.effect("retry asks before a task that has completed runs again, and says what became of the attempts", () =>
    Effect.gen(function*() {
      const id = yield* enqueue("again")
      yield* set(id, "completed", ", attempts = 3")
      const refused = yield* Cli.run("retry", id)
      assert.deepStrictEqual([refused.code, refused.stdout], [64, ""])
      assert.include(refused.stderr, `Task ${id} has completed: --yes runs it again`)
      const queued = yield* Cli.run("retry", id, "--yes", "--json")
      assert.deepStrictEqual([queued.code, JSON.parse(queued.stdout)], [0, { id, outcome: "queued" }])
      assert.strictEqual(queued.stderr, "2 of 3 attempts are charged\n")
    }))

  it.effect("that only read start no database, and tell where none answers", () =>
    Effect.gen(function*() {
      const empty = Fs.mkdtempSync(Path.join(Os.tmpdir(), "spindle-reading-"))
      yield* Effect.addFinalizer(() => Effect.sync(() => Fs.rmSync(empty, { recursive: true })))
      const { DATABASE_URL: _, ...env } = process.env
      const bin = Path.resolve("src/bin.ts")
      for (const args of [["list"], ["follow", "1"]]) {
        const { status, stderr } = ChildProcess.spawnSync(process.execPath, [bin, ...args], {
          cwd: empty,
          env,
          encoding: "utf8"
        })
        assert.strictEqual(status, 69)
        assert.include(stderr, "the embedded PostgreSQL of")
        assert.deepStrictEqual(Fs.readdirSync(empty), [])
      }
      const { code, stderr } = yield* Cli.runIn({ DATABASE_URL: "postgres://u@127.0.0.1:1/db" }, ["list"])
      assert.strictEqual(code, 69)
      assert.include(stderr, "Nothing answers where the database should be (connect ECONNREFUSED 127.0.0.1:1)")
    }).pipe(Effect.scoped), 30_000)

  it.effect("retry queues a finished task, with its attempts or without", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      const id = yield* enqueue("b")
      const retry = (...flags: ReadonlyArray<string>) =>
        Effect.map(Cli.run("retry", id, ...flags), ({ code, stdout }) => [code, stdout])
      const attempts = Effect.map(sql`select attempts from spindle.tasks where id = ${id}::bigint`, ([row]) => row)
      assert.deepStrictEqual(yield* retry(), [1, "not_finished\n"])
      yield* set(id, "failed", ", attempts = 2")
      assert.deepStrictEqual(yield* retry(), [0, "queued\n"])
      assert.deepStrictEqual(yield* attempts, { attempts: 2 })
      yield* set(id, "failed")
      assert.deepStrictEqual(yield* retry("--reset-attempts"), [0, "queued\n"])
      assert.deepStrictEqual(yield* attempts, { attempts: 0 })
    }))

  it.effect("show tells of attempts, the error and the result", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      const id = yield* enqueue("c", "{\"n\":1}")
      const failure = { kind: "failure", tag: "Busy", message: "not\u001b[2J now" }
      yield* sql`insert into spindle.task_events (task_id, epoch, seq, type, data) values
        (${id}::bigint, 1, 1, 'text_delta', '{"text": "no attempt"}'),
        (${id}::bigint, 1, 2, 'retry', ${
        sql.json({ ...failure, willRetry: true, runAt: "2030-01-01T00:00:00Z", worker: "w1" })
      }),
        (${id}::bigint, 2, 1, 'released', '{"reason": "shutdown", "worker": "w2"}'),
        (${id}::bigint, 3, 1, 'error', ${sql.json({ ...failure, willRetry: false, worker: "w3" })})`
      yield* sql`update spindle.tasks set error = ${
        sql.json(failure)
      }, result = '[7]', attempts = 2 where id = ${id}::bigint`
      yield* set(id, "failed")

      const { stdout } = yield* Cli.run("show", id)
      assert.include(stdout, `Task ${id}, c: failed\n`)
      assert.match(stdout, /retry {6}on w1 {2}not.+ now {2}next at 2030-01-01T00:00:00Z\n/)
      assert.match(stdout, /released {3}on w2 {2}\(shutdown\)\n/)
      assert.include(stdout, "attempts      2 of 3\n")
      assert.match(stdout, /\nError\n {2}Busy \(failure\): not.+ now\n/)
      assert.include(stdout, "\nResult\n  [\n    7\n  ]\n")
      assert.notInclude(stdout, "no attempt")

      const { url } = yield* TestDatabase
      const terminal = yield* Cli.runIn({ DATABASE_URL: Redacted.value(url) }, ["show", id], { terminal: true })
      assert.include(stdout, "\u001b")
      assert.notInclude(terminal.screen, "\u001b")

      const json = JSON.parse((yield* Cli.run("show", id, "--json")).stdout)
      assert.deepStrictEqual([json.id, json.status, json.payload, json.error], [id, "failed", { n: 1 }, failure])
      assert.deepStrictEqual(
        json.attemptsEnded.map(({ epoch, outcome, worker }: any) => [epoch, outcome, worker]),
        [["1", "retry", "w1"], ["2", "released", "w2"], ["3", "error", "w3"]]
      )
      const nobody = yield* Cli.run("show", "4711000")
      assert.deepStrictEqual([nobody.code, nobody.stdout, nobody.stderr], [1, "", "There is no task 4711000"])
    }))

  it.effect("show reads a row whose payload and result are large", () =>
    Effect.gen(function*() {
      const id = yield* enqueue("large")
      const large = "to_jsonb(repeat('x', 9 * 1024 * 1024))"
      yield* set(id, "completed", `, payload = ${large}, result = ${large}`)
      const { code, stderr, stdout } = yield* Cli.run("show", id)
      assert.deepStrictEqual([code, stderr], [0, ""])
      assert.isAbove(stdout.length, 18 * 1024 * 1024)
    }))

  it.effect("stats counts", () =>
    Effect.gen(function*() {
      const sql = yield* PgClient.PgClient
      const [row] = yield* sql`select count(*)::int as total from spindle.tasks`
      const { code, stdout } = yield* Cli.run("stats", "--json")
      assert.deepStrictEqual([code, JSON.parse(stdout).total], [0, row!.total])
      assert.match((yield* Cli.run("stats")).stdout, /^queued +\d+\nprocessing +\d+\n/)
    }))
})

describe("follow", () => {
  layer(TestDatabase.layerSql())((it) => {
    const story = Effect.fnUntraced(function*(status: string, events: ReadonlyArray<readonly [string, object]>) {
      const sql = yield* PgClient.PgClient
      const id = yield* enqueue("told")
      for (const [index, [type, data]] of events.entries()) {
        const [epoch, name] = type.split(" ")
        yield* sql`insert into spindle.task_events (task_id, epoch, seq, type, data)
          values (${id}::bigint, ${epoch!}::bigint, ${index + 1}, ${name!}, ${sql.json(data)})`
      }
      yield* sql`update spindle.tasks set epoch = (select max(epoch) from spindle.task_events where task_id = id),
        result = '{"n": 1}' where id = ${id}::bigint`
      yield* set(id, status)
      return id
    })
    const onTerminal = Effect.fnUntraced(function*(id: string) {
      const { url } = yield* TestDatabase
      return yield* Cli.runIn({ DATABASE_URL: Redacted.value(url) }, ["follow", id], { terminal: true })
    })
    const text = (text: string) => ({ text })

    it.effect("writes text to stdout without a break, and the rest to stderr", () =>
      Effect.gen(function*() {
        const id = yield* story("completed", [
          ["1 text_delta", text("Hel")],
          ["1 progress", { fraction: 0.5, message: "half" }],
          ["1 text_delta", text("lo\u001b[2J")],
          ["1 usage", { inputTokens: 3, outputTokens: 4, totalTokens: 7, model: "m" }],
          ["1 opened", { a: 1 }],
          ["1 done", { startedAt: "2020-01-01T00:00:00Z" }]
        ])
        const piped = yield* Cli.run("follow", id)
        assert.deepStrictEqual([piped.code, piped.stdout], [0, "Hello\u001b[2J\n"])
        assert.match(
          piped.stderr,
          /^50 % {2}half\n3 tokens in, 4 out, m\nopened \{"a":1\}\nDone after \d+\.\d s\.\n$/
        )
        const { screen } = yield* onTerminal(id)
        assert.match(screen, /^Hel\n50 % {2}half\nlo\\u001b\[2J\n3 tokens in/)

        const rest = yield* Cli.run("follow", id, "--after", "1-2")
        assert.strictEqual(rest.stdout, "lo\u001b[2J\n")
        const json = (yield* Cli.run("follow", id, "--json")).stdout.trimEnd().split("\n").map((line) =>
          JSON.parse(line)
        )
        assert.deepStrictEqual(
          json.map(({ position, type }) => `${position} ${type}`),
          ["1-1 text_delta", "1-2 progress", "1-3 text_delta", "1-4 usage", "1-5 opened", "1-6 done"]
        )
        assert.deepStrictEqual(json[0].data, text("Hel"))
      }))

    it.effect("says when the text starts over", () =>
      Effect.gen(function*() {
        const id = yield* story("failed", [
          ["1 text_delta", text("one")],
          ["1 retry", { tag: "T", message: "m", runAt: "soon" }],
          ["2 text_delta", text("two")],
          ["2 error", { tag: "T", message: "n", kind: "failure", willRetry: false }]
        ])
        const { code, stderr, stdout } = yield* Cli.run("follow", id)
        assert.deepStrictEqual([code, stdout], [1, "one\ntwo\n"])
        assert.strictEqual(stderr, "An attempt failed: T: m, next at soon\nIt starts over.\nFailed: T: n\n")
        assert.strictEqual(
          (yield* onTerminal(id)).screen,
          "one\nAn attempt failed: T: m, next at soon\nIt starts over.\ntwo\nFailed: T: n\n"
        )
      }))

    it.effect("writes the result of a task without text", () =>
      Effect.gen(function*() {
        const { code, stdout } = yield* Cli.run("follow", yield* story("completed", [["1 done", {}]]))
        assert.deepStrictEqual([code, stdout], [0, "{\n  \"n\": 1\n}\n"])
      }))

    it.effect("tells in one line that there is no such task", () =>
      Effect.gen(function*() {
        const { code, stderr, stdout } = yield* Cli.run("follow", "4711")
        assert.deepStrictEqual([code, stdout, stderr], [1, "", "There is no task 4711"])
      }))
  })
})

layer(TestDatabase.layerEmpty)("the tables", (it) => {
  it.effect("are missing, are made once, and are then as they should be", () =>
    Effect.gen(function*() {
      const before = yield* Cli.run("check")
      assert.strictEqual(before.code, 1)
      assert.include(before.stdout, "Missing:\n--   schema spindle\n")
      const refused = yield* Cli.run("enqueue", "a")
      assert.strictEqual(refused.code, 1)
      assert.include(refused.stderr, "`spindle migrate`")

      const { url } = yield* TestDatabase
      const start = yield* Cli.runIn({ DATABASE_URL: Redacted.value(url), WORKER_MIGRATIONS: "verify" }, ["start"])
      assert.strictEqual(start.code, 78)
      assert.include(start.stderr, "The database lacks what a worker needs: schema spindle")

      const migrate = Effect.map(Cli.run("migrate"), ({ stdout }) => stdout)
      assert.include(yield* migrate, "Applied to the schema spindle: tasks and their events.\n")
      assert.strictEqual(yield* migrate, "The schema spindle is up to date.\n")

      const after = yield* Cli.run("check")
      assert.strictEqual(after.code, 0)
      assert.include(after.stdout, "-- A worker can start on the schema spindle of ")
      assert.include(after.stdout, "grant select, update on \"spindle\".tasks to \"spindle_worker\";\n")
      assert.notInclude(after.stdout, "The owner")
      yield* Effect.scoped(Effect.gen(function*() {
        const sql = yield* PgClient.PgClient
        yield* sql`drop trigger tasks_notify_inserted on spindle.tasks`
        yield* sql`drop function spindle.notify_inserted`
      })).pipe(Effect.provide(TestDatabase.layerClient()))
      const advice = yield* Cli.run("check")
      assert.strictEqual(advice.code, 0)
      assert.match(
        advice.stdout,
        /The owner of the tables may add this, which buys .+\ncreate function "spindle"\.notify/
      )
      assert.notInclude(advice.stdout, new URL(Redacted.value(url)).password || "\0")
    }))

  it.effect("are refused with what forbids a worker's writes, and come with what may", () =>
    Effect.gen(function*() {
      const { url } = yield* TestDatabase
      const execute = (statement: string) =>
        Effect.flatMap(PgClient.PgClient, (sql) => sql.unsafe(statement)).pipe(
          Effect.provide(TestDatabase.layerClient({ maxConnections: 1 }))
        )
      yield* execute("alter table spindle.task_events add constraint short check (seq < 1000)")
      const may = yield* Cli.run("check")
      assert.strictEqual(may.code, 0)
      assert.include(
        may.stdout,
        "\n-- What a worker writes may be refused:\n--   the constraint short of spindle.task_events may refuse events: done"
      )
      yield* execute(
        "alter table spindle.task_events add constraint few check (type in ('text_delta', 'done', 'error'))"
      )
      const missing = "spindle.task_events without the constraint few, which refuses events: retry, released, cancelled"
      const refused = yield* Cli.run("check")
      assert.strictEqual(refused.code, 1)
      assert.include(refused.stdout, `Missing:\n--   ${missing}\n`)
      const start = yield* Cli.runIn({ DATABASE_URL: Redacted.value(url) }, ["start"])
      assert.strictEqual(start.code, 78)
      assert.include(start.stderr, `The database lacks what a worker needs: ${missing}`)
      yield* execute("alter table spindle.task_events drop constraint short, drop constraint few")
    }))

  it.effect("can be printed, for another schema too, and what is printed makes them", () =>
    Effect.gen(function*() {
      const { url } = yield* TestDatabase
      const env = { DATABASE_URL: Redacted.value(url), WORKER_SCHEMA: "elsewhere" }
      const { code, stdout } = yield* Cli.runIn(env, ["migrate", "--print"])
      assert.strictEqual(code, 0)
      yield* Effect.gen(function*() {
        const sql = yield* PgClient.PgClient
        for (const statement of stdout.split(/;\n(?:\n|$)/).filter((text) => text !== "")) yield* sql.unsafe(statement)
      }).pipe(Effect.provide(TestDatabase.layerClient({ maxConnections: 1 })))
      assert.strictEqual((yield* Cli.runIn(env, ["migrate"])).stdout, "The schema elsewhere is up to date.\n")
      assert.strictEqual((yield* Cli.runIn(env, ["check"])).code, 0)
    }))
})

import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Cli from "../support/Cli.ts"
import * as Provider from "../support/Provider.ts"

const nowhere = "postgres://user:secret@127.0.0.1:1/none"

describe("a Node.js that is too old", () => {
  it.live("is told of in one line, before anything else is loaded", () =>
    Effect.gen(function*() {
      const { engines } = JSON.parse(Fs.readFileSync(Path.join(import.meta.dirname, "../../package.json"), "utf8"))
      const needed = engines.node.replace(">=", "")
      const as = (node: string) =>
        `data:text/javascript,Object.defineProperty(process,%22versions%22,{value:{...process.versions,node:%22${node}%22}})`
      for (const node of ["18.20.4", "22.18.1"]) {
        const old = yield* Cli.spawn({ NODE_OPTIONS: `--import=${as(node)}` }, ["--version"])
        assert.strictEqual(yield* old.ended, 78)
        assert.deepStrictEqual(old.output(), {
          stdout: "",
          stderr: `spindle: needs Node.js ${needed} or newer, this is v${node}\n`
        })
      }
      const enough = yield* Cli.spawn({ NODE_OPTIONS: `--import=${as(`${needed}.0`)}` }, ["--version"])
      assert.strictEqual(yield* enough.ended, 0)
    }), 30_000)
})

describe("a malformed variable stops with one line and 78", () => {
  it.effect.each(
    [
      ["start", "JOB_CONCURRENCY", "0", "JOB_CONCURRENCY is \"0\", but must be a whole number from 1 to 10000"],
      ["start", "JOB_TIMEOUT", "5m", "JOB_TIMEOUT is \"5m\", but must be a whole number of milliseconds"],
      ["start", "WORKER_QUEUES", "a:b", "WORKER_QUEUES is \"a:b\", but must be queues separated by commas"],
      ["start", "WORKER_TASK_TYPES", ",", "WORKER_TASK_TYPES is \",\", but must be globs separated by commas"],
      ["start", "WORKER_UNKNOWN_TYPES", "drop", "WORKER_UNKNOWN_TYPES is \"drop\", but must be \"leave\" or \"fail\""],
      ["start", "WORKER_LEASE", "1", "WORKER_LEASE is \"1\", but must be a whole number of milliseconds from 500"],
      ["start", "WORKER_MIGRATIONS", "no", "WORKER_MIGRATIONS is \"no\", but must be \"run\" or \"verify\""],
      [
        "start",
        "WORKER_NOTIFICATIONS",
        "yes",
        "WORKER_NOTIFICATIONS is \"yes\", but must be \"auto\" or \"on\" or \"off\""
      ],
      [
        "start",
        "WORKER_LOG_LEVEL",
        "loud",
        "WORKER_LOG_LEVEL is \"loud\", but must be \"trace\" or \"debug\" or \"info\""
      ],
      [
        "start",
        "WORKER_LOG_FORMAT",
        "xml",
        "WORKER_LOG_FORMAT is \"xml\", but must be \"pretty\" or \"json\" or \"logfmt\""
      ],
      ["stats", "WORKER_LOG_LEVEL", "toString", "WORKER_LOG_LEVEL is \"toString\""],
      ["stats", "WORKER_SCHEMA", "a-b", "WORKER_SCHEMA is \"a-b\", but must be a lower-case identifier"],
      [
        "migrate",
        "DATABASE_URL",
        "mysql://u:secret@h",
        "DATABASE_URL is a URL of the scheme mysql, but must be like postgres://"
      ],
      ["check", "WORKER_DATABASE_SSL", "yes", "WORKER_DATABASE_SSL is \"yes\", but must be \"verify-full\""],
      [
        "start",
        "OPENAI_BASE_URL",
        "localhost:11434",
        "OPENAI_BASE_URL is \"localhost:11434\", but must be like https://api.openai.com/v1, without a user or a password"
      ],
      [
        "start",
        "OPENAI_BASE_URL",
        "http://user:secret@localhost/v1",
        "OPENAI_BASE_URL is a text with an @, but must be like https://api.openai.com/v1, without a user or a password"
      ],
      ["start", "OPENAI_BASE_URL", "?key=secret", "OPENAI_BASE_URL is \"\", but must be like https://"],
      [
        "start",
        "OPENAI_API_KEY",
        "secret key",
        "OPENAI_API_KEY is a text that no request can carry, but must be letters"
      ],
      ["start", "OPENAI_API_KEY", "secret\n", "OPENAI_API_KEY is a text that no request can carry, but must be letters"]
    ] as const
  )("%s with %s=%s", ([command, name, value, line]) =>
    Effect.gen(function*() {
      const { code, stderr, stdout } = yield* Cli.runIn({ DATABASE_URL: nowhere, [name]: value }, [command])
      assert.deepStrictEqual([code, stdout], [78, ""])
      assert.isTrue(stderr.startsWith(line), stderr)
      assert.notInclude(stderr, "\n")
      assert.notInclude(stderr, "secret")
    }))
})

describe("a wrong call", () => {
  it.effect.each(
    [
      [["nonsense"], "Unknown subcommand \"nonsense\" for \"spindle\"\nSee: spindle --help\n"],
      [["enqueue"], "Missing required argument: type\nSee: spindle enqueue --help\n"],
      [["enqueue", "a", "{b}"], "Invalid value for argument <json>: \"{b}\". Expected: JSON ("],
      [
        ["enqueue", "a", "{}", "--delay", "soon"],
        "Invalid value for flag --delay: \"soon\". Expected: a duration such as"
      ],
      [["cancel", "-1"], "Invalid value for argument <id>: \"-1\". Expected: the number of a task, such as 42\n"],
      [
        ["show", "9223372036854775808"],
        "Invalid value for argument <id>: \"9223372036854775808\". Expected: the number"
      ],
      [["follow", "1", "--after", "1"], "Invalid value for flag --after: \"1\". Expected: a position such as 1-17"]
    ] as const
  )("%j: a line on stderr, and 64", ([args, line]) =>
    Effect.gen(function*() {
      const { code, stderr, stdout } = yield* Cli.runIn({}, args)
      assert.deepStrictEqual([code, stdout], [64, ""])
      assert.isTrue(stderr.startsWith(line), stderr)
    }))

  it.effect.each(
    [
      [["enqueue", "a", "{}", "--priority", "40000"], "Invalid option: priority is 40000, expected an integer"],
      [["enqueue", "a", "{}", "--run-at", "soon"], "Invalid option: runAt is \"soon\", expected a point in time"],
      [["enqueue", "a", "\"\\u0000\""], "The payload does not fit the task \"a\""]
    ] as const
  )("%j is refused before the database is asked", ([args, line]) =>
    Effect.gen(function*() {
      const { code, stderr, stdout } = yield* Cli.runIn({ DATABASE_URL: nowhere }, args)
      assert.deepStrictEqual([code, stdout], [64, ""])
      assert.isTrue(stderr.startsWith(line), stderr)
    }))
})

it.effect("a database that is not there is told in one line, without the password, and 69", () =>
  Effect.gen(function*() {
    const { code, stderr, stdout } = yield* Cli.runIn({ DATABASE_URL: nowhere }, ["stats"])
    assert.deepStrictEqual([code, stdout], [69, ""])
    assert.include(stderr, "connect ECONNREFUSED 127.0.0.1:1")
    assert.notInclude(stderr, "secret")
    assert.notInclude(stderr, "\n")
  }))

describe("a module of tasks", () => {
  const imports = "import { Effect, Layer, Context } from \"effect\"\nimport { Task, TaskGroup } from " +
    `${JSON.stringify(Path.join(import.meta.dirname, "../../src/index.ts"))}\n`
  it.effect.each(
    [
      [
        "",
        "--tasks FILE exports nothing, but must export `group` (a TaskGroup) and `layer` (a Layer with its handlers)"
      ],
      [
        "export default 1; export const layer = () => 2",
        "--tasks FILE exports default (number), layer (a function), but"
      ],
      [
        `${imports} export const group = TaskGroup.make(); export const tasks = Layer.empty`,
        "--tasks FILE exports group (a TaskGroup), tasks (a Layer), but must export"
      ],
      ["throw new Error(\"oops\")", "--tasks FILE cannot be imported: oops"],
      [
        `${imports} export const group = TaskGroup.make(Task.make("a")); export const layer = Layer.empty`,
        "The layer of FILE cannot be built: Service not found: spindle/Task/Handler/a"
      ]
    ] as const
  )("that is none: %#", ([source, line]) =>
    Effect.gen(function*() {
      const directory = yield* Provider.temporaryDirectory
      const file = Path.join(directory, "tasks.ts")
      yield* Effect.sync(() => {
        Fs.writeFileSync(Path.join(directory, "package.json"), "{\"type\":\"module\"}")
        Fs.symlinkSync(Path.join(import.meta.dirname, "../../node_modules"), Path.join(directory, "node_modules"))
        Fs.writeFileSync(file, source)
      })
      const { code, stderr, stdout } = yield* Cli.runIn({ DATABASE_URL: nowhere }, ["start", "--tasks", file])
      assert.deepStrictEqual([code, stdout], [78, ""])
      assert.isTrue(stderr.startsWith(line.replace("FILE", file)), stderr)
    }))

  it.effect("that is not there", () =>
    Effect.gen(function*() {
      const { code, stderr } = yield* Cli.runIn({ DATABASE_URL: nowhere }, ["start", "--tasks", "./none.js"])
      assert.strictEqual(code, 78)
      assert.strictEqual(stderr, `--tasks ./none.js cannot be imported: there is no file ${Path.resolve("none.js")}`)
      const neither = yield* Cli.runIn({ DATABASE_URL: nowhere }, ["start", "--tasks", "no-such-package"])
      assert.strictEqual(neither.code, 78)
      assert.include(neither.stderr, "no package of this name can be found from here")
    }))
})

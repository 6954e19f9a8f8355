/**
 * What somebody does who has the package and the README: in an empty folder, every file and every command of its chapter
 * "Use it", in order. Nothing else of the repository is within reach.
 *
 *     npm run test:package
 */
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { Client } from "pg"

const root = Path.join(import.meta.dirname, "../..")
// The account that runs the embedded PostgreSQL must get in.
const folder = Fs.mkdtempSync(Path.join(Os.tmpdir(), "spindle-readme-"))
Fs.chmodSync(folder, 0o755)

const started = performance.now()
const say = (line: string) =>
  process.stdout.write(`${((performance.now() - started) / 1000).toFixed(1).padStart(5)} s  ${line}\n`)

class Failed extends Error {}
const must = (fact: unknown, message: string) => {
  if (fact !== true) throw new Failed(message)
}

// What npm and a developer's shell have set is not in a newcomer's.
const env = Object.fromEntries(
  Object.entries(process.env).filter(([name]) =>
    !/^(npm_|PG|WORKER_|CLICKSET_|OPENAI_|OTEL_|AI_|DATABASE_URL|TEST_|INIT_CWD|NODE$|NODE_PATH)/.test(name)
  )
)
env.PATH = [
  Path.dirname(process.execPath),
  ...(process.env.PATH ?? "").split(Path.delimiter).filter((directory) => !directory.includes("node_modules"))
].join(Path.delimiter)
Object.assign(env, { WORKER_HTTP_PORT: "0", npm_config_prefer_offline: "true", npm_config_update_notifier: "false" })

interface Block {
  readonly language: string
  readonly code: string
}
const readme = Fs.readFileSync(Path.join(root, "README.md"), "utf8")
const chapter = /^## Use it\n(.*?)^## /ms.exec(readme)?.[1] ?? ""
const blocks = [...chapter.matchAll(/^```(\w+)\n(.*?)^```$/gms)].map(([, language, code]): Block => ({
  language: language!,
  code: code!
}))

interface Terminal {
  readonly output: () => string
  readonly says: (text: string) => Promise<void>
  /** Its exit code; an interrupted shell has none. */
  readonly ended: Promise<number | null>
  readonly stop: () => Promise<void>
}
const terminals: Array<Terminal> = []

// What a terminal has exported, the next ones have, too.
let exported = ""
const run = (code: string, options = { cwd: folder }): Terminal => {
  // A group of its own, as a terminal's: Ctrl-C reaches all of it.
  const shell = ChildProcess.spawn("bash", ["-euo", "pipefail", "-c", exported + code], {
    ...options,
    env,
    detached: true,
    stdio: ["ignore", "pipe", "pipe"]
  })
  exported += code.split("\n").filter((line) => line.startsWith("export ")).map((line) => `${line}\n`).join("")
  let output = ""
  const look = new Set<() => void>()
  for (const stream of [shell.stdout, shell.stderr]) {
    stream.setEncoding("utf8").on("data", (text: string) => {
      output += text
      for (const check of look) check()
    })
  }
  const ended = new Promise<number | null>((resolve) => shell.once("close", resolve))
  const terminal: Terminal = {
    output: () => output,
    ended,
    says: (text) =>
      new Promise((resolve, reject) => {
        const check = () => output.includes(text) && resolve()
        look.add(check)
        check()
        void ended.then((code) => reject(new Failed(`ended with ${code} without "${text}":\n${code}\n${output}`)))
      }),
    stop: async () => {
      if (shell.exitCode === null && shell.signalCode === null) process.kill(-shell.pid!, "SIGINT")
      await ended
    }
  }
  terminals.push(terminal)
  return terminal
}

const toEnd = async (code: string, options?: { readonly cwd: string }) => {
  const terminal = run(code, options)
  const status = await terminal.ended
  must(status === 0, `exit code ${status} of\n${code}\n${terminal.output()}`)
  say(code.trim().split("\n").at(-1)!)
  return terminal.output()
}

const service = async (code: string, text: string) => {
  const terminal = run(code)
  await terminal.says(text)
  say(`${code.trim().split("\n").at(-1)}: ${text}`)
  return terminal
}

const request = async (url: string, headers: Record<string, string>): Promise<number> => {
  while (true) {
    try {
      return (await fetch(url, { headers })).status
    } catch {
      await sleep(50)
    }
  }
}

/** What must come of each block of commands, by its last line. */
const expectations: Record<string, (code: string) => Promise<unknown>> = {
  "npm install --save-dev typescript @types/node": async (code) => {
    await toEnd(code)
    const installed = Path.join(folder, "node_modules/effect-spindle")
    must(!Fs.existsSync(Path.join(installed, "node_modules/effect")), "there are two copies of effect")
    const { exports, scripts } = JSON.parse(Fs.readFileSync(Path.join(installed, "package.json"), "utf8"))
    must(scripts.prepare === undefined, "the package carries a script `prepare`")
    const modules = Object.keys(exports).filter((name) => !name.endsWith(".json"))
    await toEnd(
      `node -e '${
        modules.map((name) => `await import("effect-spindle${name.slice(1)}")`).join(";")
      }'\n# every module that it names`
    )
  },
  "spindle start --tasks ./tasks.ts": (code) => service(code, "worker started"),
  "spindle follow": async (code) =>
    must((await toEnd(code)).startsWith("Hello from the command line\n"), "follow says something else"),
  "node worker.ts": (code) => service(code, "worker started"),
  "node chat.ts": async (code) =>
    must((await toEnd(code)).endsWith("\nHello from the application\n"), "the answer is not the last line"),
  "node dashboard.ts": async (code) => {
    const terminal = run(code)
    const url = "http://127.0.0.1:3000/spindle/api/overview"
    const status = (headers: Record<string, string>) =>
      Promise.race([request(url, headers), terminal.ended.then(() => terminal.output())])
    const [operator, other] = [await status({ "x-role": "operator" }), await status({})]
    must(operator === 200 && other === 403, `an operator gets ${operator}, others ${other}`)
    say("node dashboard.ts: 200 for an operator, 403 for others")
  }
}

const sql = async (text: string) => {
  const data = Path.join(folder, ".spindle/postgres")
  const [password, port] = ["data/spindle.password", "port"].map((name) =>
    Fs.readFileSync(Path.join(data, name), "utf8").trim()
  )
  const client = new Client({
    host: "127.0.0.1",
    port: Number(port),
    user: "postgres",
    database: "postgres",
    password
  })
  await client.connect()
  await client.query(text)
  await client.end()
  say("the plain SQL")
}

const follow = async () => {
  await toEnd(`npm pack --pack-destination ${folder}`, { cwd: root })
  const files = new Set<string>()
  const open = new Set(Object.keys(expectations))
  for (const { code, language } of blocks) {
    const name = /^\/\/ ([\w.]+)\n/.exec(code)?.[1]
    if (name !== undefined) {
      Fs.writeFileSync(Path.join(folder, name), code)
      files.add(name)
    } else if (language === "sql") await sql(code)
    else {
      const last = code.trim().split("\n").at(-1)!
      const key = [...open].find((start) => last.startsWith(start))
      must(language === "sh" && key !== undefined, `nothing is known of the block of ${language} that ends in ${last}`)
      open.delete(key!)
      await expectations[key!]!(code)
    }
  }
  must(open.size === 0, `the README does not say any more: ${[...open].join(", ")}`)
  await toEnd("npx tsc")
  say(`${[...files].join(", ")} are well typed`)
  for (const terminal of terminals.toReversed()) await terminal.stop()
  for (const terminal of terminals) {
    if (terminal.output().includes("worker started")) must(/worker stopped/.test(terminal.output()), terminal.output())
  }
}

const deadline = setTimeout(() => {
  say("not done after 4 minutes")
  for (const terminal of terminals) say(terminal.output())
  process.exit(1)
}, 240_000)
try {
  await follow()
  say("done")
} catch (error) {
  say(error instanceof Failed ? error.message : String(error))
  process.exitCode = 1
} finally {
  for (const terminal of terminals.toReversed()) await terminal.stop()
  clearTimeout(deadline)
  Fs.rmSync(folder, { recursive: true, force: true })
}

/**
 * What a collector that hangs, dawdles or refuses costs a worker of 100 streams: its memory, and the requests that are open at a time.
 *
 *     node test/scripts/collector.ts [hang|slow|refuse|well] [seconds]
 */
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Http from "node:http"
import type { AddressInfo } from "node:net"
import * as Os from "node:os"
import * as Path from "node:path"
import { setTimeout as sleep } from "node:timers/promises"

const [mode = "hang", seconds = "120"] = process.argv.slice(2)
const streams = 100
// MiB in the second half. Spans that wait for a turn without a bound add some 75.
const most = 40

const say = (line: string) => process.stdout.write(`${line}\n`)

const open = new Map<string, number>()
const seen = { requests: 0, bytes: 0, mostOpen: 0 }

const collector = Http.createServer((request, response) => {
  const path = request.url!
  open.set(path, (open.get(path) ?? 0) + 1)
  seen.requests++
  seen.mostOpen = Math.max(seen.mostOpen, ...open.values())
  response.once("close", () => open.set(path, open.get(path)! - 1))
  request.on("data", (chunk: Buffer) => {
    seen.bytes += chunk.length
  })
  request.on("end", () => {
    if (mode === "refuse") response.writeHead(503).end()
    else if (mode === "well") response.end()
    else if (mode === "slow") setTimeout(() => response.end(), 3000)
  })
}).listen(0, "127.0.0.1")
await new Promise((resolve) => collector.once("listening", resolve))

const cwd = Fs.mkdtempSync(Path.join(Os.tmpdir(), "spindle-collector-"))
const bin = Path.join(import.meta.dirname, "../../src/bin.ts")
const env = {
  PATH: process.env.PATH,
  HOME: process.env.HOME,
  OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${(collector.address() as AddressInfo).port}`,
  JOB_CONCURRENCY: String(streams),
  WORKER_HTTP_PORT: "0",
  WORKER_SHUTDOWN_GRACE: "0",
  WORKER_LOG_FORMAT: "logfmt"
}
const service = ChildProcess.spawn(process.execPath, [bin, "start"], { cwd, env, stdio: ["ignore", "ignore", "pipe"] })
const ended = new Promise((resolve) => service.once("exit", resolve))
let log = ""
const started = new Promise<void>((resolve) =>
  service.stderr.setEncoding("utf8").on("data", (text: string) => {
    log += text
    if (log.includes("worker started") && log.includes("address=http")) resolve()
  })
)
await Promise.race([started, ended])
const [, address] = /address=(http:\S+)/.exec(log)!
// Ten seconds each: a stream keeps its text until it ends.
for (let n = 0; n < streams * (Number(seconds) / 10 + 2); n++) {
  await fetch(`${address}api/tasks`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ type: "demo:stream", payload: { tokens: 500, perSecond: 50 } })
  })
}

const rss = () => Number(/VmRSS:\s+(\d+)/.exec(Fs.readFileSync(`/proc/${service.pid}/status`, "utf8"))![1]) / 1024
say(`${mode}: ${streams} streams, ${seconds} s`)
let half = 0
let last = 0
for (let passed = 0; passed <= Number(seconds); passed += 10) {
  last = rss()
  if (passed <= Number(seconds) / 2) half = last
  const requests = `${seen.requests} requests, ${(seen.bytes / 2 ** 20).toFixed(1)} MiB, ${seen.mostOpen} at a time`
  say(`${String(passed).padStart(4)} s  ${last.toFixed(0).padStart(5)} MiB  ${requests}`)
  await sleep(10_000)
}
service.kill("SIGTERM")
say(`exit code ${await ended}`)
say(log.split("\n").filter((line) => line.includes("collector")).join("\n"))
collector.close()
collector.closeAllConnections()
Fs.rmSync(cwd, { recursive: true, force: true })
process.exitCode = last - half < most && seen.mostOpen <= 1 ? 0 : 1

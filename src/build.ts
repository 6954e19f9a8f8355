/**
 * Builds in `dist` what is older there than its sources; `--clean` builds all, as a package needs it.
 *
 * It needs nothing but `node_modules`, so that the first `npm start` works.
 */
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Url from "node:url"

const root = Path.join(import.meta.dirname, "..")
const inRoot = (path: string) => Path.join(root, path)
const page = "src/dashboard"
/** What the page takes from elsewhere. */
const shared = [
  "src/server/Views.ts",
  "src/internal/Json.ts",
  "src/internal/Waiting.ts",
  "src/Api.ts",
  "src/Task.ts",
  "src/TaskEvent.ts"
]
const settings = ["tsconfig.json", "src/tsconfig.json", "package-lock.json"]

/** When the newest of it has changed. A directory changes with the names in it. */
const changed = (path: string): number => {
  const stats = Fs.statSync(inRoot(path))
  const children = stats.isDirectory() ? Fs.readdirSync(inRoot(path)).map((name) => `${path}/${name}`) : []
  return Math.max(stats.mtimeMs, ...children.filter((child) => child !== page).map(changed))
}

const isStale = (built: string, sources: ReadonlyArray<string>) =>
  (Fs.statSync(inRoot(built), { throwIfNoEntry: false })?.mtimeMs ?? 0) <
    Math.max(...[...sources, ...settings].map(changed))

const run = (what: string, program: string, ...args: ReadonlyArray<string>) => {
  process.stderr.write(`Building ${what}\n`)
  const { status } = ChildProcess.spawnSync(process.execPath, [inRoot(program), ...args], {
    cwd: root,
    // As it is released: the environment of tests would make it a page for development.
    env: { ...process.env, NODE_ENV: "production" },
    stdio: ["ignore", "inherit", "inherit"]
  })
  if (status !== 0) process.exit(status ?? 1)
}

/** The page as a server serves it. */
export const buildPage = (): void => {
  if (!isStale("dist/dashboard/index.html", [page, ...shared])) return
  run("the page", "node_modules/vite/bin/vite.js", "build", "-c", "src/dashboard/vite.config.ts", "-l", "error")
}

const buildModules = () => {
  if (!isStale("dist/index.js", ["src"])) return
  run("the modules", "node_modules/typescript/bin/tsc", "-p", "src", "--noEmitOnError")
  Fs.chmodSync(inRoot("dist/bin.js"), 0o755)
}

/** `node_modules/.bin/spindle` is the command of this clone. */
const linkCommand = () => {
  const link = inRoot("node_modules/.bin/spindle")
  if (process.platform === "win32" || Fs.existsSync(link)) return
  Fs.rmSync(link, { force: true })
  Fs.symlinkSync("../../dist/bin.js", link)
}

if (process.argv[1] === Url.fileURLToPath(import.meta.url)) {
  if (process.argv.includes("--clean")) Fs.rmSync(inRoot("dist"), { recursive: true, force: true })
  buildModules()
  buildPage()
  linkCommand()
}

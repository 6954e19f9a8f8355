/** The dashboard's page as a server serves it, built where its sources are newer. */
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"

const root = Path.join(import.meta.dirname, "../..")
const built = Path.join(root, "dist/dashboard/index.html")
const sources = [
  "src/dashboard",
  "src/server/Views.ts",
  "src/internal/Json.ts",
  "src/internal/Waiting.ts",
  "src/Api.ts",
  "src/Task.ts",
  "src/TaskEvent.ts"
]

const changed = (path: string): number =>
  Fs.statSync(path).isDirectory()
    ? Math.max(...Fs.readdirSync(path).map((name) => changed(Path.join(path, name))))
    : Fs.statSync(path).mtimeMs

export const run = (): void => {
  const newest = Math.max(...sources.map((source) => changed(Path.join(root, source))))
  if (Fs.existsSync(built) && Fs.statSync(built).mtimeMs > newest) return
  // As it is released: the tests' own environment would make it a page for development.
  ChildProcess.execFileSync(
    process.execPath,
    [Path.join(root, "node_modules/vite/bin/vite.js"), "build", "-c", "src/dashboard/vite.config.ts", "-l", "error"],
    { cwd: root, env: { ...process.env, NODE_ENV: "production" }, stdio: ["ignore", "ignore", "inherit"] }
  )
}

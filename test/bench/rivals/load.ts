/**
 * The packages that the benchmark compares with. They are no dependencies of the product: the first run that asks for one
 * installs them here.
 */
import { execFileSync } from "node:child_process"
import { existsSync } from "node:fs"
import { join } from "node:path"
import { pathToFileURL } from "node:url"

/** Set by the bench for its processes, which run compiled and elsewhere. */
const variable = "SPINDLE_BENCH_RIVALS"

/** Installs what is missing, from the lock file. */
export const install = (): void => {
  process.env[variable] = import.meta.dirname
  if (existsSync(join(import.meta.dirname, "node_modules"))) return
  process.stderr.write("  installing the rivals\n")
  execFileSync("npm", ["ci", "--no-audit", "--no-fund", "--silent"], { cwd: import.meta.dirname, stdio: [0, 2, 2] })
}

/** Their own types stay with them. */
export const load = (name: "graphile-worker" | "pg-boss"): Promise<any> =>
  import(pathToFileURL(join(process.env[variable]!, "node_modules", name, "dist/index.js")).href)

#!/usr/bin/env node
/**
 * The command `spindle`, where Node.js is new enough for it: imports are loaded before anything else, so what follows is
 * loaded after a look at that.
 *
 * @since 0.1.0
 */
const needed = [22, 19] as const
const [major = 0, minor = 0] = process.versions.node.split(".").map(Number)

if (major < needed[0] || (major === needed[0] && minor < needed[1])) {
  process.stderr.write(`spindle: needs Node.js ${needed.join(".")} or newer, this is v${process.versions.node}\n`)
  process.exitCode = 78
} else await import("./cli/Main.ts")

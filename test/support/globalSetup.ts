/**
 * Gives every test run one PostgreSQL server and, on it, a migrated database that tests copy (see `TestDatabase`).
 */
import { PgClient } from "@effect/sql-pg"
import { Clock, Effect, Exit, Redacted, Scope } from "effect"
import * as Crypto from "node:crypto"
import * as Path from "node:path"
import type { TestProject } from "vitest/node"
import { buildPage } from "../../src/build.ts"
import * as Migrations from "../../src/storage/Migrations.ts"
import * as Provider from "./Provider.ts"
import { databaseUrl, execute } from "./TestDatabase.ts"

declare module "vitest" {
  export interface ProvidedContext {
    readonly testDatabase: {
      /** Address of the server, with a role that may create databases. */
      readonly admin: string
      /** Name of the migrated database. */
      readonly template: string
      readonly provider: Provider.Name
    }
  }
}

const setup = Effect.fnUntraced(function*(project: TestProject) {
  const started = yield* Clock.currentTimeMillis
  const { name, url } = yield* Provider.acquire
  const ready = yield* Clock.currentTimeMillis
  const template = `spindle_template_${Crypto.randomUUID().replaceAll("-", "")}`
  // Dropped before the server goes: one that is not ours is left as it was found.
  yield* Effect.acquireRelease(
    execute(url, `create database "${template}"`),
    () => Effect.orDie(execute(url, `drop database if exists "${template}" with (force)`))
  )
  const version = yield* Effect.gen(function*() {
    yield* Migrations.run
    const sql = yield* PgClient.PgClient
    return yield* sql<{ readonly version: string }>`select current_setting('server_version') as version`
  }).pipe(Effect.provide(PgClient.layer({ url: databaseUrl(url, template) })))
  const migrated = yield* Clock.currentTimeMillis
  project.provide("testDatabase", { admin: Redacted.value(url), template, provider: name })
  yield* Provider.say(
    `${name}, PostgreSQL ${version[0]?.version}, ready in ${ready - started} ms, template in ${migrated - ready} ms`
  )
})

export default async (project: TestProject) => {
  // Most of what a process of the tests takes to start is compiling.
  process.env.NODE_COMPILE_CACHE ??= Path.resolve("node_modules/.cache/node")
  buildPage()
  const scope = Scope.makeUnsafe()
  const close = () => Effect.runPromise(Scope.close(scope, Exit.void))
  const exit = await Effect.runPromiseExit(Scope.provide(setup(project), scope))
  if (Exit.isSuccess(exit)) return close
  await close()
  return Effect.runPromise(exit)
}

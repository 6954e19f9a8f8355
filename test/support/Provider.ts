/**
 * Where the PostgreSQL server of a test run comes from: `TEST_DATABASE_URL`, else a container if Docker answers, else
 * the embedded server. `TEST_DATABASE` = `url`, `testcontainers` or `embedded` insists on one of them.
 */
import { Config, Data, Effect, Option, Redacted } from "effect"
import * as Fs from "node:fs"
import * as Http from "node:http"
import * as Os from "node:os"
import * as Path from "node:path"
import * as DataDirectory from "../../src/storage/embedded/DataDirectory.ts"
import * as EmbeddedPostgres from "../../src/storage/EmbeddedPostgres.ts"

export class ProviderError extends Data.TaggedError("ProviderError")<{
  readonly message: string
  readonly cause?: unknown
}> {}

export type Name = "url" | "testcontainers" | "embedded"

/** Nothing in such a cluster outlives the run, so nothing has to reach the disk. */
export const throwAway = {
  fsync: "off",
  synchronous_commit: "off",
  full_page_writes: "off",
  max_connections: "200"
}

export const say = (line: string) => Effect.sync(() => process.stdout.write(`[test database] ${line}\n`))

const image = Config.withDefault(Config.NonEmptyString("TEST_POSTGRES_IMAGE"), "postgres:18-alpine")

const forced = Effect.mapError(
  Config.option(Config.Literals(["url", "testcontainers", "embedded"], "TEST_DATABASE")),
  () => new ProviderError({ message: "TEST_DATABASE must be url, testcontainers or embedded" })
)

const url = Config.option(Config.Redacted("TEST_DATABASE_URL")).pipe(
  Effect.filterOrFail(
    Option.match({
      onNone: () => true,
      onSome: (url) => /^postgres(ql)?:$/.test(URL.parse(Redacted.value(url))?.protocol ?? "")
    }),
    () => new ProviderError({ message: "TEST_DATABASE_URL must be like postgres://user:password@host:5432/database" })
  )
)

const dockerAnswers = Effect.gen(function*() {
  const host = yield* Config.withDefault(Config.String("DOCKER_HOST"), "unix:///var/run/docker.sock")
  // Over the network, testcontainers can judge better.
  if (!host.startsWith("unix://")) return true
  return yield* Effect.callback<boolean>((resume) => {
    const request = Http.get(
      { socketPath: host.slice("unix://".length), path: "/_ping", timeout: 2000 },
      (response) => {
        response.resume()
        resume(Effect.succeed(response.statusCode === 200))
      }
    )
    request.once("timeout", () => request.destroy())
    request.once("error", () => resume(Effect.succeed(false)))
  })
})

const testcontainers = Effect.gen(function*() {
  const name = yield* image
  const container = yield* Effect.acquireRelease(
    Effect.tryPromise({
      try: async () => {
        const { PostgreSqlContainer } = await import("@testcontainers/postgresql")
        return new PostgreSqlContainer(name)
          .withTmpFs({ "/var/lib/postgresql": "rw" })
          .withCommand(["postgres", ...Object.entries(throwAway).flatMap(([key, value]) => ["-c", `${key}=${value}`])])
          .start()
      },
      catch: (cause) => new ProviderError({ message: `No container of ${name} could be started`, cause })
    }),
    (container) => Effect.promise(() => container.stop())
  )
  return Redacted.make(container.getConnectionUri())
})

/** A directory that is removed with the scope, and that the server's account can enter. */
export const temporaryDirectory = Effect.acquireRelease(
  Effect.sync(() => {
    const directory = Fs.mkdtempSync(Path.join(Os.tmpdir(), "spindle-test-"))
    Fs.chmodSync(directory, 0o755)
    return directory
  }),
  DataDirectory.remove
)

const embedded = Effect.gen(function*() {
  const dataDir = yield* temporaryDirectory
  const server = yield* EmbeddedPostgres.make({ dataDir, settings: throwAway })
  return server.url()
})

export const acquire = Effect.gen(function*() {
  const choice = Option.getOrUndefined(yield* forced)
  const given = yield* url
  if (choice === "url" || (choice === undefined && Option.isSome(given))) {
    if (Option.isSome(given)) return { name: "url" as Name, url: given.value }
    return yield* new ProviderError({ message: "TEST_DATABASE is url, but TEST_DATABASE_URL is not set" })
  }
  if (choice === "testcontainers") return { name: "testcontainers" as Name, url: yield* testcontainers }
  if (choice === undefined && (yield* dockerAnswers)) {
    const container = yield* Effect.option(testcontainers)
    if (Option.isSome(container)) return { name: "testcontainers" as Name, url: container.value }
    yield* say(`Docker answers, but ${yield* image} did not start: using the embedded server`)
  }
  return { name: "embedded" as Name, url: yield* embedded }
})

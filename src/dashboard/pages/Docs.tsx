import { useEffect, useState } from "preact/hooks"
import { prefix } from "../client.ts"
import type { Json } from "../json.ts"
import * as OpenApi from "../openapi.ts"
import { Copy } from "../parts/Copy.tsx"
import { Empty, Panel, Trouble } from "../parts/Panel.tsx"
import { useSession } from "../session.ts"

export const Docs = () => {
  const [document, setDocument] = useState<Json>()
  const [problem, setProblem] = useState<string>()
  const session = useSession()
  const load = async () => {
    setProblem(undefined)
    try {
      const response = await fetch(`${prefix}/openapi.json`)
      if (response.ok) setDocument(await response.json() as Json)
      else setProblem(`The server answered with ${response.status}.`)
    } catch {
      setProblem("The server cannot be reached.")
    }
  }
  useEffect(() => void load(), [])
  if (problem !== undefined) {
    return (
      <Trouble
        title="The API's description cannot be read"
        message={problem}
        again={() => void load()}
      />
    )
  }
  if (document === undefined) return <Empty>…</Empty>
  const groups = OpenApi.groups(document)
  const origin = location.origin + prefix
  return (
    <>
      <h1>HTTP API</h1>
      <p class="muted lead">
        Ids are decimal strings, times ISO 8601 in UTC, errors problem details (RFC 9457).{" "}
        <a href={`${prefix}/openapi.json`} data-external>openapi.json</a>
      </p>
      <div class="docs">
        <nav class="panel" aria-label="Routes">
          {groups.map(({ name, routes }) => (
            <div key={name}>
              <b>{name}</b>
              {routes.map(({ id, method, path }) => (
                <a key={id} href={`#${id}`}>
                  <span class={`method ${method}`}>{method}</span> {path}
                </a>
              ))}
            </div>
          ))}
        </nav>
        <div>
          {groups.map(({ name, routes }) => (
            <Panel key={name} title={name}>
              {routes.map((route) => (
                <Route
                  key={route.id}
                  route={route}
                  curl={OpenApi.curl(route, origin, session?.tokenRequired === true)}
                />
              ))}
            </Panel>
          ))}
        </div>
      </div>
    </>
  )
}

const Route = ({ curl, route }: { readonly route: OpenApi.Route; readonly curl: string }) => (
  <section class="route" id={route.id}>
    <h3>
      <span class={`method ${route.method}`}>{route.method}</span> <code>{route.path}</code>
    </h3>
    {route.summary !== undefined && <p>{route.summary}</p>}
    {route.description !== undefined && <p class="muted">{route.description}</p>}
    {route.parameters.length > 0 && (
      <table class="parameters">
        <thead>
          <tr>
            <th>Parameter</th>
            <th>In</th>
            <th>Type</th>
          </tr>
        </thead>
        <tbody>
          {route.parameters.map((parameter) => (
            <tr key={`${parameter.in}:${parameter.name}`}>
              <td>
                <code>{parameter.name}</code>
                {parameter.required ? "" : <span class="muted">{" optional"}</span>}
              </td>
              <td>{parameter.in}</td>
              <td>
                <code>{parameter.type}</code> <span class="muted">{parameter.description}</span>
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    )}
    {route.body !== undefined && (
      <details>
        <summary>Body</summary>
        <pre tabIndex={0}>{route.body}</pre>
      </details>
    )}
    {route.answers.map(({ description, status, type }) => (
      <details key={status}>
        <summary>
          <b class="num">{status}</b> <span class="muted">{description}</span>
        </summary>
        {type !== "" && <pre tabIndex={0}>{type}</pre>}
      </details>
    ))}
    <div class="curl">
      <pre tabIndex={0}>{curl}</pre>
      <Copy
        text={() =>
          curl}
        says="Copy the command"
      />
    </div>
  </section>
)

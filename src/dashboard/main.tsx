/** The page: what is at which address. */
import { render } from "preact"
import { useEffect } from "preact/hooks"
import { Docs } from "./pages/Docs.tsx"
import { Enqueue } from "./pages/Enqueue.tsx"
import { Overview } from "./pages/Overview.tsx"
import { Queues } from "./pages/Queues.tsx"
import { TaskPage } from "./pages/Task.tsx"
import { TaskList } from "./pages/Tasks.tsx"
import { Trouble } from "./parts/Panel.tsx"
import { Shell } from "./parts/Shell.tsx"
import { usePlace } from "./router.ts"

const pageOf = (path: string) => {
  const id = /^\/tasks\/([^/]+)\/?$/.exec(path)?.[1]
  if (id !== undefined) return { title: `Task ${id}`, page: <TaskPage id={id} /> }
  switch (path.replace(/(.)\/$/, "$1")) {
    case "/":
      return { title: "Overview", page: <Overview /> }
    case "/tasks":
      return { title: "Tasks", page: <TaskList /> }
    case "/queues":
      return { title: "Queues", page: <Queues /> }
    case "/enqueue":
      return { title: "Enqueue", page: <Enqueue /> }
    case "/docs":
      return { title: "API", page: <Docs /> }
    default:
      return {
        title: "Nothing here",
        page: <Trouble title="There is no such page" message={`Nothing is at ${path}.`} />
      }
  }
}

const App = () => {
  const { page, title } = pageOf(usePlace().path)
  useEffect(() => {
    document.title = `${title} · Spindle`
  }, [title])
  return <Shell>{page}</Shell>
}

render(<App />, document.querySelector("#app")!)

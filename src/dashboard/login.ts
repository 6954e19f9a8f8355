/** The page that asks for the token, and then goes back to where one was. */
import { refusal } from "./refusal.ts"

const prefix = document.querySelector<HTMLMetaElement>("meta[name=spindle-prefix]")?.content ?? ""
const form = document.querySelector<HTMLFormElement>("#login")!
const token = document.querySelector<HTMLInputElement>("#token")!
const problem = document.querySelector<HTMLElement>("#problem")!

/** An address of this server below the prefix, whatever the query says. */
const destination = () => {
  const from = new URLSearchParams(location.search).get("from")
  const url = from === null ? undefined : URL.parse(from, location.origin)
  const login = (path: string) => path === `${prefix}/login` || path.endsWith("/login.html")
  if (url?.origin === location.origin && url.pathname.startsWith(`${prefix}/`) && !login(url.pathname)) return url.href
  return login(location.pathname) ? `${prefix}/` : location.href
}

const signIn = async () => {
  problem.textContent = ""
  const response = await fetch(`${prefix}/api/login`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ token: token.value })
  }).catch(() => undefined)
  if (response?.ok === true) return location.replace(destination())
  problem.textContent = response === undefined
    ? "The server cannot be reached."
    : refusal(response.status, response.headers.get("retry-after"))
  token.select()
}

form.addEventListener("submit", (event) => {
  event.preventDefault()
  void signIn()
})

/** Light, dark, or as the system has it. */
import * as Store from "./store.ts"

export type Theme = "system" | "light" | "dark"

const key = "spindle-theme"

const stored = (): Theme => {
  const { theme } = document.documentElement.dataset
  return theme === "light" || theme === "dark" ? theme : "system"
}

export const theme = Store.make<Theme>(stored())

export const next = (current: Theme): Theme => current === "system" ? "light" : current === "light" ? "dark" : "system"

export const choose = (chosen: Theme) => {
  const root = document.documentElement
  if (chosen === "system") delete root.dataset.theme
  else root.dataset.theme = chosen
  try {
    if (chosen === "system") localStorage.removeItem(key)
    else localStorage.setItem(key, chosen)
  } catch {
    // Without storage it holds for this visit.
  }
  theme.set(chosen)
}

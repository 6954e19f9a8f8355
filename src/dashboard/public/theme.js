// Before anything is drawn, so that the page never flashes in the other theme.
try {
  const theme = localStorage.getItem("spindle-theme")
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme
} catch {
  // Storage is switched off: the system's theme applies.
}

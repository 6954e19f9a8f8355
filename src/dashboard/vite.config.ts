/** The page, built into `dist/dashboard`. Its addresses are relative: the server puts its prefix before them. */
import * as Path from "node:path"
import { defineConfig } from "vite"

export default defineConfig({
  root: import.meta.dirname,
  base: "./",
  build: {
    outDir: Path.join(import.meta.dirname, "../../dist/dashboard"),
    emptyOutDir: true,
    target: "esnext",
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0,
    reportCompressedSize: false,
    rolldownOptions: {
      input: ["index.html", "login.html"].map((page) => Path.join(import.meta.dirname, page))
    }
  }
})

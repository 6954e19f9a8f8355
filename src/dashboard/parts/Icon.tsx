const paths = {
  pause: "M6 4v12M14 4v12",
  play: "M6 4l10 6-10 6z",
  sun:
    "M10 6.500a3.500 3.500 0 1 0 0 7 3.500 3.500 0 0 0 0-7zM10 1.500v2M10 16.500v2M1.500 10h2M16.500 10h2M4 4l1.400 1.400M14.600 14.600L16 16M4 16l1.400-1.400M14.600 5.400L16 4",
  moon: "M16.500 12A7 7 0 0 1 8 3.500a7 7 0 1 0 8.500 8.500z",
  system: "M3 4h14v9H3zM7 17h6M10 13v4",
  help:
    "M7.500 7.500a2.500 2.500 0 1 1 3.600 2.200c-.8.5-1.100 1-1.100 1.800M10 14.500v.1M10 2a8 8 0 1 0 0 16 8 8 0 0 0 0-16z",
  exit: "M8 4H4v12h4M9 10h8M14 7l3 3-3 3",
  copy: "M7 7h9v9H7zM4 13V4h9",
  link: "M8 12l4-4M9 6l2-2a3.500 3.500 0 0 1 5 5l-2 2M11 14l-2 2a3.500 3.500 0 0 1-5-5l2-2",
  check: "M4 10.500l4 4 8-9",
  cross: "M5 5l10 10M15 5L5 15",
  warning: "M10 3l8 14H2zM10 8v4M10 14.500v.1",
  down: "M10 4v12M5 11l5 5 5-5",
  plus: "M10 4v12M4 10h12",
  again: "M15.500 7A6.500 6.500 0 1 0 16.500 11M16 3v4h-4"
} as const

export const Icon = ({ name }: { readonly name: keyof typeof paths }) => (
  <svg class="icon" viewBox="0 0 20 20" aria-hidden="true">
    <path d={paths[name]} />
  </svg>
)

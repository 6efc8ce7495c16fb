// The page's own icons: one path each on a 24 by 24 grid, drawn with the text's colour.
const PATHS = {
  play: "M8 5v14l11-7z",
  stop: "M6 6h12v12H6z",
  rewind: "M6 5v14M19 5v14L9 12z",
  metronome: "M9 3h6l4 18H5zM12 14l6-9M7 16h10",
  link: "M9 15l6-6M8 11l-2 2a4 4 0 006 6l2-2M16 13l2-2a4 4 0 00-6-6l-2 2",
  headphones: "M4 15v-3a8 8 0 0116 0v3M4 14h3v6H5a1 1 0 01-1-1zM20 14h-3v6h2a1 1 0 001-1z",
  band: "M9 11a3 3 0 100-6 3 3 0 000 6zM3 19c0-3 3-5 6-5s6 2 6 5M16 5.5a3 3 0 010 5M17 14.3c2.400.6 4 2.400 4 4.700",
  mic: "M12 3a3 3 0 013 3v5a3 3 0 01-6 0V6a3 3 0 013-3zM6 11a6 6 0 0012 0M12 17v4M9 21h6",
  micOff: "M4 4l16 16M15 10V6a3 3 0 00-6-.5M9 9.500V11a3 3 0 004.500 2.600M6 11a6 6 0 009.500 4.900M18 11c0 1-.2 1.800-.6 2.600M12 17v4M9 21h6",
  speakerOff: "M4 10v4h4l5 4V6l-5 4zM16.500 9.500l5 5M21.500 9.500l-5 5",
  earOff: "M4 4l16 16M8 7.500A6 6 0 0118 9c0 2-1 3.200-2 4.300M14 16c-.5.8-.5 1.500-.8 2.300A3 3 0 018 18M10 11a2 2 0 011-2.500",
  chat: "M4 5h16v11H9l-5 4z",
  tracks: "M4 6h16M4 12h10M4 18h13",
  graph: "M6 8a2 2 0 100-4 2 2 0 000 4zM18 10a2 2 0 100-4 2 2 0 000 4zM11 20a2 2 0 100-4 2 2 0 000 4zM8 6.300l8 1.400M7 8l3.300 8.200M16.800 9.700L12.300 16.300",
  health: "M3 12h4l2-6 4 12 3-8 1.500 2H21",
  gear: "M12 15a3 3 0 100-6 3 3 0 000 6zM12 3v3M12 18v3M3 12h3M18 12h3M5.600 5.600l2.200 2.200M16.200 16.200l2.200 2.200M5.600 18.400l2.200-2.200M16.200 7.800l2.200-2.200",
  undo: "M9 7L4 12l5 5M4 12h10a6 6 0 016 6",
  redo: "M15 7l5 5-5 5M20 12H10a6 6 0 00-6 6",
  plus: "M12 5v14M5 12h14",
  minus: "M5 12h14",
  up: "M6 15l6-6 6 6",
  down: "M6 9l6 6 6-6",
  trash: "M5 7h14M9 7V4h6v3M7 7l1 13h8l1-13",
  close: "M6 6l12 12M18 6L6 18",
  help: "M9 9a3 3 0 115 2.200c-1 .8-2 1.500-2 2.800M12 17.500v.5",
  send: "M4 12l16-8-6 16-3-7z",
  check: "M5 13l4 4L19 7",
  warning: "M12 4l9 16H3zM12 10v4M12 17v.5",
  download: "M12 4v11M7 11l5 5 5-5M5 20h14",
  sliders: "M6 4v16M12 4v16M18 4v16M4 9h4M10 15h4M16 7h4",
  voice: "M12 3a3 3 0 013 3v5a3 3 0 01-6 0V6a3 3 0 013-3zM6 11a6 6 0 0012 0M12 17v4",
  guitar: "M20 4l-6.500 6.500M18 3l3 3M13 9c-2-1-4 0-4.500 1.500C8 12 5 11.500 4 14a4.500 4.500 0 006 6c2.500-1 2-4 3.500-4.500C15 15 16 13 15 11zM10 14h.1",
  bass: "M20 4l-8 8M17 4l3 3M12 11c-3-1-3.500 1.500-5 2.500S3 15 4 18s5 3 6.500 1 1-3.500 2.500-4.500S14 12.500 13 12z",
  drums: "M4 10c0-2 3.600-3.500 8-3.500s8 1.500 8 3.500-3.600 3.500-8 3.500S4 12 4 10zM4 10v6c0 2 3.600 3.500 8 3.500s8-1.500 8-3.500v-6M3 3l6 5M21 3l-6 5",
  keys: "M4 6h16v12H4zM9.300 6v7M14.700 6v7M9.300 13v5M14.700 13v5",
  strings: "M19 3l-6 7M12 9c-2-.5-3.500.5-3.500 2.500-2.500 0-4.500 1.500-4.500 4.500s2 4 4.500 4 4-2 4-4.500c2 0 3-1.500 2.500-3.500M7 13l5 5",
  brass: "M3 12h9M3 10v4M12 9v6M12 9c4 0 6-2 9-4v14c-3-2-5-4-9-4M6 12v5h4v-5",
  machine: "M4 5h16v14H4zM8 9h.1M12 9h.1M16 9h.1M8 13h3M13 13h3M8 16h3M13 16h3",
  note: "M9 18a3 3 0 11-3-3c2 0 3 1 3 3zM9 18V5l10-2v12M19 15a3 3 0 11-3-3c2 0 3 1 3 3z",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name, size = 20 }: { name: IconName; size?: number }) {
  const solid = name === "play" || name === "stop";
  return (
    <svg class={solid ? "icon solid" : "icon"} viewBox="0 0 24 24" width={size} height={size} aria-hidden="true" focusable="false">
      <path d={PATHS[name]} />
    </svg>
  );
}

const INSTRUMENTS: [RegExp, IconName][] = [
  [/voc|voice|sing|vox|mic/i, "voice"],
  [/bass/i, "bass"],
  [/guit|uku|banjo|mandolin/i, "guitar"],
  [/drum|perc|cajon|beat/i, "drums"],
  [/key|piano|organ|rhodes/i, "keys"],
  [/string|violin|viola|cello|fiddle/i, "strings"],
  [/brass|horn|trumpet|trombone|sax|flute|clarinet|wind/i, "brass"],
  [/synth|electron|machine|sampler|dj|laptop/i, "machine"],
];

export function instrumentIcon(instrument: string, name = ""): IconName {
  const text = `${instrument} ${instrument ? "" : name}`;
  return INSTRUMENTS.find(([pattern]) => pattern.test(text))?.[1] ?? "note";
}

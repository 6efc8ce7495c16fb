// One fader: a range input, so that keyboards and screen readers know it, with a desk's travel. The thumb's shape and
// the colour say whose mix it is.
import { useEffect, useRef } from "preact/hooks";
import { useSignal } from "@preact/signals";
import { readOnly, socket } from "../store";
import { decibels, panWords } from "../text";

const TOUCH_MS = 1_000 / 30;
/** After the last arrow key a value is final. */
const KEY_PAUSE_MS = 300;
/** A change whose echo never comes does not keep the fader from the truth for longer. */
const ECHO_MS = 2_000;
const STEPS = 1_000;
/** A touch that is not renewed ends after three seconds. */
const RENEW_MS = 1_000;

interface Scale {
  min: number;
  max: number;
  default: number;
  /** Change for an arrow key, and for a page key. */
  step: number;
  page: number;
  toPlace(value: number): number;
  toValue(place: number): number;
  words(value: number): string;
}

// Travel of a desk's fader: places of levels in dB, straight between them.
const TRAVEL: [number, number][] = [
  [-90, 0],
  [-60, 0.02],
  [-40, 0.14],
  [-20, 0.38],
  [-10, 0.56],
  [0, 0.76],
  [12, 1],
];

function between(points: [number, number][], x: number, from: 0 | 1): number {
  const to = from === 0 ? 1 : 0;
  for (let at = 1; at < points.length; at++) {
    const [left, right] = [points[at - 1], points[at]] as [[number, number], [number, number]];
    if (x <= right[from]) {
      const share = Math.max(0, (x - left[from]) / (right[from] - left[from]));
      return left[to] + share * (right[to] - left[to]);
    }
  }
  return (points[points.length - 1] as [number, number])[to];
}

export function gainScale(min: number): Scale {
  const points = TRAVEL.filter(([db]) => db > min);
  const travel: [number, number][] = [[min, 0], ...points];
  return {
    min,
    max: 12,
    default: 0,
    step: 0.5,
    page: 6,
    toPlace: (db) => between(travel, db, 0),
    toValue: (place) => Math.round(between(travel, place, 1) * 10) / 10,
    words: (db) => decibels(db, min),
  };
}

export const PAN: Scale = {
  min: -1,
  max: 1,
  default: 0,
  step: 0.05,
  page: 0.25,
  toPlace: (pan) => (pan + 1) / 2,
  // The middle holds on a little.
  toValue: (place) => (Math.abs(place - 0.5) < 0.025 ? 0 : Math.round((place * 2 - 1) * 100) / 100),
  words: panWords,
};

interface Hand {
  held: boolean;
  /** A finger or button is down. */
  pointer: boolean;
  sent: number;
  timer?: ReturnType<typeof setTimeout>;
  echo?: ReturnType<typeof setTimeout>;
  renewal?: ReturnType<typeof setInterval>;
}

interface FaderProps {
  value: number;
  scale: Scale;
  label: string;
  /** Whose mix: drawn and said. */
  owner: "mine" | "shared";
  upright?: boolean;
  disabled?: boolean;
  /** Each value while it moves, at most 30 a second. */
  onMove?: (value: number) => void;
  /** The value it is left at. */
  onSet: (value: number) => void;
  /** The shared address that others shall see moving. */
  address?: string;
  showsWords?: boolean;
  /** What it is for, where its place does not say it. */
  caption?: string;
}

export function Fader(props: FaderProps) {
  const { value, scale, label, owner, upright, disabled, address } = props;
  const local = useSignal<number | null>(null);
  const hand = useRef<Hand>({ held: false, pointer: false, sent: 0 });
  const shown = local.value ?? value;
  const place = scale.toPlace(shown);

  // The truth has caught up with the hand.
  useEffect(() => {
    if (!hand.current.held && local.value !== null && Math.abs(value - local.value) < 1e-6) local.value = null;
  }, [value]);
  useEffect(
    () => () => {
      clearTimeout(hand.current.timer);
      clearTimeout(hand.current.echo);
      clearInterval(hand.current.renewal);
    },
    [],
  );

  const move = (next: number) => {
    const clamped = Math.min(scale.max, Math.max(scale.min, next));
    local.value = clamped;
    if (!hand.current.held && address) {
      clearInterval(hand.current.renewal);
      hand.current.renewal = setInterval(() => socket.touch(address, local.value), RENEW_MS);
    }
    hand.current.held = true;
    clearTimeout(hand.current.echo);
    const now = performance.now();
    if (now - hand.current.sent >= TOUCH_MS) {
      hand.current.sent = now;
      if (address) socket.touch(address, clamped);
      props.onMove?.(clamped);
    }
  };
  const leave = () => {
    clearTimeout(hand.current.timer);
    clearInterval(hand.current.renewal);
    if (!hand.current.held) return;
    hand.current.held = false;
    const final = local.value;
    if (final !== null) props.onSet(final);
    if (address) socket.release(address);
    hand.current.echo = setTimeout(() => {
      if (!hand.current.held) local.value = null;
    }, ECHO_MS);
  };
  const leaveSoon = () => {
    clearTimeout(hand.current.timer);
    hand.current.timer = setTimeout(leave, KEY_PAUSE_MS);
  };
  const onKeyDown = (event: KeyboardEvent) => {
    const fine = event.shiftKey ? 0.2 : 1;
    const steps: Record<string, number> = {
      ArrowUp: scale.step * fine,
      ArrowRight: scale.step * fine,
      ArrowDown: -scale.step * fine,
      ArrowLeft: -scale.step * fine,
      PageUp: scale.page,
      PageDown: -scale.page,
    };
    const by = steps[event.key];
    let next: number;
    if (by !== undefined) next = Math.round((shown + by) * 100) / 100;
    else if (event.key === "Home") next = scale.min;
    else if (event.key === "End") next = scale.max;
    else if (event.key === "Delete" || event.key === "Backspace") next = scale.default;
    else return;
    event.preventDefault();
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    move(next);
    leaveSoon();
  };

  return (
    <div class={`fader ${owner} ${upright ? "upright" : "level"} ${scale === PAN ? "pan" : ""}`}>
      <input
        type="range"
        min={0}
        max={STEPS}
        step={1}
        value={Math.round(place * STEPS)}
        aria-label={label}
        aria-valuetext={scale.words(shown)}
        disabled={disabled || readOnly.value}
        title={`${label}: ${scale.words(shown)}. Double-click: ${scale.words(scale.default)}`}
        style={{ "--place": place }}
        onInput={(event) => {
          const at = Number(event.currentTarget.value) / STEPS;
          move(scale.toValue(at));
          // An input without a pointer that ends it, such as a screen reader's.
          if (!hand.current.pointer) leaveSoon();
        }}
        onPointerDown={() => {
          hand.current.pointer = true;
          clearTimeout(hand.current.timer);
        }}
        onPointerUp={() => {
          hand.current.pointer = false;
        }}
        onPointerCancel={() => {
          hand.current.pointer = false;
          leave();
        }}
        onChange={leave}
        onKeyDown={onKeyDown}
        onBlur={leave}
        onDblClick={() => {
          move(scale.default);
          leave();
        }}
      />
      {props.caption && (
        <span class="fader-caption" aria-hidden="true">
          {props.caption}
        </span>
      )}
      {props.showsWords && <output aria-hidden="true">{scale.words(shown)}</output>}
    </div>
  );
}

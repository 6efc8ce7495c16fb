// The beat bar: tempo, bar and beat, metronome, play, Link. The beat itself is drawn past the component tree.
import { useEffect, useRef } from "preact/hooks";
import { useSignal } from "@preact/signals";
import { nudgeTempo, play, tap, toggleLink, toggleMetronome, togglePlaying } from "../actions";
import { beatNow } from "../beat";
import { everyFrame } from "../meters";
import { playback, readOnly, status } from "../store";
import { Button, Toggle } from "../ui/controls";

const METERS = [2, 3, 4, 5, 6, 7];

export function BeatBar() {
  const now = playback.value;
  const link = status.value?.link;
  return (
    <section class="beat-bar" aria-label="Beat">
      <div class="beat-group">
        <Button label="Go to bar 1" icon="rewind" class="quiet" onClick={() => play({ position_beats: 0 })} />
        <Toggle
          on={now?.playing ?? false}
          label={now?.playing ? "Stop" : "Play"}
          keys="Space"
          class="play"
          icon={now?.playing ? "stop" : "play"}
          onClick={togglePlaying}
        />
      </div>
      <Counter />
      <div class="beat-group tempo-group">
        <Button label="Slower" icon="minus" class="quiet" keys="-" onClick={() => nudgeTempo(-1)} />
        <Tempo />
        <Button label="Faster" icon="plus" class="quiet" keys="+" onClick={() => nudgeTempo(1)} />
        <Button label="Tap tempo" keys="T" class="tap" onClick={tap}>
          Tap
        </Button>
        <label class="signature">
          <span class="sr-only">Beats in a bar</span>
          <select
            value={now?.time_signature ?? "4/4"}
            disabled={readOnly.value}
            onChange={(event) => play({ time_signature: event.currentTarget.value })}
          >
            {[...new Set([...METERS.map((beats) => `${beats}/4`), now?.time_signature ?? "4/4"])].map((text) => (
              <option key={text}>{text}</option>
            ))}
          </select>
        </label>
      </div>
      <div class="beat-group">
        <Toggle on={now?.metronome ?? false} label="Click of the metronome, only in my ears" keys="C" icon="metronome" onClick={toggleMetronome}>
          <span class="button-text">Click</span>
        </Toggle>
        <Toggle
          on={link?.enabled ?? false}
          label={`Ableton Link, ${link?.peers ?? 0} Link programs`}
          keys="L"
          icon="link"
          disabled={!link}
          onClick={toggleLink}
        >
          <span class="button-text">Link</span>
          {link?.enabled && <span class="count">{link.peers}</span>}
        </Toggle>
      </div>
    </section>
  );
}

function Tempo() {
  const typed = useSignal<string | null>(null);
  const tempo = playback.value?.tempo_bpm;
  const commit = () => {
    const bpm = Number((typed.value ?? "").replace(",", "."));
    if (typed.value !== null && bpm >= 20 && bpm <= 999) play({ tempo_bpm: bpm });
    typed.value = null;
  };
  return (
    <label class="tempo">
      <input
        type="text"
        inputMode="decimal"
        aria-label="Tempo in beats a minute"
        value={typed.value ?? (tempo === undefined ? "–" : tempo.toFixed(tempo % 1 ? 1 : 0))}
        disabled={readOnly.value}
        onFocus={(event) => event.currentTarget.select()}
        onInput={(event) => (typed.value = event.currentTarget.value)}
        onBlur={commit}
        onKeyDown={(event) => {
          if (event.key === "Enter") commit();
          if (event.key === "Escape") typed.value = null;
          if (event.key === "ArrowUp" || event.key === "ArrowDown") {
            event.preventDefault();
            typed.value = null;
            nudgeTempo(event.key === "ArrowUp" ? 1 : -1);
          }
        }}
      />
      <span aria-hidden="true">BPM</span>
    </label>
  );
}

/** Bar, beat, a dot a beat and a line through the bar. */
function Counter() {
  const host = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const counter = host.current;
    if (!counter) return undefined;
    const [bar, beat, dots, line] = ["bar", "beat", "dots", "line"].map((part) => counter.querySelector(`.counter-${part}`)) as [
      HTMLElement,
      HTMLElement,
      HTMLElement,
      HTMLElement,
    ];
    let last = "";
    return everyFrame((_, calm) => {
      const now = beatNow();
      const at = Math.min(now.beats_per_bar - 1, Math.floor(now.phase));
      const key = `${now.bar} ${at} ${now.beats_per_bar} ${now.playing}`;
      if (key !== last) {
        last = key;
        if (dots.childElementCount !== now.beats_per_bar) {
          dots.replaceChildren(...Array.from({ length: now.beats_per_bar }, () => document.createElement("i")));
        }
        bar.textContent = String(now.bar);
        beat.textContent = String(at + 1);
        [...dots.children].forEach((dot, place) => dot.classList.toggle("now", place === at));
        counter.classList.toggle("stopped", !now.playing);
        counter.dataset.phase = now.phase.toFixed(3);
      }
      if (calm) return;
      line.style.transform = `scaleX(${(now.phase / now.beats_per_bar).toFixed(4)})`;
    });
  }, []);
  return (
    <div class="counter" ref={host} role="img" aria-label="Bar and beat, drawn as they pass">
      <span class="counter-numbers">
        <span class="counter-bar">1</span>
        <span class="counter-beat">1</span>
      </span>
      <span class="counter-dots" />
      <span class="counter-line" />
    </div>
  );
}

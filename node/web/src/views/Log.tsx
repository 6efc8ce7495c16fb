// The node's log, filtered as one types.
import { useEffect } from "preact/hooks";
import { useSignal } from "@preact/signals";
import { logLines, socket } from "../store";
import { clock } from "../text";

const LEVELS = ["error", "warn", "info", "debug"] as const;
const SHOWN = 200;
const LINE_CHARACTERS = 600;

export function Log() {
  const text = useSignal("");
  const least = useSignal<(typeof LEVELS)[number]>("info");
  useEffect(() => {
    socket.subscribe("log");
    return () => socket.unsubscribe("log");
  }, []);
  const words = text.value.toLowerCase().split(/\s+/).filter(Boolean);
  const rank = LEVELS.indexOf(least.value);
  const fitting = logLines.value.filter(({ level, target, message }) => {
    if (LEVELS.indexOf(level as never) > rank) return false;
    const line = `${target} ${message}`.toLowerCase();
    return words.every((word) => line.includes(word));
  });
  const shown = fitting.slice(-SHOWN).reverse();
  return (
    <section class="card log" aria-label="Log">
      <h2>Log</h2>
      <div class="add-row">
        <input
          type="search"
          class="text"
          aria-label="Words the lines must have"
          placeholder="Filter"
          value={text.value}
          onInput={(event) => (text.value = event.currentTarget.value)}
        />
        <select aria-label="How much" value={least.value} onChange={(event) => (least.value = event.currentTarget.value as never)}>
          <option value="error">errors</option>
          <option value="warn">and warnings</option>
          <option value="info">and news</option>
          <option value="debug">everything</option>
        </select>
        <span class="quiet count-text">
          {shown.length} of {fitting.length}
        </span>
      </div>
      <ol class="log-lines" tabIndex={0} aria-label="Lines, newest first">
        {shown.map(({ time_ms, level, target, message }, at) => (
          <li key={`${time_ms} ${fitting.length - at}`} class={level}>
            <time>{clock(time_ms, true)}</time> <b>{level}</b> <span class="quiet">{target}</span>{" "}
            <bdi>{message.slice(0, LINE_CHARACTERS)}</bdi>
          </li>
        ))}
      </ol>
    </section>
  );
}

// The shared project's tracks, and undo. Several people edit at once; who has a hand on what is shown.
import { useRef } from "preact/hooks";
import { useSignal } from "@preact/signals";
import { edit, redo, set, undo } from "../actions";
import { heldValue, project, readOnly, socket, status, touchesAt } from "../store";
import { clean, colorOf, palette } from "../text";
import { Button } from "../ui/controls";
import { Icon } from "../ui/Icon";
import { Hands } from "./Strip";

const NAME_CHARACTERS = 64;

export function Tracks() {
  const tracks = Object.entries(project.value?.tracks ?? {}).sort(([, a], [, b]) => a.order - b.order);
  const undoable = status.value?.undo;
  const name = useSignal("");
  const added = useRef(0);
  const add = () => {
    // What was added a moment ago may not be in the list yet, and names may have become free in its middle.
    added.current = Math.max(added.current, tracks.length) + 1;
    while (tracks.some(([, track]) => track.name === `Track ${added.current}`)) added.current += 1;
    const color = palette[added.current % palette.length];
    edit({ op: "add", address: "/tracks", value: { name: name.value.trim() || `Track ${added.current}`, kind: "audio", color } });
    name.value = "";
  };
  return (
    <section class="tracks" aria-label="Tracks">
      <header class="panel-head">
        <h2>Tracks</h2>
        <Button
          label={undoable?.undo_label ? `Undo: ${clean(undoable.undo_label, 60)}` : "Undo"}
          keys="Control+Z"
          icon="undo"
          class="quiet"
          disabled={!undoable?.can_undo}
          onClick={() => void undo()}
        />
        <Button
          label={undoable?.redo_label ? `Redo: ${clean(undoable.redo_label, 60)}` : "Redo"}
          keys="Control+Shift+Z"
          icon="redo"
          class="quiet"
          disabled={!undoable?.can_redo}
          onClick={() => void redo()}
        />
      </header>
      <ol class="track-list">
        {tracks.map(([id, track], at) => (
          <Row
            key={id}
            id={id}
            name={track.name}
            color={track.color}
            above={tracks[at - 1]?.[0]}
            below={tracks[at + 2]?.[0] ?? null}
            last={at === tracks.length - 1}
          />
        ))}
        {tracks.length === 0 && <li class="empty">No tracks yet. A track is a part of your song that the whole band sees.</li>}
      </ol>
      <form
        class="add-row"
        onSubmit={(event) => {
          event.preventDefault();
          add();
        }}
      >
        <input
          type="text"
          class="text"
          aria-label="Name of a new track"
          placeholder="New track"
          maxLength={NAME_CHARACTERS}
          value={name.value}
          disabled={readOnly.value}
          onInput={(event) => (name.value = event.currentTarget.value)}
        />
        <Button label="Add track" icon="plus" class="primary" onClick={add} />
      </form>
    </section>
  );
}

interface RowProps {
  id: string;
  name: string;
  color: string;
  above: string | undefined;
  below: string | null;
  last: boolean;
}

function Row({ id, name, color, above, below, last }: RowProps) {
  const address = `/tracks/${id}`;
  const typed = useSignal<string | null>(null);
  const open = useSignal(false);
  const held = heldValue(`${address}/name`);
  const shown = typed.value ?? clean(typeof held === "string" ? held : name, NAME_CHARACTERS);
  const busy = touchesAt(`${address}/name`).length > 0;
  const commit = () => {
    const text = typed.value?.trim();
    if (text && text !== name) set(`${address}/name`, text);
    if (typed.value !== null) socket.release(`${address}/name`);
    typed.value = null;
  };
  const painted = colorOf(id, color);
  return (
    <li class={`track ${busy ? "busy" : ""}`} style={{ "--who": painted }}>
      <Button label={`Colour of ${shown}`} class="quiet swatch-button" onClick={() => (open.value = !open.value)}>
        <span class="swatch" />
      </Button>
      <input
        type="text"
        class="text track-name"
        dir="auto"
        aria-label="Name of the track"
        value={shown}
        maxLength={NAME_CHARACTERS}
        disabled={readOnly.value}
        onInput={(event) => {
          typed.value = event.currentTarget.value;
          socket.touch(`${address}/name`, typed.value.trim() || null);
        }}
        onFocus={() => socket.touch(`${address}/name`)}
        onBlur={() => {
          commit();
          socket.release(`${address}/name`);
        }}
        onKeyDown={(event) => {
          if (event.key === "Enter") event.currentTarget.blur();
          if (event.key === "Escape") typed.value = null;
        }}
      />
      <Hands addresses={[`${address}/name`]} />
      <Button label={`Move ${shown} up`} icon="up" class="quiet" disabled={!above} onClick={() => edit({ op: "move", address, before: `/tracks/${above}` })} />
      <Button
        label={`Move ${shown} down`}
        icon="down"
        class="quiet"
        disabled={last}
        onClick={() => edit({ op: "move", address, before: below ? `/tracks/${below}` : null })}
      />
      <Button label={`Delete ${shown}`} icon="trash" class="quiet" onClick={() => edit({ op: "delete", address })} />
      {open.value && (
        <div class="swatches" role="group" aria-label={`Colours for ${shown}`}>
          <Swatches
            chosen={painted}
            onChoose={(hex) => {
              set(`${address}/color`, hex);
              open.value = false;
            }}
          />
        </div>
      )}
    </li>
  );
}

const COLOR_NAMES = ["red", "orange", "yellow", "green", "teal", "blue", "indigo", "violet", "pink", "brown"];

export function Swatches({ chosen, onChoose }: { chosen: string; onChoose: (hex: string) => void }) {
  return (
    <>
      {palette.map((hex, at) => (
        <button
          type="button"
          key={hex}
          class="button swatch-button"
          aria-label={COLOR_NAMES[at]}
          aria-pressed={hex === chosen}
          disabled={readOnly.value}
          onClick={() => onChoose(hex)}
        >
          <span class="swatch" style={{ "--who": hex }}>
            {hex === chosen && <Icon name="check" size={16} />}
          </span>
        </button>
      ))}
    </>
  );
}


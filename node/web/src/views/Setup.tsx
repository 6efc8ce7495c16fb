// Who I am and what I play through: the first run asks it, the settings show it again.
import { useSignal } from "@preact/signals";
import { call } from "../actions";
import type { Setup as SetupState } from "../api/types";
import { announce } from "../notices";
import { me, peers, person, readOnly, setup, status } from "../store";
import { colorOf, palette } from "../text";
import { Dialog } from "../ui/controls";
import { Icon, instrumentIcon } from "../ui/Icon";
import { DevicePicker } from "./Device";
import { MidiPorts } from "./Midi";
import { Swatches } from "./Tracks";
import { dialog } from "./view";

/** A colour to begin with: the suggested one, unless a bandmate has it and another is free. */
function freeColor(suggested: string): string {
  const taken = new Set(peers.value.map(({ peer_id, name }) => person(peer_id, name).color));
  return [suggested, ...palette].find((color) => !taken.has(color)) ?? suggested;
}

const INSTRUMENTS = ["Voice", "Guitar", "Bass", "Drums", "Keys", "Strings", "Brass", "Machines"];
const NAME_CHARACTERS = 64;

export function FirstRun() {
  return (
    <Dialog title="Welcome to the band" class="setup">
      <p class="lead">Four things, then you play. All of them can be changed later.</p>
      <Form button="Start playing" done />
    </Dialog>
  );
}

export function Settings() {
  const close = () => (dialog.value = null);
  return (
    <Dialog title="Settings" class="setup" onClose={close}>
      <Form button="Done" onDone={close} />
    </Dialog>
  );
}

function Form({ button, done, onDone }: { button: string; done?: boolean; onDone?: () => void }) {
  const known = setup.value;
  const now = person(me.value, status.value?.name);
  const name = useSignal(done ? known?.name || known?.suggested_name || now.name : now.name);
  const own = colorOf(me.value, (done && known?.color) || now.color);
  const chosen = useSignal<string | null>(null);
  // The band may come to be known while the questions are on screen.
  const color = chosen.value ?? (done ? freeColor(own) : own);
  const instrument = useSignal(done ? (known?.instrument ?? now.instrument) : now.instrument);
  const before = useSignal({ name: name.value, instrument: instrument.value }).value;
  const other = instrument.value !== "" && !INSTRUMENTS.includes(instrument.value);
  const save = async () => {
    const said = { name: name.value.trim() || known?.suggested_name || "Player", color, instrument: instrument.value.trim() };
    // What was not touched here may have been edited elsewhere in the meantime.
    const touched: Partial<typeof said> = {};
    if (name.value !== before.name) touched.name = said.name;
    if (chosen.value !== null) touched.color = said.color;
    if (instrument.value !== before.instrument) touched.instrument = said.instrument;
    const change = done ? { ...said, done: true } : touched;
    if (Object.keys(change).length > 0) {
      const saved = await call<SetupState>("PUT", "/setup", change);
      if (!saved) return;
      setup.value = saved;
      announce("Saved.");
    }
    onDone?.();
  };
  return (
    <form
      class="setup-form"
      onSubmit={(event) => {
        event.preventDefault();
        if (known && !readOnly.value) void save();
        else onDone?.();
      }}
    >
      {known && (
        <>
          <label class="field">
            <span class="field-label">Your name</span>
            <input
              type="text"
              class="text"
              dir="auto"
              maxLength={NAME_CHARACTERS}
              value={name.value}
              disabled={readOnly.value}
              autocomplete="nickname"
              onInput={(event) => (name.value = event.currentTarget.value)}
            />
          </label>
          <fieldset class="field">
            <legend class="field-label">Your colour</legend>
            <div class="swatches">
              <Swatches chosen={color} onChoose={(hex) => (chosen.value = hex)} />
            </div>
          </fieldset>
          <fieldset class="field">
            <legend class="field-label">Your instrument</legend>
            <div class="chips">
              {INSTRUMENTS.map((text) => (
                <button
                  type="button"
                  key={text}
                  class="button chip"
                  aria-pressed={instrument.value === text}
                  disabled={readOnly.value}
                  onClick={() => (instrument.value = text)}
                >
                  <Icon name={instrumentIcon(text)} />
                  {text}
                </button>
              ))}
              <input
                type="text"
                class="text chip-other"
                dir="auto"
                aria-label="Another instrument"
                placeholder="Something else"
                maxLength={NAME_CHARACTERS}
                value={other ? instrument.value : ""}
                disabled={readOnly.value}
                onInput={(event) => (instrument.value = event.currentTarget.value)}
              />
            </div>
          </fieldset>
        </>
      )}
      <DevicePicker simple={done ?? false} />
      {!done && <MidiPorts />}
      <p class="headphones">
        <Icon name="headphones" />
        <span>
          <strong>Use headphones.</strong> With loudspeakers the others hear themselves again through your microphone.
        </span>
      </p>
      <div class="dialog-foot">
        <button type="submit" class="button primary wide">
          {button}
        </button>
      </div>
    </form>
  );
}

// The system's MIDI ports: what I play on, and what plays the band's notes.
import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { get } from "../api/client";
import { call } from "../actions";
import type { Midi, MidiChange, MidiPort } from "../api/types";
import { announce, complain } from "../notices";
import { readOnly } from "../store";
import { clean } from "../text";

const midi = signal<Midi | null>(null);

/** How often the ports are looked at while they are shown: a key that is pressed should light its keyboard. */
const LOOK_MS = 500;
/** What played this long ago is lit; longer than between two looks. */
const LIT_MS = 800;

async function choose(change: MidiChange): Promise<void> {
  const now = await call<Midi>("PUT", "/midi", change);
  if (!now) return;
  midi.value = now;
  announce("MIDI ports changed.");
}

/** Whether one of `picks` means the port: its whole name, or a part of it that is no other port's whole name. */
function means(pick: string, name: string, names: string[]): boolean {
  return names.includes(pick) ? pick === name : name.toLowerCase().includes(pick.toLowerCase());
}

/** The picks after `name` was picked, or was not any more. What is absent stays. */
function toggled(picks: string[], name: string, names: string[]): string[] {
  if (picks.includes(name) && !names.includes(name)) return picks.filter((pick) => pick !== name);
  const covered = (other: string) => picks.some((pick) => means(pick, other, names));
  if (!covered(name)) return [...picks, name];
  const absent = picks.filter((pick) => !names.some((other) => means(pick, other, names)));
  return [...names.filter((other) => other !== name && covered(other)), ...absent];
}

const STATES: Record<MidiPort["state"], string> = {
  open: "",
  closed: "",
  absent: "not plugged in; used as soon as it is",
  loop: "output only: it gives back what it is sent",
  refused: "not connected: another program holds or has parted it; untick and tick to try again",
};

export function MidiPorts() {
  useEffect(() => {
    let ended = false;
    let timer = 0;
    const look = async () => {
      try {
        const now = await get<Midi>("/midi");
        if (!ended) midi.value = now;
      } catch (error) {
        if (!ended && !midi.value) complain(error);
      }
      if (!ended) timer = window.setTimeout(() => void look(), LOOK_MS);
    };
    void look();
    return () => {
      ended = true;
      window.clearTimeout(timer);
    };
  }, []);
  const now = midi.value;
  if (!now) return null;
  const client = clean(now.client, 60);
  return (
    <div class="midi">
      <fieldset class="field">
        <legend class="field-label">MIDI: what you play on</legend>
        <label class="tick">
          <input
            type="checkbox"
            checked={now.all_inputs}
            disabled={readOnly.value}
            onChange={(event) => void choose({ all_inputs: event.currentTarget.checked })}
          />
          Every instrument that is plugged in
        </label>
        <Ports
          ports={now.input_ports}
          picks={now.inputs}
          all={now.all_inputs}
          hopeless={Boolean(now.problem)}
          onPick={(inputs) => void choose({ inputs })}
        />
      </fieldset>
      <fieldset class="field">
        <legend class="field-label">MIDI: what plays the band's notes</legend>
        <Ports
          ports={now.output_ports}
          picks={now.outputs}
          hopeless={Boolean(now.problem)}
          onPick={(outputs) => void choose({ outputs })}
        />
      </fieldset>
      <p class="midi-note">
        {now.problem && <>No system MIDI: {clean(now.problem, 200)}. </>}
        {!now.problem && (
          <>
            A program on this machine, such as a DAW, connects to <b>Bandmesh in</b> and <b>Bandmesh out</b> of “{client}”.{" "}
          </>
        )}
        {now.device_ports && (
          <>
            On JACK there are <b>{client}:midi_in</b> and <b>{client}:midi_out</b>.
          </>
        )}
      </p>
    </div>
  );
}

interface PortsProps {
  ports: MidiPort[];
  picks: string[];
  /** Every instrument is used, picked or not. */
  all?: boolean;
  /** Nothing that is plugged in would be seen; why, is said elsewhere. */
  hopeless: boolean;
  onPick: (picks: string[]) => void;
}

function Ports({ ports, picks, all, hopeless, onPick }: PortsProps) {
  const names = ports.filter(({ state }) => state !== "absent").map(({ name }) => name);
  if (ports.length === 0) {
    return <p class="midi-note">{hopeless ? "None is there." : "None is there. Plug one in, and it is shown here at once."}</p>;
  }
  return (
    <ul class="midi-ports">
      {ports.map(({ name, state, played_ms_ago }) => {
        const picked = state === "absent" || picks.some((pick) => means(pick, name, names));
        const lit = played_ms_ago !== null && played_ms_ago !== undefined && played_ms_ago < LIT_MS;
        return (
          <li key={name}>
            <label class="tick">
              <input
                type="checkbox"
                checked={picked || state === "open"}
                disabled={readOnly.value || (all && state === "open" && !picked)}
                onChange={() => onPick(toggled(picks, name, names))}
              />
              <bdi>{clean(name, 60)}</bdi>
              {lit && <span class="lit" title="It plays" />}
              {STATES[state] && <small>{STATES[state]}</small>}
            </label>
          </li>
        );
      })}
    </ul>
  );
}

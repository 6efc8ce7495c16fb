// The band: my own strip, what I hear, and a strip for everybody else.
import { effect, signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { changeMaster, changeMe, toggleMyMute } from "../actions";
import type { Peer } from "../api/types";
import { deviceMeter, everyFrame, latestMeters } from "../meters";
import { me, peers, person, status } from "../store";
import { Fader, gainScale } from "../ui/Fader";
import { Button, Meter, Toggle } from "../ui/controls";
import { Icon } from "../ui/Icon";
import { DevicePicker } from "./Device";
import { MemberStrip, Shared, Sign, StripHead } from "./Strip";
import { signed } from "../text";
import { dialog } from "./view";

const OWN = gainScale(-60);
/** As long as the fading takes. */
const LEAVING_MS = 600;

// Leavers stay until they have faded.
const leaving = signal<Peer[]>([]);
let here: Peer[] = [];
effect(() => {
  const now = peers.value;
  const ids = new Set(now.map(({ peer_id }) => peer_id));
  const gone = here.filter(({ peer_id }) => !ids.has(peer_id));
  here = now;
  if (gone.length === 0) return;
  leaving.value = [...leaving.peek().filter(({ peer_id }) => !ids.has(peer_id)), ...gone];
  setTimeout(() => {
    leaving.value = leaving.peek().filter((peer) => !gone.includes(peer));
  }, LEAVING_MS);
});

export function Band() {
  const known = new Set(peers.value.map(({ peer_id }) => peer_id));
  const everyone = [
    ...peers.value.map((peer) => ({ peer, gone: false })),
    ...leaving.value.filter(({ peer_id }) => !known.has(peer_id)).map((peer) => ({ peer, gone: true })),
  ].sort((a, b) => a.peer.peer_id.localeCompare(b.peer.peer_id));
  return (
    <section class="band" aria-label="Band">
      <OwnStrip />
      <Master />
      {everyone.map(({ peer, gone }) => (
        <MemberStrip key={peer.peer_id} peer={peer} leaving={gone} />
      ))}
      {everyone.length === 0 && <Nobody />}
    </section>
  );
}

function Nobody() {
  return (
    <div class="nobody">
      <Icon name="band" size={40} />
      <h3>Nobody else is here yet</h3>
      <p>
        Bandmates on the same network who start Bandmesh with the session name{" "}
        <strong>
          <bdi>{status.value?.session.name ?? "jam"}</bdi>
        </strong>{" "}
        appear here by themselves. From elsewhere they start it with <code>--peer</code> and your address:
      </p>
      <ul>
        {(status.value?.listen ?? []).slice(0, 4).map((address) => (
          <li key={address}>
            <code>{address}</code>
          </li>
        ))}
      </ul>
      <p>
        To try it alone: <code>bandmesh demo</code>.
      </p>
    </div>
  );
}

function OwnStrip() {
  const now = status.value;
  const who = person(me.value, now?.name);
  const mine = now?.me;
  return (
    <article class={`strip own ${mine?.muted ? "silenced" : ""}`} style={{ "--who": who.color }} aria-label="You" data-peer={me.value}>
      <StripHead who={who} you />
      <div class="device-row">
        <DevicePicker compact />
        <Button label="Settings" icon="gear" class="quiet" keys="," harmless onClick={() => (dialog.value = "settings")} />
      </div>
      <ul class="signs" aria-label="Your state">
        {mine?.muted && <Sign icon="micOff" kind="themselves" text="You are muted" />}
        {now?.feedback_warning && <Sign icon="warning" kind="deaf" text="Feedback: use headphones" />}
      </ul>
      <div class="desk">
        <section class="bank mine" aria-label="My input">
          <h4>
            <Icon name="mic" size={16} />
            Input
          </h4>
          <Fader
            value={mine?.input_gain_db ?? 0}
            scale={OWN}
            owner="mine"
            upright
            showsWords
            disabled={!mine}
            label="Gain of my input"
            onMove={(input_gain_db) => changeMe({ input_gain_db })}
            onSet={(input_gain_db) => changeMe({ input_gain_db })}
          />
          <Fader
            value={mine?.monitor_gain_db ?? 0}
            scale={OWN}
            owner="mine"
            disabled={!mine?.monitor}
            caption="monitor"
            label="How loud I hear myself"
            onMove={(monitor_gain_db) => changeMe({ monitor_gain_db })}
            onSet={(monitor_gain_db) => changeMe({ monitor_gain_db })}
          />
          <Toggle on={mine?.muted ?? false} label="Mute my microphone" keys="M" class="mute" icon="micOff" disabled={!mine} onClick={toggleMyMute} />
          <Toggle
            on={mine?.monitor ?? false}
            label="Hear myself"
            class="solo"
            icon="headphones"
            disabled={!mine}
            onClick={() => changeMe({ monitor: !mine?.monitor })}
          />
        </section>
        <Meter
          sources={deviceMeter("input")}
          label="Level of my input"
        />
        <Shared id={me.value} name="me" />
      </div>
    </article>
  );
}

function Master() {
  const now = status.value;
  return (
    <article class="strip master" aria-label="What I hear">
      <header class="strip-head">
        <span class="avatar">
          <Icon name="headphones" size={22} />
        </span>
        <span class="strip-names">
          <h3>What I hear</h3>
          <span class="quiet">only in my ears</span>
        </span>
      </header>
      <div class="desk">
        <section class="bank mine" aria-label="Master, only for me">
          <h4>
            <Icon name="headphones" size={16} />
            Only me
          </h4>
          <Fader
            value={now?.master?.gain_db ?? 0}
            scale={OWN}
            owner="mine"
            upright
            showsWords
            disabled={!now?.master}
            label="Loudness of everything, only for me"
            onMove={changeMaster}
            onSet={changeMaster}
          />
        </section>
        <Meter
          sources={deviceMeter("output")}
          label="Level of what I hear"
        />
        <Loudness />
      </div>
    </article>
  );
}

/** Loudness and the limiter: numbers, four times a second, past the component tree. */
function Loudness() {
  const host = useRef<HTMLDListElement>(null);
  useEffect(() => {
    let last = 0;
    return everyFrame((now) => {
      if (now - last < 250 || !host.current) return;
      last = now;
      const master = latestMeters()?.master;
      const show = (name: string, text: string) => {
        const cell = host.current?.querySelector(`[data-figure=${name}]`);
        if (cell && cell.textContent !== text) cell.textContent = text;
      };
      const lufs = (value: number | null | undefined) =>
        value === null || value === undefined || value <= -70 ? "–" : signed(value, 0);
      show("momentary", lufs(master?.momentary_lufs));
      show("short", lufs(master?.short_term_lufs));
      const reduction = master?.limiter_reduction_db ?? 0;
      show("limiter", master ? (reduction > 0.1 ? `−${reduction.toFixed(1)} dB` : "idle") : "–");
      host.current.classList.toggle("limiting", reduction > 0.1);
    });
  }, []);
  return (
    <dl class="loudness" ref={host}>
      <dt>LUFS now</dt>
      <dd>
        <span data-figure="momentary">–</span>
      </dd>
      <dt>LUFS, 3 s</dt>
      <dd>
        <span data-figure="short">–</span>
      </dd>
      <dt>Limiter</dt>
      <dd class="limiter">
        <span data-figure="limiter">–</span>
      </dd>
    </dl>
  );
}

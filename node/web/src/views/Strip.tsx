// A strip of the desk: one member, their level, and two mixes of them side by side: mine alone, and everyone's.
import { allowed, mixForMe, set, soloAlone } from "../actions";
import type { Peer } from "../api/types";
import { heldValue, person, project, touchesAt, type Person } from "../store";
import { latencyWords, pathWords } from "../text";
import { Fader, gainScale, PAN } from "../ui/Fader";
import { Icon, instrumentIcon, type IconName } from "../ui/Icon";
import { Meter, Name, Toggle } from "../ui/controls";

const MINE = gainScale(-60);
const SHARED = gainScale(-90);

export function MemberStrip({ peer, leaving }: { peer: Peer; leaving: boolean }) {
  const who = person(peer.peer_id, peer.name);
  const latency = latencyWords(peer);
  return (
    <article
      class={`strip member ${peer.state} ${leaving ? "leaving" : ""} ${peer.muted_by_me ? "silenced" : ""}`}
      style={{ "--who": who.color }}
      aria-label={who.name}
      data-peer={peer.peer_id}
    >
      <StripHead who={who} />
      <div class={`badge ${latency.level}`} title={peer.path_reason ?? undefined}>
        <span class="badge-latency">{latency.text}</span>
        {peer.path && <span class="badge-path">{pathWords(peer.path)}</span>}
      </div>
      <Signs peer={peer} name={who.name} />
      <div class="desk">
        <Mine peer={peer} name={who.name} />
        <Meter sources={[{ kind: "peer", peer_id: peer.peer_id }]} label={`Level of ${who.name}`} />
        <Shared id={peer.peer_id} name={who.name} />
      </div>
    </article>
  );
}

export function StripHead({ who, you }: { who: Person; you?: boolean }) {
  return (
    <header class="strip-head">
      <span class="avatar">
        <Icon name={instrumentIcon(who.instrument, who.name)} size={22} />
      </span>
      <span class="strip-names">
        <h3>
          <Name text={who.name} />
        </h3>
        {(you || who.instrument) && <Name text={[you ? "You" : "", who.instrument].filter(Boolean).join(" · ")} class="quiet" />}
      </span>
    </header>
  );
}

function Signs({ peer, name }: { peer: Peer; name: string }) {
  return (
    <ul class="signs" aria-label={`State of ${name}`}>
      {peer.muted_by_me && <Sign icon="speakerOff" kind="by-me" text="Muted by me" />}
      {peer.muted_themselves && <Sign icon="micOff" kind="themselves" text="Muted themselves" />}
      {peer.hears_me === false && peer.state === "connected" && <Sign icon="earOff" kind="deaf" text="Does not hear you" />}
    </ul>
  );
}

export function Sign({ icon, kind, text }: { icon: IconName; kind: string; text: string }) {
  return (
    <li class={`sign ${kind}`}>
      <Icon name={icon} size={16} />
      {text}
    </li>
  );
}

/** My own mix of a member: nobody else hears it. */
function Mine({ peer, name }: { peer: Peer; name: string }) {
  const change = (what: Parameters<typeof mixForMe>[1]) => mixForMe(peer.peer_id, what);
  return (
    <section class="bank mine" aria-label={`${name}, only in my ears`}>
      <h4>
        <Icon name="headphones" size={16} />
        Only me
      </h4>
      <Fader
        value={peer.gain_db}
        scale={MINE}
        owner="mine"
        upright
        showsWords
        label={`Gain of ${name}, only for me`}
        onMove={(gain_db) => change({ gain_db })}
        onSet={(gain_db) => change({ gain_db })}
      />
      <Fader
        value={peer.pan}
        scale={PAN}
        owner="mine"
        label={`Pan of ${name}, only for me`}
        onMove={(pan) => change({ pan })}
        onSet={(pan) => change({ pan })}
      />
      <Toggle
        on={peer.muted_by_me}
        label={`Mute ${name}, only for me`}
        keys="M"
        class="mute"
        onClick={() => change({ muted_by_me: !peer.muted_by_me })}
      >
        M
      </Toggle>
      <Toggle
        on={peer.soloed_by_me}
        label={`Solo ${name}, only for me`}
        keys="S"
        class="solo"
        title={`Solo ${name}, only for me (S; with Alt nobody else)`}
        onClick={({ altKey }) => (altKey ? soloAlone(peer.peer_id) : change({ soloed_by_me: !peer.soloed_by_me }))}
      >
        S
      </Toggle>
    </section>
  );
}

/** The band's common mix of a member or track: everybody hears it and may move it. */
export function Shared({ id, name }: { id: string; name: string }) {
  const address = `/mixer/strip/${id}`;
  const strip = project.value?.mixer.strip[id];
  const known = strip !== undefined;
  const number = (field: "gain_db" | "pan") => {
    const held = heldValue(`${address}/${field}`);
    return typeof held === "number" ? held : (strip?.[field] ?? 0);
  };
  const flip = (field: "mute" | "solo") => {
    if (allowed()) set(`${address}/${field}`, !strip?.[field]);
  };
  return (
    <section class="bank shared" aria-label={`${name}, everyone's mix`}>
      <h4>
        <Icon name="band" size={16} />
        Everyone
      </h4>
      <Hands addresses={[`${address}/gain_db`, `${address}/pan`]} />
      <Fader
        value={number("gain_db")}
        scale={SHARED}
        owner="shared"
        upright
        showsWords
        disabled={!known}
        label={`Gain of ${name}, for everyone`}
        address={`${address}/gain_db`}
        onSet={(value) => set(`${address}/gain_db`, value)}
      />
      <Fader
        value={number("pan")}
        scale={PAN}
        owner="shared"
        disabled={!known}
        label={`Pan of ${name}, for everyone`}
        address={`${address}/pan`}
        onSet={(value) => set(`${address}/pan`, value)}
      />
      <Toggle
        on={strip?.mute ?? false}
        label={`Mute ${name}, for everyone`}
        keys="Shift+M"
        class="mute"
        disabled={!known}
        onClick={() => flip("mute")}
      >
        M
      </Toggle>
      <Toggle
        on={strip?.solo ?? false}
        label={`Solo ${name}, for everyone`}
        keys="Shift+S"
        class="solo"
        disabled={!known}
        onClick={() => flip("solo")}
      >
        S
      </Toggle>
    </section>
  );
}

/** Who has a hand on these values now. */
export function Hands({ addresses }: { addresses: string[] }) {
  const touches = addresses.flatMap(touchesAt);
  const first = touches[0];
  if (!first) return null;
  const who = person(first.peer_id, first.name);
  return (
    <span class="hands" style={{ "--who": who.color }}>
      <Name text={who.name} />
      {touches.length > 1 && ` +${touches.length - 1}`}
    </span>
  );
}

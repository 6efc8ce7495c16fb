// How the band is doing: one sentence, then the figures behind it.
import { useEffect } from "preact/hooks";
import { signal, useSignal } from "@preact/signals";
import { download } from "../api/client";
import { call } from "../actions";
import type { Diagnosis, Peer, Stage } from "../api/types";
import { history, watchHistory } from "../history";
import { figures } from "../meters";
import { complain, toast } from "../notices";
import { notifications, peers, person, status } from "../store";
import { clean, clock, latencyWords, pathWords, signed, whole } from "../text";
import { Button, Name } from "../ui/controls";
import { Icon } from "../ui/Icon";
import { Chart } from "./Chart";
import { Log } from "./Log";

const chosen = signal<string | null>(null);

export function Health() {
  useEffect(watchHistory, []);
  const list = peers.value;
  const peer = list.find(({ peer_id }) => peer_id === chosen.value) ?? list[0];
  return (
    <section class="health" aria-label="Health">
      <Verdict />
      <DeviceFigures />
      <section class="card" aria-label="Connections to bandmates">
        <h2>Bandmates</h2>
        {list.length === 0 && <p class="empty">Nobody else is here.</p>}
        <div class="chips" role="group" aria-label="Whose figures">
          {list.map(({ peer_id, name }) => {
            const who = person(peer_id, name);
            return (
              <button
                type="button"
                key={peer_id}
                class="button chip"
                style={{ "--who": who.color }}
                aria-pressed={peer_id === peer?.peer_id}
                onClick={() => (chosen.value = peer_id)}
              >
                <span class="dot" />
                <Name text={who.name} />
              </button>
            );
          })}
        </div>
        {peer && <PeerFigures peer={peer} />}
      </section>
      <Events />
      <Log />
    </section>
  );
}

// --- the sentence ---------------------------------------------------------------------------------------

const VERDICT_ICON = { good: "check", notice: "health", bad: "warning" } as const;

export const verdict = (): Diagnosis | null => status.value?.diagnosis ?? null;

function Verdict() {
  const said = verdict();
  const busy = useSignal(false);
  const action = said?.action;
  const act = async () => {
    if (!action) return;
    busy.value = true;
    await call(action.method, action.path, action.body ?? undefined);
    busy.value = false;
  };
  const bundle = async () => {
    busy.value = true;
    try {
      await download("/support-bundle", "bandmesh-support.zip");
      toast("The support bundle is saved. Keys and tokens are not in it.", "good");
    } catch (error) {
      complain(error);
    }
    busy.value = false;
  };
  return (
    <section class={`card verdict ${said?.severity ?? "good"}`} aria-label="Diagnosis">
      <Icon name={VERDICT_ICON[said?.severity ?? "good"]} size={28} />
      <p>
        <bdi>{clean(said?.sentence ?? "Waiting for the node.", 400)}</bdi>
      </p>
      <div class="verdict-actions">
        {action && (
          <Button label={clean(action.label, 60)} class="primary" disabled={busy.value} onClick={() => void act()}>
            {clean(action.label, 60)}
          </Button>
        )}
        <Button label="Save a support bundle" icon="download" harmless disabled={busy.value} onClick={() => void bundle()}>
          Support bundle
        </Button>
      </div>
      {(status.value?.warnings.length ?? 0) > 0 && (
        <ul class="warnings">
          {status.value?.warnings.map((warning) => (
            <li key={warning}>
              <bdi>{clean(warning, 400)}</bdi>
            </li>
          ))}
        </ul>
      )}
    </section>
  );
}

// --- my device ------------------------------------------------------------------------------------------

function DeviceFigures() {
  const audio = status.value?.audio;
  const past = history.value;
  const page = figures();
  if (!audio) return null;
  const period_ms = (audio.period_frames * 1_000) / audio.rate_hz;
  return (
    <section class="card" aria-label="My device">
      <h2>My device</h2>
      <dl class="figures">
        <Figure label="Device" value={`${clean(audio.device, 40)} (${audio.host})`} />
        <Figure label="Rate and period" value={`${audio.rate_hz / 1_000} kHz, ${audio.period_frames} frames (${period_ms.toFixed(1)} ms)`} />
        <Figure label="Xruns" value={String(audio.xruns)} note="missed by this computer, not by the network" />
        <Figure
          label="Longest callback"
          value={`${Math.round(audio.callback_max_us)} µs`}
          note={`${Math.round(audio.callback_max_us / period_ms / 10)} % of a period`}
        />
        {audio.output_latency_ms > 0 && (
          <Figure label="Output latency" value={`${whole(audio.output_latency_ms)} ms`} note="from the program to your ears, as the card says; clicks and notes are played that much earlier" />
        )}
        <Figure
          label="This page"
          value={page.age_p95_ms === null ? "–" : `${whole(Math.max(0, page.age_p95_ms))} ms`}
          note={`from the sound to the meter on screen, at most, for 95 % of ${page.frames_s.toFixed(0)} frames a second`}
        />
      </dl>
      {past && (
        <div class="charts">
          <Chart
            title="Xruns"
            unit="a second"
            {...frame(past)}
            series={[{ label: "device", color: "c", values: past.device.xruns, bars: true }]}
          />
          <Chart
            title="Callback load"
            unit="% of a period"
            {...frame(past)}
            series={[{ label: "longest", color: "a", values: past.device.callback_load.map((load) => (load === null ? null : load * 100)) }]}
          />
          <Chart
            title="Made up"
            unit="ms a second"
            {...frame(past)}
            series={[{ label: "of others' sound", color: "b", values: past.device.concealed_ms, bars: true }]}
          />
        </div>
      )}
    </section>
  );
}

const frame = ({ end_ms, interval_s }: { end_ms: number; interval_s: number }) => ({ end_ms, interval_s });

function Figure({ label, value, note }: { label: string; value: string; note?: string | undefined }) {
  return (
    <div class="figure">
      <dt>{label}</dt>
      <dd>
        <bdi>{value}</bdi>
        {note && <small>{note}</small>}
      </dd>
    </div>
  );
}

// --- a bandmate -----------------------------------------------------------------------------------------

function PeerFigures({ peer }: { peer: Peer }) {
  const past = history.value;
  const row = past?.peers.find(({ peer_id }) => peer_id === peer.peer_id);
  const audio = peer.audio;
  const clockOffset = peer.clock;
  return (
    <div class="peer-figures">
      <Waterfall peer={peer} />
      <dl class="figures">
        <Figure label="Path" value={pathWords(peer.path)} note={peer.path_reason ? clean(peer.path_reason, 200) : (peer.address ?? undefined)} />
        <Figure label="Round trip" value={peer.rtt_ms == null ? "–" : `${whole(peer.rtt_ms)} ms`} />
        <Figure
          label="Clock"
          value={clockOffset ? `${signed(clockOffset.offset_us / 1_000, 3)} ms` : "–"}
          note={clockOffset ? `± ${(clockOffset.error_us / 1_000).toFixed(3)} ms, drift ${signed(clockOffset.drift_ppm, 1)} ppm` : undefined}
        />
        {audio && (
          <>
            <Figure label="Codec" value={audio.codec} note={`${audio.frame_frames} frames a packet`} />
            <Figure label="Packets" value={`${audio.received} received`} note={`${audio.lost} lost, ${audio.late} late, ${audio.recovered} recovered`} />
            <Figure label="Made up" value={`${(audio.concealed_ratio * 100).toFixed(2)} %`} note={`${audio.concealed_frames} frames, ${audio.buffer_resets} restarts`} />
          </>
        )}
      </dl>
      {past && row && (
        <div class="charts">
          <Chart
            title="Mouth to ear"
            unit="ms"
            {...frame(past)}
            series={[
              { label: "one way", color: "a", values: row.one_way_ms },
              { label: "waits here", color: "b", values: row.playout_delay_ms },
            ]}
          />
          <Chart
            title="Network"
            unit="ms"
            {...frame(past)}
            digits={2}
            series={[
              { label: "jitter", color: "c", values: row.jitter_ms },
              { label: "round trip", color: "d", values: row.rtt_ms },
            ]}
          />
          <Chart
            title="Packets in trouble"
            unit="a second"
            {...frame(past)}
            series={[
              { label: "lost", color: "c", values: row.lost },
              { label: "late", color: "b", values: row.late },
              { label: "recovered", color: "a", values: row.recovered },
            ]}
          />
          <Chart title="Received" unit="packets a second" {...frame(past)} series={[{ label: "received", color: "a", values: row.received }]} />
          <Chart title="Made up" unit="ms a second" {...frame(past)} series={[{ label: "of their sound", color: "c", values: row.concealed_ms, bars: true }]} />
          <Chart
            title="Clock"
            unit="µs"
            {...frame(past)}
            series={[
              { label: "offset", color: "a", values: row.clock_offset_us },
              { label: "error bound", color: "d", values: row.clock_error_us },
            ]}
          />
        </div>
      )}
    </div>
  );
}

/** Sound in air at 20 °C. */
const METRES_PER_MS = 0.343;

const STAGES: Record<Stage, string> = { network: "on the way", playout: "waiting here" };

/** Where the milliseconds from mouth to ear go. */
function Waterfall({ peer }: { peer: Peer }) {
  const { text, level } = latencyWords(peer);
  const total = peer.audio?.one_way_ms ?? null;
  const stages = peer.waterfall ?? [];
  let before = 0;
  return (
    <div class={`waterfall ${level}`}>
      <h3>
        Mouth to ear: {text}
        {total !== null && <small> as {whole(total * METRES_PER_MS)} m apart in one room</small>}
      </h3>
      {stages.length === 0 && <p class="quiet">Not measured yet.</p>}
      <ol>
        {stages.map(({ stage, ms }) => {
          const from = before;
          before += Math.max(0, ms);
          const share = total && total > 0 ? 100 / total : 0;
          return (
            <li key={stage} class={stage}>
              <span class="stage">{STAGES[stage]}</span>
              <span class="fall">
                <span class="fall-bar" style={{ left: `${Math.min(100, from * share)}%`, width: `${Math.min(100, Math.max(0.5, ms * share))}%` }} />
              </span>
              <span class="stage-ms">{ms.toFixed(1)} ms</span>
            </li>
          );
        })}
      </ol>
    </div>
  );
}

// --- what happened --------------------------------------------------------------------------------------

function Events() {
  const list = [...notifications.value].reverse().slice(0, 50);
  return (
    <section class="card" aria-label="What happened">
      <h2>What happened</h2>
      {list.length === 0 && <p class="empty">Nothing to tell.</p>}
      <ol class="events">
        {list.map(({ id, text, at_ms, severity }) => (
          <li key={id} class={severity}>
            <time>{clock(at_ms, true)}</time> <bdi>{clean(text, 200)}</bdi>
          </li>
        ))}
      </ol>
    </section>
  );
}

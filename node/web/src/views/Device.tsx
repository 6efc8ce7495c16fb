// Choosing what to play through, while playing.
import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { get } from "../api/client";
import { call } from "../actions";
import type { Audio, Devices } from "../api/types";
import { deviceMeter } from "../meters";
import { announce, complain } from "../notices";
import { generation, readOnly, status } from "../store";
import { clean } from "../text";
import { Button, Meter } from "../ui/controls";
import { Icon } from "../ui/Icon";

const PERIODS = [16, 32, 64, 128, 256, 512, 1024, 2048];
const RATES = [44_100, 48_000, 88_200, 96_000];

export const devices = signal<Devices | null>(null);
export const audio = signal<Audio | null>(null);
const switching = signal(false);

export async function lookForDevices(): Promise<void> {
  try {
    const [found, now] = await Promise.all([get<Devices>("/devices"), get<Audio>("/audio")]);
    devices.value = found;
    audio.value = now;
  } catch (error) {
    complain(error);
  }
}

async function choose(change: { device?: string; rate_hz?: number; period_frames?: number }): Promise<void> {
  switching.value = true;
  const now = await call<Audio>("PUT", "/audio", change);
  switching.value = false;
  if (now) {
    audio.value = now;
    announce(`Playing through ${clean(now.device)}.`);
  } else {
    await lookForDevices();
  }
}

function useDevices(): void {
  const times = generation.value;
  useEffect(() => void lookForDevices(), [times]);
  // The node may have lost or found a device since.
  const device = status.value?.audio.device;
  useEffect(() => {
    if (audio.value && device && device !== audio.value.device) void lookForDevices();
  }, [device]);
}

/** The device and its state; unless `simple`, its rate and period; unless `compact`, a way to try it. */
export function DevicePicker({ compact, simple }: { compact?: boolean; simple?: boolean }) {
  useDevices();
  const list = devices.value?.audio ?? [];
  const now = audio.value;
  const heard = status.value?.audio;
  const chosen = list.find(({ id }) => id === now?.choice) ?? list.find(({ host, name }) => host === now?.host && name === now?.device);
  const disabled = readOnly.value || switching.value || !now;
  const period = now?.period_frames ?? heard?.period_frames ?? 0;
  const rate = now?.rate_hz ?? heard?.rate_hz ?? 48_000;
  return (
    <div class={`device ${compact ? "compact" : ""}`}>
      <label class="field">
        <span class="field-label">Sound device</span>
        {now ? (
          <select
            value={chosen?.id ?? now.choice}
            disabled={disabled}
            onChange={(event) => void choose({ device: event.currentTarget.value })}
          >
            {!chosen && <option value={now.choice}>{clean(now.device, 60)}</option>}
            {list.map(({ id, name, host, is_default }) => (
              <option key={id} value={id}>
                {id === "null" ? "No sound (silent)" : `${clean(name, 60)} · ${host}${is_default ? " · default" : ""}`}
              </option>
            ))}
          </select>
        ) : (
          <output class="device-now">
            {heard ? `${heard.host} · ${clean(heard.device, 60)}` : "–"}
          </output>
        )}
      </label>
      {!compact && !simple && now && (
        <div class="pair">
          <label class="field">
            <span class="field-label">Rate</span>
            <select value={rate} disabled={disabled} onChange={(event) => void choose({ rate_hz: Number(event.currentTarget.value) })}>
              {[...new Set([...(chosen?.rates_hz.length ? chosen.rates_hz : RATES), rate])].sort((a, b) => a - b).map((hz) => (
                <option key={hz} value={hz}>
                  {hz / 1_000} kHz
                </option>
              ))}
            </select>
          </label>
          <label class="field">
            <span class="field-label">Period</span>
            <select value={period} disabled={disabled} onChange={(event) => void choose({ period_frames: Number(event.currentTarget.value) })}>
              {[...new Set([...PERIODS, period])].sort((a, b) => a - b).map((frames) => (
                <option key={frames} value={frames}>
                  {frames} frames · {((frames * 1_000) / rate).toFixed(1)} ms
                </option>
              ))}
            </select>
          </label>
        </div>
      )}
      {now?.state === "lost" && (
        <p class="device-lost">
          <Icon name="warning" size={16} /> The device is gone{now.detail ? `: ${clean(now.detail, 120)}` : "."}
        </p>
      )}
      {!compact && <InputTest />}
    </div>
  );
}

function InputTest() {
  return (
    <div class="input-test">
      <span class="field-label" id="play-something">
        Play something: this should move
      </span>
      <Meter
        sources={deviceMeter("input")}
        label="Level of my input"
        lies
      />
      <Button label="Play a test tone for two seconds" class="wide" icon="note" onClick={() => void call("POST", "/audio/test-tone", {})}>
        Play a test tone
      </Button>
    </div>
  );
}

// The status page. It shows what the WebSocket says and sends nothing but subscriptions. Names come from strangers: text
// reaches the page through textContent only.

const show = (id, text) => { document.getElementById(id).textContent = text; };
const topics = ["status", "peers", "meters", "playback"];
const reducedMotion = matchMedia("(prefers-reduced-motion: reduce)");
// Meters for a reader who wants less motion: four a second.
const CALM_INTERVAL_MS = 250;
const RETRY_MS = 2000;

let beatsPerBar = 4;
let lastMeters = 0;
let peerMeters = new Map();
let names = new Map();

// A fragment never leaves the browser; kept for a reload, and taken off the address so that it is not shared with it.
function takeToken() {
  const fromAddress = new URLSearchParams(location.hash.slice(1)).get("token");
  if (fromAddress) {
    sessionStorage.setItem("token", fromAddress);
    history.replaceState(null, "", location.pathname);
  }
  return sessionStorage.getItem("token");
}

function connect() {
  const token = takeToken();
  if (!token) {
    show("connection", "This page needs its key: open the link that `bandmesh up` prints.");
    return;
  }
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  const socket = new WebSocket(`${scheme}://${location.host}/api/v1/ws`);
  socket.onopen = () => socket.send(JSON.stringify({ type: "auth", token }));
  socket.onmessage = (event) => {
    const message = JSON.parse(event.data);
    if (message.type === "ready") {
      show("connection", "Connected");
      socket.send(JSON.stringify({ type: "subscribe", topics }));
    } else {
      handlers[message.type]?.(message.data);
    }
  };
  socket.onclose = (event) => {
    if (event.code === 4401) {
      sessionStorage.removeItem("token");
      show("connection", "The key of this page is old: open the link that `bandmesh up` prints.");
      return;
    }
    show("connection", "The node does not answer. Trying again…");
    setTimeout(connect, RETRY_MS);
  };
}

const handlers = {
  status(status) {
    show("name", status.name);
    document.title = `${status.name} – Bandmesh`;
    show("session", `in session ${status.session.name}`);
    const { host, device, rate_hz, period_frames, xruns } = status.audio;
    const period = (period_frames * 1000 / rate_hz).toFixed(1);
    show("audio", `${host} ${device}, ${rate_hz} Hz, ${period_frames} frames (${period} ms), ${xruns} xruns`);
    show("link", status.link.enabled ? `Link on, ${status.link.peers} others` : "Link off");
    const items = status.warnings.map((warning) => element("li", warning));
    const list = document.getElementById("warnings");
    list.hidden = items.length === 0;
    list.replaceChildren(...items);
  },

  playback(playback) {
    const beats = Number.parseInt(playback.time_signature, 10);
    beatsPerBar = beats >= 1 && beats <= 32 ? beats : 4;
  },

  meters(meters) {
    const now = performance.now();
    if (reducedMotion.matches && now - lastMeters < CALM_INTERVAL_MS) return;
    lastMeters = now;
    const loudest = (levels) => Math.max(-60, ...levels.map((level) => level.peak_db));
    document.getElementById("input").value = loudest(meters.input);
    document.getElementById("output").value = loudest(meters.output);
    for (const peer of meters.peers) {
      const meter = peerMeters.get(peer.peer_id);
      if (meter) meter.value = peer.peak_db;
    }
    show("tempo", meters.tempo_bpm.toFixed(2));
    show("playing", meters.playing ? "playing" : "stopped");
    showBeat(Math.floor(meters.phase));
  },

  peers(peers) {
    tellNews(peers);
    const kept = peerMeters;
    peerMeters = new Map();
    const rows = peers.map((peer) => {
      const meter = kept.get(peer.peer_id) ?? Object.assign(document.createElement("meter"), { min: -60, max: 0, value: -60 });
      meter.setAttribute("aria-label", `Level of ${peer.name}`);
      peerMeters.set(peer.peer_id, meter);
      const row = document.createElement("tr");
      const level = document.createElement("td");
      level.append(meter);
      row.append(
        element("td", peer.name),
        level,
        element("td", latency(peer.audio?.one_way_ms)),
        element("td", peer.path ?? "–"),
        element("td", peer.audio ? String(peer.audio.lost) : "–"),
        element("td", peer.audio ? `${(peer.audio.concealed_ratio * 100).toFixed(2)} %` : "–"),
        element("td", peer.muted_by_me ? "muted by me" : peer.state),
      );
      return row;
    });
    document.getElementById("peers").replaceChildren(...rows);
    document.getElementById("table").hidden = rows.length === 0;
    document.getElementById("nobody").hidden = rows.length !== 0;
  },
};

// As in the terminal's table: up to 25 ms feels like a few steps of distance, from 45 ms on rhythm suffers.
function latency(ms) {
  if (ms === null || ms === undefined) return "–";
  const word = ms < 25 ? "Tight" : ms < 45 ? "Playable" : "Loose";
  return `${word}, ${ms.toFixed(0)} ms`;
}

function showBeat(beat) {
  const beats = document.getElementById("beats");
  if (beats.childElementCount !== beatsPerBar) {
    beats.replaceChildren(...Array.from({ length: beatsPerBar }, (_, at) => element("span", String(at + 1))));
  }
  [...beats.children].forEach((dot, at) => dot.classList.toggle("now", at === beat));
}

function tellNews(peers) {
  const here = new Map(peers.filter((peer) => peer.state === "connected").map((peer) => [peer.peer_id, peer.name]));
  const news = [];
  for (const [id, name] of here) if (!names.has(id)) news.push(`${name} is here.`);
  for (const [id, name] of names) if (!here.has(id)) news.push(`${name} is gone.`);
  names = here;
  if (news.length > 0) show("news", news.join(" "));
}

function element(tag, text) {
  const made = document.createElement(tag);
  made.textContent = text;
  return made;
}

connect();

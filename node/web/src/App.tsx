// The frame: name and health on top, the beat below, then one view, with tracks or chat beside it where there is room.
import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { pasteToken } from "./api/token";
import { announcement, dismiss, toasts } from "./notices";
import { connection, returned, role, setup, socket, status } from "./store";
import { clean } from "./text";
import { Button, Name } from "./ui/controls";
import { Icon, type IconName } from "./ui/Icon";
import { Band } from "./views/Band";
import { BeatBar } from "./views/Beat";
import { Chat } from "./views/Chat";
import { Graph } from "./views/Graph";
import { Health, verdict } from "./views/Health";
import { Help } from "./views/Help";
import { FirstRun, Settings } from "./views/Setup";
import { Tracks } from "./views/Tracks";
import { dialog, open, panel, toggle, unread, view, wide, type View } from "./views/view";

export function App() {
  const state = connection.value;
  if (state === "no_token" || state === "bad_token") return <Locked old={state === "bad_token"} />;
  return (
    <>
      <Top />
      <Banner />
      <div class={`stage ${wide.value && panel.value ? "with-panel" : ""} ${state === "open" ? "" : "stale"}`}>
        <main class="main" tabIndex={-1}>
          <Main />
        </main>
        {wide.value && panel.value && (
          <aside class="panel" aria-label={panel.value === "chat" ? "Chat" : "Tracks"}>
            {panel.value === "chat" ? <Chat /> : <Tracks />}
          </aside>
        )}
      </div>
      {!wide.value && <Tabs narrow />}
      <Toasts />
      <Said />
      {dialog.value === "help" && <Help />}
      {dialog.value === "settings" && <Settings />}
      {setup.value && !setup.value.done && role.value === "player" && <FirstRun />}
    </>
  );
}

function Main() {
  switch (view.value) {
    case "band":
      return <Band />;
    case "tracks":
      return <Tracks />;
    case "chat":
      return <Chat />;
    case "peers":
      return <Graph />;
    case "health":
      return <Health />;
  }
}

function Top() {
  const now = status.value;
  const title = now ? `${clean(now.session.name)} · Bandmesh` : "Bandmesh";
  useEffect(() => {
    document.title = unread.value > 0 ? `(${unread.value}) ${title}` : title;
  });
  return (
    <header class="top">
      <h1 class="session">
        <Mark />
        <span class="sr-only">Bandmesh, session </span>
        <Name text={clean(now?.session.name ?? "Bandmesh")} />
        {role.value === "viewer" && <span class="role">View only</span>}
      </h1>
      <HealthPill />
      <BeatBar />
      {wide.value && <Tabs />}
      <Button label="Keys" keys="?" icon="help" class="quiet help-button" harmless onClick={() => (dialog.value = "help")} />
    </header>
  );
}

function Mark() {
  return (
    <svg class="mark" viewBox="0 0 26 24" width="26" height="24" aria-hidden="true">
      <rect x="2" y="9" width="4" height="6" rx="2" />
      <rect x="8" y="4" width="4" height="16" rx="2" />
      <rect x="14" y="1" width="4" height="22" rx="2" />
      <rect x="20" y="7" width="4" height="10" rx="2" />
    </svg>
  );
}

const PILL_WORDS = { good: "All good", notice: "Have a look", bad: "Trouble" } as const;
const PILL_ICONS = { good: "check", notice: "health", bad: "warning" } as const;

function HealthPill() {
  const said = verdict();
  // What the node said before it was lost is no news of now.
  if (!said || connection.value !== "open") return null;
  return (
    <button
      type="button"
      class={`button pill ${said.severity}`}
      title={clean(said.sentence, 300)}
      aria-label={`${PILL_WORDS[said.severity]}: ${clean(said.sentence, 300)}`}
      onClick={() => open("health")}
    >
      <Icon name={PILL_ICONS[said.severity]} size={18} />
      <span>{PILL_WORDS[said.severity]}</span>
    </button>
  );
}

const VIEWS: { view: View; label: string; icon: IconName; keys: string }[] = [
  { view: "band", label: "Band", icon: "sliders", keys: "B" },
  { view: "peers", label: "Network", icon: "graph", keys: "P" },
  { view: "health", label: "Health", icon: "health", keys: "D" },
  { view: "tracks", label: "Tracks", icon: "tracks", keys: "K" },
  { view: "chat", label: "Chat", icon: "chat", keys: "H" },
];

function Tabs({ narrow }: { narrow?: boolean }) {
  return (
    <nav class={narrow ? "tabs bottom" : "tabs"} aria-label="Views">
      {VIEWS.map(({ view: which, label, icon, keys }) => {
        const beside = wide.value && (which === "tracks" || which === "chat");
        const here = beside ? panel.value === which : view.value === which;
        const news = which === "chat" ? unread.value : 0;
        return (
          <button
            type="button"
            key={which}
            class="button tab"
            aria-current={!beside && here ? "page" : undefined}
            aria-pressed={beside ? here : undefined}
            aria-keyshortcuts={keys}
            aria-label={news > 0 ? `${label}, ${news} unread` : label}
            title={`${label} (${keys})`}
            onClick={() => (beside ? toggle(which) : open(which))}
          >
            <Icon name={icon} />
            <span>{label}</span>
            {news > 0 && <span class="unread">{news > 99 ? "99+" : news}</span>}
          </button>
        );
      })}
    </nav>
  );
}

function Banner() {
  const state = connection.value;
  if (state === "open") {
    return returned.value ? (
      <div class="banner back">
        <Icon name="check" />
        {returned.value}
      </div>
    ) : null;
  }
  return (
    <div class="banner">
      <Icon name="warning" />
      {state === "lost" ? "The node does not answer. Trying again… Sound does not depend on this page." : "Connecting to the node…"}
      {state === "lost" && (
        <button type="button" class="button" onClick={() => socket.now()}>
          Try now
        </button>
      )}
    </div>
  );
}

function Toasts() {
  return (
    <div class="toasts">
      {toasts.value.map(({ id, text, severity }) => (
        <div key={id} class={`toast ${severity}`}>
          <Icon name={severity === "good" ? "check" : "warning"} />
          <bdi>{text}</bdi>
          <Button label="Dismiss" icon="close" class="quiet" harmless onClick={() => dismiss(id)} />
        </div>
      ))}
    </div>
  );
}

/** The one live region. */
function Said() {
  return (
    <div class="sr-only" role="status" aria-live="polite">
      {announcement.value}
    </div>
  );
}

function Locked({ old }: { old: boolean }) {
  const pasted = useSignal("");
  const wrong = useSignal(false);
  const input = useRef<HTMLInputElement>(null);
  useEffect(() => input.current?.focus(), []);
  return (
    <main class="locked">
      <Mark />
      <h1>{old ? "This page's key is no longer right" : "This page needs its key"}</h1>
      <p>
        Open the link that Bandmesh prints in its terminal, or paste it here. It is made for this computer; do not pass it on.
      </p>
      <form
        class="add-row"
        onSubmit={(event) => {
          event.preventDefault();
          wrong.value = !pasteToken(pasted.value);
          pasted.value = "";
          if (!wrong.value) socket.now();
        }}
      >
        <input
          ref={input}
          type="password"
          class="text"
          autocomplete="off"
          aria-label="Link or key"
          placeholder="http://127.0.0.1:7780/#token=…"
          value={pasted.value}
          onInput={(event) => (pasted.value = event.currentTarget.value)}
        />
        <button type="submit" class="button primary">
          Open
        </button>
      </form>
      {wrong.value && <p role="alert">That is neither a link with a key nor a key.</p>}
    </main>
  );
}

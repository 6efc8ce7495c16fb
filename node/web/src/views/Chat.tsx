// What the band writes, with a line for everybody who comes or goes.
import { useEffect, useRef } from "preact/hooks";
import { useSignal } from "@preact/signals";
import { MOST_CHAT_CHARACTERS, say } from "../actions";
import type { ChatMessage, Notification } from "../api/types";
import { me, notifications, person, project, readOnly, socket, touchesAt } from "../store";
import { clean, clock } from "../text";
import { Button, Name } from "../ui/controls";

const COMING_AND_GOING = ["peer_joined", "peer_left", "peer_lost", "peer_back"];
/** A sentence that long is read in parts. */
const SHOWN_CHARACTERS = 2_000;
const NEAR_END_PX = 60;
const ADDRESS = "/chat";
/** A touch lasts three seconds. */
const WRITING_MS = 1_000;

type Line = { at_ms: number; message: ChatMessage } | { at_ms: number; news: Notification };

export function Chat() {
  const list = useRef<HTMLOListElement>(null);
  const draft = useSignal("");
  const messages: Line[] = (project.value?.chat ?? []).map((message) => ({ at_ms: message.at_ms, message }));
  const news: Line[] = notifications.value
    .filter(({ kind }) => COMING_AND_GOING.includes(kind))
    .map((item) => ({ at_ms: item.at_ms, news: item }));
  const lines = [...messages, ...news].sort((a, b) => a.at_ms - b.at_ms);
  const last = lines[lines.length - 1];

  // Follows the talk, unless somebody reads further up.
  const followed = useRef(true);
  useEffect(() => {
    if (followed.current && list.current) list.current.scrollTop = list.current.scrollHeight;
  }, [lines.length, last?.at_ms]);

  const send = () => {
    say(draft.value);
    draft.value = "";
    followed.current = true;
    socket.release(ADDRESS);
  };
  const told = useRef(0);
  const write = (text: string) => {
    draft.value = text;
    const now = performance.now();
    if (now - told.current < WRITING_MS) return;
    told.current = now;
    socket.touch(ADDRESS);
  };
  const writing = [...new Set(touchesAt(ADDRESS).map(({ peer_id, name }) => person(peer_id, name).name))].slice(0, 3);
  return (
    <section class="chat" aria-label="Chat">
      <header class="panel-head">
        <h2>Chat</h2>
      </header>
      <ol
        class="lines"
        ref={list}
        tabIndex={0}
        aria-label="Messages"
        onScroll={({ currentTarget: { scrollHeight, scrollTop, clientHeight } }) => {
          followed.current = scrollHeight - scrollTop - clientHeight < NEAR_END_PX;
        }}
      >
        {lines.map((line, at) =>
          "news" in line ? <News key={`${line.news.id} ${line.at_ms}`} news={line.news} /> : <Message key={line.message.id} message={line.message} before={lines[at - 1]} />,
        )}
        {lines.length === 0 && <li class="empty">Nothing said yet.</li>}
      </ol>
      <p class="writing">
        {writing.map((name, at) => (
          <span key={name}>
            {at > 0 && ", "}
            <bdi>{name}</bdi>
          </span>
        ))}
        {writing.length > 0 && (writing.length === 1 ? " is writing…" : " are writing…")}
      </p>
      <form
        class="add-row"
        onSubmit={(event) => {
          event.preventDefault();
          send();
        }}
      >
        <input
          id="chat-input"
          type="text"
          class="text"
          dir="auto"
          autocomplete="off"
          aria-label="Message to the band"
          aria-keyshortcuts="/"
          placeholder="Message to the band"
          maxLength={MOST_CHAT_CHARACTERS}
          value={draft.value}
          disabled={readOnly.value}
          onInput={(event) => write(event.currentTarget.value)}
        />
        <Button label="Send" icon="send" class="primary" disabled={draft.value.trim() === ""} onClick={send} />
      </form>
    </section>
  );
}

const TOGETHER_MS = 120_000;

function Message({ message, before }: { message: ChatMessage; before: Line | undefined }) {
  const who = person(message.from);
  const mine = message.from === me.value;
  const follows =
    before !== undefined && "message" in before && before.message.from === message.from && message.at_ms - before.at_ms < TOGETHER_MS;
  return (
    <li class={`message ${mine ? "mine" : ""} ${follows ? "follows" : ""}`} style={{ "--who": who.color }}>
      {!follows && (
        <span class="message-head">
          <Name text={mine ? "You" : who.name} />
          <time dateTime={new Date(message.at_ms).toISOString()}>{clock(message.at_ms)}</time>
        </span>
      )}
      <p dir="auto">{message.text.slice(0, SHOWN_CHARACTERS)}</p>
    </li>
  );
}

function News({ news }: { news: Notification }) {
  return (
    <li class="news">
      <bdi>{clean(news.text, 120)}</bdi> <time>{clock(news.at_ms)}</time>
    </li>
  );
}

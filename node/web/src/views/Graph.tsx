// Who is connected to whom, by which path, how far: a circle of at most 16 players, and the same as a table.
import { useEffect } from "preact/hooks";
import type { Graph as GraphData } from "../api/types";
import { graph, me, peers, person, socket } from "../store";
import { clean, pathWords, tightness, whole } from "../text";
import { Name } from "../ui/controls";
import { narrow } from "./view";

/** Room in the drawing's own units, which a phone shows at about their size in pixels. */
interface Room {
  width: number;
  /** Of the circle the players stand on. */
  radius: number;
  /** Names stand beside their players, where there is room for them. */
  beside: boolean;
}
const WIDE: Room = { width: 900, radius: 220, beside: true };
const NARROW: Room = { width: 380, radius: 125, beside: false };
/** A player's circle, unless there are many. */
const NODE = 34;
/** Above and below the outermost player: a name. */
const MARGIN = 40;
const MOST_NODES = 16;
/** Figures stand nearer to one end, as all lines across the circle meet in the middle. */
const NEARER = 0.64;

interface Link {
  a: string;
  b: string;
  path: string | null;
  /** Mouth to ear at each end, and the round trip. */
  a_ms: number | null;
  b_ms: number | null;
  rtt_ms: number | null;
}

/** My own connections, until the node tells everybody's. */
function ownGraph(): GraphData {
  const nodes = [{ peer_id: me.value, name: "", me: true }, ...peers.value.map(({ peer_id, name }) => ({ peer_id, name, me: false }))];
  const edges = peers.value.map((peer) => ({
    from: peer.peer_id,
    to: me.value,
    path: peer.path ?? null,
    rtt_ms: peer.rtt_ms ?? null,
    one_way_ms: peer.audio?.one_way_ms ?? null,
  }));
  return { nodes, edges };
}

function linksOf({ edges }: GraphData): Link[] {
  const links = new Map<string, Link>();
  for (const { from, to, path, rtt_ms, one_way_ms } of edges) {
    const [a, b] = from < to ? [from, to] : [to, from];
    const link = links.get(`${a} ${b}`) ?? { a, b, path: null, a_ms: null, b_ms: null, rtt_ms: null };
    link.path ??= path ?? null;
    link.rtt_ms ??= rtt_ms ?? null;
    if (to === a) link.a_ms = one_way_ms ?? null;
    else link.b_ms = one_way_ms ?? null;
    links.set(`${a} ${b}`, link);
  }
  return [...links.values()];
}

function latencyOf(link: Link): { ms: number | null; text: string } {
  const known = [link.a_ms, link.b_ms].filter((ms) => ms !== null);
  if (known.length > 0) {
    const ms = Math.max(...known);
    return { ms, text: `${whole(ms)} ms` };
  }
  return { ms: null, text: link.rtt_ms === null ? "–" : `${whole(link.rtt_ms)} ms round trip` };
}

export function Graph() {
  useEffect(() => {
    socket.subscribe("graph");
    return () => socket.unsubscribe("graph");
  }, []);
  const data = graph.value?.nodes.length ? graph.value : ownGraph();
  const nodes = [...data.nodes].sort((a, b) => Number(b.me) - Number(a.me) || a.peer_id.localeCompare(b.peer_id)).slice(0, MOST_NODES);
  const room = narrow.value ? NARROW : WIDE;
  const size = Math.min(NODE, 0.8 * room.radius * Math.sin(Math.PI / Math.max(2, nodes.length)));
  const places = new Map(
    nodes.map(({ peer_id }, at) => {
      const angle = (2 * Math.PI * at) / nodes.length + Math.PI / 2;
      const radius = nodes.length === 1 ? 0 : room.radius;
      return [peer_id, { x: room.width / 2 + radius * Math.cos(angle), y: radius * Math.sin(angle) }];
    }),
  );
  // As high as the circle that its players fill.
  const heights = [...places.values()].map(({ y }) => y);
  const top = Math.min(...heights) - size - MARGIN;
  const height = Math.max(...heights) + size + MARGIN - top;
  const links = linksOf(data).filter(({ a, b }) => places.has(a) && places.has(b));
  return (
    <section class="peers-view" aria-label="Network">
      <header class="panel-head">
        <h2>Who is connected to whom</h2>
      </header>
      <svg class="graph" viewBox={`0 ${top} ${room.width} ${height}`} role="img" aria-label="Who is connected to whom; the table below says the same">
        {links.map((link) => {
          const [from, to] = [places.get(link.a), places.get(link.b)];
          if (!from || !to) return null;
          const { ms, text } = latencyOf(link);
          return (
            <g key={`${link.a} ${link.b}`} class={`edge ${tightness(ms)} ${link.path ?? "none"}`}>
              <line x1={from.x} y1={from.y} x2={to.x} y2={to.y} />
              <EdgeLabel x={from.x * NEARER + to.x * (1 - NEARER)} y={from.y * NEARER + to.y * (1 - NEARER)} text={text} />
            </g>
          );
        })}
        {nodes.map((node) => {
          const place = places.get(node.peer_id);
          const who = person(node.peer_id, node.name);
          return (
            place && (
              <g key={node.peer_id} class={`node ${node.me ? "me" : ""}`} style={{ "--who": who.color }}>
                <circle cx={place.x} cy={place.y} r={size} />
                <text class="node-letter" x={place.x} y={place.y + size / 4} style={{ fontSize: `${size * 0.7}px` }}>
                  {[...who.name][0]?.toUpperCase()}
                </text>
                <NodeName {...place} size={size} room={room} text={node.me ? "You" : clean(who.name, longestName(room, nodes.length))} />
              </g>
            )
          );
        })}
      </svg>
      <ul class="legend">
        {(["lan", "direct", "relayed", "forwarded"] as const).map((path) => (
          <li key={path}>
            <svg viewBox="0 0 44 4" width="44" height="4" aria-hidden="true">
              <g class={`edge ${path}`}>
                <line x1="0" y1="2" x2="44" y2="2" />
              </g>
            </svg>
            {pathWords(path)}
          </li>
        ))}
      </ul>
      <div class="table-frame" tabIndex={0} role="region" aria-label="Connections as a table">
        <table>
          <thead>
            <tr>
              <th scope="col">Between</th>
              <th scope="col">Path</th>
              <th scope="col">Mouth to ear, ms</th>
              <th scope="col">Round trip, ms</th>
            </tr>
          </thead>
          <tbody>
            {links.map((link) => (
              <tr key={`${link.a} ${link.b}`}>
                <td>
                  <Name text={person(link.a).name} /> – <Name text={person(link.b).name} />
                </td>
                <td>{pathWords(link.path as never)}</td>
                <td>{[link.b_ms, link.a_ms].map((ms) => (ms === null ? "–" : whole(ms))).join(" / ")}</td>
                <td>{link.rtt_ms === null ? "–" : whole(link.rtt_ms)}</td>
              </tr>
            ))}
            {links.length === 0 && (
              <tr>
                <td colSpan={4}>Nobody is connected.</td>
              </tr>
            )}
          </tbody>
        </table>
      </div>
    </section>
  );
}

/** Characters that fit under a player before they reach the edge, or the next of many. */
function longestName(room: Room, nodes: number): number {
  return room.beside ? 18 : nodes > 5 ? 10 : 13;
}

/** Outside the circle, where no line passes. */
function NodeName({ x, y, text, size, room }: { x: number; y: number; text: string; size: number; room: Room }) {
  const aside = x - room.width / 2;
  if (!room.beside || Math.abs(aside) < room.radius / 4) {
    return (
      <text x={x} y={y + (y >= 0 ? size + 24 : -size - 12)}>
        {text}
      </text>
    );
  }
  return (
    <text x={x + Math.sign(aside) * (size + 10)} y={y + 6} style={{ textAnchor: aside > 0 ? "start" : "end" }}>
      {text}
    </text>
  );
}

function EdgeLabel({ x, y, text }: { x: number; y: number; text: string }) {
  const width = text.length * 8.5 + 14;
  return (
    <>
      <rect x={x - width / 2} y={y - 13} width={width} height={26} rx={13} />
      <text x={x} y={y + 5}>
        {text}
      </text>
    </>
  );
}

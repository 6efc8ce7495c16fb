// One small chart of the last five minutes (uPlot).
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";

type Row = (number | null)[];

export interface Series {
  label: string;
  color: "a" | "b" | "c" | "d";
  values: Row;
  /** Drawn as bars: counts of a second. */
  bars?: boolean;
}

interface ChartProps {
  title: string;
  unit: string;
  end_ms: number;
  interval_s: number;
  series: Series[];
  digits?: number;
}

const HEIGHT = 132;
// Different in dash as well as colour.
const DASHES: Record<Series["color"], number[]> = { a: [], b: [6, 4], c: [2, 3], d: [10, 3, 2, 3] };

export function Chart({ title, unit, end_ms, interval_s, series, digits = 1 }: ChartProps) {
  const host = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const shape = series.map(({ label }) => label).join("|");

  useEffect(() => {
    const frame = host.current;
    if (!frame) return undefined;
    const make = () => {
      plot.current?.destroy();
      plot.current = new uPlot(options(frame, series, unit), [[], ...series.map(() => [])] as uPlot.AlignedData, frame);
      fill();
    };
    const fill = () => plot.current?.setData(dataOf(end_ms, interval_s, series));
    make();
    const observer = new ResizeObserver(() => plot.current?.setSize({ width: frame.clientWidth, height: HEIGHT }));
    observer.observe(frame);
    const scheme = matchMedia("(prefers-color-scheme: dark)");
    scheme.addEventListener("change", make);
    return () => {
      observer.disconnect();
      scheme.removeEventListener("change", make);
      plot.current?.destroy();
      plot.current = null;
    };
  }, [shape]);

  useEffect(() => {
    plot.current?.setData(dataOf(end_ms, interval_s, series));
  });

  return (
    <figure class="chart">
      <figcaption>
        <span class="chart-title">
          {title} <small>{unit}</small>
        </span>
        {series.map(({ label, color, values }) => (
          <span key={label} class={`key ${color}`}>
            {label} <b>{lastOf(values, digits)}</b>
          </span>
        ))}
      </figcaption>
      <div class="plot" ref={host} role="img" aria-label={`${title}: ${series.map(({ label, values }) => `${label} ${lastOf(values, digits)}`).join(", ")}`} />
    </figure>
  );
}

function lastOf(values: Row, digits: number): string {
  const last = values[values.length - 1];
  return last === null || last === undefined ? "–" : Number.isInteger(last) ? String(last) : last.toFixed(digits);
}

function dataOf(end_ms: number, interval_s: number, series: Series[]): uPlot.AlignedData {
  const length = Math.max(0, ...series.map(({ values }) => values.length));
  const end = end_ms / 1_000;
  const times = Array.from({ length }, (_, at) => end - (length - 1 - at) * interval_s);
  return [times, ...series.map(({ values }) => [...Array<null>(length - values.length).fill(null), ...values])] as uPlot.AlignedData;
}

function options(frame: HTMLElement, series: Series[], unit: string): uPlot.Options {
  const style = getComputedStyle(document.documentElement);
  const color = (name: string) => style.getPropertyValue(name).trim();
  const axis = { stroke: color("--quiet"), grid: { stroke: color("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui" };
  const bars = uPlot.paths.bars?.({ size: [0.9, 6] });
  return {
    width: Math.max(120, frame.clientWidth),
    height: HEIGHT,
    legend: { show: false },
    cursor: { show: false },
    padding: [8, 4, 0, 0],
    // A bar at either end is drawn whole.
    scales: { x: { range: (_, first, last) => [first - 0.6, last + 0.6] }, y: { range: (_, low, high) => [Math.min(0, low), Math.max(high * 1.1, 1)] } },
    axes: [
      { ...axis, size: 26, space: 70, values: (_, times) => times.map((time) => new Date(time * 1_000).toLocaleTimeString([], { minute: "2-digit", second: "2-digit" })) },
      { ...axis, size: 44, space: 30 },
    ],
    series: [
      {},
      ...series.map(({ label, color: key, bars: asBars }) => ({
        label: `${label} ${unit}`,
        stroke: color(`--chart-${key}`),
        width: asBars ? 0 : 1.5,
        dash: asBars ? [] : DASHES[key],
        ...(asBars ? { fill: color(`--chart-${key}`) } : {}),
        ...(asBars && bars ? { paths: bars } : {}),
        points: { show: false },
        spanGaps: false,
      })),
    ],
  };
}

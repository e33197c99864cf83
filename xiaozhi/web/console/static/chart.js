// A line chart of the last hour, and the same numbers as a table for whoever does not see it.
//
//   html`<${HourChart} title="Devices" at=${minutes} lines=${[{ label: "Devices", values, show: number }]} />`
//
// `at`: seconds since 1970, ascending; `values`: as many numbers, null for none; `colour`: a variable of style.css.

import uPlot from "./vendor/uplot.js";
import { Card, Empty, Table, html, useEffect, useRef, useState } from "./ui.js";
import { language, words } from "./words.js";

const t = words({
  en: { table: "As a table", time: "Time", none: "–", soon: "The first minute is not over yet.", latest: "{title}, the last hour. Latest: {values}" },
  zh: { table: "以表格显示", time: "时间", none: "–", soon: "第一分钟尚未结束。", latest: "{title}，最近一小时。最新：{values}" },
});
const HOUR_S = 3600;
const HEIGHT = 160;
const clock = new Intl.DateTimeFormat(language, { hour: "2-digit", minute: "2-digit" });
const time = (at) => clock.format(new Date(at * 1000));

// Colours are light-dark() in the style sheet: only an element has the one in force.
function colour(name) {
  const probe = document.createElement("span");
  probe.style.color = `var(--${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

function options(lines, width) {
  const axis = { stroke: colour("soft"), grid: { stroke: colour("line"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
  const whole = lines.every((line) => line.whole);
  return {
    width,
    height: HEIGHT,
    padding: [8, 28, 0, 0],
    cursor: { y: false },
    scales: {
      x: { range: (plot) => { const to = plot.data[0].at(-1); return [to - HOUR_S, to]; } },
      y: { range: (plot, least, most) => [0, Math.max(lines[0].floor, (most || 0) * 1.1)] },
    },
    axes: [
      { ...axis, size: 28, space: 60, values: (plot, ticks) => ticks.map(time) },
      { ...axis, size: 56, space: 28, incrs: whole ? [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000] : undefined, values: (plot, ticks) => ticks.map(lines[0].show) },
    ],
    series: [
      { label: t("time"), value: (plot, at) => (at == null ? t("none") : time(at)) },
      ...lines.map((line) => ({
        label: line.label,
        stroke: colour(line.colour || "accent"),
        width: 2,
        dash: line.dash,
        spanGaps: true,
        points: { size: 5 },
        value: (plot, value) => (value == null ? t("none") : line.show(value)),
      })),
    ],
  };
}

function Plot({ at, lines, label }) {
  const place = useRef(null);
  const data = [at, ...lines.map((line) => line.values)];
  const chart = useRef(null);
  useEffect(() => {
    const draw = () => {
      chart.current?.destroy();
      chart.current = new uPlot(options(lines, place.current.clientWidth), chart.current?.data || data, place.current);
    };
    draw();
    const sizes = new ResizeObserver(() => chart.current.setSize({ width: place.current.clientWidth, height: HEIGHT }));
    sizes.observe(place.current);
    const scheme = matchMedia("(prefers-color-scheme: dark)");
    scheme.addEventListener("change", draw);
    return () => {
      scheme.removeEventListener("change", draw);
      sizes.disconnect();
      chart.current.destroy();
    };
  }, []);
  useEffect(() => chart.current.setData(data), [at.at(-1)]);
  return html`<div class="chart" role="img" aria-label=${label} ref=${place}></div>`;
}

function Rows({ title, at, lines }) {
  const columns = [
    { title: t("time"), cell: (row) => time(at[row.key]) },
    ...lines.map((line) => ({
      title: line.label,
      number: true,
      cell: (row) => (line.values[row.key] == null ? t("none") : line.show(line.values[row.key])),
    })),
  ];
  return html`<div class="overview-rows"><${Table} caption=${title} columns=${columns} rows=${at.map((_, key) => ({ key })).reverse()} /></div>`;
}

export function HourChart({ title, at, lines }) {
  const [open, setOpen] = useState(false);
  if (!at.length) return html`<${Card} title=${title}><${Empty}>${t("soon")}</${Empty}></${Card}>`;
  const latest = lines.map((line) => `${line.label} ${line.values.at(-1) == null ? t("none") : line.show(line.values.at(-1))}`);
  return html`
    <${Card} title=${title}>
      <${Plot} at=${at} lines=${lines} label=${t("latest", { title, values: latest.join(", ") })} />
      <details open=${open} onToggle=${(event) => setOpen(event.target.open)}>
        <summary>${t("table")}</summary>
        ${open && html`<${Rows} title=${title} at=${at} lines=${lines} />`}
      </details>
    </${Card}>`;
}

// The last lines of the log of this worker, filtered, and new ones as they come; as on disk, without secrets.

import { get, live } from "../api.js";
import { Badge, Button, Card, Copy, Empty, Field, Notice, Page, Spinner, html, useEffect, useRef, useState, useStyle } from "../ui.js";
import { clock, day, words } from "../words.js";

await useStyle("logs");

const t = words({
  en: {
    title: "Logs", level: "From level", device: "Device", id: "Trace or session", text: "Text", any: "any", older: "Older lines", nothing: "No line of this kind.", live: "live", paused: "paused", pause: "Pause", go: "Go on", clear: "No filter",
    lost: "{n} lines were left out: they came too fast.", lines: "Log lines", shown: "the lines shown", noFile: "No log file is kept (log.log_dir is empty): only new lines are shown, while this page is open.", file: "File",
    about: "What these lines are", redacted: "Keys and tokens never stand here, what people say only with log.content: true. Written from level {level} on; log.log_level changes that.", content: "What people say stands in these lines (log.content: true).",
    worker: "These are the lines of the worker that serves this page; other workers have files of their own.",
    trace: "A trace id belongs to one turn: from the end of what somebody said to the last sound of the answer. Click one to see only its lines.", traces: "Traces go to {where}.", noTraces: "Traces go nowhere. With OTEL_EXPORTER_OTLP_ENDPOINT in the environment each turn is sent there as a tree of spans.",
  },
  zh: {
    title: "日志", level: "最低级别", device: "设备", id: "追踪或会话", text: "文字", any: "全部", older: "更早的日志", nothing: "没有这样的日志。", live: "实时", paused: "已暂停", pause: "暂停", go: "继续", clear: "清除筛选",
    lost: "略过了 {n} 行：来得太快。", lines: "日志", shown: "显示的日志", noFile: "没有日志文件（log.log_dir 为空）：只在打开此页时显示新的日志。", file: "文件",
    about: "这些是什么", redacted: "密钥和令牌不会出现在这里；说话内容只有在 log.content: true 时才记录。记录 {level} 及以上级别，可用 log.log_level 修改。", content: "这些日志含有说话内容（log.content: true）。",
    worker: "这是为此页面服务的进程的日志；其他进程有各自的文件。",
    trace: "一个追踪 ID 对应一轮对话：从说完话到回答的最后一个声音。点击即可只看它的日志。", traces: "追踪发送到 {where}。", noTraces: "追踪没有发送。在环境变量中设置 OTEL_EXPORTER_OTLP_ENDPOINT 后，每一轮会作为一组 span 发送到那里。",
  },
});

const LEVELS = ["debug", "info", "warning", "error", "critical"];
const KEPT = 1000;
const IDS = ["trace", "session"];
const KNOWN = ["timestamp", "level", "logger", "event", "exception", "stack", ...IDS, "device"];

function takes(filter, line) {
  if (filter.level && LEVELS.indexOf(line.level) < LEVELS.indexOf(filter.level)) return false;
  if (filter.device && !String(line.device ?? "").toLowerCase().includes(filter.device.toLowerCase())) return false;
  if (filter.id && !IDS.some((key) => String(line[key] ?? "") === filter.id)) return false;
  return !filter.text || JSON.stringify(line).toLowerCase().includes(filter.text.toLowerCase());
}

const asked = () => Object.fromEntries(["level", "device", "id", "text"].map((name) => [name, new URLSearchParams(location.search).get(name) || ""]));

export default function Logs() {
  const [filter, setFilter] = useState(asked);
  const [lines, setLines] = useState(null);
  const [about, setAbout] = useState({});
  const [more, setMore] = useState(false);
  const [paused, setPaused] = useState(false);
  const [connected, setConnected] = useState(true);
  const [lost, setLost] = useState(0);
  const [failed, setFailed] = useState("");
  const list = useRef(null);
  const now = useRef({});
  now.current = { filter, paused };

  const load = (before, current) => get(`logs?${new URLSearchParams({ ...filter, before, count: 200 })}`).then(
    (answer) => {
      if (!current()) return;
      setAbout(answer);
      setMore(answer.more);
      setFailed("");
      setLines((known) => (before ? [...answer.lines, ...(known || [])] : answer.lines));
    },
    (error) => current() && (setFailed(error.message), setLines((known) => known || [])),
  );
  useEffect(() => {
    let current = true;
    setLines(null);
    const wait = setTimeout(() => load("", () => current), 250);
    const query = new URLSearchParams(Object.entries(filter).filter(([, value]) => value)).toString();
    history.replaceState(null, "", location.pathname + (query ? `?${query}` : ""));
    return () => { current = false; clearTimeout(wait); };
  }, [filter.level, filter.device, filter.id, filter.text]);
  useEffect(() => live(["logs"], (_, line) => {
    if (now.current.paused || !takes(now.current.filter, line)) return;
    setLines((known) => (known ? [...known, line].slice(-KEPT) : known));
  }, setConnected, setLost), []);
  useEffect(() => {
    const place = list.current;
    if (place && !paused && place.scrollHeight - place.scrollTop - place.clientHeight < 200) place.scrollTop = place.scrollHeight;
  }, [lines]);
  useEffect(() => {
    if (list.current) list.current.scrollTop = list.current.scrollHeight;
  }, [lines === null]);

  const put = (name) => (event) => setFilter({ ...filter, [name]: event.target.value });
  const only = (name, value) => setFilter({ ...filter, [name]: String(value) });
  const some = Object.values(filter).some(Boolean);
  const today = day(Date.now() / 1000);
  const isLive = connected && !paused;
  return html`
    <${Page} title=${t("title")} actions=${html`<${Badge} kind=${isLive ? "good" : "warn"}>${t(isLive ? "live" : "paused")}</${Badge}> <${Button} onClick=${() => setPaused(!paused)}>${t(paused ? "go" : "pause")}</${Button}>${lines?.length > 0 && html` <${Copy} text=${lines.map((line) => JSON.stringify(line)).join("\n")} what=${t("shown")} />`}`}>
      <${Card}>
        <div class="log-filter" role="search">
          <${Field} label=${t("level")}>${(own) => html`<select ...${own} value=${filter.level} onChange=${put("level")}><option value="" selected=${!filter.level}>${t("any")}</option>${LEVELS.map((level) => html`<option value=${level} selected=${filter.level === level}>${level}</option>`)}</select>`}</${Field}>
          <${Field} label=${t("device")}>${(own) => html`<input ...${own} type="search" value=${filter.device} onInput=${put("device")} />`}</${Field}>
          <${Field} label=${t("id")}>${(own) => html`<input ...${own} type="search" value=${filter.id} onInput=${put("id")} />`}</${Field}>
          <${Field} label=${t("text")}>${(own) => html`<input ...${own} type="search" value=${filter.text} onInput=${put("text")} />`}</${Field}>
          ${some && html`<${Button} onClick=${() => setFilter({ level: "", device: "", id: "", text: "" })}>${t("clear")}</${Button}>`}
        </div>
      </${Card}>
      ${failed && html`<${Notice} kind="bad">${failed}</${Notice}>`}
      ${about.file === "" && html`<${Notice}>${t("noFile")}</${Notice}>`}
      ${lost > 0 && html`<${Notice} kind="warn">${t("lost", { n: lost })}</${Notice}>`}
      ${more && lines && html`<div><${Button} onClick=${() => load(lines[0]?.timestamp || "", () => true)}>${t("older")}</${Button}></div>`}
      ${lines === null ? html`<${Spinner} />` : lines.length === 0 ? html`<${Empty}>${t("nothing")}</${Empty}>` : html`
        <div class="log-lines" ref=${list} tabindex="0" role="region" aria-label=${t("lines")}>
          <ol>${lines.map((line, at) => html`
            ${dayOf(line) !== (at ? dayOf(lines[at - 1]) : today) && html`<li class="day" key=${`day ${at}`}>${dayOf(line)}</li>`}
            <${Line} key=${`${line.timestamp}${at}`} line=${line} only=${only} />`)}</ol>
        </div>`}
      <${Card} title=${t("about")}>
        ${about.file && html`<p>${t("file")}: <code>${about.file}</code></p>`}
        <p>${t("redacted", { level: about.level || "" })}${about.content ? ` ${t("content")}` : ""} ${t("worker")}</p>
        <p>${t("trace")} ${about.traces_to ? t("traces", { where: about.traces_to }) : t("noTraces")}</p>
      </${Card}>
    </${Page}>`;
}

const dayOf = (line) => day(Date.parse(line.timestamp) / 1000);

const shown = (value) => (typeof value === "object" ? JSON.stringify(value) : String(value));

function Line({ line, only }) {
  const rest = Object.entries(line).filter(([key]) => !KNOWN.includes(key));
  const link = (name, key) => line[key] !== undefined && line[key] !== "" && html` <span class="soft">${key}=</span><button type="button" onClick=${() => only(name, line[key])}>${line[key]}</button>`;
  return html`<li class=${line.level}>
    <time title=${line.timestamp}>${clock(Date.parse(line.timestamp) / 1000)}</time>${" "}
    <span class=${line.level === "warning" ? "warn" : line.level === "error" || line.level === "critical" ? "bad" : "soft"}>${line.level}</span>${" "}
    <span class="event">${line.event}</span> <span class="soft">${line.logger}</span>
    ${rest.map(([key, value]) => html` <span class="soft">${key}=</span>${shown(value)}`)}
    ${link("device", "device")}${IDS.map((key) => link("id", key))}
    ${line.exception && html`<pre tabindex="0">${line.exception}</pre>`}
  </li>`;
}

// How the server is now, what its last hour was like, and what there is to do.

import { live } from "../api.js";
import { HourChart } from "../chart.js";
import { Badge, Card, Empty, Notice, Page, Spinner, Table, classes, html, useEffect, useMemo, useState, useStyle } from "../ui.js";
import { language, ms, number, words } from "../words.js";

const t = words({
  en: {
    title: "Overview", lost: "The server does not answer. This page tries again by itself.", fine: "All is well.", look: "See to it",
    devices: "Devices now", of_places: "of {places} places", everywhere: "{n} on all workers",
    turns: "Turns per minute", so_far: "{n} since the start", first: "First sound after", p95: "95 % within {p95}", no_answers: "Nobody was answered in the last hour.",
    hub: "Processor", hub_hint: "of a core; reacts {lag} late", memory: "Memory", memory_hint: "{free} of the machine's {all} are free", up: "Running for", version: "version {version}",
    c_devices: "Devices", c_turns: "Turns a minute", c_first: "From the end of speech to the first sound", c_hub: "Slowest reaction in each minute", half: "half within", most: "95 % within", lag: "late by",
    vendors: "Vendors", no_vendors: "No vendor is in use: everything is done on this machine.", vendor: "Vendor", kind: "Kind", state: "State", calls: "Calls", errors: "Errors", window: "At work", waiting: "waiting: {n}",
    closed: "fine", open: "not asked for a while", half_open: "being tried again", "": "fine",
    pool: "Work in the background", pool_hint: "{threads} threads; {places} jobs may wait.", class: "Work", active: "Under way", queued: "Waiting", done: "Done", refused: "Refused", late: "Too late",
    workers: "Workers", worker: "Worker", this_one: "this one", address: "Address", connected: "Devices", seen: "Last sign", now: "now", seconds: "{n} s ago", own: "The charts and the figures are those of this worker.", unknown: "not known",
    asr: "recognition", llm: "language model", tts: "voice", vad: "voice detection", codec: "codecs", vllm: "vision", memory_kind: "memory", intent: "intent", other: "other",
    timeout: "too slow", busy: "too many requests", unavailable: "not reachable", rejected: "refused", garbage: "not understood", silent: "no sound", breaker: "not asked", overloaded: "no place", error: "fault of the server",
    a_database: "The database does not answer. Devices can talk on, but approvals, memories and settings are not kept. See the disk, the log and, for PostgreSQL, its server.",
    a_history_disk: "What is said is not being stored: the disk takes nothing more. Make room in the data directory, or see who may write there; it goes on by itself.",
    a_disk: "Only {mb} MB are free on the disk of the data directory. Make room before it is full.",
    a_shedding_turns: "There is too much to do ({ms} ms late): new questions get an apology until it is less. A faster machine helps, another worker, or fewer devices.",
    a_shedding_connections: "There is far too much to do ({ms} ms late): new devices are refused until it is less. A faster machine helps, another worker, or fewer devices.",
    a_full: "All {places} places are taken, further devices are refused. Raise server.max_connections, or start another worker.",
    a_vendor: "{vendor} fails: {why}.", a_breaker: "{vendor} has failed so often that it is not asked for a while. It is tried again by itself; see its address and its account.",
    a_loop: "A task of the server ({loop}) has not run for {seconds} s. It is started anew by itself; should this stay, restart the server and keep the log.",
    a_slow: "The server reacts {ms} ms late, which can be heard. See what else runs on this machine.",
    a_descriptors: "{used} of {limit} file descriptors are in use. Allow more (ulimit -n, LimitNOFILE=), or lower server.max_connections.",
    a_pool: "{waiting} jobs wait for a processor. A faster machine helps, or vendors for recognition and voice instead of models on this machine.",
    a_memory: "Only {percent} % of the machine's memory are free. Stop what is not needed, before the system does.",
    a_history_sink: "What was said cannot be handed on ({sink}). It waits on the disk and is tried again.", a_management: "The management console: {what}.",
    a_open: "Whoever reaches port {port} may talk as any device. Set server.auth.enabled: home, so that only devices at home may.",
    a_waiting: "Devices that wait for your approval: {n}.", a_offline: "Still the offline default: {kinds}. Choose something better in a few minutes.",
    do_settings: "Settings", do_devices: "Devices", do_start: "First steps",
  },
  zh: {
    title: "总览", lost: "服务器没有回应，页面会自动重试。", fine: "一切正常。", look: "去处理",
    devices: "当前设备", of_places: "共 {places} 个名额", everywhere: "所有进程共 {n} 台",
    turns: "每分钟对话轮数", so_far: "启动以来 {n} 轮", first: "首个声音延迟", p95: "95 % 在 {p95} 以内", no_answers: "最近一小时没有回答。",
    hub: "处理器", hub_hint: "占一个核心；响应滞后 {lag}", memory: "内存", memory_hint: "本机共 {all}，空闲 {free}", up: "已运行", version: "版本 {version}",
    c_devices: "设备", c_turns: "每分钟轮数", c_first: "从说完话到第一个声音", c_hub: "每分钟最大的响应滞后", half: "半数以内", most: "95 % 以内", lag: "滞后",
    vendors: "服务商", no_vendors: "没有使用服务商：一切都在本机完成。", vendor: "服务商", kind: "类型", state: "状态", calls: "调用", errors: "错误", window: "进行中", waiting: "等待：{n}",
    closed: "正常", open: "暂停调用", half_open: "正在重试", "": "正常",
    pool: "后台任务", pool_hint: "{threads} 个线程；最多 {places} 个任务等待。", class: "任务", active: "进行中", queued: "等待", done: "完成", refused: "拒绝", late: "超时",
    workers: "进程", worker: "进程", this_one: "本进程", address: "地址", connected: "设备", seen: "最近信号", now: "现在", seconds: "{n} 秒前", own: "图表和数字只属于本进程。", unknown: "未知",
    asr: "语音识别", llm: "语言模型", tts: "语音合成", vad: "语音检测", codec: "编解码", vllm: "视觉", memory_kind: "记忆", intent: "意图", other: "其他",
    timeout: "太慢", busy: "请求过多", unavailable: "无法连接", rejected: "被拒绝", garbage: "无法理解", silent: "没有声音", breaker: "未调用", overloaded: "没有名额", error: "服务器故障",
    a_database: "数据库没有回应。设备仍可对话，但批准、记忆和设置不会保存。请检查磁盘、日志；使用 PostgreSQL 时检查它的服务器。",
    a_history_disk: "对话没有被保存：磁盘无法写入。请在数据目录腾出空间，或检查写入权限；之后会自动继续。",
    a_disk: "数据目录所在磁盘只剩 {mb} MB。请在写满之前腾出空间。",
    a_shedding_turns: "负载过高（滞后 {ms} 毫秒）：新的提问暂时只得到一句道歉。可以换更快的机器、增加进程，或减少设备。",
    a_shedding_connections: "负载严重过高（滞后 {ms} 毫秒）：暂时拒绝新设备。可以换更快的机器、增加进程，或减少设备。",
    a_full: "{places} 个名额已满，新设备会被拒绝。请提高 server.max_connections，或再启动一个进程。",
    a_vendor: "{vendor} 出错：{why}。", a_breaker: "{vendor} 出错太多，暂时不再调用，之后会自动重试。请检查它的地址和账户。",
    a_loop: "服务器的一个任务（{loop}）已 {seconds} 秒没有运行，会自动重新启动；如果一直这样，请重启服务器并保留日志。",
    a_slow: "服务器响应滞后 {ms} 毫秒，已经能听出来。请检查这台机器上还运行着什么。",
    a_descriptors: "文件描述符已用 {used} 个，上限 {limit}。请提高上限（ulimit -n、LimitNOFILE=），或降低 server.max_connections。",
    a_pool: "有 {waiting} 个任务在等待处理器。可以换更快的机器，或用服务商代替本机的识别和合成模型。",
    a_memory: "这台机器只剩 {percent} % 的内存。请关闭不需要的程序。",
    a_history_sink: "对话记录无法转交（{sink}），已存在磁盘上，会自动重试。", a_management: "管理控制台：{what}。",
    a_open: "能访问端口 {port} 的人都可以冒充任何设备。请设置 server.auth.enabled: home，只允许家里的设备。",
    a_waiting: "等待批准的设备：{n} 台。", a_offline: "仍是离线默认：{kinds}。几分钟就能换成更好的。",
    do_settings: "设置", do_devices: "设备", do_start: "开始使用",
  },
});

const ACTIONS = { vendor: "settings", breaker: "settings", open: "settings", waiting: "devices", offline: "start" };
const KINDS = ["asr", "llm", "tts", "vad", "codec", "vllm", "intent", "other"];
const kind = (name) => (name === "memory" ? t("memory_kind") : KINDS.includes(name) ? t(name) : name);
const failure = (name) => t(name === "open" ? "breaker" : name);
const BREAKERS = { open: "bad", half_open: "warn" };

const sizes = ["megabyte", "gigabyte"].map((unit) => new Intl.NumberFormat(language, { style: "unit", unit, maximumFractionDigits: unit === "gigabyte" ? 1 : 0 }));
const size = (bytes) => (bytes < 1e9 ? sizes[0].format(bytes / 1e6) : sizes[1].format(bytes / 1e9));
const spans = Object.fromEntries(["day", "hour", "minute", "second"].map((unit) => [unit, new Intl.NumberFormat(language, { style: "unit", unit, unitDisplay: "short", maximumFractionDigits: 0 })]));

function span(seconds) {
  const days = Math.floor(seconds / 86400), hours = Math.floor(seconds / 3600) % 24, minutes = Math.floor(seconds / 60) % 60;
  if (days) return `${spans.day.format(days)} ${spans.hour.format(hours)}`;
  if (hours) return `${spans.hour.format(hours)} ${spans.minute.format(minutes)}`;
  return minutes ? spans.minute.format(minutes) : spans.second.format(Math.floor(seconds));
}

function Alert({ level, code, values }) {
  const shown = { ...values, why: String(values.why || "").replace(/\.$/, ""), kinds: (values.kinds || []).map(kind).join(", ") };
  const where = ACTIONS[code];
  return html`<${Notice} kind=${level}>${t(`a_${code}`, shown)} ${where && html`<a href="/console/${where}">${t(`do_${where}`)}</a>`}</${Notice}>`;
}

const Alerts = ({ alerts }) => html`
  <div class="overview-alerts">
    ${alerts.some((each) => each.level !== "info") ? "" : html`<${Notice} kind="good" key="fine">${t("fine")}</${Notice}>`}
    ${alerts.map((each) => html`<${Alert} key=${`${each.code} ${each.values.vendor || ""}${each.values.loop || ""}`} ...${each} />`)}
  </div>`;

const Figure = ({ title, value, hint, kind }) => html`
  <${Card} title=${title}><p class=${classes("figure", kind)}>${value}</p><p class="soft">${hint}</p></${Card}>`;

function Figures({ now }) {
  const { devices, turns, first_audio: first, hub, memory } = now;
  const ended = Object.values(turns.outcomes).reduce((sum, each) => sum + each, 0);
  const several = now.workers.length > 1 && devices.all !== null;
  return html`
    <div class="grid overview-figures">
      <${Figure} title=${t("devices")} value=${number(devices.here)} hint=${several ? t("everywhere", { n: number(devices.all) }) : t("of_places", { places: number(devices.places) })} />
      <${Figure} title=${t("turns")} value=${number(Math.round(turns.per_minute * 10) / 10)} hint=${t("so_far", { n: number(ended) })} />
      <${Figure} title=${t("first")} value=${first.answers ? ms(first.p50_ms) : "–"} hint=${first.answers ? t("p95", { p95: ms(first.p95_ms) }) : t("no_answers")} />
      <${Figure} title=${t("hub")} value=${`${number(hub.cpu_percent)} %`} hint=${t("hub_hint", { lag: ms(hub.lag_ms) })} kind=${hub.lag_ms >= 100 ? "bad" : ""} />
      <${Figure} title=${t("memory")} value=${size(memory.process)} hint=${t("memory_hint", { free: size(memory.host_free), all: size(memory.host) })} />
      <${Figure} title=${t("up")} value=${span(now.uptime_s)} hint=${t("version", { version: now.version })} />
    </div>`;
}

// Drawn anew when a minute is over: what is under way would look like a fall.
function Charts({ hour }) {
  const at = hour.minute.slice(0, -1);
  const of = (name) => hour[name].slice(0, -1);
  return useMemo(() => html`
    <div class="grid overview-charts">
      <${HourChart} title=${t("c_devices")} at=${at} lines=${[{ label: t("c_devices"), values: of("devices"), show: number, whole: true, floor: 4 }]} />
      <${HourChart} title=${t("c_turns")} at=${at} lines=${[{ label: t("c_turns"), values: of("turns"), show: number, whole: true, floor: 4 }]} />
      <${HourChart} title=${t("c_first")} at=${at} lines=${[
        { label: t("half"), values: of("p50_ms"), show: ms, floor: 1000 },
        { label: t("most"), values: of("p95_ms"), show: ms, colour: "warn", dash: [6, 4] },
      ]} />
      <${HourChart} title=${t("c_hub")} at=${at} lines=${[{ label: t("lag"), values: of("lag_ms"), show: ms, floor: 20 }]} />
    </div>`, [at.at(-1), at.length]);
}

const Vendors = ({ vendors }) => html`
  <${Card} title=${t("vendors")}>
    ${vendors.length === 0 ? html`<${Empty}>${t("no_vendors")}</${Empty}>` : html`<${Table} caption=${t("vendors")} rows=${vendors.map((each) => ({ ...each, key: `${each.kind} ${each.vendor}` }))} columns=${[
      { title: t("vendor"), cell: (row) => row.vendor },
      { title: t("kind"), cell: (row) => kind(row.kind) },
      { title: t("state"), cell: (row) => html`<${Badge} kind=${BREAKERS[row.breaker] || "good"}>${t(row.breaker)}</${Badge}>` },
      { title: t("calls"), number: true, cell: (row) => number(row.calls) },
      { title: t("errors"), cell: (row) => Object.entries(row.errors).map(([name, n]) => `${failure(name)}: ${number(n)}`).join(", ") || "–" },
      { title: t("window"), number: true, cell: (row) => [row.places ? `${row.active} / ${row.places}` : row.active, row.waiting ? t("waiting", { n: row.waiting }) : ""].filter((each) => each !== "").join(", ") },
    ]} />`}
  </${Card}>`;

const Pool = ({ pool }) => html`
  <${Card} title=${t("pool")}>
    <p class="hint">${t("pool_hint", { threads: pool.threads, places: number(pool.places) })}</p>
    <${Table} caption=${t("pool")} rows=${pool.classes.map((each) => ({ ...each, key: each.class }))} columns=${[
      { title: t("class"), cell: (row) => kind(row.class) },
      ...[["active", "active"], ["queued", "waiting"], ["done", "done"], ["refused", "refused"], ["late", "late"]].map(([title, name]) => ({ title: t(title), number: true, cell: (row) => number(row[name]) })),
    ]} />
  </${Card}>`;

const Workers = ({ workers }) => html`
  <${Card} title=${t("workers")}>
    ${workers.length > 1 && html`<p class="hint">${t("own")}</p>`}
    <${Table} caption=${t("workers")} rows=${workers.map((each) => ({ ...each, key: each.name }))} columns=${[
      { title: t("worker"), cell: (row) => html`<span class="mono">${row.name}</span> ${row.here && html`<${Badge}>${t("this_one")}</${Badge}>`}` },
      { title: t("address"), cell: (row) => (row.address ? html`<span class="mono">${row.address}</span>` : t("unknown")) },
      { title: t("connected"), number: true, cell: (row) => number(row.devices) },
      { title: t("seen"), number: true, cell: (row) => (row.here ? t("now") : t("seconds", { n: Math.round(row.seen_s) })) },
    ]} />
  </${Card}>`;

await Promise.all([useStyle("../vendor/uplot"), useStyle("overview")]);

export default function Overview() {
  const [now, setNow] = useState(null);
  const [connected, setConnected] = useState(true);
  useEffect(() => live(["overview"], (topic, data) => setNow(data), setConnected), []);
  return html`
    <${Page} title=${t("title")}>
      ${!connected && html`<${Notice} kind="bad">${t("lost")}</${Notice}>`}
      ${now === null ? html`<${Spinner} />` : html`
        <${Alerts} alerts=${now.alerts} />
        <${Figures} now=${now} />
        <${Charts} hour=${now.hour} />
        <${Vendors} vendors=${now.vendors} />
        <${Pool} pool=${now.pool} />
        <${Workers} workers=${now.workers} />`}
    </${Page}>`;
}

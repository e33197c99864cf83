// Every device that is known: who is here, who waits to be let in.

import { get, live, send } from "../api.js";
import { Ago, Badge, Button, Card, Copy, Empty, Field, Loaded, Notice, Page, Table, ask, attempt, html, useEffect, useLoaded, useRef, useSettled, useState, useStyle } from "../ui.js";
import { number, words } from "../words.js";

await useStyle("devices");

const PER_PAGE = 50;

const t = words({
  en: {
    title: "Devices", known: "Known devices", search: "Search by name, id, board, address",
    device: "Device", state: "State", board: "Board", firmware: "Firmware", signal: "Signal", seen: "Last seen",
    online: "connected", offline: "away", revoked: "revoked", waits: "waits for you",
    now: "{n} connected now", total: "{n} known", more: "Next page", less: "Previous page", from: "{from} to {to} of {total}",
    reachable: "reachable", reachableHint: "nobody talks with it now, but it can be told something",
    show: "Show", "show-": "all", "show-connected": "connected", "show-away": "away", "show-waiting": "waiting to be let in", "show-revoked": "revoked",
    order: "Order", "order-seen": "last seen first", "order-name": "by name",
    none: "No device has come yet. Talk from this browser on the page Talk, or give a device the address below.",
    nothing: "No device matches. Try another search, or show all.",
    add: "Add a device", ota: "Enter this address as its OTA address, when it sets up its Wi-Fi or in its settings (some call it “custom OTA”). Then start it again: it appears here by itself.", otaWhat: "OTA address",
    waiting: "Waiting to be let in", code: "Code", address: "From", since: "Since",
    approve: "Let in", refuse: "Refuse", let: "{device} may come in now.", refused: "{device} was not let in.",
    sure: "Do not let {device} in? Its code is void then; to let it in later, open the device's page.",
    hint: "Compare the code with the one that the device shows or says.",
    console: "Devices are kept by the management console, which decides who may come in. What is set here for a device has no effect on those it serves.",
  },
  zh: {
    title: "设备", known: "已知设备", search: "按名称、编号、板子、地址搜索",
    device: "设备", state: "状态", board: "板子", firmware: "固件", signal: "信号", seen: "上次出现",
    online: "在线", offline: "离线", revoked: "已吊销", waits: "等待批准",
    now: "当前在线 {n} 台", total: "共 {n} 台", more: "下一页", less: "上一页", from: "第 {from} 到 {to} 台，共 {total} 台",
    reachable: "待命", reachableHint: "现在没有对话，但可以给它发消息",
    show: "显示", "show-": "全部", "show-connected": "在线", "show-away": "离线", "show-waiting": "等待批准", "show-revoked": "已吊销",
    order: "排序", "order-seen": "最近出现的在前", "order-name": "按名称",
    none: "还没有设备来过。可以直接在“对话”页面用浏览器说话，或者把下面的地址填入设备。",
    nothing: "没有符合的设备。换个搜索词，或者显示全部。",
    add: "添加设备", ota: "在设备配网时或设置里，把这个地址填为 OTA 地址（有的设备叫“自定义 OTA”），然后重启设备，它会自动出现在这里。", otaWhat: "OTA 地址",
    waiting: "等待批准", code: "验证码", address: "来自", since: "开始时间",
    approve: "批准", refuse: "拒绝", let: "{device} 现在可以连接。", refused: "已拒绝 {device}。",
    sure: "不让 {device} 连接吗？它的验证码将作废；以后可以在设备页面上批准。",
    hint: "请核对设备显示或念出的验证码。",
    console: "设备由管理控制台管理，由它决定谁可以连接。在这里给设备做的设置对它们不起作用。",
  },
});

export const State = ({ device }) => {
  if (device.revoked) return html`<${Badge} kind="bad">${t("revoked")}</${Badge}>`;
  if (device.talking) return html`<${Badge} kind="good">${t("online")}</${Badge}>`;
  if (device.online) return html`<span title=${t("reachableHint")}><${Badge} kind="good">${t("reachable")}</${Badge}></span>`;
  if (device.waiting.length && !device.enrolled) return html`<${Badge} kind="warn">${t("waits")}</${Badge}>`;
  return html`<${Badge}>${t("offline")}</${Badge}>`;
};

export const signal = (rssi) => (rssi === undefined ? "–" : `${rssi} dBm`);

const STATES = ["", "connected", "away", "waiting", "revoked"];
const ORDERS = ["seen", "name"];
const asked = (name, known) => (known.includes(new URLSearchParams(location.search).get(name)) ? new URLSearchParams(location.search).get(name) : known[0]);

export default function Devices() {
  const [search, setSearch] = useState(new URLSearchParams(location.search).get("search") || "");
  const [only, setOnly] = useState(() => asked("state", STATES));
  const [order, setOrder] = useState(() => asked("order", ORDERS));
  const [offset, setOffset] = useState(0);
  const [online, setOnline] = useState(null);
  const mark = useRef(null);
  const wanted = useSettled(search);
  const state = useLoaded(() => get(`devices?${new URLSearchParams({ search: wanted, state: only, order, offset, limit: PER_PAGE })}`), [wanted, only, order, offset]);
  const again = useRef(state.again);
  again.current = state.again;
  useEffect(() => {
    const chosen = Object.entries({ search: wanted, state: only, order: order === ORDERS[0] ? "" : order }).filter(([, value]) => value);
    history.replaceState(null, "", location.pathname + (chosen.length ? `?${new URLSearchParams(chosen)}` : ""));
  }, [wanted, only, order]);
  useEffect(() => live(["devices"], (topic, data) => {
    setOnline(data.online ?? null);
    if (mark.current !== null && mark.current !== data.mark) again.current();
    mark.current = data.mark;
  }), []);
  return html`
    <${Page} title=${t("title")} actions=${online !== null && html`<p class="soft" role="status">${t("now", { n: number(online) })}</p>`}>
      <${Loaded} state=${state}>
        ${(value) => html`
          ${value.under_console && html`<${Notice}>${t("console")}</${Notice}>`}
          ${value.waiting.length > 0 && html`<${Waiting} waiting=${value.waiting} onDone=${state.again} />`}
          <${Card} title=${t("known")} actions=${html`<span class="soft">${t("total", { n: number(value.total) })}</span>`}>
            <div class="row" role="search">
              <input type="search" class="search" aria-label=${t("search")} placeholder=${t("search")} value=${search} maxlength="200"
                onInput=${(event) => { setSearch(event.target.value); setOffset(0); }} />
              <${Choice} name="show" known=${STATES} value=${only} onChange=${(chosen) => { setOnly(chosen); setOffset(0); }} />
              <${Choice} name="order" known=${ORDERS} value=${order} onChange=${(chosen) => { setOrder(chosen); setOffset(0); }} />
            </div>
            ${value.devices.length ? html`<${List} devices=${value.devices} />` : html`<${Empty}>${t(search || only ? "nothing" : "none")}</${Empty}>`}
            ${value.total > PER_PAGE && html`
              <div class="actions">
                <${Button} disabled=${!offset} onClick=${() => setOffset(Math.max(0, offset - PER_PAGE))}>${t("less")}</${Button}>
                <span class="soft">${t("from", { from: offset + 1, to: offset + value.devices.length, total: value.total })}</span>
                <${Button} disabled=${offset + PER_PAGE >= value.total} onClick=${() => setOffset(offset + PER_PAGE)}>${t("more")}</${Button}>
              </div>`}
          </${Card}>
          ${!value.under_console && html`
            <${Card} title=${t("add")}>
              <p>${t("ota")}</p>
              <div class="actions"><code>${value.ota_url}</code><${Copy} text=${value.ota_url} what=${t("otaWhat")} /></div>
            </${Card}>`}`}
      </${Loaded}>
    </${Page}>`;
}

const Choice = ({ name, known, value, onChange }) => html`
  <${Field} label=${t(name)}>
    ${(own) => html`<select ...${own} name=${name} value=${value} onChange=${(event) => onChange(event.target.value)}>
      ${known.map((each) => html`<option value=${each} selected=${each === value}>${t(`${name}-${each}`)}</option>`)}
    </select>`}
  </${Field}>`;

const List = ({ devices }) => html`
  <${Table} caption=${t("known")} rows=${devices.map((device) => ({ ...device, key: device.device }))} columns=${[
    { key: "device", title: t("device"), cell: (row) => html`
      <span class="who"><a href="/console/devices/${encodeURIComponent(row.device)}">${row.label || row.device}</a>
      ${row.label && html`<span class="soft mono">${row.device}</span>`}</span>` },
    { key: "state", title: t("state"), cell: (row) => html`<${State} device=${row} />` },
    { key: "board", title: t("board"), cell: (row) => row.report.board || "–" },
    { key: "firmware", title: t("firmware"), cell: (row) => row.report.firmware || "–" },
    { key: "signal", title: t("signal"), number: true, cell: (row) => signal(row.report.rssi) },
    { key: "seen", title: t("seen"), cell: (row) => (row.last_seen ? html`<${Ago} at=${row.last_seen} />` : "–") },
  ]} />`;

export function Waiting({ waiting, onDone }) {
  const decide = async (row, verb) => {
    const name = row.label || row.device;
    if (verb === "refuse" && !(await ask(t("sure", { device: name }), t("refuse")))) return;
    const done = t(verb === "approve" ? "let" : "refused", { device: name });
    await attempt(() => send("POST", `devices/waiting/${encodeURIComponent(row.code)}/${verb}`), () => done);
    onDone();
  };
  return html`
    <${Card} title=${t("waiting")}>
      <p class="hint">${t("hint")}</p>
      <${Table} caption=${t("waiting")} rows=${waiting.map((row) => ({ ...row, key: row.code }))} columns=${[
        { key: "code", title: t("code"), cell: (row) => html`<strong class="code">${row.code}</strong>` },
        { key: "device", title: t("device"), cell: (row) => html`<a href="/console/devices/${encodeURIComponent(row.device)}">${row.label || row.device}</a>` },
        { key: "from", title: t("address"), cell: (row) => row.from },
        { key: "since", title: t("since"), cell: (row) => html`<${Ago} at=${row.since} />` },
        { key: "verb", title: "", cell: (row) => html`<span class="actions">
          <${Button} kind="primary" onClick=${() => decide(row, "approve")}>${t("approve")}</${Button}>
          <${Button} kind="danger" onClick=${() => decide(row, "refuse")}>${t("refuse")}</${Button}></span>` },
      ]} />
    </${Card}>`;
}

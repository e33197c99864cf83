// What was said: conversations by device and day, with search.

import { get, live, send } from "../api.js";
import { Button, Card, Empty, Field, Loaded, Notice, Page, ask, attempt, html, toast, useEffect, useLoaded, useRef, useSettled, useState, useStyle } from "../ui.js";
import { clock, day, number, words } from "../words.js";

await useStyle("history");

const t = words({
  en: {
    title: "History", device: "Device", all: "All devices", on: "Day", search: "Search in what was said and answered",
    turns: "{n} turns", turn: "1 turn", silent: "(nobody asked)", more: "Show older ones",
    none: "Nothing is kept yet. Say something to a device.", nothing: "Nothing was found. Try other words, another day or all devices.",
    off: "Nothing is kept: history.mode is off. Only devices that have their own setting for it are shown here.",
    console: "A management console keeps what is said here ({url}). Its history is there; here is only what was kept before.",
    text: "Text is kept for {days}; sound is not kept.", sound: "Text is kept for {days}, sound for {sound}.", days: "{n} days", ever: "ever",
    export: "Export", exportAll: "Everything of {device}: texts, timings and sound, as a zip file", erase: "Erase all of this device",
    sure: "Erase everything that was said to and by {device}? This cannot be undone.", erased: "{turns} turns and {sounds} sounds are erased.",
  },
  zh: {
    title: "历史", device: "设备", all: "所有设备", on: "日期", search: "在说过和回答过的话里搜索",
    turns: "{n} 轮", turn: "1 轮", silent: "（没有人提问）", more: "显示更早的",
    none: "还没有保留任何内容。请对设备说点什么。", nothing: "没有找到。换个词、换一天，或者选择所有设备。",
    off: "没有保留任何内容：history.mode 为 off。这里只显示单独设置了的设备。",
    console: "对话由管理控制台保留（{url}）。历史在那里；这里只有以前保留的内容。",
    text: "文字保留 {days}，不保留声音。", sound: "文字保留 {days}，声音保留 {sound}。", days: "{n} 天", ever: "永久",
    export: "导出", exportAll: "{device} 的全部内容：文字、耗时和声音（zip 文件）", erase: "删除这台设备的全部内容",
    sure: "删除 {device} 说过和听过的全部内容吗？删除后无法恢复。", erased: "已删除 {turns} 轮对话和 {sounds} 段声音。",
  },
});

const asked = () => new URLSearchParams(location.search);
const kept = (n) => (n ? t("days", { n }) : t("ever"));
const named = (each) => each.label || each.device;

export default function History() {
  const [device, setDevice] = useState(asked().get("device") || "");
  const [on, setOn] = useState(asked().get("day") || "");
  const [typed, setTyped] = useState(asked().get("search") || "");
  const search = useSettled(typed);
  const [older, setOlder] = useState({ list: [], next: undefined });
  const [busy, setBusy] = useState(false);
  const query = (more = {}) => {
    const wanted = Object.entries({ device, day: on, search, ...more }).filter(([, value]) => value);
    return new URLSearchParams(wanted).toString();
  };
  const state = useLoaded(() => get(`history?${query()}`), [device, on, search]);
  const again = useRef(state.again);
  const mark = useRef(null);
  again.current = state.again;
  useEffect(() => {
    setOlder({ list: [], next: undefined });
    history.replaceState(null, "", query() ? `?${query()}` : location.pathname);
  }, [device, on, search]);
  useEffect(() => live(["history"], (topic, data) => {
    if (mark.current !== null && mark.current !== data.mark) again.current();
    mark.current = data.mark;
  }), []);
  const more = async (before) => {
    setBusy(true);
    try {
      const answer = await get(`history?${query({ before })}`);
      setOlder((was) => ({ list: [...was.list, ...answer.conversations], next: answer.next }));
    } catch (error) {
      toast(error.message, "bad");
    }
    setBusy(false);
  };
  const erase = async (name) => {
    if (!(await ask(t("sure", { device: name }), t("erase")))) return;
    const erased = await attempt(() => send("DELETE", `history?${new URLSearchParams({ device })}`), (answer) => t("erased", answer));
    if (!erased) return;
    setOlder({ list: [], next: undefined });
    state.again();
  };
  return html`
    <${Page} title=${t("title")}>
      <${Card}>
        <form class="filters" role="search" onSubmit=${(event) => event.preventDefault()}>
          <${Field} label=${t("device")}>
            ${(own) => html`<select ...${own} name="device" value=${device} onChange=${(event) => setDevice(event.target.value)}>
              <option value="" selected=${!device}>${t("all")}</option>
              ${choices(state.value?.devices || [], device).map((each) => html`<option value=${each.device} selected=${each.device === device}>${named(each)}</option>`)}
            </select>`}
          </${Field}>
          <${Field} label=${t("on")}>${(own) => html`<input ...${own} type="date" name="day" value=${on} onInput=${(event) => setOn(event.target.value)} />`}</${Field}>
          <${Field} label=${t("search")}>${(own) => html`<input ...${own} type="search" name="search" value=${typed} maxlength="200" onInput=${(event) => setTyped(event.target.value)} />`}</${Field}>
        </form>
      </${Card}>
      <${Loaded} state=${state}>
        ${(value) => {
          const all = [...value.conversations, ...older.list.filter((each) => !value.conversations.some((one) => one.session === each.session))];
          const next = older.next === undefined ? value.next : older.next;
          const chosen = device && named(value.devices.find((each) => each.device === device) || { device });
          return html`
            <${Kept} state=${value.state} />
            ${device && html`
              <div class="actions">
                <a class="button" href="/console/api/history/export?${new URLSearchParams({ device })}" download title=${t("exportAll", { device: chosen })}>${t("export")}</a>
                <${Button} kind="danger" onClick=${() => erase(chosen)}>${t("erase")}</${Button}>
              </div>`}
            ${all.length === 0 && html`<${Empty}>${t(search || on || device ? "nothing" : "none")}</${Empty}>`}
            ${byDay(all).map(([title, list]) => html`
              <${Card} key=${title} title=${title}>
                <ul class="conversations">${list.map((each) => html`<${Conversation} key=${each.session} each=${each} search=${search} />`)}</ul>
              </${Card}>`)}
            ${next && html`<div class="actions"><${Button} busy=${busy} onClick=${() => more(next)}>${t("more")}</${Button}></div>`}`;
        }}
      </${Loaded}>
    </${Page}>`;
}

const choices = (devices, device) => (device && !devices.some((each) => each.device === device) ? [{ device, label: "" }, ...devices] : devices);

function byDay(list) {
  const found = new Map();
  for (const each of list) {
    const title = day(each.began_at);
    if (!found.has(title)) found.set(title, []);
    found.get(title).push(each);
  }
  return [...found];
}

export function Kept({ state }) {
  const { mode, days, sound_days: sound } = state;
  if (state.console) return html`<${Notice} kind="warn">${t("console", { url: state.console })}</${Notice}>`;
  if (mode === "off") return html`<${Notice} kind="warn">${t("off")}</${Notice}>`;
  return html`<p class="hint">${mode === "sound" ? t("sound", { days: kept(days), sound: kept(sound || days) }) : t("text", { days: kept(days) })}</p>`;
}

const Conversation = ({ each, search }) => html`
  <li>
    <a class="conversation" href="/console/history/${each.session}${search ? `?search=${encodeURIComponent(search)}` : ""}">
      <span class="meta"><time datetime=${new Date(each.began_at * 1000).toISOString()}>${clock(each.began_at)}</time>
      <span class="soft">${named(each)} · ${each.turns === 1 ? t("turn") : t("turns", { n: number(each.turns) })}</span></span>
      <span class="said">${each.said ? marked(each.said, search) : t("silent")}</span>
      <span class="answered">${marked(each.spoken, search)}</span>
    </a>
  </li>`;

// What was searched for, made visible.
export function marked(text, search) {
  const at = search ? text.toLowerCase().indexOf(search.toLowerCase()) : -1;
  if (at < 0) return text;
  return html`${text.slice(0, at)}<mark>${text.slice(at, at + search.length)}</mark>${text.slice(at + search.length)}`;
}

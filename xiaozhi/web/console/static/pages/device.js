// One device: what it is, what it can be asked to do now, its own settings, who may use it.

import { get, live, send } from "../api.js";
import { go } from "../app.js";
import { Ago, Button, Card, Copy, Field, Loaded, Notice, Page, ask, attempt, html, toast, useEffect, useLoaded, useRef, useState, useStyle } from "../ui.js";
import { translated } from "../refusals.js";
import { date, language, number, words } from "../words.js";
import { Messages } from "./device-messages.js";
import { Reminders } from "./device-reminders.js";
import { Voices } from "./device-voices.js";
import { Settings } from "./device-settings.js";
import { State, Waiting, signal } from "./devices.js";

await useStyle("devices");

const SNAPSHOT = "self.screen.snapshot";
const CAMERA = "self.camera.take_photo";
const TRIES = 8; // for the worker that has the device
const PAUSE_MS = 250;

const t = words({
  en: {
    back: "All devices", name: "Name", nameHint: "What you call it, here and when you talk: “tell the kitchen that dinner is ready”.", save: "Save", saved: "Saved.",
    now: "Now", away: "It is not connected. What it can do now is shown when it is back.",
    idle: "Nobody talks with it now. Its tools and its screen can be asked for during a conversation.",
    say: "Say something", sayHint: "It is spoken as soon as nobody speaks; an idle device plays or shows it, one that is away hears it when it comes within ten minutes.", speak: "Say it", spoken: "It said it.", speaking: "It says it.", sent: "It was sent there, to be played or shown.", waits: "It is said as soon as nobody speaks, or when the device comes.", interrupted: "It was interrupted.",
    reboot: "Reboot", rebootSure: "Reboot {device}? A conversation under way ends.", rebooting: "It reboots.",
    screen: "Show its screen", screenAlt: "The screen of {device}", screenAt: "Its screen, {at}",
    look: "Look through its camera", lookHint: "What is asked of the picture", what: "What do you see?",
    history: "What was said", is: "What it is", board: "Board", firmware: "Firmware", offered: "{version} is offered at its next start", forced: "{version} will be installed at its next start",
    newest: "nothing newer is offered", signal: "Signal", line: "Line", lineNow: "Line now", heap: "Free memory", heapValue: "{kb} KB at least", language: "Language", screenSize: "Screen", chip: "Chip", network: "Network",
    address: "Address", first: "First seen", last: "Last seen", quota: "Spoken today", quotaOf: "{used} of {limit} characters", quotaUsed: "{used} characters, no limit", quotaNone: "not counted, as there is no limit",
    askAgain: "Try again", askTools: "Ask what it can do", elsewhere: "It is connected to another worker of this server.", id: "Device id",
    remove: "Remove", removeHint: "For a device that is gone. It is possible while it is away.", removeSure: "Remove {device}? Its name, settings, messages, reminders, what is remembered of its people and their voices are erased. What was said stays in the history until you erase it there. Should the device come again, it is a new one.", removed: "It is removed.",
    tools: "Its tools", toolsLoading: "Asking the device", run: "Run", arguments: "Arguments, as JSON", badJson: "This is not JSON.", result: "Answer", empty: "(nothing)",
    access: "Access", enrolled: "Enrolled", enrolledValue: "client id {client}, {how}, {at}", notEnrolled: "not enrolled",
    revoke: "Revoke", revokeHint: "It is disconnected at once and may not come back until you let it in.", revokeSure: "Revoke {device}? It is disconnected at once, and its tokens are void.", revokedDone: "It may not come in any more.",
    forget: "Forget", forgetHint: "It is enrolled anew when it next asks; for a device with a new owner or new firmware.", forgetSure: "Forget {device}? Its tokens are void, and it is enrolled anew when it next asks.", forgotten: "It is enrolled anew when it next asks.", notForgotten: "It was not enrolled.",
    approve: "Let in again", approved: "It may come in again.", revokedNow: "This device is revoked: it may not come in.",
    console: "The management console keeps this device: its agent comes from there, and the settings here have no effect on it.",
  },
  zh: {
    back: "所有设备", name: "名称", nameHint: "您给它起的名字，页面上和说话时都能用，例如“告诉厨房饭好了”。", save: "保存", saved: "已保存。",
    now: "现在", away: "设备没有连接。它连接后，这里会显示它能做的事。",
    idle: "现在没有对话。它的工具和屏幕在对话期间才能查看。",
    say: "让它说话", sayHint: "没有人说话时立即播报；空闲的设备会播放或显示；不在线的设备十分钟内上线就会听到。", speak: "播报", spoken: "已经播报。", speaking: "正在播报。", sent: "已发送，由设备播放或显示。", waits: "等没有人说话或设备上线时播报。", interrupted: "播报被打断了。",
    reboot: "重启", rebootSure: "重启 {device} 吗？正在进行的对话会结束。", rebooting: "正在重启。",
    screen: "查看屏幕", screenAlt: "{device} 的屏幕", screenAt: "屏幕，{at}",
    look: "用摄像头看看", lookHint: "关于照片的问题", what: "你看到了什么？",
    history: "对话历史", is: "设备信息", board: "板子", firmware: "固件", offered: "下次启动时提供 {version}", forced: "下次启动时将安装 {version}",
    newest: "没有更新的版本", signal: "信号", line: "线路", lineNow: "当前线路", heap: "剩余内存", heapValue: "最少 {kb} KB", language: "语言", screenSize: "屏幕", chip: "芯片", network: "网络",
    address: "地址", first: "第一次出现", last: "上次出现", quota: "今日播报", quotaOf: "{used} / {limit} 字", quotaUsed: "{used} 字，没有上限", quotaNone: "没有上限，不统计",
    askAgain: "重试", askTools: "询问它能做什么", elsewhere: "它连接在本服务器的另一个进程上。", id: "设备编号",
    remove: "移除", removeHint: "用于不再使用的设备，离线时才能移除。", removeSure: "移除 {device} 吗？它的名称、设置、消息、提醒、对使用者的记忆和声纹都会删除。说过的话保留在历史里，可在那里删除。设备再来时会被当作新设备。", removed: "已移除。",
    tools: "设备工具", toolsLoading: "正在询问设备", run: "运行", arguments: "参数（JSON）", badJson: "这不是 JSON。", result: "结果", empty: "（空）",
    access: "访问", enrolled: "登记", enrolledValue: "客户端 {client}，{how}，{at}", notEnrolled: "未登记",
    revoke: "吊销", revokeHint: "立即断开，批准之前不能再连接。", revokeSure: "吊销 {device} 吗？它会立即断开，令牌作废。", revokedDone: "它不能再连接了。",
    forget: "忘记", forgetHint: "下次询问时重新登记；用于换了主人或刷了固件的设备。", forgetSure: "忘记 {device} 吗？它的令牌作废，下次询问时重新登记。", forgotten: "它下次询问时会重新登记。", notForgotten: "它没有登记过。",
    approve: "重新批准", approved: "它可以再次连接。", revokedNow: "这台设备已被吊销，不能连接。",
    console: "这台设备由管理控制台管理：它的智能体来自那里，这里的设置对它不起作用。",
  },
});

// What has become of a message -> what its sender is told.
const OUTCOMES = { spoken: "spoken", speaking: "speaking", sent: "sent", waiting: "waits", interrupted: "interrupted" };

// Several workers share the port, and only one of them has the device: a new connection may come to another one.
async function there(work) {
  for (let tried = 0; ; tried++) {
    try {
      return await work();
    } catch (error) {
      if (!error.details?.elsewhere || tried >= TRIES) throw error;
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
  }
}

export default function Device({ device }) {
  const path = `devices/${encodeURIComponent(device)}`;
  const state = useLoaded(() => get(path), [device]);
  const again = useRef(state.again);
  const mark = useRef(null);
  const [news, setNews] = useState(0);
  again.current = state.again;
  useEffect(() => live(["devices"], (topic, data) => {
    if (mark.current !== null && mark.current !== data.mark) {
      again.current();
      setNews((before) => before + 1);
    }
    mark.current = data.mark;
  }), []);
  const known = state.value;
  return html`
    <${Page} title=${known?.label || device} actions=${html`${known && html`<${State} device=${known} /><a class="button" href="/console/history?device=${encodeURIComponent(device)}">${t("history")}</a>`}<a href="/console/devices">${t("back")}</a>`}>
      <${Loaded} state=${state}>
        ${(value) => html`
          ${value.under_console && html`<${Notice} kind="warn">${t("console")}</${Notice}>`}
          ${value.revoked && html`<${Notice} kind="bad">${t("revokedNow")}</${Notice}>`}
          ${value.waiting.length > 0 && html`<${Waiting} waiting=${value.waiting.map((one) => ({ ...one, device, label: value.label }))} onDone=${state.again} />`}
          <div class="columns">
            <div>
              <${Now} path=${path} device=${value} onDone=${state.again} />
              <${Messages} path=${path} news=${news} />
              <${Reminders} path=${path} news=${news} />
              <${Voices} path=${path} news=${news} />
              <${Facts} device=${value} />
              <${Name} path=${path} device=${value} onDone=${state.again} />
            </div>
            <div>
              <${Settings} path=${path} />
              <${Access} path=${path} device=${value} onDone=${state.again} />
            </div>
          </div>`}
      </${Loaded}>
    </${Page}>`;
}

function Name({ path, device, onDone }) {
  const [label, setLabel] = useState(device.label);
  const [busy, setBusy] = useState(false);
  const submit = async (event) => {
    event.preventDefault();
    setBusy(true);
    try {
      await send("PUT", `${path}/label`, { label });
      toast(t("saved"));
      onDone();
    } catch (error) {
      toast(error.message, "bad");
    }
    setBusy(false);
  };
  return html`
    <${Card} title=${t("name")}>
      <form class="row" onSubmit=${submit}>
        <${Field} label=${t("name")}>
          ${(own) => html`<input ...${own} name="label" value=${label} maxlength="80" placeholder=${device.device} onInput=${(event) => setLabel(event.target.value)} />`}
        </${Field}>
        <${Button} type="submit" busy=${busy} disabled=${label === device.label}>${t("save")}</${Button}>
      </form>
      <p class="hint">${t("nameHint")}</p>
    </${Card}>`;
}

function Now({ path, device, onDone }) {
  const [tools, setTools] = useState(null);
  const [failed, setFailed] = useState("");
  const load = () => {
    setTools(null);
    setFailed("");
    there(() => get(`${path}/tools`)).then((answer) => setTools(answer.tools), (error) => { setTools([]); setFailed(error.message); });
  };
  useEffect(() => {
    setTools(device.has_tools ? null : []);
    setFailed("");
    if (device.has_tools) load();
  }, [device.here, device.has_tools]);
  const has = (name) => tools?.find((tool) => tool.name === name);
  if (!device.online) return html`<${Card} title=${t("now")}><p class="soft">${t("away")}</p><${Say} path=${path} /></${Card}>`;
  if (!device.talking) return html`<${Card} title=${t("now")}><${Say} path=${path} /><p class="soft">${t("idle")}</p><div><${Reboot} path=${path} device=${device} /></div></${Card}>`;
  return html`
    <${Card} title=${t("now")}>
      <${Say} path=${path} />
      ${has(CAMERA) && html`<${Look} path=${path} />`}
      <div class="actions">
        ${has(SNAPSHOT) && html`<${Screen} path=${path} onDone=${onDone} />`}
        <${Reboot} path=${path} device=${device} />
      </div>
      ${device.screen_at && html`
        <img class="screen-shot" alt=${t("screenAlt", { device: device.label || device.device })} src="/console/api/${path}/screen?at=${device.screen_at}" />
        <p class="hint">${t("screenAt", { at: date(device.screen_at) })}</p>`}
      ${tools === null && html`<p class="soft" role="status">${t("toolsLoading")}…</p>`}
      ${failed && html`<${Notice} kind="warn">${failed} <${Button} onClick=${load}>${t("askAgain")}</${Button}></${Notice}>`}
      ${!device.here && tools?.length === 0 && !failed && html`<p class="soft">${t("elsewhere")}</p><div><${Button} onClick=${load}>${t("askTools")}</${Button}></div>`}
      ${tools?.length > 0 && html`<details class="tools"><summary>${t("tools")} (${tools.length})</summary><ul class="tools">${tools.map((tool) => html`<${Tool} key=${tool.name} path=${path} tool=${tool} />`)}</ul></details>`}
    </${Card}>`;
}

function Say({ path }) {
  const [text, setText] = useState("");
  const [busy, setBusy] = useState(false);
  const submit = async (event) => {
    event.preventDefault();
    setBusy(true);
    try {
      const { state, reason } = await send("POST", `${path}/say`, { text });
      if (OUTCOMES[state]) {
        toast(t(OUTCOMES[state]));
        setText("");
      } else toast(reason || state, "bad");
    } catch (error) {
      toast(error.message, "bad");
    }
    setBusy(false);
  };
  return html`
    <form class="row" onSubmit=${submit}>
      <${Field} label=${t("say")}>
        ${(own) => html`<input ...${own} name="say" value=${text} maxlength="500" required autocomplete="off" onInput=${(event) => setText(event.target.value)} />`}
      </${Field}>
      <${Button} type="submit" kind="primary" busy=${busy}>${t("speak")}</${Button}>
    </form>
    <p class="hint">${t("sayHint")}</p>`;
}

function Look({ path }) {
  const [question, setQuestion] = useState(t("what"));
  const [answer, setAnswer] = useState("");
  const [busy, setBusy] = useState(false);
  const submit = async (event) => {
    event.preventDefault();
    setBusy(true);
    try {
      setAnswer(said((await there(() => send("POST", `${path}/tools`, { name: CAMERA, arguments: { question } }))).text));
    } catch (error) {
      toast(error.message, "bad");
    }
    setBusy(false);
  };
  return html`
    <form class="row" onSubmit=${submit}>
      <${Field} label=${t("lookHint")}>
        ${(own) => html`<input ...${own} value=${question} maxlength="500" required onInput=${(event) => setQuestion(event.target.value)} />`}
      </${Field}>
      <${Button} type="submit" busy=${busy}>${t("look")}</${Button}>
    </form>
    <div aria-live="polite">${answer && html`<p class="answer">${answer}</p>`}</div>`;
}

// What the vision service told the device, or whatever else it answers.
function said(text) {
  try {
    const found = JSON.parse(text);
    return found.response || found.result || found.message || text;
  } catch {
    return text;
  }
}

function Screen({ path, onDone }) {
  const [busy, setBusy] = useState(false);
  const take = async () => {
    setBusy(true);
    try {
      await there(() => send("POST", `${path}/screen`));
      onDone();
    } catch (error) {
      toast(error.message, "bad");
    }
    setBusy(false);
  };
  return html`<${Button} busy=${busy} onClick=${take}>${t("screen")}</${Button}>`;
}

function Reboot({ path, device }) {
  const reboot = async () => {
    if (!(await ask(t("rebootSure", { device: device.label || device.device }), t("reboot")))) return;
    await attempt(() => send("POST", `${path}/reboot`), ({ state }) => t(state === "sent" ? "rebooting" : "waits"));
  };
  return html`<${Button} onClick=${reboot}>${t("reboot")}</${Button}>`;
}

function Tool({ path, tool }) {
  const wanted = Object.keys(tool.parameters?.properties || {});
  const [text, setText] = useState(JSON.stringify(Object.fromEntries(wanted.map((name) => [name, tool.parameters.properties[name].default ?? ""]))));
  const [answer, setAnswer] = useState(null);
  const [busy, setBusy] = useState(false);
  const [wrong, setWrong] = useState("");
  const run = async (event) => {
    event.preventDefault();
    let given = {};
    try {
      if (wanted.length) given = JSON.parse(text);
    } catch {
      return setWrong(t("badJson"));
    }
    setWrong("");
    setBusy(true);
    try {
      setAnswer((await there(() => send("POST", `${path}/tools`, { name: tool.name, arguments: given }))).text || t("empty"));
    } catch (error) {
      setAnswer(error.message);
    }
    setBusy(false);
  };
  return html`
    <li>
      <p><code>${tool.name}</code></p>
      <p class="hint">${tool.description}</p>
      <form class="row" onSubmit=${run}>
        ${wanted.length > 0 && html`<${Field} label=${t("arguments")} error=${wrong}>${(own) => html`<input ...${own} class="mono" value=${text} onInput=${(event) => setText(event.target.value)} />`}</${Field}>`}
        <${Button} type="submit" busy=${busy} aria-label="${t("run")} ${tool.name}">${t("run")}</${Button}>
      </form>
      <div aria-live="polite">${answer !== null && html`<p class="hint">${t("result")}</p><pre class="answer" tabindex="0">${answer}</pre>`}</div>
    </li>`;
}

function Facts({ device }) {
  const { report, firmware_offered: offered, quota, line } = device;
  const facts = [
    ["id", html`<span class="mono">${device.device}</span> <${Copy} text=${device.device} what=${t("id")} />`],
    ["board", report.board],
    ["firmware", report.firmware && html`${report.firmware} <span class="soft">(${offered ? t(offered.force ? "forced" : "offered", { version: offered.version }) : t("newest")})</span>`],
    ["signal", report.rssi !== undefined && signal(report.rssi)],
    [line.live ? "lineNow" : "line", line.findings[0].kind !== "unknown" && html`${line.sentence[language]}${line.at && html` <span class="soft">(<${Ago} at=${line.at} />)</span>`}`],
    ["heap", report.free_heap !== undefined && t("heapValue", { kb: number(Math.round(report.free_heap / 1024)) })],
    ["language", report.language],
    ["screenSize", report.screen],
    ["chip", report.chip],
    ["network", report.network],
    ["address", report.address],
    ["first", device.first_seen && date(device.first_seen)],
    ["last", device.last_seen && html`${date(device.last_seen)} (<${Ago} at=${device.last_seen} />)`],
    ["quota", quota.used === null ? t("quotaNone") : t(quota.limit ? "quotaOf" : "quotaUsed", { used: number(quota.used), limit: number(quota.limit) })],
  ].filter(([, value]) => value);
  return html`
    <${Card} title=${t("is")}>
      <dl>${facts.map(([name, value]) => html`<dt>${t(name)}</dt><dd>${value}</dd>`)}</dl>
    </${Card}>`;
}

function Access({ path, device, onDone }) {
  const { enrolled } = device;
  const name = device.label || device.device;
  const remove = async () => {
    if (!(await ask(t("removeSure", { device: name }), t("remove")))) return;
    const gone = await attempt(() => send("DELETE", path), () => t("removed"));
    if (gone) go("/console/devices");
    else onDone();
  };
  const decide = async (verb, sure, done) => {
    if (sure && !(await ask(sure, t(verb)))) return;
    const said = (answer) => (verb === "forget" && !answer.was_enrolled ? t("notForgotten") : done);
    await attempt(() => send("POST", `${path}/${verb}`), said);
    onDone();
  };
  return html`
    <${Card} title=${t("access")}>
      <dl><dt>${t("enrolled")}</dt><dd>${enrolled ? t("enrolledValue", { client: enrolled.client, how: translated(enrolled.how) || "–", at: date(enrolled.at) }) : t("notEnrolled")}</dd></dl>
      ${device.revoked
        ? html`<div><${Button} kind="primary" onClick=${() => decide("approve", "", t("approved"))}>${t("approve")}</${Button}></div>`
        : html`<p class="hint">${t("revokeHint")}</p><div><${Button} kind="danger" onClick=${() => decide("revoke", t("revokeSure", { device: name }), t("revokedDone"))}>${t("revoke")}</${Button}></div>`}
      ${enrolled && html`<p class="hint">${t("forgetHint")}</p><div><${Button} kind="danger" onClick=${() => decide("forget", t("forgetSure", { device: name }), t("forgotten"))}>${t("forget")}</${Button}></div>`}
      <p class="hint">${t("removeHint")}</p><div><${Button} kind="danger" disabled=${device.online} onClick=${remove}>${t("remove")}</${Button}></div>
    </${Card}>`;
}

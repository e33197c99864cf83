// A device in the page: talk with the server by microphone or keyboard.

import { live, send } from "../api.js";
import { TalkDevice } from "../talk/device.js";
import { Face } from "../talk/face.js";
import { identity } from "../talk/identity.js";
import { keepKnobs } from "../talk/knobs.js";
import { Button, Card, Notice, Page, classes, html, useEffect, useMemo, useRef, useState, useStyle } from "../ui.js";
import { ms, words } from "../words.js";

await useStyle("talk");

const t = words({
  en: {
    title: "Talk", modes: "How to talk",
    "mode-manual": "Push to talk", "mode-auto": "Taking turns", "mode-realtime": "Free talk",
    "hint-manual": "Hold the button, or the space bar, while you speak. A short tap keeps it open until the next one.",
    "hint-auto": "Press once and speak; after each answer it is your turn again.",
    "hint-realtime": "Press once and speak; speak up to interrupt an answer. Best with headphones.",
    "state-off": "Not connected", "state-connecting": "Connecting", "state-ready": "Ready", "state-listening": "Listening",
    "state-thinking": "Thinking", "state-speaking": "Speaking", "state-reconnecting": "Connection lost, connecting again",
    hold: "Hold to talk", send: "Release to send", tap: "Tap to send", again: "Hold to ask again", over: "Hold to interrupt",
    start: "Start talking", stop: "Stop", interrupt: "Interrupt", end: "End the conversation", quiet: "Stop the answer", none: "No microphone", allow: "Allow the microphone",
    type: "Type instead", say: "Send", said: "Conversation", you: "You", it: "Assistant", try: "Try one of these, spoken or with a click:",
    heard: "understood", sentence: "first sentence", sound: "first sound", waited: "Where the time went in the server",
    device: "This device", volume: "Volume", brightness: "Brightness of the face", camera: "The assistant may take a picture with the camera",
    blind: "No vision model is set, so pictures cannot be looked at (Settings, VLLM).",
    about: "As a device this browser is {id}. It sends {format} and receives it at {rate} kHz from {url}.",
    basic: "The recogniser is the offline one: English and Chinese with its models (server.py models fetch default), a few English phrases without. A vendor's hears better: Settings.",
    ended: "The conversation has ended. Press to begin again.", unheard: "Nothing was understood. Speak a little louder, or closer.",
    failed: "This answer failed: {why}", interrupted: "(interrupted)", pending: "working", done: "done", photo: "Picture for: {question}",
    insecure: "Browsers give the microphone only to pages that come over a secure connection, and this page came over plain http. You can type below and hear the answers. To speak, do one of these:",
    "way-here": "On the machine that runs the server, open {url}", "way-tls": "Set server.tls.certfile and server.tls.keyfile, restart, and open {url}",
    "way-flag": "In Chrome or Edge, open {flag}, add {origin}, and restart the browser",
    unsupported: "This browser cannot hand over a microphone. You can type below, or open this page in a current Chrome, Edge, Firefox or Safari.",
    "microphone-refused": "The browser was not allowed to use the microphone. Allow it in the address bar (the lock or the microphone sign) and press again; typing works without.",
    "microphone-none": "No microphone was found. Plug one in and press again; typing works without.",
    "microphone-busy": "Another program holds the microphone. Close it and press again; typing works without.",
    "microphone-failed": "The microphone could not be opened. Press again, or type below.",
    "microphone-ended": "The microphone was unplugged, or taken away by the system.",
    unreachable: "The server could not be reached at {urls}. A firewall may block this port, the server may not trust this page, or, with a certificate of your own, the browser wants to be told once that it is good: open {page} and accept it.",
    elsewhere: "This browser talks in another tab or window now.",
    refused: "The server ended the connection: {why}", taken: "The server does not let this browser in: {why}", renew: "Come as a new device",
    detector: "voice detector", silence: "silence awaited", grid: "rest of a packet", recognition: "recognition", model: "language model",
    first_sentence: "first sentence", voice: "voice", encode: "encoding", pacing: "pacing",
    examples: "what time is it|tell me a joke|turn up the volume|what can you do",
  },
  zh: {
    title: "对话", modes: "对话方式",
    "mode-manual": "按住说话", "mode-auto": "轮流对话", "mode-realtime": "自由对话",
    "hint-manual": "说话时按住按钮或空格键。轻点一下会一直听，再点一下发送。",
    "hint-auto": "按一下就可以说话；每次回答之后又轮到您。",
    "hint-realtime": "按一下就可以说话；直接开口即可打断回答。最好戴耳机。",
    "state-off": "未连接", "state-connecting": "正在连接", "state-ready": "就绪", "state-listening": "正在听",
    "state-thinking": "正在思考", "state-speaking": "正在说话", "state-reconnecting": "连接断开，正在重连",
    hold: "按住说话", send: "松开发送", tap: "点一下发送", again: "按住重新提问", over: "按住打断",
    start: "开始对话", stop: "停止", interrupt: "打断", end: "结束对话", quiet: "停止回答", none: "没有麦克风", allow: "请允许使用麦克风",
    type: "也可以打字", say: "发送", said: "对话内容", you: "您", it: "助手", try: "试试这些，可以说，也可以点：",
    heard: "听懂", sentence: "第一句", sound: "第一声", waited: "服务器内的耗时",
    device: "本设备", volume: "音量", brightness: "表情亮度", camera: "允许助手用摄像头拍照",
    blind: "没有设置视觉模型，无法识别照片（设置，VLLM）。",
    about: "这个浏览器作为设备的编号是 {id}。以 {format} 发送，以 {rate} kHz 接收，服务器地址 {url}。",
    basic: "语音识别为离线默认：有模型时听得懂中文和英文（server.py models fetch default），没有模型时只认得几句英文。云端识别更准，可在设置里更换。",
    ended: "对话已结束。按一下重新开始。", unheard: "没有听懂。请大声一点，或靠近一点。",
    failed: "这次回答失败：{why}", interrupted: "（被打断）", pending: "进行中", done: "完成", photo: "照片：{question}",
    insecure: "浏览器只允许安全连接的页面使用麦克风，而本页面通过普通 http 打开。您可以在下面打字并听到回答。要说话，请任选一种：",
    "way-here": "在运行服务器的机器上打开 {url}", "way-tls": "设置 server.tls.certfile 和 server.tls.keyfile，重启后打开 {url}",
    "way-flag": "在 Chrome 或 Edge 中打开 {flag}，加入 {origin}，然后重启浏览器",
    unsupported: "这个浏览器不能提供麦克风。您可以在下面打字，或换用新版 Chrome、Edge、Firefox 或 Safari。",
    "microphone-refused": "浏览器没有获得麦克风权限。请在地址栏（锁或麦克风图标）里允许，然后再按；打字不受影响。",
    "microphone-none": "没有找到麦克风。请接上后再按；打字不受影响。",
    "microphone-busy": "麦克风被其他程序占用。请关闭它后再按；打字不受影响。",
    "microphone-failed": "无法打开麦克风。请再按一次，或在下面打字。",
    "microphone-ended": "麦克风被拔出，或被系统收回。",
    unreachable: "无法连接服务器 {urls}。可能是防火墙挡住了端口，服务器不信任本页面；如果使用自己的证书，请先打开 {page} 并接受证书。",
    elsewhere: "这个浏览器正在另一个标签页或窗口中对话。",
    refused: "服务器结束了连接：{why}", taken: "服务器不接受这个浏览器：{why}", renew: "作为新设备连接",
    detector: "语音检测", silence: "等待静音", grid: "数据包余量", recognition: "识别", model: "大模型",
    first_sentence: "第一句", voice: "合成", encode: "编码", pacing: "发送节奏",
    examples: "现在几点了？|讲个笑话|声音大一点|你能做什么？",
  },
});

const MODES = ["manual", "auto", "realtime"];
const STAGES = ["heard", "sentence", "sound"];
const FLAG = "chrome://flags/#unsafely-treat-insecure-origin-as-secure";
const LOUDEST = 0.25; // of a voice, for what moves with it
// What a space bar means by itself there.
const OWN_KEYS = "input:not([type=radio]), textarea, select, button, a, summary, [contenteditable]";

export default function Talk() {
  const stage = useRef(null);
  const [state, setState] = useState(null);
  const device = useMemo(() => new TalkDevice({
    admit: (ids) => send("POST", "talk", ids),
    onChange: setState,
    onLevel: (side, level) => stage.current?.style.setProperty(`--${side}`, Math.min(1, level / LOUDEST).toFixed(2)),
  }), []);
  const now = state || device.state;
  const connected = Boolean(now.server);

  useEffect(() => () => device.close(), []);
  useEffect(() => keepKnobs(now), [now.mode, now.volume, now.brightness]);
  useEffect(() => {
    if (!connected) return undefined;
    return live(["turns"], (topic, turn) => turn.device === identity().device_id && device.account(turn));
  }, [connected]);
  useEffect(() => {
    const down = (event) => {
      if (event.key === "Escape") return device.interrupt();
      if (event.key !== " " || event.ctrlKey || event.altKey || event.metaKey || event.target.closest?.(OWN_KEYS)) return;
      event.preventDefault();
      if (!event.repeat && !device.state.microphone.startsWith("un") && device.state.microphone !== "insecure") device.press();
    };
    const up = (event) => event.key === " " && device.release();
    const away = () => device.release();
    addEventListener("keydown", down);
    addEventListener("keyup", up);
    addEventListener("blur", away);
    return () => {
      removeEventListener("keydown", down);
      removeEventListener("keyup", up);
      removeEventListener("blur", away);
    };
  }, []);

  return html`
    <${Page} title=${t("title")}>
      <${Trouble} state=${now} device=${device} />
      <div class="talk" ref=${stage}>
        <div class="side">
          <${Screen} state=${now} />
          <${Controls} state=${now} device=${device} />
          <${Knobs} state=${now} device=${device} />
        </div>
        <${Said} state=${now} device=${device} />
      </div>
    </${Page}>`;
}

function Screen({ state }) {
  const { phase, emotion, subtitle, brightness } = state;
  const face = phase === "thinking" ? "thinking" : emotion;
  return html`
    <section class="card screen">
      <div style=${{ opacity: 0.25 + (0.75 * brightness) / 100 }}><${Face} emotion=${face} /></div>
      <p class=${classes("state", phase)} role="status">${t(`state-${phase}`)}</p>
      <p class="subtitle" aria-hidden="true">${subtitle}</p>
    </section>`;
}

function label({ mode, phase, active, latched, microphone }) {
  if (microphone === "insecure" || microphone === "unsupported") return t("none");
  if (microphone === "asking") return t("allow");
  if (mode === "manual") {
    if (phase === "listening") return t(latched ? "tap" : "send");
    return t(phase === "speaking" ? "over" : phase === "thinking" ? "again" : "hold");
  }
  if (phase === "speaking" || (active && phase === "thinking")) return t("interrupt");
  return t(active ? "stop" : "start");
}

function Controls({ state, device }) {
  const { mode, phase, active, microphone } = state;
  const without = microphone === "insecure" || microphone === "unsupported";
  const pointer = useRef(false);
  const down = (event) => {
    if (event.button) return;
    pointer.current = true;
    event.currentTarget.setPointerCapture(event.pointerId);
    device.press();
  };
  const up = () => device.release();
  const key = (event) => {
    if (event.key !== " " && event.key !== "Enter") return;
    event.preventDefault();
    if (event.type === "keyup") device.release();
    else if (!event.repeat) device.press();
  };
  // Of a screen reader, which presses without pointer and key.
  const click = () => {
    if (!pointer.current) {
      device.press();
      device.release();
    }
    pointer.current = false;
  };
  return html`
    <section class="controls">
      <button type="button" class=${classes("big", phase)} disabled=${without} aria-describedby="talk-hint"
        onPointerDown=${down} onPointerUp=${up} onPointerCancel=${up} onKeyDown=${key} onKeyUp=${key} onClick=${click}
        onContextMenu=${(event) => event.preventDefault()}>${label(state)}</button>
      <div class="beside">
        ${mode === "manual" && phase === "speaking" && html`<${Button} onClick=${() => device.interrupt()}>${t("quiet")}</${Button}>`}
        ${active && (phase === "speaking" || phase === "thinking") && html`<${Button} onClick=${() => { device.interrupt(); device.rest(); }}>${t("end")}</${Button}>`}
      </div>
      <fieldset>
        <legend class="visually-hidden">${t("modes")}</legend>
        ${MODES.map((each) => html`<label class="mode"><input type="radio" name="mode" value=${each} checked=${each === mode} disabled=${without} onChange=${() => device.setMode(each)} /><span>${t(`mode-${each}`)}</span></label>`)}
      </fieldset>
      <p class="hint" id="talk-hint">${without ? "" : t(`hint-${mode}`)}</p>
    </section>`;
}

function Knobs({ state, device }) {
  const { volume, brightness, camera, server, url, format, rate, microphone } = state;
  return html`
    <section class="card knobs">
      <h2>${t("device")}</h2>
      <label><span>${t("volume")}: ${volume}</span><input type="range" min="0" max="100" value=${volume} onInput=${(event) => device.setVolume(Number(event.target.value))} /></label>
      <label><span>${t("brightness")}: ${brightness}</span><input type="range" min="0" max="100" value=${brightness} onInput=${(event) => device.setBrightness(Number(event.target.value))} /></label>
      ${microphone !== "insecure" && html`<label class="check"><input type="checkbox" checked=${camera} onChange=${(event) => device.setCamera(event.target.checked)} /><span>${t("camera")}</span></label>`}
      ${camera && server && !server.sees && html`<p class="hint">${t("blind")}</p>`}
      ${server && html`<p class="hint">${t("about", { id: identity().device_id, format: format === "opus" ? "Opus" : "PCM", rate: rate / 1000, url })}</p>`}
    </section>`;
}

function Said({ state, device }) {
  const [text, setText] = useState("");
  const end = useRef(null);
  const { lines, server } = state;
  useEffect(() => { end.current?.scrollTo({ top: end.current.scrollHeight }); }, [lines]);
  const submit = (event) => {
    event.preventDefault();
    const asked = text.trim();
    if (!asked) return;
    setText("");
    device.type(asked).then((sent) => sent === false && setText((typed) => typed || asked));
  };
  return html`
    <section class="card said" aria-labelledby="talk-said">
      <h2 id="talk-said">${t("said")}</h2>
      ${server?.basic.includes("asr") && html`<p class="hint">${t("basic")}</p>`}
      <div class="lines" role="log" tabindex="0" aria-labelledby="talk-said" ref=${end}>
        ${lines.length > 0 && html`<ul>${lines.map((line) => html`<${Line} key=${line.id} line=${line} />`)}</ul>`}
      </div>
      ${!lines.length && html`<div class="examples"><p>${t("try")}</p>${t("examples").split("|").map((example) => html`<${Button} onClick=${() => device.type(example)}>${example}</${Button}>`)}</div>`}
      <form class="type" onSubmit=${submit}>
        <input aria-label=${t("type")} placeholder=${t("type")} value=${text} maxlength="2000" autocomplete="off" enterkeyhint="send" onInput=${(event) => setText(event.target.value)} />
        <${Button} type="submit" kind="primary">${t("say")}</${Button}>
      </form>
    </section>`;
}

function Line({ line }) {
  switch (line.kind) {
    case "you": return html`<li class="you"><span class="visually-hidden">${t("you")}: </span>${line.text}</li>`;
    case "tool": return html`<li class="tool"><code>${line.name}</code>${shown(line.given)} · ${line.failed ? line.result : t(line.pending ? "pending" : "done")}</li>`;
    case "picture": return html`<li class="picture"><img src=${line.picture} alt=${t("photo", { question: line.text })} /></li>`;
    case "note": return html`<li class="note">${line.note ? t(line.note) : line.text}</li>`;
    default: return html`<${Answer} line=${line} />`;
  }
}

const shown = (given) => Object.entries(given).map(([name, value]) => ` ${name}=${value}`).join("");

function Answer({ line }) {
  const { sentences, times, account, wait_ms, tools = [], failure, outcome } = line;
  const reached = STAGES.filter((stage) => stage in times);
  const shares = Object.entries(account || {}).filter(([, value]) => value > 0);
  return html`
    <li class="answer">
      <p><span class="visually-hidden">${t("it")}: </span>${sentences[0] || "…"}</p>
      ${sentences.slice(1).map((sentence) => html`<p>${sentence}</p>`)}
      ${outcome === "interrupted" && html`<p class="soft">${t("interrupted")}</p>`}
      ${failure && html`<p class="bad">${t("failed", { why: failure })}</p>`}
      ${reached.length > 0 && html`<ul class="times">${reached.map((stage) => html`<li><b>${ms(times[stage])}</b> ${t(stage)}</li>`)}</ul>`}
      ${shares.length > 0 && html`
        <div class="bar" aria-hidden="true">${shares.map(([name, value]) => html`<i title=${t(name)} style=${{ flexGrow: value }}></i>`)}</div>
        <details><summary>${t("waited")}: ${ms(wait_ms)}</summary><ul class="times">${shares.map(([name, value]) => html`<li><b>${ms(value)}</b> ${t(name)}</li>`)}
          ${tools.map((tool) => html`<li><b>${ms(tool.ms)}</b> <code>${tool.name}</code></li>`)}</ul></details>`}
    </li>`;
}

// What stands in the way, and what to do.
function Trouble({ state, device }) {
  const { fault, microphone } = state;
  const { port, host, origin } = location;
  const notices = [];
  if (microphone === "insecure") {
    const here = `http://127.0.0.1${port ? `:${port}` : ""}/talk`;
    notices.push(html`
      <${Notice} kind="warn">${t("insecure")}
        <ol class="ways">
          <li>${t("way-here", { url: here })}</li>
          <li>${t("way-tls", { url: `https://${host}/talk` })}</li>
          <li>${t("way-flag", { flag: FLAG, origin })}</li>
        </ol>
      </${Notice}>`);
  } else if (microphone === "unsupported") notices.push(html`<${Notice} kind="warn">${t("unsupported")}</${Notice}>`);
  if (fault) notices.push(html`<${Notice} kind="bad">${sentence(fault)} ${fault.kind === "taken" && html`<${Button} onClick=${() => device.renew()}>${t("renew")}</${Button}>`}</${Notice}>`);
  return notices;
}

function sentence({ kind, text, urls }) {
  if (kind === "other") return text;
  if (kind === "unreachable") return t(kind, { urls: urls.join(", "), page: urls[0].replace(/^ws/, "http") });
  return t(kind, { why: text });
}

// Trying a block and hearing a voice, before or after it is saved; what came of it in words.

import { hear, send } from "./api.js";
import { Button, Notice, html, useEffect, useState } from "./ui.js";
import { ms, words } from "./words.js";

const t = words({
  en: {
    check: "Check", checking: "Checking", listen: "Listen", say: "Hello! This is how I sound.", heard: "This is how it sounds.",
    ok: "It answers.", local: "It works on this machine.", untried: "There is nothing to be tried without a conversation.", failed: "It does not work.",
    connect: "Connecting takes {time} the first time.", llm: "First words after {first}, the whole answer after {total}.", tts: "First sound after {first}, all of it after {total}.",
    asr: "The text is there {first} after the end of speech.", took: "It took {first}.", understood: "It understood “{text}” ({percent} % of the sentence).", cannot: "It cannot do: {what}.",
    slow: "That is slow: people notice more than a second and a half in all.",
  },
  zh: {
    check: "检查", checking: "正在检查", listen: "试听", say: "你好！这就是我的声音。", heard: "听起来是这样。",
    ok: "有回应。", local: "在本机运行。", untried: "没有对话就无从试用。", failed: "不能使用。",
    connect: "首次连接用时 {time}。", llm: "{first} 后出现第一个词，{total} 后完整回答。", tts: "{first} 后出现声音，{total} 后全部完成。",
    asr: "说完 {first} 后得到文字。", took: "用时 {first}。", understood: "听成了“{text}”（与原句相似度 {percent}%）。", cannot: "不支持：{what}。",
    slow: "偏慢：总共超过一秒半就会被察觉。",
  },
});

export const check = (kind, name, changes) => send("POST", "settings/check", { kind, name, changes });
export const speak = (name, text, changes) => hear("settings/voice", { name, text, changes });

const SLOW_MS = 1500;

function said(kind, result) {
  if (result.state === "failed") return [t("failed"), result.found];
  const lines = [t(result.state === "ok" ? "ok" : result.state === "local" ? "local" : "untried")];
  if (result.first_ms !== null) {
    const times = { first: ms(result.first_ms), total: ms(result.total_ms ?? result.first_ms) };
    lines.push(t(["llm", "tts", "asr"].includes(kind) && result.total_ms !== null ? kind : "took", times));
    if (result.first_ms > SLOW_MS) lines.push(t("slow"));
  }
  if (result.connect_ms > 50) lines.push(t("connect", { time: ms(result.connect_ms) }));
  if (result.understood !== null && result.understood < 80) lines.push(t("understood", { text: result.text, percent: Math.round(result.understood) }));
  if (result.limitations.length) lines.push(t("cannot", { what: result.limitations.join(", ") }));
  return lines;
}

export const Verdict = ({ kind, result }) => html`<${Notice} kind=${result.state === "failed" ? "bad" : "good"}>
  <strong>${said(kind, result)[0]}</strong> <span>${said(kind, result).slice(1).join(" ")}</span>
</${Notice}>`;

export function Sound({ blob }) {
  const [address, setAddress] = useState("");
  useEffect(() => {
    const made = URL.createObjectURL(blob);
    setAddress(made);
    return () => URL.revokeObjectURL(made);
  }, [blob]);
  return address && html`<audio controls autoplay src=${address} aria-label=${t("heard")} />`;
}

// Buttons "check" and, for a voice, "listen"; what came of it below. `changes`: a function of those that are not saved.
export function Trials({ kind, name, changes }) {
  const [busy, setBusy] = useState("");
  const [result, setResult] = useState(null);
  const [sound, setSound] = useState(null);
  const [error, setError] = useState(null);
  const attempt = async (what, work) => {
    setBusy(what);
    setResult(null);
    setSound(null);
    setError(null);
    try {
      const answer = await work();
      if (answer.sound) setSound(answer.sound);
      else setResult(answer);
    } catch (failed) {
      setError(failed);
    }
    setBusy("");
  };
  return html`
    <div class="actions">
      <${Button} data-do="check" busy=${busy === "check"} disabled=${!!busy} onClick=${() => attempt("check", () => check(kind, name, changes()))}>${busy === "check" ? `${t("checking")}…` : t("check")}</${Button}>
      ${kind === "tts" && html`<${Button} data-do="listen" busy=${busy === "voice"} disabled=${!!busy} onClick=${() => attempt("voice", () => speak(name, t("say"), changes()))}>${t("listen")}</${Button}>`}
    </div>
    <div aria-live="polite">
      ${result && html`<${Verdict} kind=${kind} result=${result} />`}
      ${sound && html`<${Sound} blob=${sound} />`}
      ${error && html`<${Faults} error=${error} />`}
    </div>`;
}

// An ApiError, with its faults if it has some.
export const Faults = ({ error }) => html`<${Notice} kind="bad">
  ${error.message}
  ${error.details?.faults?.length > 0 && html`<ul class="plain-list" lang="en">${error.details.faults.map((each) => html`<li><code>${each.key}</code>: ${each.value}: ${each.expected}</li>`)}</ul>`}
</${Notice}>`;

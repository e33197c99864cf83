// One conversation: every turn with what was said, done and answered, where its time went, and why it was slow.

import { get, live, send } from "../api.js";
import { go } from "../app.js";
import { Badge, Button, Card, Loaded, Page, ask, attempt, classes, html, toast, useEffect, useLoaded, useRef, useState, useStyle } from "../ui.js";
import { clock, date, language, ms, words } from "../words.js";
import { marked } from "./history.js";

await useStyle("history");

const t = words({
  en: {
    title: "Conversation", with: "with {device}, {at}", back: "All conversations", erase: "Erase", sure: "Erase this conversation? This cannot be undone.", erased: "It is erased.",
    zip: "Export", json: "JSON", csv: "CSV", more: "Show the next turns",
    user: "user", nobody: "Nobody asked", announcement: "said by the server", play: "What was said, as sound",
    answered: "answered", interrupted: "interrupted", failed: "failed", overloaded: "server was full", unheard: "not understood",
    cut: "The answer was cut short ({why}); only what was heard is shown.", tools: "Tools", given: "with", told: "answer", done: "done", toolfailed: "failed", started: "interrupted, its effect is unknown", skipped: "not begun",
    waterfall: "Where the time went", stage: "Stage", took: "Took", when: "When", sum: "Until the first sound", after: "speaking, until the end",
    detector: "voice detector", silence: "silence awaited", grid: "rest of a packet", recognition: "recognition", model: "language model", first_sentence: "first sentence", voice: "voice", encode: "encoding", pacing: "sending",
    why: "Why was it slow?", "basis-device": "for this device", "basis-server": "for all devices in the hour before", "basis-good": "with a good set-up",
    quick: "It was quick: {total} until the first sound, where {usual} is usual {basis}.", usual: "As usual: {total} until the first sound; {usual} is usual {basis}.", slow: "It was slow: {total} until the first sound, where {usual} is usual {basis}.",
    "silent-answered": "There was no sound to wait for.", "silent-interrupted": "It was interrupted before the first sound.", "silent-failed": "It failed before the first sound: {reason}.", "silent-overloaded": "The server was full and refused the turn. Fewer devices, or more workers, help.", "silent-unheard": "Nothing was understood, so there was nothing to answer.",
    spread: "No single stage stands out; all took a little longer.",
    "c-detector": "The voice detector took {ms} to notice that you had finished (usual: {usual}). Noise around the device does that; with a button, it is how long the button's message took.",
    "c-silence": "{ms} of silence were awaited, to be sure that you had finished (usual: {usual}). A shorter end silence of the voice detector answers sooner, but interrupts people who pause.",
    "c-grid": "The device's sound came {ms} late (usual: {usual}). Its network is slow, or its signal weak.",
    "c-recognition": "Recognition took {ms} (usual: {usual}). The vendor was busy or far away, or this machine was; long sentences take longer too.",
    "c-model": "The language model took {ms} until its first word (usual: {usual}), with memory, intent and the wait for a place at the vendor. A busy vendor, a long dialogue or a large model does that; a smaller model or a shorter history helps.",
    "c-first_sentence": "It took {ms} more until the first sentence was complete (usual: {usual}). The model writes slowly, or began with a long sentence.",
    "c-voice": "The voice took {ms} until its first sound (usual: {usual}). The vendor was busy or far away; a voice that streams begins sooner.",
    "c-encode": "Encoding took {ms} (usual: {usual}). This machine is busy.",
    "c-pacing": "Sending waited {ms} (usual: {usual}): somebody was still speaking, or the connection was busy.",
    "c-tool": "{names} took {ms} before the answer could begin.",
  },
  zh: {
    title: "对话", with: "{device}，{at}", back: "所有对话", erase: "删除", sure: "删除这次对话吗？删除后无法恢复。", erased: "已删除。",
    zip: "导出", json: "JSON", csv: "CSV", more: "显示后面的内容",
    user: "用户", nobody: "没有人提问", announcement: "服务器主动说的", play: "说话的录音",
    answered: "已回答", interrupted: "被打断", failed: "失败", overloaded: "服务器已满", unheard: "没有听懂",
    cut: "回答被打断（{why}），只显示听到的部分。", tools: "工具", given: "参数", told: "结果", done: "完成", toolfailed: "失败", started: "被打断，效果未知", skipped: "没有开始",
    waterfall: "时间花在哪里", stage: "阶段", took: "用时", when: "时间", sum: "到第一声", after: "说话，直到结束",
    detector: "语音检测", silence: "等待静音", grid: "数据包余量", recognition: "识别", model: "大模型", first_sentence: "第一句", voice: "合成", encode: "编码", pacing: "发送",
    why: "为什么慢？", "basis-device": "这台设备平时", "basis-server": "前一小时所有设备", "basis-good": "良好的配置",
    quick: "很快：到第一声用了 {total}，{basis}是 {usual}。", usual: "和平时一样：到第一声用了 {total}，{basis}是 {usual}。", slow: "慢了：到第一声用了 {total}，{basis}是 {usual}。",
    "silent-answered": "没有需要等待的声音。", "silent-interrupted": "在第一声之前就被打断了。", "silent-failed": "在第一声之前失败：{reason}。", "silent-overloaded": "服务器已满，拒绝了这一轮。减少设备或增加进程会有帮助。", "silent-unheard": "没有听懂，所以没有回答。",
    spread: "没有哪个阶段特别突出，都稍微慢了一点。",
    "c-detector": "语音检测用了 {ms} 才发现您说完了（平时 {usual}）。设备周围的噪声会造成这种情况；用按钮时，这是按钮消息花的时间。",
    "c-silence": "为了确认您说完了，等待了 {ms} 的静音（平时 {usual}）。缩短语音检测的静音时间会更快回答，但会打断停顿的人。",
    "c-grid": "设备的声音晚到了 {ms}（平时 {usual}）。网络慢，或者信号弱。",
    "c-recognition": "识别用了 {ms}（平时 {usual}）。服务商繁忙或太远，或者这台机器繁忙；长句子也更慢。",
    "c-model": "大模型用了 {ms} 才给出第一个字（平时 {usual}），包括记忆、意图和在服务商排队。服务商繁忙、对话太长或模型太大都会这样；换小一点的模型或缩短历史会有帮助。",
    "c-first_sentence": "又过了 {ms} 第一句才完整（平时 {usual}）。模型写得慢，或者第一句太长。",
    "c-voice": "合成用了 {ms} 才出第一声（平时 {usual}）。服务商繁忙或太远；流式的声音开始得更快。",
    "c-encode": "编码用了 {ms}（平时 {usual}）。这台机器繁忙。",
    "c-pacing": "发送等待了 {ms}（平时 {usual}）：有人还在说话，或者连接繁忙。",
    "c-tool": "{names} 用了 {ms}，之后才能开始回答。",
  },
});

const KINDS = { answered: "good", interrupted: "warn", failed: "bad", overloaded: "bad", unheard: "warn" };

const OPEN = 3; // in conversations of so many turns all waterfalls are open

export default function Conversation({ conversation }) {
  const path = `history/${encodeURIComponent(conversation)}`;
  const [more, setMore] = useState({ turns: [], next: undefined });
  const [busy, setBusy] = useState(false);
  const state = useLoaded(() => get(path), [conversation]);
  const search = new URLSearchParams(location.search).get("search") || "";
  const again = useRef(state.again);
  const mark = useRef(null);
  again.current = state.again;
  useEffect(() => live(["history"], (topic, data) => {
    if (mark.current !== null && mark.current !== data.mark) again.current();
    mark.current = data.mark;
  }), []);
  const load = async (after) => {
    setBusy(true);
    try {
      const answer = await get(`${path}?after=${after}`);
      setMore((before) => ({ turns: [...before.turns, ...answer.turns], next: answer.next }));
    } catch (error) {
      toast(error.message, "bad");
    }
    setBusy(false);
  };
  const erase = async () => {
    if (!(await ask(t("sure"), t("erase")))) return;
    if (await attempt(() => send("DELETE", path), () => t("erased"))) go("/console/history");
  };
  const file = (format) => `/console/api/history/export?session=${encodeURIComponent(conversation)}&format=${format}`;
  return html`
    <${Page} title=${t("title")} actions=${html`
      ${["zip", "json", "csv"].map((format) => html`<a class="button" href=${file(format)} download>${t(format)}</a>`)}
      <${Button} kind="danger" onClick=${erase}>${t("erase")}</${Button}>
      <a href="/console/history">${t("back")}</a>`}>
      <${Loaded} state=${state}>
        ${(value) => {
          const turns = [...value.turns, ...more.turns];
          const next = more.next === undefined ? value.next : more.next;
          return html`
            <p class="soft"><a href="/console/devices/${encodeURIComponent(value.device)}">${t("with", { device: value.label || value.device, at: date(value.began_at) })}</a></p>
            ${turns.map((turn) => html`<${Turn} key=${turn.turn} turn=${turn} shares=${value.shares} path=${path} search=${search} open=${turns.length <= OPEN} />`)}
            ${next && html`<div class="actions"><${Button} busy=${busy} onClick=${() => load(next)}>${t("more")}</${Button}></div>`}`;
        }}
      </${Loaded}>
    </${Page}>`;
}

function Turn({ turn, shares, path, search, open }) {
  const { outcome, why } = turn;
  const joined = turn.spoken.join(language === "zh" ? "" : " ");
  return html`
    <${Card}>
      <article class="turn">
        <header>
          <h2><time datetime=${new Date(turn.at * 1000).toISOString()}>${clock(turn.at)}</time>${turn.speaker && ` · ${turn.speaker}`}</h2>
          <span class="actions">${turn.announcement && html`<${Badge}>${t("announcement")}</${Badge}>`}<${Badge} kind=${KINDS[outcome]}>${outcome in KINDS ? t(outcome) : outcome}</${Badge}></span>
        </header>
        ${turn.said ? html`<p class="bubble asked"><span class="visually-hidden">${turn.speaker || t("user")}: </span>${marked(turn.said, search)}</p>` : !turn.announcement && html`<p class="soft">${t("nobody")}</p>`}
        ${turn.sound && html`<audio controls preload="none" aria-label=${t("play")} src="/console/api/${path}/${turn.turn}/sound"></audio>`}
        ${turn.tools.length > 0 && html`<ul class="used" aria-label=${t("tools")}>${turn.tools.map((tool) => html`<${Used} tool=${tool} />`)}</ul>`}
        ${joined && html`<p class="bubble">${marked(joined, search)}</p>`}
        ${outcome === "interrupted" && html`<p class="hint">${t("cut", { why: turn.reason || "–" })}</p>`}
        ${!(turn.announcement && outcome === "answered") && html`<${Why} turn=${turn} />`}
        ${why.verdict !== "silent" && html`<${Waterfall} turn=${turn} shares=${shares} open=${open || why.verdict === "slow"} />`}
      </article>
    </${Card}>`;
}

const Used = ({ tool }) => html`
  <li><details>
    <summary><code>${tool.name}</code> · ${t(tool.outcome === "failed" ? "toolfailed" : tool.outcome)}${tool.ms !== null && ` · ${ms(tool.ms)}`}</summary>
    <dl><dt>${t("given")}</dt><dd><code>${JSON.stringify(tool.arguments)}</code></dd>${tool.result && html`<dt>${t("told")}</dt><dd>${tool.result}</dd>`}</dl>
  </details></li>`;

function Why({ turn }) {
  const { why, outcome, reason } = turn;
  if (why.verdict === "silent") {
    const key = `silent-${outcome}`;
    return html`<div class="why"><p>${t(outcome in KINDS ? key : "silent-answered", { reason: reason || "–" })}</p></div>`;
  }
  const summary = t(why.verdict, { total: ms(why.total), usual: ms(why.usual), basis: t(`basis-${why.basis}`) });
  return html`
    <div class=${classes("why", why.verdict)}>
      ${why.verdict === "slow" && html`<h3>${t("why")}</h3>`}
      <p>${summary}</p>
      ${why.verdict === "slow" && (why.causes.length
        ? html`<ul>${why.causes.map((cause) => html`<li>${t(`c-${cause.what}`, { ms: ms(cause.ms), usual: ms(cause.usual ?? 0), names: cause.names.join(", ") })}</li>`)}</ul>`
        : html`<p>${t("spread")}</p>`)}
    </div>`;
}

function Waterfall({ turn, shares, open }) {
  const { timings, why } = turn;
  const late = new Set(why.causes.map((cause) => (cause.what === "tool" ? "first_sentence" : cause.what)));
  const scale = Math.max(1, why.total);
  let at = 0;
  const rows = [];
  for (const share of shares) {
    const took = timings[share] || 0;
    if (took > 0) rows.push({ share, took, from: at });
    at += took;
  }
  const percent = (value) => `${((value / scale) * 100).toFixed(2)}%`;
  return html`
    <details open=${open}>
      <summary>${t("waterfall")}</summary>
      <table class="waterfall">
        <caption class="visually-hidden">${t("waterfall")}</caption>
        <thead><tr><th scope="col">${t("stage")}</th><th scope="col" class="ms">${t("took")}</th><th scope="col">${t("when")}</th></tr></thead>
        <tbody>${rows.map((row) => html`
          <tr><th scope="row">${t(row.share)}</th><td class="ms">${ms(row.took)}</td>
            <td class="track"><span class="visually-hidden">${ms(row.from)} – ${ms(row.from + row.took)}</span><i class=${classes(late.has(row.share) && "late")} aria-hidden="true" style=${{ left: percent(row.from), width: percent(row.took) }}></i></td></tr>`)}
        </tbody>
        <tfoot>
          <tr><th scope="row">${t("sum")}</th><td class="ms">${ms(why.total)}</td><td></td></tr>
          ${timings.ended > why.total && html`<tr><th scope="row" class="soft">${t("after")}</th><td class="ms">${ms(timings.ended - why.total)}</td><td></td></tr>`}
        </tfoot>
      </table>
    </details>`;
}

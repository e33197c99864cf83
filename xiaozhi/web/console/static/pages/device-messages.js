// Messages for a device: those that wait, which can be cancelled, and what has become of the last ones.

import { get, send } from "../api.js";
import { Badge, Button, Card, Empty, Loaded, attempt, html, useLoaded } from "../ui.js";
import { date, words } from "../words.js";

const t = words({
  en: {
    title: "Messages", none: "Nothing was sent in the last day.", hint: "What it was told from here, by another device or by a program; kept for a day.",
    say: "Say", notify: "Notice", alert: "Alert", reboot: "Reboot", from: "from {sender}", due: "from {at} on", until: "waits until {at}",
    waiting: "waiting", speaking: "being said", spoken: "said", sent: "sent", interrupted: "interrupted", expired: "too late", cancelled: "cancelled", failed: "failed",
    cancel: "Cancel", cancelOf: "Cancel: {what}", done: "It is cancelled.",
  },
  zh: {
    title: "消息", none: "最近一天没有消息。", hint: "从这里、由其他设备或程序发给它的内容，保留一天。",
    say: "播报", notify: "通知", alert: "提醒", reboot: "重启", from: "来自 {sender}", due: "{at} 起", until: "等到 {at}",
    waiting: "等待中", speaking: "正在播报", spoken: "已播报", sent: "已发送", interrupted: "被打断", expired: "已过期", cancelled: "已取消", failed: "失败",
    cancel: "取消", cancelOf: "取消：{what}", done: "已取消。",
  },
});

const OPERATOR = "operator";
const STATES = { waiting: "warn", speaking: "good", spoken: "good", sent: "good", expired: "bad", failed: "bad" };

export function Messages({ path, news }) {
  const state = useLoaded(() => get(`${path}/messages`), [path, news]);
  const cancel = async (id) => {
    await attempt(() => send("POST", `${path}/messages/${id}/cancel`), () => t("done"));
    state.again();
  };
  return html`
    <${Card} title=${t("title")}>
      <${Loaded} state=${state}>
        ${({ messages }) => html`
          ${messages.length === 0 && html`<${Empty}>${t("none")}</${Empty}>`}
          <ul class="messages">${messages.map((each) => html`<${Message} key=${each.id} message=${each} onCancel=${cancel} />`)}</ul>`}
      </${Loaded}>
      <p class="hint">${t("hint")}</p>
    </${Card}>`;
}

function Message({ message, onCancel }) {
  const { id, kind, state, reason, text, sender, created_at: created, due_at: due, expires_at: expires } = message;
  const what = text || t(kind);
  const when = [date(created), sender !== OPERATOR && t("from", { sender }), state === "waiting" && due > created + 1 && t("due", { at: date(due) }), state === "waiting" && t("until", { at: date(expires) })];
  return html`
    <li class="actions">
      <span><strong>${what}</strong> <${Badge} kind=${STATES[state]}>${t(state)}</${Badge}><br />
        <span class="soft">${when.filter(Boolean).join(" · ")}${reason && html`<br /><span lang="en">${reason}</span>`}</span></span>
      ${state === "waiting" && html`<${Button} onClick=${() => onCancel(id)} aria-label=${t("cancelOf", { what })}>${t("cancel")}</${Button}>`}
    </li>`;
}

// A device's timers, alarms and reminders: set by voice, cancelled here.

import { get, send } from "../api.js";
import { Button, Card, Empty, Loaded, ask, attempt, html, useLoaded } from "../ui.js";
import { date, language, words } from "../words.js";

const t = words({
  en: {
    title: "Timers, alarms, reminders", none: "None are set.", hint: "They are set by voice: “remind me tomorrow at half past seven to take the pills”.",
    timer: "Timer", alarm: "Alarm", reminder: "Reminder", next: "next {at}", cancel: "Cancel", cancelOf: "Cancel: {what}", sure: "Cancel “{what}”? It does not ring then.", yes: "Cancel it", cancelled: "It is cancelled.",
  },
  zh: {
    title: "计时器、闹钟、提醒", none: "没有设置。", hint: "用语音设置，例如“明天早上七点半提醒我吃药”。",
    timer: "计时器", alarm: "闹钟", reminder: "提醒", next: "下次 {at}", cancel: "取消", cancelOf: "取消：{what}", sure: "取消“{what}”吗？到时候不会响。", yes: "确认取消", cancelled: "已取消。",
  },
});

export function Reminders({ path, news }) {
  const state = useLoaded(() => get(`${path}/reminders`), [path, news]);
  const cancel = async (id, what) => {
    if (!(await ask(t("sure", { what }), t("yes")))) return;
    await attempt(() => send("POST", `${path}/reminders/${id}/cancel`), () => t("cancelled"));
    state.again();
  };
  return html`
    <${Card} title=${t("title")}>
      <${Loaded} state=${state}>
        ${({ reminders }) => html`
          ${reminders.length === 0 && html`<${Empty}>${t("none")}</${Empty}>`}
          <ul class="reminders">${reminders.map((each) => html`<${Reminder} key=${each.id} reminder=${each} onCancel=${cancel} />`)}</ul>`}
      </${Loaded}>
      <p class="hint">${t("hint")}</p>
    </${Card}>`;
}

function Reminder({ reminder, onCancel }) {
  const { id, kind, text, due_at: due, repeats } = reminder;
  const when = repeats[language] ? `${repeats[language]} (${t("next", { at: date(due) })})` : date(due);
  const what = text || t(kind);
  return html`
    <li class="actions">
      <span><strong>${what}</strong>${text && html` <span class="soft">${t(kind)}</span>`}<br />${when}</span>
      <${Button} onClick=${() => onCancel(id, what)} aria-label=${t("cancelOf", { what })}>${t("cancel")}</${Button}>
    </li>`;
}

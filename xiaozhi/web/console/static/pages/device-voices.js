// The voices of people that a device knows: taught by voice, erased here. Nothing where it knows none.

import { get, send } from "../api.js";
import { Button, Card, Loaded, ask, attempt, html, useLoaded } from "../ui.js";
import { date, words } from "../words.js";

const t = words({
  en: {
    title: "Voices it knows", since: "since {at}", hint: "A voice is kept after its owner has said so (“remember my voice”), and used to tell people apart.",
    erase: "Erase", eraseOf: "Erase the voice of {person}", sure: "Erase the voice of {person}? It is known again only after they have taught it anew.", erased: "The voice is erased.",
  },
  zh: {
    title: "它认识的声音", since: "{at} 起", hint: "本人同意（例如“记住我的声音”）之后才会保存，用来分辨说话的人。",
    erase: "删除", eraseOf: "删除 {person} 的声音", sure: "删除 {person} 的声音吗？需要本人重新录入才能再次识别。", erased: "已删除。",
  },
});

export function Voices({ path, news }) {
  const state = useLoaded(() => get(`${path}/voices`), [path, news]);
  const erase = async ({ owner, person }) => {
    if (!(await ask(t("sure", { person }), t("erase")))) return;
    await attempt(() => send("DELETE", `${path}/voices`, { owner, person }), () => t("erased"));
    state.again();
  };
  if (state.value?.voices.length === 0) return null;
  return html`
    <${Card} title=${t("title")}>
      <${Loaded} state=${state}>
        ${({ voices }) => html`<ul class="messages">${voices.map((each) => html`
          <li key=${`${each.owner} ${each.person}`} class="actions">
            <span><strong>${each.person}</strong> <span class="soft">${t("since", { at: date(each.made_at) })}</span></span>
            <${Button} kind="danger" onClick=${() => erase(each)} aria-label=${t("eraseOf", { person: each.person })}>${t("erase")}</${Button}>
          </li>`)}</ul>`}
      </${Loaded}>
      <p class="hint">${t("hint")}</p>
    </${Card}>`;
}

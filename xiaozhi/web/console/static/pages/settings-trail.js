// What was changed by the console, by whom, the latest first.

import { get } from "../api.js";
import { Ago, Button, Card, Empty, Loaded, Table, html, useLoaded, useState } from "../ui.js";
import { language, words } from "../words.js";

const t = words({
  en: { title: "Changes by this console", when: "When", what: "What", by: "Who", local: "this machine", owner: "owner", nobody: "Nothing has been changed yet.", more: "Show more" },
  zh: { title: "控制台的修改记录", when: "时间", what: "内容", by: "操作者", local: "本机", owner: "所有者", nobody: "还没有修改。", more: "显示更多" },
});

// What was done, as the server writes it down; in English it is shown as it is.
const ZH = {
  "logged in": "登录", "let a browser talk": "允许浏览器对话", "settings changed": "修改设置", "settings put back": "恢复设置",
  "device approved": "批准设备", "device refused": "拒绝设备", "device named": "给设备命名", "device revoked": "吊销设备", "device forgotten": "忘记设备", "device removed": "移除设备",
  "settings of a device changed": "修改设备的设置", "settings of a device put back": "恢复设备的设置", "had a device say something": "让设备播报", "rebooted a device": "重启设备",
  "used a tool of a device": "使用设备的工具", "took a picture of a device's screen": "查看设备的屏幕", "message cancelled": "取消消息", "reminder cancelled": "取消提醒", "voice erased": "删除声音",
  "exported history": "导出历史", "erased history": "删除历史",
};

const STEP = 20;
const MOST = 200;

export function Trail() {
  const [count, setCount] = useState(STEP);
  const state = useLoaded(() => get(`settings/audit?count=${count}`), [count]);
  const details = (row) => Object.entries(row.details).map(([name, value]) => `${name}: ${Array.isArray(value) ? value.join(", ") : value}`).join("; ");
  const columns = [
    { key: "when", title: t("when"), cell: (row) => html`<${Ago} at=${row.at} />` },
    { key: "by", title: t("by"), cell: (row) => `${t(row.who === "local" ? "local" : "owner")}${row.address ? ` (${row.address})` : ""}` },
    { key: "what", title: t("what"), cell: (row) => html`<span>${(language === "zh" && ZH[row.what]) || row.what}${Object.keys(row.details).length > 0 && html` <span class="soft">${details(row)}</span>`}</span>` },
  ];
  return html`<${Card} title=${t("title")}>
    <${Loaded} state=${state}>${({ entries }) => (entries.length === 0 ? html`<${Empty}>${t("nobody")}</${Empty}>` : html`
      <${Table} caption=${t("title")} columns=${columns} rows=${entries.map((entry, at) => ({ ...entry, key: at }))} />
      ${entries.length === count && count < MOST && html`<div><${Button} onClick=${() => setCount(Math.min(MOST, count * 3))}>${t("more")}</${Button}></div>`}`)}</${Loaded}>
  </${Card}>`;
}

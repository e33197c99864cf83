// How the server is now.

import { live } from "../api.js";
import { Card, Page, html, useEffect, useState } from "../ui.js";
import { number, words } from "../words.js";

const t = words({
  en: { title: "Overview", devices: "Devices connected" },
  zh: { title: "总览", devices: "在线设备" },
});

export default function Overview() {
  const [now, setNow] = useState(null);
  useEffect(() => live(["overview"], (topic, data) => setNow(data)), []);
  return html`
    <${Page} title=${t("title")}>
      <div class="grid">
        <${Card} title=${t("devices")}><p class="figure">${now ? number(now.devices) : "–"}</p></${Card}>
      </div>
    </${Page}>`;
}

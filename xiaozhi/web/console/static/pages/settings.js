import { Empty, Page, html } from "../ui.js";

export default () => html`<${Page} title="settings"><${Empty} /></${Page}>`;

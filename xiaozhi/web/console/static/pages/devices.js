import { Empty, Page, html } from "../ui.js";

export default () => html`<${Page} title="devices"><${Empty} /></${Page}>`;

import { Empty, Page, html } from "../ui.js";

export default () => html`<${Page} title="logs"><${Empty} /></${Page}>`;

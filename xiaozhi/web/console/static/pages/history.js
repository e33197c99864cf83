import { Empty, Page, html } from "../ui.js";

export default () => html`<${Page} title="history"><${Empty} /></${Page}>`;

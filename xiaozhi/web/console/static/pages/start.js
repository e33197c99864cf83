import { Empty, Page, html } from "../ui.js";

export default () => html`<${Page} title="start"><${Empty} /></${Page}>`;

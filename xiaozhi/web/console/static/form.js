// Forms made from what the server says of each key (kind, range, choices, default, who has set it). What is changed is kept
// in a Map by path, as the server takes it: { path, value } or { path, yaml } or { path, unset: true }.
//
//   html`<${Fields} fields=${form.fields} changes=${changes} faults=${faults} onChange=${(change, path) => ...} />`

import { Badge, Button, classes, html, useMemo, useState } from "./ui.js";
import { labelOf } from "./fieldwords.js";
import { translated } from "./refusals.js";
import { words } from "./words.js";

const t = words({
  en: {
    set: "set; type to replace it", unset: "not set", remove: "Remove", undo: "Undo", removed: "will be removed", restart: "takes a restart", changed: "changed",
    usual: "Usual: {value}", fixed: "Set by {origin}: change it there.", back: "Back to the usual", lines: "One per line.",
    yaml: "As YAML.", yamlSecret: "As YAML; what is set is not shown.", nothing: "(the usual)", on: "on", off: "off", none: "empty",
  },
  zh: {
    set: "已设置；输入新值可替换", unset: "未设置", remove: "移除", undo: "撤销", removed: "将被移除", restart: "需要重启", changed: "已修改",
    usual: "默认：{value}", fixed: "由 {origin} 设定，请在那里修改。", back: "恢复默认", lines: "每行一项。",
    yaml: "YAML 格式。", yamlSecret: "YAML 格式；已设置的内容不会显示。", nothing: "（默认）", on: "开", off: "关", none: "空",
  },
});

export const keyOf = (path) => path.join("\u0000");

let ids = 0;

export const Fields = ({ fields, ...rest }) => html`<div class="fields">${fields.map((field) => html`<${AnyField} key=${keyOf(field.path)} field=${field} ...${rest} />`)}</div>`;

function AnyField({ field, ...rest }) {
  if (field.kind !== "section") return html`<${OneField} field=${field} ...${rest} />`;
  return html`
    <fieldset class="inner">
      <legend>${labelOf(field.path)}</legend>
      ${field.description && html`<p class="hint" lang="en">${field.description}</p>`}
      <${Fields} fields=${field.fields} ...${rest} />
    </fieldset>`;
}

function asText(field, value) {
  if (value === null || value === undefined) return "";
  if (field.kind === "list") return value.join("\n");
  return String(value);
}

// What stands in the field, as the server takes it; undefined: it is as it was.
function changeOf(field, text) {
  const { path, kind } = field;
  if (field.secret) return text ? (kind === "yaml" ? { path, yaml: text } : { path, value: text }) : undefined;
  if (kind === "switch") return text === field.value ? undefined : { path, value: text };
  if (kind === "choice") {
    if (text === "") return field.set ? { path, unset: true } : undefined;
    const choice = field.choices.find((each) => String(each) === text);
    return choice === field.value ? undefined : { path, value: choice };
  }
  if (text === asText(field, field.value)) return undefined;
  if (kind === "number") return text.trim() === "" ? { path, unset: true } : { path, value: Number(text) };
  if (kind === "list") return { path, value: text.split("\n").map((line) => line.trim()).filter(Boolean) };
  if (kind === "yaml") return text.trim() ? { path, yaml: text } : { path, unset: true };
  return { path, value: text };
}

function OneField({ field, changes, faults, onChange }) {
  const id = useMemo(() => `form-${++ids}`, []);
  const change = changes.get(keyOf(field.path));
  const [text, setText] = useState(() => (change && !change.unset ? (change.yaml ?? asText(field, change.value)) : asText(field, field.value)));
  const fault = faults.find((each) => each.key === field.path.join("."));
  const put = (value) => {
    setText(value);
    onChange(changeOf(field, value), field.path);
  };
  const unset = () => {
    setText("");
    onChange({ path: field.path, unset: true }, field.path);
  };
  const restore = () => {
    setText(asText(field, field.value));
    onChange(undefined, field.path);
  };
  const shared = {
    id, disabled: field.fixed, "aria-describedby": `${id}-hint${fault ? ` ${id}-error` : ""}`, "aria-invalid": fault ? "true" : undefined,
    onInput: (event) => put(event.target.value),
  };
  const usual = field.default === null || field.default === undefined ? undefined : asText(field, field.default);
  const placeholder = field.secret ? (change?.unset ? t("removed") : field.set ? t("set") : t("unset")) : usual;
  const isOn = change && "value" in change ? change.value : (field.value ?? field.default ?? false);
  let input;
  if (field.kind === "switch") {
    input = html`<input ...${shared} type="checkbox" role="switch" checked=${isOn} onInput=${undefined} onChange=${(event) => put(event.target.checked)} />`;
  } else if (field.kind === "choice") {
    const now = change ? (change.unset ? "" : String(change.value)) : field.value === null ? "" : String(field.value);
    const name = (choice) => (choice === true ? t("on") : choice === false ? t("off") : String(choice));
    input = html`<select ...${shared} value=${now}>
      ${(field.optional || field.value === null) && html`<option value="" selected=${now === ""}>${t("nothing")}</option>`}
      ${field.choices.map((choice) => html`<option value=${String(choice)} selected=${now === String(choice)}>${name(choice)}</option>`)}
    </select>`;
  } else if (field.kind === "number") {
    input = html`<input ...${shared} type="number" inputmode="decimal" min=${field.minimum ?? undefined} max=${field.maximum ?? undefined} step=${field.whole ? 1 : "any"} value=${text} placeholder=${placeholder} />`;
  } else if (field.secret && field.kind !== "yaml") {
    input = html`<input ...${shared} type="password" autocomplete="off" spellcheck=${false} value=${text} placeholder=${placeholder} />`;
  } else if (field.kind === "text") {
    input = html`<input ...${shared} type="text" autocomplete="off" spellcheck=${false} value=${text} placeholder=${placeholder} />`;
  } else {
    input = html`<textarea ...${shared} class=${field.kind === "yaml" ? "mono" : ""} spellcheck=${field.kind === "long"} rows=${field.kind === "long" ? 6 : 4} placeholder=${placeholder} value=${text} />`;
  }
  const shown = usual === "" ? t("none") : usual && (usual.length > 60 ? `${usual.slice(0, 60)}…` : usual);
  return html`
    <div class=${classes("field", fault && "wrong", ["long", "yaml", "list"].includes(field.kind) && "wide")}>
      <div class="field-head">
        <label for=${id}>${labelOf(field.path)}${field.unit && html` <span class="unit">(${field.unit})</span>`}</label>
        ${change && html`<${Badge} kind="warn">${t("changed")}</${Badge}>`}
        ${field.restart && html`<${Badge}>${t("restart")}</${Badge}>`}
      </div>
      <div class="field-input">
        ${input}
        ${!field.fixed && change && html`<${Button} kind="quiet" aria-label=${`${t("undo")}: ${labelOf(field.path)}`} onClick=${restore}>${t("undo")}</${Button}>`}
        ${!field.fixed && !change && field.origin && html`<${Button} kind="quiet" aria-label=${`${field.secret ? t("remove") : t("back")}: ${labelOf(field.path)}`} onClick=${unset}>${field.secret ? t("remove") : t("back")}</${Button}>`}
      </div>
      <p class="hint" id="${id}-hint">
        ${field.fixed && html`<strong>${t("fixed", { origin: translated(field.origin) })}</strong> `}
        ${field.description && html`<span lang="en">${field.description} </span>`}
        ${field.kind === "list" && `${t("lines")} `}${field.kind === "yaml" && `${field.secret ? t("yamlSecret") : t("yaml")} `}
        ${!field.secret && shown !== undefined && field.kind !== "long" && field.kind !== "switch" && `${t("usual", { value: shown })}. `}
        <code>${field.path.join(".")}</code>
      </p>
      ${fault && html`<p class="error" id="${id}-error" lang="en">${fault.value}: ${fault.expected}</p>`}
    </div>`;
}

// A device's own settings: a form of what may be set, a voice to listen to, and the way back to earlier settings.

import { blob, get, send } from "../api.js";
import { Button, Card, Empty, Field, Loaded, Notice, ask, classes, html, toast, useEffect, useLoaded, useRef, useState, useUnsaved } from "../ui.js";
import { date, language, words } from "../words.js";

const GROUPS = [
  { name: "character", keys: ["prompt", "language", "wakeup_words", "enable_greeting", "exit_commands"] },
  { name: "voice", keys: ["selected_module.TTS"] },
  { name: "modules", keys: ["selected_module.LLM", "selected_module.ASR", "selected_module.VLLM", "selected_module.Memory", "selected_module.Intent", "selected_module.VAD", "selected_module.EndOfTurn"] },
  { name: "limits", keys: ["device_max_output_size", "close_connection_no_voice_time", "history.mode"] },
];
const WIDE = ["long", "words", "texts"];

const t = words({
  en: {
    title: "Its own settings", hint: "What is empty follows the settings of the server. A change holds from the device's next visit on.",
    character: "Character", voiceGroup: "Voice", modules: "Which services it uses", limits: "Limits and history", more: "More settings",
    voice: "Voice", listen: "Listen", sentence: "Sentence to listen to", sample: "Hello, how are you today?", playing: "This is how it sounds.", chooseFirst: "Save the other voice service first; then its voices can be chosen here.",
    usual: "As the server: {value}", yes: "yes", no: "no", none: "none", lines: "One per line.", byLanguage: "One text, or lines such as \"en: Hello\".",
    save: "Save", saved: "Saved. It holds from the next visit on.", undo: "Discard", changes: "{n} changed", nothing: "Nothing changed",
    secret: "A value is set; it is not shown.", others: "Also set for this device",
    wrong: "These settings cannot be used; nothing was changed.",
    earlier: "Earlier settings", noEarlier: "Nothing has been changed yet.", changed: "{who} changed {what}", back: "Undo to here", backSure: "Put the settings back to what they were before this change ({at})? Later changes are taken back too.", backDone: "The settings are what they were.",
    local: "This machine", owner: "The owner", somebody: "Somebody",
    "l:prompt": "Who it is", "l:language": "Language it speaks", "l:wakeup_words": "Wake words", "l:enable_greeting": "Greets when woken", "l:exit_commands": "Words that end the conversation",
    "l:selected_module.TTS": "Voice service", "l:selected_module.LLM": "Language model", "l:selected_module.ASR": "Recognition", "l:selected_module.VLLM": "Looks at pictures", "l:selected_module.Memory": "Memory", "l:selected_module.Intent": "How tools are used", "l:selected_module.VAD": "Voice detection", "l:selected_module.EndOfTurn": "Hears when you have finished",
    "l:device_max_output_size": "Characters a day", "l:close_connection_no_voice_time": "Ends after silence, seconds", "l:history.mode": "What is kept of what is said",
  },
  zh: {
    title: "设备自己的设置", hint: "空着的项目跟随服务器的设置。修改从设备下次连接起生效。",
    character: "角色", voiceGroup: "声音", modules: "使用哪些服务", limits: "限制与历史", more: "更多设置",
    voice: "音色", listen: "试听", sentence: "试听的句子", sample: "你好，今天过得怎么样？", playing: "听起来是这样的。", chooseFirst: "请先保存新的语音服务，然后在这里选择音色。",
    usual: "跟随服务器：{value}", yes: "是", no: "否", none: "无", lines: "每行一个。", byLanguage: "一句话，或者每行一种语言，例如 “zh: 你好”。",
    save: "保存", saved: "已保存，下次连接起生效。", undo: "放弃", changes: "{n} 项修改", nothing: "没有修改",
    secret: "已设置，不显示。", others: "这台设备另外设置了",
    wrong: "这些设置不能使用，没有做任何修改。",
    earlier: "以前的设置", noEarlier: "还没有修改过。", changed: "{who}修改了 {what}", back: "恢复到这里", backSure: "恢复到这次修改（{at}）之前的设置吗？之后的修改也会撤销。", backDone: "设置已恢复。",
    local: "本机", owner: "主人", somebody: "某人",
    "l:prompt": "它是谁", "l:language": "说什么语言", "l:wakeup_words": "唤醒词", "l:enable_greeting": "被唤醒时打招呼", "l:exit_commands": "结束对话的词",
    "l:selected_module.TTS": "语音服务", "l:selected_module.LLM": "大模型", "l:selected_module.ASR": "语音识别", "l:selected_module.VLLM": "看图模型", "l:selected_module.Memory": "记忆", "l:selected_module.Intent": "如何使用工具", "l:selected_module.VAD": "语音检测", "l:selected_module.EndOfTurn": "判断说完没有的模型",
    "l:device_max_output_size": "每天的字数", "l:close_connection_no_voice_time": "安静多少秒后结束", "l:history.mode": "对话保留什么",
  },
});

// "conversation.tool_depth" for those who read it: "Conversation: tool depth".
const readable = (key) => {
  const text = key.replaceAll(".", ": ").replaceAll("_", " ");
  return text[0].toUpperCase() + text.slice(1);
};

const LABELLED = new Set(GROUPS.flatMap((group) => group.keys));
const who = (name) => (name === "local" || name === "owner" ? t(name) : name || t("somebody"));

// A value as the text of its field, and back; undefined: nothing of its own.
function toText(kind, value) {
  if (value === null || value === undefined) return "";
  if (kind === "words") return value.join("\n");
  if (kind === "texts") {
    if (typeof value === "string") return value;
    const all = Object.entries(value);
    return all.length === 1 && !all[0][0] ? all[0][1] : all.map(([name, text]) => (name ? `${name}: ${text}` : text)).join("\n");
  }
  return String(value);
}

function toValue(kind, text) {
  const plain = text.trim();
  if (!plain) return undefined;
  const lines = plain.split("\n").map((line) => line.trim()).filter(Boolean);
  switch (kind) {
    case "number":
    case "integer": return Number(plain);
    case "flag": return plain === "true";
    case "words": return lines;
    case "texts": {
      const parts = lines.map((line) => line.match(/^([a-z]{2,3}(?:-[A-Za-z]+)?):\s*(.+)$/));
      return parts.every(Boolean) ? Object.fromEntries(parts.map(([, name, said]) => [name, said])) : plain;
    }
    default: return kind === "long" ? text : plain;
  }
}

function usualShown(field) {
  const { usual, kind } = field;
  if (kind === "flag") return t(usual ? "yes" : "no");
  const text = toText(kind, usual);
  return text === "" ? t("none") : kind === "words" ? usual.join(language === "zh" ? "、" : ", ") : text;
}

export function Settings({ path }) {
  const state = useLoaded(() => get(`${path}/settings`), [path]);
  return html`
    <${Loaded} state=${state}>
      ${(value) => html`
        <${Form} path=${path} value=${value} onDone=${state.again} />
        <${Earlier} path=${path} earlier=${value.earlier} onDone=${state.again} />`}
    </${Loaded}>`;
}

// What was edited: key -> text of the field.
const split = (fields, edits) => {
  const set = {};
  const unset = [];
  for (const field of fields) {
    if (!(field.key in edits)) continue;
    const value = toValue(field.kind, edits[field.key]);
    if (value !== undefined) set[field.key] = value;
    else if (field.own !== null) unset.push(field.key);
  }
  return { set, unset };
};

function Form({ path, value, onDone }) {
  const [edits, setEdits] = useState({});
  const [faults, setFaults] = useState(null);
  const [busy, setBusy] = useState(false);
  useEffect(() => setEdits({}), [value]);
  const voice = value.voice && { key: value.voice.key, kind: "text", own: value.voice.own ? value.voice.now : null, usual: value.voice.now, description: "" };
  const fields = voice ? [...value.fields, voice] : value.fields;
  const byKey = Object.fromEntries(fields.map((field) => [field.key, field]));
  const changes = split(fields, edits);
  const count = Object.keys(changes.set).length + changes.unset.length;
  useUnsaved(count > 0);
  const edit = (field, text) => setEdits((before) => {
    const after = { ...before, [field.key]: text };
    if (text === shown(field)) delete after[field.key];
    return after;
  });
  const save = async (event) => {
    event.preventDefault();
    setBusy(true);
    setFaults(null);
    try {
      await send("PATCH", `${path}/settings`, changes);
      toast(t("saved"));
      onDone();
    } catch (error) {
      setFaults(error.details?.faults || [{ key: "", expected: error.message }]);
    }
    setBusy(false);
  };
  const about = (fault, key) => fault.key === key || fault.key.startsWith(`${key}.`);
  const faultOf = (key) => faults?.filter((fault) => about(fault, key)).map((fault) => fault.expected).join("; ");
  const loose = faults?.filter((fault) => !fields.some((field) => about(fault, field.key))) || [];
  const one = (key) => byKey[key] && html`<${Setting} key=${key} field=${byKey[key]} text=${edits[key] ?? shown(byKey[key])} error=${faultOf(key)} onEdit=${edit} />`;
  const rest = value.fields.filter((field) => !LABELLED.has(field.key));
  const faulty = rest.some((field) => faultOf(field.key));
  return html`
    <${Card} title=${t("title")}>
      <p class="hint">${t("hint")}</p>
      <form class="device-form" onSubmit=${save}>
        ${GROUPS.map((group) => html`
          <fieldset key=${group.name}>
            <legend>${t(group.name === "voice" ? "voiceGroup" : group.name)}</legend>
            ${group.keys.map(one)}
            ${group.name === "voice" && html`<${Voice} path=${path} field=${voice} edits=${edits} changes=${changes} error=${voice && faultOf(voice.key)} onEdit=${edit} />`}
          </fieldset>`)}
        <details open=${faulty || undefined}>
          <summary>${t("more")}</summary>
          <fieldset>${rest.map((field) => one(field.key))}</fieldset>
          ${value.others.length > 0 && html`<p class="hint">${t("others")}: ${value.others.map((key, at) => html`${at > 0 && ", "}<code>${key}</code>`)}</p>`}
        </details>
        ${faults && html`<${Notice} kind="bad">${t("wrong")} ${loose.map((fault) => html`<br />${fault.key} ${fault.expected}`)}</${Notice}>`}
        <div class=${classes("actions bar", count && "changed")}>
          <${Button} type="submit" kind="primary" busy=${busy} disabled=${!count}>${t("save")}</${Button}>
          <${Button} disabled=${!count} onClick=${() => { setEdits({}); setFaults(null); }}>${t("undo")}</${Button}>
          <span class="soft" role="status">${count ? t("changes", { n: count }) : t("nothing")}</span>
        </div>
      </form>
    </${Card}>`;
}

const shown = (field) => (field.hidden ? "" : toText(field.kind, field.own));

function Setting({ field, text, error, onEdit }) {
  const { key, kind } = field;
  const usual = usualShown(field);
  const change = (event) => onEdit(field, event.target.value);
  const label = LABELLED.has(key) ? t(`l:${key}`) : readable(key);
  const note = kind === "words" ? t("lines") : kind === "texts" ? t("byLanguage") : "";
  const plain = LABELLED.has(key) && (language === "zh" || key.startsWith("selected_module."));
  const hint = [plain ? "" : field.description, note, field.hidden && t("secret")].filter(Boolean).join(" ");
  return html`
    <div class=${classes(WIDE.includes(kind) && "wide", field.own !== null && "own")}>
      <${Field} label=${label} hint=${hint} error=${error}>
        ${(own) => {
          if (kind === "flag" || kind === "choice") {
            const choices = kind === "flag" ? [["true", t("yes")], ["false", t("no")]] : field.choices.filter(Boolean).map((name) => [name, name]);
            return html`<select ...${own} name=${key} value=${text} onChange=${change}>
              <option value="" selected=${text === ""}>${t("usual", { value: usual })}</option>
              ${choices.map(([name, title]) => html`<option value=${name} selected=${name === text}>${title}</option>`)}
            </select>`;
          }
          if (WIDE.includes(kind)) return html`<textarea ...${own} name=${key} rows=${kind === "long" ? 6 : 3} placeholder=${t("usual", { value: usual })} value=${text} onInput=${change}></textarea>`;
          const numeric = kind === "number" || kind === "integer";
          return html`<input ...${own} name=${key} type=${numeric ? "number" : "text"} step=${kind === "integer" ? 1 : "any"} min=${numeric ? field.minimum : undefined} max=${numeric ? field.maximum : undefined}
            placeholder=${t("usual", { value: usual })} value=${text} onInput=${change} autocomplete="off" />`;
        }}
      </${Field}>
    </div>`;
}

function Voice({ path, field, edits, changes, error, onEdit }) {
  const [text, setText] = useState(t("sample"));
  const [busy, setBusy] = useState(false);
  const [failed, setFailed] = useState("");
  const player = useRef(null);
  const listen = async () => {
    setBusy(true);
    setFailed("");
    try {
      const only = (key) => key.startsWith("TTS.") || key === "selected_module.TTS";
      const set = Object.fromEntries(Object.entries(changes.set).filter(([key]) => only(key)));
      const sound = await blob("POST", `${path}/voice`, { set, unset: changes.unset.filter(only), text });
      player.current?.pause();
      const address = URL.createObjectURL(sound);
      player.current = new Audio(address);
      player.current.onended = () => URL.revokeObjectURL(address);
      await player.current.play();
      toast(t("playing"));
    } catch (error) {
      const first = error.details?.faults?.[0];
      setFailed(first ? `${first.key}: ${first.expected}` : error.message);
    }
    setBusy(false);
  };
  useEffect(() => () => player.current?.pause(), []);
  const another = "selected_module.TTS" in edits;
  return html`
    ${field && !another && html`
      <div class=${classes(field.own !== null && "own")}>
        <${Field} label=${t("voice")} error=${error}>
          ${(own) => html`<input ...${own} name="voice" autocomplete="off" placeholder=${t("usual", { value: field.usual || t("none") })} value=${edits[field.key] ?? shown(field)} onInput=${(event) => onEdit(field, event.target.value)} />`}
        </${Field}>
      </div>`}
    ${another && html`<p class="hint">${t("chooseFirst")}</p>`}
    <div class="wide row">
      <${Field} label=${t("sentence")}>${(own) => html`<input ...${own} value=${text} maxlength="500" onInput=${(event) => setText(event.target.value)} />`}</${Field}>
      <${Button} busy=${busy} disabled=${!text.trim()} onClick=${listen}>${t("listen")}</${Button}>
    </div>
    ${failed && html`<div class="wide"><${Notice} kind="bad">${failed}</${Notice}></div>`}`;
}

function Earlier({ path, earlier, onDone }) {
  const restore = async (version) => {
    if (!(await ask(t("backSure", { at: date(version.at) }), t("back")))) return;
    try {
      await send("POST", `${path}/settings/${version.id}/restore`);
      toast(t("backDone"));
    } catch (error) {
      const first = error.details?.faults?.[0];
      toast(first ? `${error.message} ${first.key}: ${first.expected}` : error.message, "bad");
    }
    onDone();
  };
  return html`
    <${Card} title=${t("earlier")}>
      ${earlier.length === 0 && html`<${Empty}>${t("noEarlier")}</${Empty}>`}
      <ol class="earlier">
        ${earlier.map((version) => html`
          <li key=${version.id}>
            <span class="what">${t("changed", { who: who(version.who), what: version.changed.join(", ") || "–" })}<br /><span class="soft">${date(version.at)}</span></span>
            <${Button} onClick=${() => restore(version)}>${t("back")}</${Button}>
          </li>`)}
      </ol>
    </${Card}>`;
}

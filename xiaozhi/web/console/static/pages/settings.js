// Which vendor for what, the options of each, general settings; a look at what would come of changes before they are saved.

import { get, send } from "../api.js";
import { Fields, keyOf } from "../form.js";
import { Ago, Badge, Button, Card, Empty, Field, Loaded, Notice, Page, ask, html, toast, useEffect, useLoaded, useRef, useSettled, useState, useStyle, useUnsaved } from "../ui.js";
import { labelOf } from "../fieldwords.js";
import { translated } from "../refusals.js";
import { Faults, Trials } from "../trials.js";
import { date, words } from "../words.js";
import { Trail } from "./settings-trail.js";

await useStyle("settings");

const t = words({
  en: {
    title: "Settings", guide: "First steps", new: "Everything is done on this machine now; no language model has been chosen, so only a few kinds of questions are answered.", newMore: "Choose ears, a mind and a voice",
    who: "Who does what", vad: "Noticing speech", asr: "Ears", llm: "Mind", vllm: "Eyes", tts: "Voice", memory: "Memory", intent: "Tools", end_of_turn: "End of a question",
    vadHint: "When does somebody speak?", asrHint: "Speech to text", llmHint: "The language model", vllmHint: "Looks at pictures", ttsHint: "Text to speech", memoryHint: "What is kept between visits", intentHint: "How tools are chosen", end_of_turnHint: "Hears whether somebody has finished",
    ready: "Ready", needs: "Need something first", none: "(none)", automatic: "automatic: where the ears are on this machine", options: "Options", moreOptions: "More options", close: "Close", newBlock: "New", inUse: "in use", backup: "takes over when it fails: {names}",
    notReady: "Something is missing for {name}: open its options.", type: "Type", name: "Name", create: "Create", nameTaken: "There is one of this name already.", nameOdd: "Letters, digits, - and _ only.",
    remove: "Remove this block", removeAsk: "Remove {name} and its options?", yes: "Remove", whole: "It is given an utterance when it is over.", listening: "It listens while somebody speaks: the text is there sooner.", sentence: "It speaks sentence by sentence; the sound streams.", streams: "Text and sound stream: it speaks while the answer is still being written.", noTools: "It cannot use tools.",
    find: "Find a setting", findNone: "No setting is called so. Vendors' options are above, under Options.", more: "More settings", assistant: "Assistant", conversation: "Conversation", tools: "Tools", history: "History", devices: "Devices", patience: "Patience and limits", messages: "Messages between devices", server: "Server", operation: "Operation",
    changes: "{n} changes, not saved yet", change: "One change, not saved yet", save: "Save and use", discard: "Discard", fine: "This can be saved.", faulty: "This cannot be saved yet:", warnings: "Worth knowing:",
    restart: "Takes a restart of the server: {keys}", saved: "Saved. It is in use from the next conversation on.", looking: "Looking at it",
    refusal: "Nothing can be changed here: {why}.", managed: "A management console ({url}) decides for devices: their prompt, voice and models are set there. What is set here counts for this server, and for what the console leaves open.",
    workers: "Several workers share this port. This one takes changes over at once; the others when they are told to (SIGHUP, or a restart).", fixed: "set by {origin}",
    earlier: "Earlier versions", earlierHint: "The last versions of {file}. Putting one back keeps the present one here.", putBack: "Put back", putBackAsk: "Put the settings back to what they were before {when}?", back: "The earlier settings are in use.", version: "Before the change of {when}",
    warningsNow: "Worth knowing about the settings in use",
  },
  zh: {
    title: "设置", guide: "入门向导", new: "现在一切都在本机运行，还没有选择大模型，只能回答有限的几类问题。", newMore: "选择识别、大模型和音色",
    who: "由谁负责", vad: "语音检测", asr: "识别", llm: "语言模型", vllm: "视觉", tts: "音色", memory: "记忆", intent: "工具", end_of_turn: "说完判断",
    vadHint: "什么时候有人说话？", asrHint: "语音转文字", llmHint: "负责思考", vllmHint: "看图片", ttsHint: "文字转语音", memoryHint: "两次对话之间记住什么", intentHint: "如何选择工具", end_of_turnHint: "听出话有没有说完",
    ready: "可用", needs: "还缺少配置", none: "（无）", automatic: "自动：识别在本机运行时使用", options: "选项", moreOptions: "更多选项", close: "收起", newBlock: "新建", inUse: "使用中", backup: "失败时由 {names} 接替",
    notReady: "{name} 还缺少配置：请打开选项。", type: "类型", name: "名称", create: "创建", nameTaken: "已有同名的配置。", nameOdd: "只能用字母、数字、- 和 _。",
    remove: "删除此配置", removeAsk: "删除 {name} 及其选项？", yes: "删除", whole: "一句话说完后才识别。", listening: "边说边识别：更快得到文字。", sentence: "逐句合成，声音边合成边播放。", streams: "文字和声音都是流式：回答还在写就开始说。", noTools: "不能使用工具。",
    find: "查找设置", findNone: "没有这样的设置。服务商的选项在上面的“选项”里。", more: "更多设置", assistant: "助手", conversation: "对话", tools: "工具", history: "历史", devices: "设备", patience: "超时与限制", messages: "设备之间的消息", server: "服务器", operation: "运行",
    changes: "{n} 处修改，尚未保存", change: "1 处修改，尚未保存", save: "保存并启用", discard: "放弃", fine: "可以保存。", faulty: "还不能保存：", warnings: "请注意：",
    restart: "需要重启服务器：{keys}", saved: "已保存，从下一次对话起生效。", looking: "正在检查",
    refusal: "这里无法修改：{why}。", managed: "设备由管理后台（{url}）决定：提示词、音色和模型在那里设置。这里的设置对本服务器有效，也用于后台没有规定的部分。",
    workers: "多个进程共用此端口。本进程立即采用修改；其他进程收到 SIGHUP 或重启后采用。", fixed: "由 {origin} 设定",
    earlier: "以前的版本", earlierHint: "{file} 最近的版本。恢复时，现在的版本也会保留在这里。", putBack: "恢复", putBackAsk: "恢复到 {when} 修改之前的设置？", back: "已启用以前的设置。", version: "{when} 修改之前",
    warningsNow: "关于当前设置，请注意",
  },
});

const LOOK_MS = 500;
const ORDER = ["asr", "llm", "tts", "vllm", "memory", "intent", "vad", "end_of_turn"];
const MAY_BE_NONE = ["vllm", "end_of_turn"];
const MAY_BE_AUTOMATIC = ["end_of_turn"];
const WORKS = { "whole utterance": "whole", "while somebody speaks": "listening", "sentence in, sound streams out": "sentence", "text and sound stream": "streams", "streams, no tools": "noTools" };

export default function Settings() {
  const [round, setRound] = useState(0);
  const state = useLoaded(() => get("settings").then((overview) => ({ ...overview, key: `${overview.digest} ${round}` })), [round]);
  return html`
    <${Page} title=${t("title")} actions=${html`<a href="/console/start">${t("guide")}</a>`}>
      <${Loaded} state=${state}>${(overview) => html`<${Editor} key=${overview.key} overview=${overview} again=${() => setRound((before) => before + 1)} />`}</${Loaded}>
    </${Page}>`;
}

function Editor({ overview, again }) {
  const [changes, setChanges] = useState(new Map());
  const [outcome, setOutcome] = useState(null);
  const latest = useRef(changes);
  latest.current = changes;
  const listed = () => [...latest.current.values()];
  const change = (made, path) => {
    setChanges((before) => {
      const next = new Map(before);
      if (made) next.set(keyOf(path), made);
      else next.delete(keyOf(path));
      return next;
    });
  };
  useEffect(() => {
    setOutcome(null);
    if (!changes.size) return undefined;
    let current = true;
    const wait = setTimeout(() => {
      send("POST", "settings/preview", { changes: [...changes.values()] }).then(
        (answer) => current && setOutcome(answer),
        (error) => current && setOutcome({ faults: error.details.faults || [], warnings: [], restart: [], error }),
      );
    }, LOOK_MS);
    return () => { current = false; clearTimeout(wait); };
  }, [changes]);
  useUnsaved(changes.size > 0);
  const faults = outcome?.faults || [];
  const shared = { changes, faults, onChange: change, listed };
  return html`
    ${overview.refusal && html`<${Notice} kind="warn">${t("refusal", { why: translated(overview.refusal) })}</${Notice}>`}
    ${overview.managed_by && html`<${Notice}>${t("managed", { url: overview.managed_by })}</${Notice}>`}
    ${overview.several_workers && html`<${Notice}>${t("workers")}</${Notice}>`}
    ${overview.new && html`<${Notice} kind="info">${t("new")} <a href="/console/start">${t("newMore")}</a></${Notice}>`}
    ${overview.warnings.length > 0 && html`<${Notice} kind="warn">${t("warningsNow")}<ul class="plain-list" lang="en">${overview.warnings.map((each) => html`<li>${each}</li>`)}</ul></${Notice}>`}
    <${Card} title=${t("who")}>
      ${ORDER.map((name) => overview.kinds.find((kind) => kind.kind === name)).map((kind) => html`<${Kind} key=${kind.kind} kind=${kind} ...${shared} />`)}
    </${Card}>
    <${Card} title=${t("more")}>
      <${Find} groups=${overview.groups} ...${shared} />
    </${Card}>
    ${changes.size > 0 && html`<${SaveBar} overview=${overview} outcome=${outcome} changes=${changes} discard=${again} saved=${again} />`}
    <${Earlier} overview=${overview} again=${again} />
    <${Trail} />`;
}

function Kind({ kind, changes, faults, onChange, listed }) {
  const [open, setOpen] = useState("");
  const [made, setMade] = useState([]);
  const path = ["selected_module", kind.section];
  const selected = changes.get(keyOf(path))?.value ?? kind.selected;
  const blocks = [...kind.blocks.filter((block) => !changes.get(keyOf([kind.section, block.name]))?.unset), ...made];
  const ready = blocks.filter((block) => block.ready);
  const lacking = blocks.filter((block) => !block.ready);
  const choose = (name) => {
    onChange(name === kind.selected ? undefined : { path, value: name }, path);
    const block = blocks.find((each) => each.name === name);
    if (open || (block && !block.ready)) setOpen(name);
  };
  const create = (type, name) => {
    onChange({ path: [kind.section, name, "type"], value: type }, [kind.section, name, "type"]);
    setMade([...made, { name, type, ready: true, own: true, made: true }]);
    onChange({ path, value: name }, path);
    setOpen(name);
  };
  const option = (block) => html`<option value=${block.name} selected=${block.name === selected}>${block.name}${block.type === block.name ? "" : ` · ${block.type}`}</option>`;
  const id = `kind-${kind.kind}`;
  const fault = faults.find((each) => each.key === `selected_module.${kind.section}`);
  const lack = lacking.some((block) => block.name === selected) && !faults.length;
  const shown = blocks.find((block) => block.name === open);
  return html`
    <div class="kind">
      <div class="kind-choice">
        <div><h3 id=${id}>${t(kind.kind)}</h3><p class="soft">${t(`${kind.kind}Hint`)}</p></div>
        <div>
          <select aria-labelledby=${id} disabled=${kind.fixed} value=${selected} onChange=${(event) => choose(event.target.value)}>
            ${(MAY_BE_NONE.includes(kind.kind) || !selected) && html`<option value="" selected=${!selected}>${t("none")}</option>`}
            ${MAY_BE_AUTOMATIC.includes(kind.kind) && html`<option value="auto" selected=${selected === "auto"}>${t("automatic")}</option>`}
            <optgroup label=${t("ready")}>${ready.map(option)}</optgroup>
            ${lacking.length > 0 && html`<optgroup label=${t("needs")}>${lacking.map(option)}</optgroup>`}
          </select>
          ${kind.fixed && html`<p class="hint">${t("fixed", { origin: translated(kind.origin) })}</p>`}
          ${kind.fallbacks.length > 0 && html`<p class="hint">${t("backup", { names: kind.fallbacks.join(", ") })}</p>`}
          ${fault && html`<p class="error" lang="en">${fault.value}: ${fault.expected}</p>`}
          ${lack && html`<p class="error">${t("notReady", { name: selected })}</p>`}
        </div>
        <div class="actions">
          <${Button} aria-expanded=${open && open !== "+" ? "true" : "false"} aria-label=${`${t(open && open !== "+" ? "close" : "options")}: ${t(kind.kind)}`} disabled=${!blocks.some((block) => block.name === selected)} onClick=${() => setOpen(open && open !== "+" ? "" : selected)}>${open && open !== "+" ? t("close") : t("options")}</${Button}>
          <${Button} kind="quiet" aria-expanded=${open === "+" ? "true" : "false"} aria-label=${`${t("newBlock")}: ${t(kind.kind)}`} onClick=${() => setOpen(open === "+" ? "" : "+")}>${t("newBlock")}</${Button}>
        </div>
      </div>
      ${open === "+" && html`<${NewBlock} kind=${kind} taken=${blocks.map((block) => block.name)} create=${create} />`}
      ${shown && html`<${Block} key=${open} kind=${kind} block=${shown} changes=${changes} faults=${faults} onChange=${onChange} listed=${listed} gone=${() => setOpen("")} />`}
    </div>`;
}

function NewBlock({ kind, taken, create }) {
  const [type, setType] = useState(kind.types[0]);
  const [name, setName] = useState("");
  const wrong = taken.includes(name) ? t("nameTaken") : name && !/^[\w-]{1,60}$/.test(name) ? t("nameOdd") : "";
  const submit = (event) => {
    event.preventDefault();
    if (name && !wrong) create(type, name);
  };
  return html`<form class="block new-block" onSubmit=${submit}>
    <${Field} label=${t("type")}>${(own) => html`<select ...${own} value=${type} onChange=${(event) => setType(event.target.value)}>${kind.types.map((each) => html`<option value=${each} selected=${each === type}>${each}</option>`)}</select>`}</${Field}>
    <${Field} label=${t("name")} error=${wrong}>${(own) => html`<input ...${own} required maxlength="60" value=${name} onInput=${(event) => setName(event.target.value.trim())} />`}</${Field}>
    <${Button} type="submit" kind="primary" disabled=${!name || !!wrong}>${t("create")}</${Button}>
  </form>`;
}

// What most people look for: keys, addresses, models and voices, and what is set in the owner's own file. The rest is folded away.
const FIRST = ["base_url", "api_url", "url", "ws_url", "host", "port", "model_name", "model", "voice", "private_voice", "speaker", "appid", "app_id", "speed", "language", "functions", "model_dir"];
const isFirst = (field) => (field.secret && field.kind !== "yaml") || FIRST.includes(field.path[field.path.length - 1]) || (field.origin && field.kind !== "section");
const rank = (field) => (field.secret ? -1 : FIRST.indexOf(field.path[field.path.length - 1]) + 1 || FIRST.length + 1);

function Block({ kind, block, changes, faults, onChange, listed, gone }) {
  const rest = { changes, faults, onChange };
  const state = useLoaded(() => get(`settings/block/${kind.kind}?${new URLSearchParams({ name: block.name, type: block.made ? block.type : "" })}`));
  const remove = async () => {
    if (!(await ask(t("removeAsk", { name: block.name }), t("yes")))) return;
    onChange({ path: [kind.section, block.name], unset: true }, [kind.section, block.name]);
    gone();
  };
  return html`<section class="block" aria-label=${`${kind.section}.${block.name}`}>
    <${Loaded} state=${state}>${(form) => html`
      <header><h3>${block.name}${block.used && html` <${Badge} kind="good">${t("inUse")}</${Badge}>`}</h3><code>${form.type}</code></header>
      ${WORKS[form.works] && html`<p class="hint">${t(WORKS[form.works])}</p>`}
      <${Fields} fields=${form.fields.filter(isFirst).sort((one, other) => rank(one) - rank(other))} ...${rest} />
      ${form.fields.some((field) => !isFirst(field)) && html`<details class="group" open=${!form.fields.some(isFirst)}>
        <summary>${t("moreOptions")}</summary><${Fields} fields=${form.fields.filter((field) => !isFirst(field))} ...${rest} />
      </details>`}
      <${Trials} kind=${kind.kind} name=${block.name} changes=${listed} />
      ${block.own && !block.used && !block.made && html`<div><${Button} kind="danger" onClick=${remove}>${t("remove")}</${Button}></div>`}`}
    </${Loaded}>
  </section>`;
}

// All groups, or of all of them the fields that are looked for.
function Find({ groups, ...shared }) {
  const [typed, setTyped] = useState("");
  const sought = useSettled(typed.trim().toLowerCase());
  return html`
    <input type="search" aria-label=${t("find")} placeholder=${t("find")} value=${typed} maxlength="100" onInput=${(event) => setTyped(event.target.value)} />
    ${sought ? html`<${Found} groups=${groups} sought=${sought} ...${shared} />` : groups.map((group) => html`<${Group} key=${group} group=${group} ...${shared} />`)}`;
}

const isSought = (field, sought) => [field.path.join("."), labelOf(field.path), field.description || ""].some((text) => text.toLowerCase().includes(sought));

function sift(fields, sought) {
  return fields.flatMap((field) => {
    if (isSought(field, sought)) return [field];
    const inner = field.kind === "section" ? sift(field.fields, sought) : [];
    return inner.length ? [{ ...field, fields: inner }] : [];
  });
}

function Found({ groups, sought, changes, faults, onChange }) {
  const state = useLoaded(() => Promise.all(groups.map((group) => get(`settings/group/${group}`))));
  return html`<${Loaded} state=${state}>${(forms) => {
    const found = forms.map(({ group, fields }) => ({ group, fields: sift(fields, sought) })).filter(({ fields }) => fields.length);
    if (!found.length) return html`<${Empty}>${t("findNone")}</${Empty}>`;
    return found.map(({ group, fields }) => html`<section key=${group}><h3>${t(group)}</h3><${Fields} fields=${fields} changes=${changes} faults=${faults} onChange=${onChange} /></section>`);
  }}</${Loaded}>`;
}

function Group({ group, changes, faults, onChange }) {
  const [opened, setOpened] = useState(false);
  return html`<details class="group" onToggle=${(event) => event.target.open && setOpened(true)}>
    <summary>${t(group)}</summary>
    ${opened && html`<${GroupForm} group=${group} changes=${changes} faults=${faults} onChange=${onChange} />`}
  </details>`;
}

function GroupForm({ group, ...rest }) {
  const state = useLoaded(() => get(`settings/group/${group}`));
  return html`<${Loaded} state=${state}>${(form) => html`<${Fields} fields=${form.fields} ...${rest} />`}</${Loaded}>`;
}

function SaveBar({ overview, outcome, changes, discard, saved }) {
  const [busy, setBusy] = useState(false);
  const [failed, setFailed] = useState(null);
  useEffect(() => setFailed(null), [changes]);
  const save = async () => {
    setBusy(true);
    try {
      const answer = await send("POST", "settings", { digest: overview.digest, changes: [...changes.values()] });
      toast(answer.restart.length ? t("restart", { keys: answer.restart.join(", ") }) : t("saved"));
      saved();
    } catch (error) {
      setFailed(error);
      setBusy(false);
    }
  };
  const faulty = outcome && outcome.faults.length > 0;
  return html`<section class="save-bar" aria-label=${t("save")}>
    <div>
      <strong role="status">${changes.size === 1 ? t("change") : t("changes", { n: changes.size })}</strong>
      <span class="actions"><${Button} onClick=${discard} disabled=${busy}>${t("discard")}</${Button}><${Button} kind="primary" data-do="save" busy=${busy} disabled=${!outcome || faulty || !!overview.refusal} onClick=${save}>${t("save")}</${Button}></span>
    </div>
    <div aria-live="polite">
      ${!outcome && html`<span class="soft">${t("looking")}…</span>`}
      ${outcome && !faulty && !outcome.error && html`<span class="good">${t("fine")}</span>`}
      ${outcome?.error && !faulty && html`<span class="bad">${outcome.error.message}</span>`}
      ${faulty && html`<div class="bad">${t("faulty")}<ul lang="en">${outcome.faults.map((each) => html`<li><code>${each.key}</code>: ${each.value}: ${each.expected}</li>`)}</ul></div>`}
      ${outcome?.warnings.length > 0 && html`<div class="warn">${t("warnings")}<ul lang="en">${outcome.warnings.map((each) => html`<li>${each}</li>`)}</ul></div>`}
      ${outcome?.restart.length > 0 && html`<div class="warn">${t("restart", { keys: outcome.restart.join(", ") })}</div>`}
    </div>
    ${failed && html`<${Faults} error=${failed} />`}
  </section>`;
}

function Earlier({ overview, again }) {
  const putBack = async (version) => {
    if (!(await ask(t("putBackAsk", { when: date(version.at) }), t("putBack")))) return;
    try {
      await send("POST", "settings/undo", { number: version.number, digest: overview.digest });
      toast(t("back"));
      again();
    } catch (error) {
      toast([error.message, ...(error.details?.faults || []).map((each) => `${each.key}: ${each.expected}`)].join(" "), "bad");
    }
  };
  if (!overview.earlier.length) return null;
  return html`<${Card} title=${t("earlier")}>
    <p class="hint">${t("earlierHint", { file: overview.file })}</p>
    <ul class="checks">${overview.earlier.map((version) => html`<li key=${version.number} class="actions">
      <span>${t("version", { when: date(version.at) })} <span class="soft">(<${Ago} at=${version.at} />)</span></span>
      <${Button} aria-label=${`${t("putBack")}: ${date(version.at)}`} onClick=${() => putBack(version)}>${t("putBack")}</${Button}>
    </li>`)}</ul>
  </${Card}>`;
}

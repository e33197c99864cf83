// The first-run guide: choose who listens, thinks and speaks, paste a key, check it, hear the voice, done.

import { get, send } from "../api.js";
import { Badge, Button, Card, Field, Loaded, Notice, Page, html, toast, useEffect, useLoaded, useState, useStyle } from "../ui.js";
import { Faults, Sound, Verdict, check, speak } from "../trials.js";
import { words } from "../words.js";

await useStyle("settings");

const t = words({
  en: {
    title: "First steps", choose: "1. Who shall listen, think and speak?", offline: "As it is: offline", offlineHint: "Everything on this machine, no account. Hears and speaks English and Chinese; its answers come from rules, not from a language model.",
    openai: "OpenAI, or anything like it", openaiHint: "One address and one key. Also for other services and servers of your own that speak the same interface.",
    aliyun: "Alibaba Cloud", aliyunHint: "One key of Model Studio (DashScope). Quick, good Chinese.", doubao: "Doubao (Volcengine)", doubaoHint: "A key of Ark, and an app of its speech service. Quick, good Chinese.",
    local: "Models on this machine", localHint: "Ears and voice without any service. Needs a download and some memory; the mind is chosen separately.",
    now: "in use", details: "2. What it needs", parts: "Use it for", ASR: "ears", LLM: "mind", TTS: "voice", VLLM: "eyes", keep: "Leave empty to keep what is set.",
    address: "Address", key: "Key (API key)", model_llm: "Model that answers", model_asr: "Model that listens", model_tts: "Model that speaks", voice: "Voice", key_ark: "Key of Ark", appid: "App id of the speech service", access_token: "Access token of the speech service",
    steps: "Run these in the folder of the server, then start it again:", done: "done", mb: "{n} MB",
    try: "3. Does it work?", tryHint: "Each part is asked once, with what you have typed. Nothing is saved yet.", check: "Check", checking: "Checking", good: "All of it works.", bad: "Mend what is said above, then check again.",
    hear: "4. Hear it", listen: "Speak", say: "Hello! I am Xiaozhi. From now on this is my voice.", finish: "5. Use it", save: "Save and use", saved: "Done. It is in use from the next conversation on.", talk: "Talk to it now", refusal: "Nothing can be changed here: {why}.",
    anyway: "It can be saved without a check, too.", managed: "A management console decides for devices; what you choose here is used where it leaves that open.", all: "All settings",
  },
  zh: {
    title: "入门向导", choose: "1. 由谁来听、想、说？", offline: "保持现状：离线", offlineHint: "全部在本机，无需账号。听得懂、会说中文和英文；回答来自固定规则，不是大模型。",
    openai: "OpenAI 或兼容服务", openaiHint: "一个地址和一个密钥。也适用于接口相同的其他服务和自建服务器。", aliyun: "阿里云", aliyunHint: "一个百炼（DashScope）密钥。速度快，中文好。",
    doubao: "豆包（火山引擎）", doubaoHint: "一个方舟密钥，加一个语音服务的应用。速度快，中文好。", local: "本机模型", localHint: "识别和音色不依赖任何服务。需要下载并占用内存；语言模型另选。",
    now: "使用中", details: "2. 需要什么", parts: "用于", ASR: "识别", LLM: "语言模型", TTS: "音色", VLLM: "视觉", keep: "留空则保持已设置的值。",
    address: "地址", key: "密钥（API key）", model_llm: "回答的模型", model_asr: "识别的模型", model_tts: "合成的模型", voice: "音色", key_ark: "方舟密钥", appid: "语音服务的应用 ID", access_token: "语音服务的访问令牌",
    steps: "在服务器目录中运行以下命令，然后重新启动：", done: "已完成", mb: "{n} MB",
    try: "3. 能用吗？", tryHint: "用您输入的内容把每一部分试一次，此时还没有保存。", check: "检查", checking: "正在检查", good: "全部可用。", bad: "请按上面的提示修正，然后再检查。",
    hear: "4. 听一听", listen: "说话", say: "你好！我是小智，以后这就是我的声音。", finish: "5. 开始使用", save: "保存并启用", saved: "完成，从下一次对话起生效。", talk: "现在就和它对话", refusal: "这里无法修改：{why}。",
    anyway: "也可以不检查直接保存。", managed: "设备由管理后台决定；这里的选择用于后台没有规定的部分。", all: "全部设置",
  },
});

const KINDS = { ASR: "asr", LLM: "llm", TTS: "tts", VLLM: "vllm" };

export default function Start() {
  const state = useLoaded(() => get("settings"));
  return html`<${Page} title=${t("title")} actions=${html`<a href="/console/settings">${t("all")}</a>`}>
    <${Loaded} state=${state}>${(overview) => html`<${Guide} overview=${overview} />`}</${Loaded}>
  </${Page}>`;
}

const inUse = (overview, preset) => Object.entries(preset.selected).every(([section, name]) => overview.kinds.find((kind) => kind.section === section).selected === name);

function Guide({ overview }) {
  const [chosen, setChosen] = useState(null);
  const preset = overview.presets.find((each) => each.name === chosen);
  return html`
    ${overview.refusal && html`<${Notice} kind="warn">${t("refusal", { why: overview.refusal })}</${Notice}>`}
    ${overview.managed_by && html`<${Notice}>${t("managed")}</${Notice}>`}
    <${Card} title=${t("choose")}>
      <div class="presets">${overview.presets.map((each) => html`
        <button type="button" class="preset" key=${each.name} data-preset=${each.name} aria-pressed=${each.name === chosen ? "true" : "false"} onClick=${() => setChosen(each.name)}>
          <strong>${t(each.name)}${inUse(overview, each) && html` <${Badge} kind="good">${t("now")}</${Badge}>`}</strong>
          <span class="soft">${t(`${each.name}Hint`)}</span>
        </button>`)}</div>
    </${Card}>
    ${preset && html`<${Chosen} key=${preset.name} preset=${preset} overview=${overview} />`}`;
}

function Chosen({ preset, overview }) {
  const [answers, setAnswers] = useState(() => Object.fromEntries(preset.asks.map((ask) => [ask.name, ask.usual])));
  const [parts, setParts] = useState(Object.keys(preset.selected));
  const [results, setResults] = useState({});
  const [busy, setBusy] = useState("");
  const [sound, setSound] = useState(null);
  const [error, setError] = useState(null);
  const [digest, setDigest] = useState(overview.digest);
  const [saved, setSaved] = useState(false);
  const put = (name, value) => {
    setAnswers({ ...answers, [name]: value });
    setResults({});
    setSaved(false);
  };
  useEffect(() => setError(null), [answers, parts]);
  const changes = () => [
    ...parts.map((section) => ({ path: ["selected_module", section], value: preset.selected[section] })),
    ...preset.asks.flatMap((ask) => (answers[ask.name].trim() ? ask.paths.filter(([section]) => parts.includes(section)).map((path) => ({ path, value: answers[ask.name].trim() })) : [])),
  ];
  const during = async (what, work) => {
    setBusy(what);
    setError(null);
    try {
      await work();
    } catch (failed) {
      setError(failed);
    }
    setBusy("");
  };
  const tryAll = () => during("check", async () => {
    const found = {};
    setResults({});
    for (const section of parts) {
      found[section] = await check(KINDS[section], preset.selected[section], changes());
      setResults({ ...found });
    }
  });
  const listen = () => during("voice", async () => {
    setSound(null);
    const answer = await speak(preset.selected.TTS, t("say"), changes());
    if (answer.sound) setSound(answer.sound);
    else setResults({ ...results, TTS: answer });
  });
  const save = () => during("save", async () => {
    const answer = await send("POST", "settings", { digest, changes: changes() });
    setDigest(answer.digest);
    setSaved(true);
    toast(t("saved"));
  });
  const tried = Object.entries(results);
  const failed = tried.some(([, result]) => result.state === "failed");
  const asked = preset.asks.filter((ask) => ask.paths.some(([section]) => parts.includes(section)));
  const toggle = (section) => {
    setParts(parts.includes(section) ? parts.filter((each) => each !== section) : Object.keys(preset.selected).filter((each) => each === section || parts.includes(each)));
    setResults({});
    setSaved(false);
  };
  return html`
    ${(preset.asks.length > 0 || preset.steps.length > 0) && html`<${Card} title=${t("details")}>
      ${preset.steps.length > 0 && html`<p>${t("steps")}</p><ol class="step-list">${preset.steps.map((step) => html`<li><code>${step.command}</code>${step.size_mb ? ` (${t("mb", { n: step.size_mb })})` : ""}${step.done && html` <${Badge} kind="good">${t("done")}</${Badge}>`}</li>`)}</ol>`}
      <fieldset class="parts"><legend class="visually-hidden">${t("parts")}</legend><span>${t("parts")}:</span>
        ${Object.keys(preset.selected).map((section) => html`<label><input type="checkbox" data-part=${section} checked=${parts.includes(section)} onChange=${() => toggle(section)} />${t(section)}</label>`)}
      </fieldset>
      ${asked.map((ask) => html`<${Field} key=${ask.name} label=${t(ask.name)} hint=${ask.secret ? t("keep") : ""}>${(own) => html`
        <input ...${own} name=${ask.name} type=${ask.secret ? "password" : "text"} autocomplete="off" spellcheck=${false} value=${answers[ask.name]} onInput=${(event) => put(ask.name, event.target.value)} />`}</${Field}>`)}
    </${Card}>`}
    <${Card} title=${t("try")}>
      <p class="hint">${t("tryHint")}</p>
      <div><${Button} data-do="check" kind="primary" busy=${busy === "check"} disabled=${!!busy || !parts.length} onClick=${tryAll}>${busy === "check" ? `${t("checking")}…` : t("check")}</${Button}></div>
      <ul class="checks" aria-live="polite">${tried.map(([section, result]) => html`<li class="check-line" key=${section}><strong>${t(section)}</strong><${Verdict} kind=${KINDS[section]} result=${result} /></li>`)}</ul>
      ${tried.length === parts.length && tried.length > 0 && html`<p role="status" class=${failed ? "bad" : "good"}>${t(failed ? "bad" : "good")}</p>`}
    </${Card}>
    ${parts.includes("TTS") && html`<${Card} title=${t("hear")}>
      <div><${Button} data-do="listen" busy=${busy === "voice"} disabled=${!!busy} onClick=${listen}>${t("listen")}</${Button}></div>
      ${sound && html`<${Sound} blob=${sound} />`}
    </${Card}>`}
    <${Card} title=${t("finish")}>
      ${!tried.length && html`<p class="hint">${t("anyway")}</p>`}
      <div class="actions">
        <${Button} data-do="save" kind=${saved ? undefined : "primary"} busy=${busy === "save"} disabled=${!!busy || !parts.length || !!overview.refusal} onClick=${save}>${t("save")}</${Button}>
        ${saved && html`<a class="button primary" href="/talk">${t("talk")}</a>`}
      </div>
      <div aria-live="polite">${saved && html`<p class="good">${t("saved")}</p>`}${error && html`<${Faults} error=${error} />`}</div>
    </${Card}>`;
}

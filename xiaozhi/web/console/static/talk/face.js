// A face for each emotion that the server may send, drawn with a few lines; its mouth opens with the voice (--out, 0 to 1).

import { html } from "../ui.js";
import { words } from "../words.js";

const t = words({
  en: {
    neutral: "neutral", happy: "happy", laughing: "laughing", funny: "amused", sad: "sad", angry: "angry", crying: "crying", loving: "in love",
    embarrassed: "embarrassed", surprised: "surprised", shocked: "shocked", thinking: "thinking", winking: "winking", cool: "cool",
    relaxed: "relaxed", delicious: "finds it delicious", kissy: "kissing", confident: "confident", sleepy: "sleepy", silly: "silly",
    confused: "confused", face: "Face: {name}",
  },
  zh: {
    neutral: "平静", happy: "开心", laughing: "大笑", funny: "逗笑", sad: "难过", angry: "生气", crying: "哭泣", loving: "喜爱",
    embarrassed: "尴尬", surprised: "惊讶", shocked: "震惊", thinking: "思考", winking: "眨眼", cool: "酷",
    relaxed: "放松", delicious: "美味", kissy: "亲吻", confident: "自信", sleepy: "困倦", silly: "调皮",
    confused: "困惑", face: "表情：{name}",
  },
});

// eyes, mouth, and what else there is to see.
const FACES = {
  neutral: ["open", "flat"],
  happy: ["open", "smile"],
  laughing: ["happy", "grin"],
  funny: ["happy", "grin", "tears"],
  sad: ["open", "frown", "sad-brows"],
  angry: ["open", "frown", "angry-brows"],
  crying: ["closed", "frown", "sad-brows", "tears"],
  loving: ["hearts", "smile", "blush"],
  embarrassed: ["open", "wavy", "blush"],
  surprised: ["wide", "round", "raised-brows"],
  shocked: ["wide", "round-large", "raised-brows"],
  thinking: ["aside", "slant", "raised-brows"],
  winking: ["wink", "smile"],
  cool: ["glasses", "smirk"],
  relaxed: ["closed", "smile"],
  delicious: ["happy", "tongue", "blush"],
  kissy: ["wink", "kiss", "blush"],
  confident: ["open", "smirk", "angry-brows"],
  sleepy: ["closed", "round", "sleep"],
  silly: ["wink", "tongue"],
  confused: ["aside", "wavy", "sad-brows"],
};

const both = (draw) => [draw(66), draw(134)];
const arc = (x, bend) => html`<path d="M${x - 14} 66 q14 ${bend} 28 0" />`;
const dot = (x, rx = 8, ry = 12) => html`<ellipse class="full" cx=${x} cy="64" rx=${rx} ry=${ry} />`;
const heart = (x) => html`<path class="full love" d="M${x} 78 C${x - 30} 58 ${x - 12} 44 ${x} 56 C${x + 12} 44 ${x + 30} 58 ${x} 78 z" />`;

const EYES = {
  open: () => both((x) => dot(x)),
  wide: () => both((x) => html`<circle cx=${x} cy="62" r="15" /><circle class="full" cx=${x} cy="62" r="5" />`),
  happy: () => both((x) => arc(x, -22)),
  closed: () => both((x) => arc(x, 16)),
  wink: () => [dot(66), arc(134, -16)],
  hearts: () => both(heart),
  aside: () => both((x) => dot(x + 8, 7, 10)),
  glasses: () => html`<path class="full" d="M40 54 h52 l-5 22 q-20 10 -40 0 z M108 54 h52 l-7 22 q-20 10 -40 0 z" /><path d="M88 57 h24" />`,
};

const MOUTHS = {
  flat: () => html`<path d="M78 114 h44" />`,
  smile: () => html`<path d="M70 108 q30 28 60 0" />`,
  grin: () => html`<path class="full" d="M66 104 h68 q-6 36 -34 36 t-34 -36 z" />`,
  frown: () => html`<path d="M74 124 q26 -26 52 0" />`,
  round: () => html`<ellipse cx="100" cy="116" rx="9" ry="11" />`,
  "round-large": () => html`<ellipse class="full" cx="100" cy="120" rx="14" ry="18" />`,
  slant: () => html`<path d="M80 118 l38 -8" />`,
  smirk: () => html`<path d="M76 114 q30 12 50 -10" />`,
  wavy: () => html`<path d="M70 114 q10 -12 20 0 t20 0 t20 0" />`,
  tongue: () => html`<path d="M70 106 q30 26 60 0" /><path class="full love" d="M100 118 h22 q2 22 -11 22 t-11 -22 z" />`,
  kiss: () => html`<path d="M96 104 q16 4 2 10 q16 4 -2 12" />`,
};

const MORE = {
  blush: () => both((x) => html`<ellipse class="blush" cx=${x + (x < 100 ? -16 : 16)} cy="92" rx="13" ry="7" />`),
  tears: () => both((x) => html`<path class="tear" d="M${x} 80 q-9 16 0 18 q9 -2 0 -18 z" />`),
  "sad-brows": () => html`<path d="M50 46 l26 -10 M150 46 l-26 -10" />`,
  "angry-brows": () => html`<path d="M50 36 l28 10 M150 36 l-28 10" />`,
  "raised-brows": () => html`<path d="M52 38 q14 -8 28 0 M120 34 q14 -8 28 0" />`,
  sleep: () => html`<path class="thin" d="M152 20 h14 l-14 16 h14 M174 4 h10 l-10 12 h10" />`,
};

export function Face({ emotion }) {
  const [eyes, mouth, ...more] = FACES[emotion] || FACES.neutral;
  const name = t(emotion in FACES ? emotion : "neutral");
  return html`
    <svg class="face" viewBox="0 0 200 160" role="img" aria-label=${t("face", { name })}>
      <g>${more.map((each) => MORE[each]())}${EYES[eyes]()}</g>
      <g class="mouth">${MOUTHS[mouth]()}</g>
    </svg>`;
}

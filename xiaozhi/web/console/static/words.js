// English and Chinese. Each page has its own words:
//
//   const t = words({ en: { title: "Devices", left: "{n} left" }, zh: { title: "设备", left: "剩余 {n}" } });
//   t("title"); t("left", { n: 3 });
//
// The language is the browser's unless the visitor has chosen one.

const CHOICE = "xiaozhi.language";

function chosen() {
  try {
    return localStorage.getItem(CHOICE) || "";
  } catch {
    return ""; // storage is off
  }
}

export const LANGUAGES = { en: "English", zh: "中文" };

export const language =
  chosen() in LANGUAGES ? chosen() : (navigator.languages || []).some((name) => name.startsWith("zh")) ? "zh" : "en";

document.documentElement.lang = language === "zh" ? "zh-CN" : "en";

export function choose(name) {
  try {
    localStorage.setItem(CHOICE, name);
  } catch {
    // it holds until the page is left
  }
  location.reload();
}

export function words(texts) {
  const own = texts[language] || texts.en;
  return (key, values = {}) => {
    const text = own[key] ?? texts.en[key];
    if (text === undefined) throw new Error(`no words for ${key}`);
    return text.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));
  };
}

const numbers = new Intl.NumberFormat(language);
const SHORT = { year: "numeric", month: "short", day: "numeric", hour: "numeric", minute: "2-digit" };
const CLOCK = { hour: "numeric", minute: "2-digit", second: "2-digit" };
let dates, days, clocks;
useZone(undefined);

// Show times in the server's time zone: a name, or "+08:00"; named where it is not that of the browser.
export function useZone(timeZone) {
  const format = (options) => new Intl.DateTimeFormat(language, { timeZone, ...options });
  try {
    const here = new Intl.DateTimeFormat(language, SHORT).format();
    const named = timeZone && format(SHORT).format() !== here ? { timeZoneName: "short" } : {};
    [dates, days, clocks] = [format({ ...SHORT, ...named }), format({ dateStyle: "full" }), format({ ...CLOCK, ...named })];
  } catch {
    useZone(undefined); // this browser does not know it
  }
}

const relative = new Intl.RelativeTimeFormat(language, { numeric: "auto", style: "short" });

export const number = (value) => numbers.format(value);
// Seconds since 1970.
export const date = (at) => dates.format(new Date(at * 1000));
export const day = (at) => days.format(new Date(at * 1000));
export const clock = (at) => clocks.format(new Date(at * 1000));

export function ago(at) {
  const seconds = Math.round(at - Date.now() / 1000);
  for (const [unit, size] of [["day", 86400], ["hour", 3600], ["minute", 60]]) {
    if (Math.abs(seconds) >= size) return relative.format(Math.round(seconds / size), unit);
  }
  return relative.format(seconds, "second");
}

export const ms = (value) => (value >= 1000 ? `${(value / 1000).toFixed(1)} s` : `${Math.round(value)} ms`);

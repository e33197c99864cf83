// The shell: navigation, which page belongs to which address, logging in, language.

import { get, onConnection, onLoggedOut, send, useSession } from "./api.js";
import { Button, Card, Field, Notice, Page, Spinner, ask, hasUnsaved, html, render, useEffect, useRef, useState } from "./ui.js";
import { LANGUAGES, choose, language, words } from "./words.js";

const t = words({
  en: {
    product: "Xiaozhi", skip: "Skip to the content", menu: "Pages", language: "Language", out: "Log out",
    talk: "Talk", overview: "Overview", devices: "Devices", history: "History", settings: "Settings", logs: "Logs",
    login: "Log in", password: "Password", hint: "It was printed when the server first started. `server.py console password` makes a new one.",
    new: "No language model has been chosen yet: only a few kinds of questions are answered.", guide: "Choose one in a minute", later: "Not now",
    missing: "There is no such page.", broken: "This page could not be shown: {why}",
    expired: "You are logged out. What you have typed is still there once you have logged in.",
    silent: "The server does not answer, so this page may be out of date. It is tried again by itself.",
    unsaved: "There are changes on this page that are not saved. Leave it without them?", leave: "Leave without saving",
  },
  zh: {
    product: "小智", skip: "跳到内容", menu: "页面", language: "语言", out: "退出",
    talk: "对话", overview: "总览", devices: "设备", history: "历史", settings: "设置", logs: "日志",
    login: "登录", password: "密码", hint: "服务器第一次启动时显示过。`server.py console password` 可以生成新密码。",
    new: "还没有选择大模型，目前只能回答有限的几类问题。", guide: "一分钟选好", later: "以后再说",
    missing: "没有这个页面。", broken: "页面无法显示：{why}",
    expired: "登录已失效。重新登录后，您填写的内容还在。",
    silent: "服务器没有回应，页面内容可能已过时，会自动重试。",
    unsaved: "本页有尚未保存的修改，确定要离开吗？", leave: "不保存，直接离开",
  },
});

// Address (a pattern of its parts) -> module with the page as its default export, and the entry of the menu it belongs to.
const ROUTES = [
  { path: "/talk", page: "talk", menu: "talk" },
  { path: "/console", page: "overview", menu: "overview" },
  { path: "/console/devices", page: "devices", menu: "devices" },
  { path: "/console/devices/:device", page: "device", menu: "devices" },
  { path: "/console/history", page: "history", menu: "history" },
  { path: "/console/history/:conversation", page: "conversation", menu: "history" },
  { path: "/console/settings", page: "settings", menu: "settings" },
  { path: "/console/start", page: "start", menu: "settings" },
  { path: "/console/logs", page: "logs", menu: "logs" },
];
const MENU = ["talk", "overview", "devices", "history", "settings", "logs"];

function match(address) {
  const asked = address.replace(/\/+$/, "").split("/");
  for (const route of ROUTES) {
    const parts = route.path.split("/");
    if (parts.length !== asked.length) continue;
    const values = {};
    if (parts.every((part, at) => (part.startsWith(":") ? (values[part.slice(1)] = decodeURIComponent(asked[at])) : part === asked[at]))) {
      return { ...route, values };
    }
  }
  return null;
}

const ASKED = "asked"; // of a move about which `mayLeave` has been asked
const mayLeave = async () => !hasUnsaved() || ask(t("unsaved"), t("leave"));

// Follow a link inside the application without loading it again.
export async function go(address) {
  if (!(await mayLeave())) return;
  history.pushState(null, "", address);
  dispatchEvent(new PopStateEvent("popstate", { state: ASKED }));
}

document.addEventListener("click", (event) => {
  const link = event.target.closest && event.target.closest("a[href]");
  if (!link || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey || link.target || link.hasAttribute("download")) return;
  if (link.origin !== location.origin || !match(link.pathname)) return;
  event.preventDefault();
  go(link.pathname + link.search);
});

function Login({ expired, onDone }) {
  const [password, setPassword] = useState("");
  const [error, setError] = useState("");
  const [busy, setBusy] = useState(false);
  const form = useRef(null);
  useEffect(() => form.current.querySelector("input").focus(), []);
  const submit = async (event) => {
    event.preventDefault();
    setBusy(true);
    try {
      onDone(useSession(await send("POST", "session", { password })));
    } catch (failed) {
      setError(failed.message);
      setBusy(false);
    }
  };
  return html`
    <${Page} title=${t("login")}>
      ${expired && html`<${Notice} kind="warn">${t("expired")}</${Notice}>`}
      <${Card}>
        <form ref=${form} onSubmit=${submit}>
          <${Field} label=${t("password")} hint=${t("hint")} error=${error}>
            ${(own) => html`<input ...${own} type="password" autocomplete="current-password" required value=${password} onInput=${(event) => setPassword(event.target.value)} />`}
          </${Field}>
          <${Button} type="submit" kind="primary" busy=${busy}>${t("login")}</${Button}>
        </form>
      </${Card}>
    </${Page}>`;
}

// The way to the first-run guide, while nothing has been chosen yet; once closed it stays so in this browser.
const CLOSED = "xiaozhi.guide.closed";

function Welcome() {
  const [open, setOpen] = useState(() => {
    try {
      return !localStorage.getItem(CLOSED);
    } catch {
      return true; // storage is off
    }
  });
  const close = () => {
    setOpen(false);
    try {
      localStorage.setItem(CLOSED, "1");
    } catch {
      // it holds until the page is left
    }
  };
  return open && html`<aside class="welcome"><span>${t("new")} <a href="/console/start">${t("guide")}</a></span><${Button} kind="quiet" onClick=${close}>${t("later")}</${Button}></aside>`;
}

function Shell() {
  const [session, setSession] = useState(null);
  const [failed, setFailed] = useState("");
  const [where, setWhere] = useState(location.pathname);
  const [shown, setShown] = useState(null);
  const [visit, setVisit] = useState(0);
  const [connected, setConnected] = useState(true);
  const address = useRef("");
  const route = match(where);

  useEffect(() => {
    onLoggedOut(() => setSession({ logged_in: false, expired: true }));
    onConnection(setConnected);
    get("session").then((answer) => setSession(useSession(answer)), (error) => setFailed(error.message));
    address.current = location.pathname + location.search;
    const moved = async (event) => {
      if (event.state !== ASKED && location.pathname !== address.current.split("?")[0] && !(await mayLeave())) {
        return history.pushState(null, "", address.current);
      }
      address.current = location.pathname + location.search;
      setWhere(location.pathname);
    };
    addEventListener("popstate", moved);
    return () => removeEventListener("popstate", moved);
  }, []);
  useEffect(() => {
    if (!route) return setShown(null);
    let current = true;
    import(`./pages/${route.page}.js`).then(
      (module) => {
        if (!current) return;
        setShown({ page: module.default, where });
        requestAnimationFrame(() => document.getElementById("main")?.focus({ preventScroll: true }));
      },
      (error) => current && setFailed(t("broken", { why: error.message })),
    );
    return () => { current = false; };
  }, [where]);

  const logOut = async () => {
    if (await mayLeave()) setSession(await send("DELETE", "session"));
  };
  const logIn = (answer) => {
    if (!hasUnsaved()) setVisit(visit + 1); // what was refused meanwhile is asked for again
    setSession(answer);
    requestAnimationFrame(() => document.getElementById("main")?.focus());
  };
  const away = session && !session.logged_in;
  let content;
  if (failed) content = html`<${Page} title=${t("product")}><${Notice} kind="bad">${failed}</${Notice}></${Page}>`;
  else if (!session) content = html`<main id="main"><${Spinner} /></main>`;
  else if (away && !session.expired) content = null;
  else if (!route) content = html`<${Page} title="404"><p>${t("missing")}</p></${Page}>`;
  else if (!shown) content = html`<main id="main"><${Spinner} /></main>`;
  else content = html`<${shown.page} key=${`${visit} ${shown.where}`} session=${session} ...${match(shown.where)?.values} />`;

  return html`
    <a class="skip" href="#main">${t("skip")}</a>
    <header class="top">
      <a class="brand" href="/console"><img src="/console/static/icon.svg" alt="" width="28" height="28" />${t("product")}</a>
      ${session?.logged_in && html`<nav aria-label=${t("menu")}>
        ${MENU.map((name) => {
          const target = ROUTES.find((each) => each.menu === name).path;
          return html`<a href=${target} aria-current=${route?.menu === name ? "page" : undefined}>${t(name)}</a>`;
        })}
      </nav>`}
      <div class="top-end">
        <select aria-label=${t("language")} value=${language} onChange=${(event) => choose(event.target.value)}>
          ${Object.entries(LANGUAGES).map(([name, title]) => html`<option value=${name} selected=${name === language}>${title}</option>`)}
        </select>
        ${session?.logged_in && session.who === "owner" && html`<${Button} kind="quiet" onClick=${logOut}>${t("out")}</${Button}>`}
      </div>
    </header>
    ${session?.logged_in && session.new && !["settings", "start"].includes(route?.page) && html`<${Welcome} />`}
    ${!connected && !away && route?.page !== "overview" && html`<div class="offline"><${Notice} kind="bad">${t("silent")}</${Notice}></div>`}
    ${away && html`<${Login} expired=${session.expired && hasUnsaved()} onDone=${logIn} />`}
    <div hidden=${Boolean(away)}>${content}</div>`;
}

render(html`<${Shell} />`, document.getElementById("app"));

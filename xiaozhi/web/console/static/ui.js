// The parts that all pages are made of. Preact and htm:
//
//   html`<${Card} title=${t("title")}><${Button} onClick=${save}>${t("save")}</${Button}></${Card}>`

import { Component, html, render, useEffect, useMemo, useRef, useState } from "./vendor/preact-htm.js";
import { ago, date, words } from "./words.js";

export { Component, html, render, useEffect, useMemo, useRef, useState };

const t = words({
  en: { product: "Xiaozhi", close: "Close", loading: "Loading", again: "Try again", cancel: "Cancel", nothing: "Nothing here yet.", copy: "Copy", copyOf: "Copy: {what}", copied: "Copied." },
  zh: { product: "小智", close: "关闭", loading: "正在载入", again: "重试", cancel: "取消", nothing: "这里还没有内容。", copy: "复制", copyOf: "复制：{what}", copied: "已复制。" },
});

export const classes = (...names) => names.filter(Boolean).join(" ");

// The style sheet of one page, pages/<name>.css; resolves when it is in force, so that nothing jumps: `await useStyle("talk")`.
export function useStyle(name) {
  const id = `style-${name}`;
  if (document.getElementById(id)) return Promise.resolve();
  const link = document.createElement("link");
  Object.assign(link, { id, rel: "stylesheet", href: `/console/static/pages/${name}.css` });
  return new Promise((resolve) => {
    link.onload = link.onerror = resolve;
    document.head.append(link);
  });
}

export function Page({ title, actions, children }) {
  useEffect(() => { document.title = `${title} · ${t("product")}`; }, [title]);
  return html`
    <main id="main" tabindex="-1" class="page">
      <header class="page-head"><h1>${title}</h1><div class="actions">${actions}</div></header>
      ${children}
    </main>`;
}

export const Card = ({ title, actions, children, kind }) => html`
  <section class=${classes("card", kind)}>
    ${(title || actions) && html`<header><h2>${title}</h2><div class="actions">${actions}</div></header>`}
    ${children}
  </section>`;

export const Button = ({ kind, busy, children, ...rest }) => html`
  <button type="button" ...${rest} class=${classes("button", kind)} disabled=${rest.disabled || busy} aria-busy=${busy ? "true" : undefined}>
    ${children}
  </button>`;

const TOAST_MS = 4000;
const MAX_FAILURES = 3;

let fields = 0;

// A labelled input, select or textarea: the child is a function of the id and what describes it.
export function Field({ label, hint, error, children }) {
  const id = useMemo(() => `field-${++fields}`, []);
  const described = [hint && `${id}-hint`, error && `${id}-error`].filter(Boolean).join(" ") || undefined;
  return html`
    <div class=${classes("field", error && "wrong")}>
      <label for=${id}>${label}</label>
      ${children({ id, "aria-describedby": described, "aria-invalid": error ? "true" : undefined })}
      ${hint && html`<p class="hint" id="${id}-hint">${hint}</p>`}
      ${error && html`<p class="error" id="${id}-error">${error}</p>`}
    </div>`;
}

export const Badge = ({ kind, children }) => html`<span class=${classes("badge", kind)}>${children}</span>`;

export const Empty = ({ children }) => html`<p class="empty">${children || t("nothing")}</p>`;

export const Spinner = ({ label }) => html`<p class="spinner" role="status">${label || t("loading")}…</p>`;

// Rows of cells. `columns`: [{ key, title, cell: (row) => ..., number: bool }]. On a phone each row is a small card.
export const Table = ({ columns, rows, caption, onRow }) => html`
  <div class="table-scroll" tabindex="0" role="region" aria-label=${caption}>
    <table>
      <caption class="visually-hidden">${caption}</caption>
      <thead><tr>${columns.map((column) => html`<th scope="col" class=${column.number ? "number" : ""}>${column.title}</th>`)}</tr></thead>
      <tbody>
        ${rows.map((row) => html`<tr key=${row.key}>${columns.map(
          (column) => html`<td class=${column.number ? "number" : ""} data-title=${column.title}>${column.cell(row)}</td>`,
        )}</tr>`)}
      </tbody>
    </table>
  </div>`;

// A promise as { value, error, loading, again }.
export function useLoaded(load, inputs = []) {
  const [state, setState] = useState({ loading: true });
  const [round, setRound] = useState(0);
  useEffect(() => {
    let current = true;
    setState((before) => ({ ...before, loading: true }));
    load().then(
      (value) => current && setState({ value, loading: false }),
      (error) => current && setState((before) => ({ ...before, error, loading: false })),
    );
    return () => { current = false; };
  }, [...inputs, round]);
  return { ...state, again: () => setRound((before) => before + 1) };
}

// A value that is still being typed, once it has stayed the same for a moment.
export function useSettled(value, ms = 300) {
  const [settled, setSettled] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setSettled(value), ms);
    return () => clearTimeout(timer);
  }, [value]);
  return settled;
}

// What `useLoaded` gave, shown: a spinner, a sentence with "try again" when it failed, the children as a function of the
// value; both where what is shown could not be renewed.
export const Loaded = ({ state, children }) => html`
  ${state.error && html`<${Notice} kind="bad">${state.error.message} <${Button} onClick=${state.again}>${t("again")}</${Button}></${Notice}>`}
  ${state.value !== undefined ? children(state.value) : !state.error && html`<${Spinner} />`}`;

const TICK_MS = 10000;

// How long ago something was, kept right while the page is open.
export function Ago({ at }) {
  const [, setRound] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => setRound((before) => before + 1), TICK_MS);
    return () => clearInterval(timer);
  }, []);
  return html`<time datetime=${new Date(at * 1000).toISOString()} title=${date(at)}>${ago(at)}</time>`;
}

// A button that copies a text. `what` it is, for screen readers.
export function Copy({ text, what }) {
  const copy = async () => {
    if (navigator.clipboard) await navigator.clipboard.writeText(text);
    else copyBySelection(text); // over plain http there is no clipboard for scripts
    toast(t("copied"));
  };
  return html`<${Button} kind="quiet" aria-label=${t("copyOf", { what })} onClick=${copy}>${t("copy")}</${Button}>`;
}

function copyBySelection(text) {
  const field = document.createElement("textarea");
  const before = document.activeElement;
  field.value = text;
  document.body.append(field);
  field.select();
  document.execCommand("copy");
  field.remove();
  before?.focus();
}

const unsaved = new Set();

export const hasUnsaved = () => unsaved.size > 0;

// While there are changes that are not saved, whoever leaves the page is asked first.
export function useUnsaved(changed) {
  useEffect(() => {
    if (!changed) return undefined;
    const mark = {};
    const warn = (event) => event.preventDefault();
    unsaved.add(mark);
    addEventListener("beforeunload", warn);
    return () => {
      unsaved.delete(mark);
      removeEventListener("beforeunload", warn);
    };
  }, [Boolean(changed)]);
}

export const Notice = ({ kind = "info", children }) => html`<div class=${classes("notice", kind)} role=${kind === "bad" ? "alert" : "status"}>${children}</div>`;

// A question before something that cannot be undone. `ask` shows it and resolves to whether it was answered with yes.
export async function ask(question, yes) {
  const dialog = document.createElement("dialog");
  dialog.className = "dialog";
  dialog.setAttribute("aria-label", question);
  document.body.append(dialog);
  const answer = await new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"));
    render(html`
      <form method="dialog">
        <p>${question}</p>
        <div class="actions"><button class="button" value="no" autofocus>${t("cancel")}</button><button class="button danger" value="yes">${yes}</button></div>
      </form>`, dialog);
    dialog.showModal();
  });
  dialog.remove();
  return answer;
}

// Do something that the server may refuse, and tell how it went: `said` of its answer ("": nothing), or why not.
export async function attempt(work, said) {
  try {
    const text = said(await work());
    if (text) toast(text);
    return true;
  } catch (error) {
    toast(error.message, "bad");
    return false;
  }
}

// A short message at the edge of the page, read out by screen readers. What went wrong stays until it is closed.
export function toast(text, kind = "info") {
  let place = document.getElementById("toasts");
  if (!place) {
    place = document.createElement("div");
    place.id = "toasts";
    place.setAttribute("role", "status");
    place.setAttribute("aria-live", "polite");
    document.body.append(place);
  }
  const line = document.createElement("p");
  line.className = classes("toast", kind);
  line.textContent = text;
  place.append(line);
  if (kind !== "bad") return setTimeout(() => line.remove(), TOAST_MS);
  const close = document.createElement("button");
  Object.assign(close, { type: "button", textContent: "×", onclick: () => line.remove() });
  close.setAttribute("aria-label", t("close"));
  line.setAttribute("role", "alert");
  line.append(close);
  const failures = place.querySelectorAll(".toast.bad");
  if (failures.length > MAX_FAILURES) failures[0].remove();
}

// What the pages ask the server. Every failure is an ApiError with a sentence for people.
//
//   await get("devices"); await send("POST", "devices/aa:bb/say", { text: "hello" });
//   const stop = live(["overview"], (topic, data) => ...);

import { translated } from "./refusals.js";
import { useZone, words } from "./words.js";

const t = words({ en: { silent: "The server does not answer." }, zh: { silent: "服务器没有回应。" } });

const BASE = "/console/api/";
let csrf = "";
let whenLoggedOut = () => {};
let whenConnected = () => {};

export class ApiError extends Error {
  constructor(status, message, details = {}) {
    super(message);
    this.status = status;
    this.details = details;
  }
}

export function onLoggedOut(callback) {
  whenLoggedOut = callback;
}

// `callback(connected)`: whether what is live on this page comes; told of changes only.
export function onConnection(callback) {
  whenConnected = callback;
}

export function useSession(session) {
  csrf = session.csrf || "";
  useZone(session.zone);
  return session;
}

export const get = (path) => send("GET", path);

export async function send(method, path, body) {
  const response = await request(method, path, body);
  return read(response, await response.text());
}

// What is not JSON, such as sound.
export async function blob(method, path, body) {
  const response = await request(method, path, body);
  return response.ok ? response.blob() : read(response, await response.text());
}

async function request(method, path, body) {
  let response = await attempt(method, path, body);
  // The proof of another tab, or of a session that has ended meanwhile, holds no more: once again with the one in force.
  if (response.status === 403 && method !== "GET" && path !== "session" && (await proofChanged())) response = await attempt(method, path, body);
  if (response.status === 401 && path !== "session") whenLoggedOut();
  return response;
}

async function attempt(method, path, body) {
  const headers = {};
  if (method !== "GET") headers["X-CSRF-Token"] = csrf;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  try {
    return await fetch(BASE + path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch {
    throw new ApiError(0, t("silent"));
  }
}

async function proofChanged() {
  const before = csrf;
  const session = await get("session");
  if (!session.logged_in) whenLoggedOut();
  return session.logged_in && useSession(session).csrf !== before;
}

function read(response, text) {
  let answer = {};
  try {
    answer = text ? JSON.parse(text) : {};
  } catch {
    throw new ApiError(response.status, `${response.status} ${response.statusText}`);
  }
  if (response.ok) return answer;
  throw new ApiError(response.status, translated(answer.message || response.statusText), answer);
}

// Like send("POST", ...), for what is answered with sound: { sound: Blob }, or what is wrong with it as JSON.
export async function hear(path, body) {
  const response = await request("POST", path, body);
  if (response.ok && response.headers.get("Content-Type").startsWith("audio/")) return { sound: await response.blob() };
  return read(response, await response.text());
}

const AGAIN_MS = 5000;
const SAMPLES = ["overview", "devices", "history"]; // topics that tell everything anew when a page comes back

// Events of these topics until the returned function is called. The browser connects again by itself when a connection
// breaks off; after a refusal (logged out, too many pages) it would not, so that is done here. Samples rest while nobody
// sees the page: a browser has six connections to one server, for all of its tabs.
// `onLost(n)`: so many were left out, as this page did not read fast enough.
export function live(topics, onEvent, onState = () => {}, onLost = () => {}) {
  let source;
  let timer;
  let round = 0;
  const tell = (connected) => {
    onState(connected);
    whenConnected(connected);
  };
  const open = () => {
    source = new EventSource(`${BASE}live?topics=${topics.join(",")}`);
    for (const topic of topics) source.addEventListener(topic, (event) => onEvent(topic, JSON.parse(event.data)));
    source.addEventListener("lost", (event) => onLost(JSON.parse(event.data)));
    source.onopen = () => tell(true);
    source.onerror = () => {
      tell(false);
      if (source.readyState === EventSource.CLOSED) timer = setTimeout(again, AGAIN_MS);
    };
  };
  const again = async () => {
    const mine = round;
    const session = await get("session").catch(() => null); // null: the server does not answer
    if (mine !== round) return;
    if (session && !session.logged_in) whenLoggedOut();
    if (!session?.logged_in) timer = setTimeout(again, AGAIN_MS);
    else {
      useSession(session);
      open();
    }
  };
  const stop = () => {
    round += 1;
    clearTimeout(timer);
    source?.close();
  };
  const seen = () => {
    stop();
    if (!document.hidden) open();
  };
  const rests = topics.every((topic) => SAMPLES.includes(topic));
  if (rests) document.addEventListener("visibilitychange", seen);
  if (!rests || !document.hidden) open();
  return () => {
    document.removeEventListener("visibilitychange", seen);
    stop();
    whenConnected(true);
  };
}

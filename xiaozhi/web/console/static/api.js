// What the pages ask the server. Every failure is an ApiError with a sentence for people.
//
//   await get("devices"); await send("POST", "devices/aa:bb/say", { text: "hello" });
//   const stop = live(["overview"], (topic, data) => ...);

const BASE = "/console/api/";
let csrf = "";
let whenLoggedOut = () => {};

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

export function useSession(session) {
  csrf = session.csrf || "";
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
  const headers = {};
  if (method !== "GET") headers["X-CSRF-Token"] = csrf;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(BASE + path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch {
    throw new ApiError(0, navigator.language.startsWith("zh") ? "服务器没有回应。" : "The server does not answer.");
  }
  if (response.status === 401 && path !== "session") whenLoggedOut();
  return response;
}

function read(response, text) {
  let answer = {};
  try {
    answer = text ? JSON.parse(text) : {};
  } catch {
    throw new ApiError(response.status, `${response.status} ${response.statusText}`);
  }
  if (response.ok) return answer;
  throw new ApiError(response.status, answer.message || response.statusText, answer);
}

// Like send("POST", ...), for what is answered with sound: { sound: Blob }, or what is wrong with it as JSON.
export async function hear(path, body) {
  const headers = { "X-CSRF-Token": csrf, "Content-Type": "application/json" };
  const response = await fetch(BASE + path, { method: "POST", headers, body: JSON.stringify(body) });
  if (response.ok && response.headers.get("Content-Type").startsWith("audio/")) return { sound: await response.blob() };
  const answer = await response.json();
  if (response.ok) return answer;
  if (response.status === 401) whenLoggedOut();
  throw new ApiError(response.status, answer.message || response.statusText, answer);
}

const AGAIN_MS = 5000;

// Events of these topics until the returned function is called. The browser connects again by itself when a connection
// breaks off; after a refusal (logged out, too many pages) it would not, so that is done here.
// `onLost(n)`: so many were left out, as this page did not read fast enough.
export function live(topics, onEvent, onState = () => {}, onLost = () => {}) {
  let source;
  let timer;
  const open = () => {
    source = new EventSource(`${BASE}live?topics=${topics.join(",")}`);
    for (const topic of topics) source.addEventListener(topic, (event) => onEvent(topic, JSON.parse(event.data)));
    source.addEventListener("lost", (event) => onLost(JSON.parse(event.data)));
    source.onopen = () => onState(true);
    source.onerror = () => {
      onState(false);
      if (source.readyState !== EventSource.CLOSED) return;
      timer = setTimeout(async () => {
        try {
          if (!(await get("session")).logged_in) return whenLoggedOut();
        } catch {
          // the server does not answer: tried again below
        }
        open();
      }, AGAIN_MS);
    };
  };
  open();
  return () => {
    clearTimeout(timer);
    source.close();
  };
}

// The WebSocket to the server: which address, opened, greeted.

const OPEN_MS = 5000;
const HELLO_MS = 8000;

export class Unreachable extends Error {
  constructor(urls) {
    super(urls.join(", "));
    this.urls = urls;
  }
}

// Addresses that a page of this scheme may connect to, the likeliest first.
export function reachable(urls, page = location) {
  if (page.protocol !== "https:") return urls;
  const own = urls.map((url) => `wss://${page.host}${new URL(url).pathname}`);
  return [...new Set([...urls.filter((url) => url.startsWith("wss:")), ...own])];
}

function open(url, query) {
  return new Promise((resolve, reject) => {
    let socket;
    try {
      socket = new WebSocket(`${url}?${new URLSearchParams(query)}`);
    } catch (error) {
      return reject(error);
    }
    socket.binaryType = "arraybuffer";
    const late = setTimeout(() => socket.close(), OPEN_MS);
    socket.onopen = () => (clearTimeout(late), resolve(socket));
    socket.onclose = () => (clearTimeout(late), reject(new Error(url)));
  });
}

// { socket, hello, url } of the first address that answers. Throws Unreachable.
export async function connect(urls, { device_id, client_id }, token, hello) {
  const query = { "device-id": device_id, "client-id": client_id, "protocol-version": "1" };
  if (token) query.authorization = `Bearer ${token}`;
  const tried = reachable(urls);
  for (const url of tried) {
    let socket;
    try {
      socket = await open(url, query);
      return { socket, hello: await greet(socket, hello), url };
    } catch {
      socket?.close();
    }
  }
  throw new Unreachable(tried);
}

function greet(socket, hello) {
  return new Promise((resolve, reject) => {
    const late = setTimeout(() => reject(new Error("no hello")), HELLO_MS);
    socket.onclose = () => (clearTimeout(late), reject(new Error("closed")));
    socket.onmessage = ({ data }) => {
      if (typeof data !== "string") return;
      const message = JSON.parse(data);
      if (message.type !== "hello") return;
      clearTimeout(late);
      resolve(message);
    };
    socket.send(JSON.stringify(hello));
  });
}

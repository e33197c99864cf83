// Who this browser is as a device: a MAC address of its own and a UUID, made once and kept in localStorage.

const KEY = "xiaozhi.device";

// Not crypto.randomUUID: it is missing where the page came over plain http.
function random(bytes) {
  return [...crypto.getRandomValues(new Uint8Array(bytes))].map((value) => value.toString(16).padStart(2, "0"));
}

function made() {
  const mac = random(6);
  mac[0] = "02"; // locally administered: no maker's device can have it
  const hex = random(16).join("");
  const variant = "89ab"[parseInt(hex[16], 16) & 3];
  const uuid = `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-${variant}${hex.slice(17, 20)}-${hex.slice(20)}`;
  return { device_id: mac.join(":"), client_id: uuid };
}

let now = null;

export function identity() {
  if (now) return now;
  try {
    const kept = JSON.parse(localStorage.getItem(KEY));
    if (kept?.device_id && kept?.client_id) now = { device_id: kept.device_id, client_id: kept.client_id };
  } catch {
    // nothing is kept, or storage is off: then it holds until the page is left
  }
  return now || newIdentity();
}

export function newIdentity() {
  now = made();
  try {
    localStorage.setItem(KEY, JSON.stringify(now));
  } catch {
    // see above
  }
  return now;
}

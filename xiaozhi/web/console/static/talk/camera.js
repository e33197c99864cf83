// One picture of the camera, and what the server's vision model says of it.

const WIDTH = 640;
const SETTLE_MS = 400; // cameras begin dark

// A JPEG. The camera is on for this moment only. Throws what getUserMedia does.
export async function photograph() {
  const stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: WIDTH }, facingMode: "environment" } });
  try {
    const video = document.createElement("video");
    video.muted = true;
    video.playsInline = true;
    video.srcObject = stream;
    await video.play();
    await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
    const canvas = document.createElement("canvas");
    canvas.width = Math.min(WIDTH, video.videoWidth);
    canvas.height = Math.round((video.videoHeight * canvas.width) / video.videoWidth);
    canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
    return await new Promise((resolve, reject) => canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("no picture"))), "image/jpeg", 0.85));
  } finally {
    for (const track of stream.getTracks()) track.stop();
  }
}

// The server's words, as JSON. `address`: { url, token } of MCP initialize; `own`: the path at the server of this page, for
// an address of another origin, which this page may not ask. Throws when the server cannot be asked.
export async function look(picture, question, { url, token }, own, deviceId) {
  const target = new URL(url, location.href).origin === location.origin ? url : own;
  const form = new FormData();
  form.append("question", question);
  form.append("file", picture, "camera.jpg");
  const answer = await fetch(target, { method: "POST", headers: { Authorization: `Bearer ${token}`, "Device-Id": deviceId }, body: form });
  const text = await answer.text();
  if (answer.ok) return text;
  let why = `${answer.status} ${answer.statusText}`;
  try {
    why = JSON.parse(text).message || why;
  } catch {
    // no sentence from the server
  }
  throw new Error(why);
}

// Sound as the server takes and sends it: Opus by WebCodecs where the browser has it, both ways, else plain PCM (s16le).

import { FRAME_MS, RATE } from "./microphone.js";

const BITRATE = 32000;
const SETTLE_MS = 250; // for what an encoder still holds at the end of a question

const upward = { codec: "opus", sampleRate: RATE, numberOfChannels: 1, bitrate: BITRATE };
const exact = { ...upward, opus: { frameDuration: FRAME_MS * 1000, application: "voip" } };

async function opusWorks() {
  try {
    const [up, down] = await Promise.all([
      AudioEncoder.isConfigSupported(exact),
      AudioDecoder.isConfigSupported({ codec: "opus", sampleRate: 24000, numberOfChannels: 1 }),
    ]);
    // A browser that does not know the length of a frame leaves it out, and would send another one.
    return Boolean(up.supported && down.supported && up.config.opus?.frameDuration === FRAME_MS * 1000);
  } catch {
    return false; // no WebCodecs here
  }
}

let known;
export const bestFormat = () => (known ??= opusWorks().then((works) => (works ? "opus" : "pcm")));

// Frames (Float32, 960 samples) to packets. `onPacket(bytes)`.
export function makeEncoder(format, onPacket) {
  if (format === "pcm") {
    return {
      encode: (samples) => onPacket(toPcm(samples)),
      settled: async () => {},
      close: () => {},
    };
  }
  let inside = 0;
  let at = 0;
  let wake = () => {};
  const encoder = new AudioEncoder({
    output: (chunk) => {
      const packet = new Uint8Array(chunk.byteLength);
      chunk.copyTo(packet);
      onPacket(packet);
      if (--inside <= 0) wake();
    },
    error: (error) => console.error("opus encoder:", error),
  });
  encoder.configure(exact);
  return {
    encode(samples) {
      if (encoder.state !== "configured") return;
      const data = new AudioData({
        format: "f32", sampleRate: RATE, numberOfFrames: samples.length, numberOfChannels: 1, timestamp: at, data: samples,
      });
      at += FRAME_MS * 1000;
      inside++;
      encoder.encode(data);
      data.close();
    },
    // All that was encoded is a packet. Not flush(): it would pad, and forget what the codec has learned.
    settled: () =>
      new Promise((resolve) => {
        if (inside <= 0) return resolve();
        wake = resolve;
        setTimeout(resolve, SETTLE_MS);
      }),
    close: () => encoder.state !== "closed" && encoder.close(),
  };
}

// Packets to samples. `onSamples(samples, rate)`; `rate`: what the server said in its hello.
export function makeDecoder(format, rate, onSamples) {
  if (format === "pcm") {
    return { decode: (packet) => onSamples(fromPcm(packet), rate), settled: async () => {}, reset: () => {}, close: () => {} };
  }
  let round = 0;
  let at = 0;
  let decoder;
  const open = () => {
    const own = ++round;
    decoder = new AudioDecoder({
      output: (data) => {
        if (own === round) {
          const samples = new Float32Array(data.numberOfFrames);
          data.copyTo(samples, { planeIndex: 0, format: "f32-planar" });
          onSamples(samples, data.sampleRate);
        }
        data.close();
      },
      error: (error) => console.error("opus decoder:", error),
    });
    decoder.configure({ codec: "opus", sampleRate: rate, numberOfChannels: 1 });
  };
  const close = () => {
    round++;
    if (decoder.state !== "closed") decoder.close();
  };
  open();
  return {
    decode(packet) {
      if (decoder.state === "closed") open(); // a broken packet ends a decoder
      decoder.decode(new EncodedAudioChunk({ type: "key", timestamp: at, data: packet }));
      at += FRAME_MS * 1000;
    },
    settled: () => (decoder.state === "configured" ? decoder.flush().catch(() => {}) : Promise.resolve()),
    reset() {
      close();
      open();
    },
    close,
  };
}

export function toPcm(samples) {
  const bytes = new DataView(new ArrayBuffer(samples.length * 2));
  samples.forEach((value, at) => bytes.setInt16(at * 2, Math.max(-1, Math.min(1, value)) * 32767, true));
  return new Uint8Array(bytes.buffer);
}

export function fromPcm(packet) {
  const view = new DataView(packet.buffer ?? packet, packet.byteOffset ?? 0, packet.byteLength);
  const samples = new Float32Array(Math.floor(packet.byteLength / 2));
  for (let at = 0; at < samples.length; at++) samples[at] = view.getInt16(at * 2, true) / 32768;
  return samples;
}

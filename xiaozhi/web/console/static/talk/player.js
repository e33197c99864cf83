// What the server says, without gaps: pieces of sound are put one behind the other on the audio clock. The server sends
// 180 ms ahead, which is what jitter may eat up; when it has, the next piece waits a little so that the gap is one.
//
// Not a worklet: those are missing where the page came over plain http, and the answer to typed text is heard there too.

import { Resampler } from "./resampler.js";

const RATE = 48000;
const LEAD_S = 0.03;
const SLACK_MS = 500;

export class Player {
  // `onFirst(at)`: the first sound of an answer is heard, performance.now(); `onLevel(0..1)`: while it plays.
  constructor({ onFirst, onLevel }) {
    this.onFirst = onFirst;
    this.onLevel = onLevel;
    this.context = null;
    this.volume = 0.7;
    this.pieces = new Set();
    this.free = 0; // when the last piece ends, on the audio clock
    this.first = true;
    this.whenDrained = null;
    this.resampler = null;
  }

  // Called in a press: browsers play nothing before one.
  async open() {
    if (!this.context) {
      this.context = new AudioContext({ sampleRate: RATE, latencyHint: "interactive" });
      this.gain = this.context.createGain();
      this.gain.connect(this.context.destination);
      this.setVolume(this.volume);
    }
    if (this.context.state === "suspended") await this.context.resume();
  }

  setVolume(share) {
    this.volume = share;
    if (this.gain) this.gain.gain.value = share * share; // how loud it seems goes with the square
  }

  play(samples, rate) {
    if (!this.context) return;
    if (rate !== RATE) {
      if (this.resampler?.from !== rate) this.resampler = Object.assign(new Resampler(rate, RATE), { from: rate });
      samples = this.resampler.push(samples);
    }
    if (!samples.length) return;
    const buffer = this.context.createBuffer(1, samples.length, RATE);
    buffer.copyToChannel(samples, 0);
    const now = this.context.currentTime;
    if (this.free < now) this.free = now + LEAD_S;
    const source = this.context.createBufferSource();
    source.buffer = buffer;
    source.connect(this.gain);
    source.start(this.free);
    if (this.first) {
      this.first = false;
      this.onFirst(performance.now() + (this.free - now + (this.context.outputLatency || 0)) * 1000);
    }
    this.free += buffer.duration;
    this.pieces.add(source);
    source.onended = () => this.ended(source);
    this.onLevel(loudness(samples));
  }

  ended(source) {
    if (!this.pieces.delete(source) || this.pieces.size) return;
    this.onLevel(0);
    const drained = this.whenDrained;
    this.whenDrained = null;
    drained?.();
  }

  // An answer begins.
  begin() {
    this.first = true;
    this.resampler = null;
  }

  // Resolves when all that was given has been heard.
  drained() {
    if (!this.pieces.size) return Promise.resolve();
    return new Promise((resolve) => {
      this.whenDrained = resolve;
      // A system may stop the audio clock, for a call: then nothing ends.
      setTimeout(resolve, (this.free - this.context.currentTime) * 1000 + SLACK_MS);
    });
  }

  // Silence, now.
  stop() {
    const sources = [...this.pieces];
    this.pieces.clear();
    for (const source of sources) source.stop();
    this.free = 0;
    this.onLevel(0);
    const drained = this.whenDrained;
    this.whenDrained = null;
    drained?.();
  }

  close() {
    this.stop();
    this.context?.close();
    this.context = null;
  }
}

export function loudness(samples) {
  let sum = 0;
  for (const value of samples) sum += value * value;
  return Math.sqrt(sum / samples.length);
}

// Samples at another rate: a windowed sinc, fed piece by piece. Also loaded by the microphone's worklet.

const ZEROES = 12; // of the sinc on each side
const PHASES = 128;

export class Resampler {
  constructor(from, to) {
    this.step = from / to;
    const scale = Math.min(1, to / from) * 0.95;
    this.reach = Math.ceil(ZEROES / scale);
    this.taps = 2 * this.reach;
    this.kernels = Array.from({ length: PHASES }, (_, phase) => this.kernel(phase / PHASES, scale));
    this.held = new Float32Array(this.reach); // silence in front
    this.at = 0; // of the next output, in samples of `held`
  }

  kernel(fraction, scale) {
    const kernel = new Float32Array(this.taps);
    let sum = 0;
    for (let tap = 0; tap < this.taps; tap++) {
      const distance = tap - this.reach + 1 - fraction;
      const x = Math.PI * distance * scale;
      const window = 0.5 + 0.5 * Math.cos((Math.PI * distance) / (this.reach + 1));
      kernel[tap] = (x === 0 ? 1 : Math.sin(x) / x) * window;
      sum += kernel[tap];
    }
    return kernel.map((value) => value / sum);
  }

  push(samples) {
    if (this.step === 1) return samples;
    const held = new Float32Array(this.held.length + samples.length);
    held.set(this.held);
    held.set(samples, this.held.length);
    const out = new Float32Array(Math.max(0, Math.ceil((held.length - this.taps - this.at) / this.step)));
    let count = 0;
    let at = this.at;
    for (; at + this.taps < held.length && count < out.length; at += this.step) {
      const first = Math.floor(at);
      const kernel = this.kernels[Math.floor((at - first) * PHASES)];
      let sum = 0;
      for (let tap = 0; tap < this.taps; tap++) sum += kernel[tap] * held[first + tap];
      out[count++] = sum;
    }
    const done = Math.min(Math.floor(at), held.length);
    this.held = held.slice(done);
    this.at = at - done;
    return count === out.length ? out : out.slice(0, count);
  }
}

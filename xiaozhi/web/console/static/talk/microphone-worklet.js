// Runs in the audio thread: the microphone at the browser's rate in, frames of the wire's rate and length out.

import { Resampler } from "./resampler.js";

class Microphone extends AudioWorkletProcessor {
  constructor({ processorOptions }) {
    super();
    this.resampler = new Resampler(sampleRate, processorOptions.rate);
    this.length = processorOptions.samples;
    this.frame = new Float32Array(this.length);
    this.filled = 0;
  }

  process([input]) {
    if (!input.length) return true;
    const samples = this.resampler.push(input[0]);
    for (let from = 0; from < samples.length; ) {
      const count = Math.min(samples.length - from, this.length - this.filled);
      this.frame.set(samples.subarray(from, from + count), this.filled);
      this.filled += count;
      from += count;
      if (this.filled === this.length) {
        this.port.postMessage(this.frame, [this.frame.buffer]);
        this.frame = new Float32Array(this.length); // the other one is gone, and has no length any more
        this.filled = 0;
      }
    }
    return true;
  }
}

registerProcessor("microphone", Microphone);

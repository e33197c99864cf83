// Whether somebody is speaking into the microphone, by loudness over the noise of the room: for the level that is shown
// and for the moment from which the wait for an answer is counted. The server decides by its own detector.

import { loudness } from "./player.js";

const OVER_NOISE = 3;
const FAINTEST = 0.006;

export class VoiceWatch {
  constructor() {
    this.noise = 0.003;
    this.lastVoiceAt = 0; // performance.now() at the end of the last frame with a voice; 0: none yet
  }

  // The loudness (0..1) of a frame.
  hear(samples) {
    const level = loudness(samples);
    if (level > Math.max(FAINTEST, this.noise * OVER_NOISE)) this.lastVoiceAt = performance.now();
    // The floor falls quickly and rises slowly, so that a voice does not become noise.
    this.noise += (level - this.noise) * (level < this.noise ? 0.3 : 0.005);
    return level;
  }
}

// The device: what the visitor does and what the server says become one state, which the page shows.
//
//   const device = new TalkDevice({ admit, onChange, onLevel });
//   device.press(); device.release(); device.type("what time is it"); device.interrupt();
//
// phase: off ▸ connecting ▸ ready ▸ listening ▸ thinking ▸ speaking ▸ ...; "reconnecting" when the connection was lost.
// Wire: docs/clients.md.

import { bestFormat, makeDecoder, makeEncoder } from "./codec.js";
import { look, photograph } from "./camera.js";
import { identity, newIdentity } from "./identity.js";
import { knobs } from "./knobs.js";
import { FRAME_MS, RATE, missing, openMicrophone } from "./microphone.js";
import { Player } from "./player.js";
import { Unreachable, connect } from "./socket.js";
import { DeviceTools } from "./tools.js";
import { VoiceWatch } from "./voice.js";

const MAX_LINES = 200;
const TAP_MS = 350; // shorter: a tap, and the next one ends the question
const UNDERSTAND_MS = 10000; // after that long nothing was understood
const ANSWER_MS = 30000; // and nothing will be said
const STOP_MS = 1500; // for the server to say that it has stopped
const BARGE_IN_MS = 1000;
const RETRY_MS = [300, 1000, 2000, 4000, 8000, 8000, 8000];
const NORMAL = 1000;
const REFUSED = 1008;
const MICROPHONE_FAULTS = { NotAllowedError: "refused", SecurityError: "refused", NotFoundError: "none", NotReadableError: "busy" };

export class TalkDevice {
  // `admit(ids)`: the server's { urls, token, vision, ... }; may throw an ApiError. `onChange(state)`. `onLevel("in" | "out", 0..1)`.
  constructor({ admit, onChange, onLevel }) {
    this.admit = admit;
    this.onChange = onChange;
    this.onLevel = onLevel;
    this.state = {
      phase: "off", ...knobs(), active: false, latched: false, fault: null, microphone: missing() || "off",
      lines: [], emotion: "neutral", subtitle: "", camera: false,
      server: null, url: "", format: "", rate: 0,
    };
    this.player = new Player({ onFirst: (at) => this.mark("sound", at), onLevel: (level) => onLevel("out", level) });
    this.player.setVolume(this.state.volume / 100);
    this.voice = new VoiceWatch();
    this.tools = new DeviceTools(this, (name, given) => this.called(name, given));
    this.socket = null;
    this.sessionId = "";
    this.encoder = this.decoder = this.microphone = null;
    this.starting = this.opening = null;
    this.streaming = false; // the microphone goes to the server
    this.held = false;
    this.finishing = null;
    this.deaf = false; // sound of an answer that was cut short may still arrive
    this.stopDue = 0; // "stop" messages that belong to answers cut short
    this.askedAt = 0;
    this.answer = null; // the id of the line of the answer under way
    this.timer = 0;
    this.closed = false;
    this.nextLine = 1;
  }

  set(patch) {
    this.state = { ...this.state, ...patch };
    if (!this.closed) this.onChange(this.state);
  }

  // --- what the visitor does ---

  // The big button, or space, went down.
  press() {
    const { phase, mode, active, latched } = this.state;
    this.set({ fault: null });
    this.player.open().catch(() => {}); // here, for browsers want to see the press
    if (mode === "manual") {
      if (latched) return this.finish();
      this.held = true;
      this.pressedAt = performance.now();
      return this.begin(() => this.held || this.state.latched);
    }
    if (phase === "speaking" || (active && phase === "thinking")) return this.interrupt();
    if (active) return this.rest();
    this.set({ active: true });
    return this.begin(() => this.state.active);
  }

  release() {
    if (!this.held) return;
    this.held = false;
    if (performance.now() - this.pressedAt < TAP_MS) this.set({ latched: true });
    else this.finish();
  }

  async begin(still) {
    try {
      await this.start();
      await this.openMicrophone();
    } catch (error) {
      this.held = false;
      return this.failed(error);
    }
    if (!still()) return;
    if (this.state.phase === "speaking") this.cutShort();
    this.listen();
  }

  // Typed text; false when it could not be sent.
  async type(text) {
    this.set({ fault: null });
    this.player.open().catch(() => {});
    try {
      await this.start();
    } catch (error) {
      return this.failed(error);
    }
    if (this.state.phase === "speaking") this.cutShort();
    this.streaming = this.streaming && this.state.mode === "realtime";
    this.send({ type: "listen", state: "detect", text });
    this.asked();
  }

  // Stop the answer.
  interrupt() {
    if (this.state.phase !== "speaking" && this.state.phase !== "thinking") return;
    this.cutShort();
    this.stopDue = 1; // an abort is always answered
    this.send({ type: "abort", reason: "user" });
    this.set({ phase: "ready", subtitle: "" });
    this.wait(STOP_MS, () => this.answered());
  }

  // End the conversation, and stay connected.
  rest() {
    this.streaming = false;
    this.send({ type: "listen", state: "stop" });
    clearTimeout(this.timer);
    this.set({ active: false, latched: false, phase: this.socket ? "ready" : "off" });
    this.closeMicrophone();
  }

  setMode(mode) {
    if (mode === this.state.mode) return;
    if (this.state.phase === "speaking" || this.state.phase === "thinking") this.interrupt();
    if (this.streaming || this.state.active) this.rest();
    this.held = false;
    this.set({ mode, active: false, latched: false });
  }

  // --- what the server's tools may do, too ---

  setVolume(volume) {
    this.player.setVolume(volume / 100);
    this.set({ volume });
  }

  setBrightness(brightness) {
    this.set({ brightness });
  }

  setCamera(camera) {
    this.set({ camera });
    this.send({ type: "mcp", payload: { jsonrpc: "2.0", method: "notifications/tools/list_changed" } });
  }

  get camera() {
    return this.state.camera;
  }

  status() {
    const { volume, brightness } = this.state;
    return {
      audio_speaker: { volume },
      screen: { brightness, theme: matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light" },
      network: { type: navigator.connection?.type || "browser" },
    };
  }

  async photograph(question, vision) {
    if (!vision) throw new Error("The server has not said where pictures go.");
    const picture = await photograph();
    this.line({ kind: "picture", picture: URL.createObjectURL(picture), text: question }, this.beforeAnswer());
    return look(picture, question, vision, this.state.server.vision, identity().device_id);
  }

  called(name, given) {
    const id = this.line({ kind: "tool", name, given, pending: true, early: !this.answer }, this.beforeAnswer());
    return (result, failed) => this.edit(id, () => ({ pending: false, result, failed }));
  }

  // --- the connection ---

  // Be connected. Throws ApiError, Unreachable.
  start() {
    if (this.socket) return Promise.resolve();
    this.starting ??= this.connect().finally(() => { this.starting = null; });
    return this.starting;
  }

  async connect() {
    if (this.state.phase === "off") this.set({ phase: "connecting" });
    const format = await bestFormat();
    const server = await this.admit(identity());
    const { socket, hello, url } = await connect(server.urls, identity(), server.token, {
      type: "hello",
      version: 1,
      transport: "websocket",
      features: { mcp: true },
      audio_params: { format, sample_rate: RATE, channels: 1, frame_duration: FRAME_MS },
    });
    if (this.closed) return socket.close();
    const rate = hello.audio_params.sample_rate;
    this.sessionId = hello.session_id;
    this.encoder = makeEncoder(format, (packet) => socket.readyState === WebSocket.OPEN && socket.send(packet));
    this.decoder = makeDecoder(format, rate, (samples, at) => this.deaf || this.player.play(samples, at));
    this.socket = socket;
    this.deaf = false;
    this.stopDue = 0;
    socket.onmessage = ({ data }) => (typeof data === "string" ? this.heard(JSON.parse(data)) : this.deaf || this.decoder.decode(data));
    socket.onclose = (event) => this.lost(event);
    this.set({ phase: "ready", server, url, format, rate, fault: null });
  }

  send(message) {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify({ session_id: this.sessionId, ...message }));
  }

  lost({ code, reason }) {
    this.socket = null;
    this.streaming = this.held = false;
    clearTimeout(this.timer);
    this.encoder.close();
    this.decoder.close();
    if (code !== NORMAL) this.player.stop();
    this.answer = null;
    if (this.closed) return;
    if (code === NORMAL || code === REFUSED) {
      this.closeMicrophone();
      this.set({ phase: "off", active: false, latched: false, subtitle: "" });
      if (reason === "replaced") this.set({ fault: { kind: "elsewhere" } });
      else if (code === REFUSED) this.set({ fault: { kind: "refused", text: reason } });
      else this.line({ kind: "note", note: "ended" });
      return;
    }
    this.set({ phase: "reconnecting", latched: false, subtitle: "" });
    this.again(0);
  }

  again(attempt) {
    this.wait(RETRY_MS[attempt], async () => {
      try {
        await this.start();
      } catch (error) {
        if (this.closed) return;
        if (error.status || attempt + 1 >= RETRY_MS.length) return this.failed(error);
        return this.again(attempt + 1);
      }
      if (this.state.active) this.listen();
    });
  }

  failed(error) {
    if (this.closed) return;
    let fault = { kind: "other", text: error.message };
    if (error instanceof Unreachable) fault = { kind: "unreachable", urls: error.urls };
    else if (error.status === 409) fault = { kind: "taken", text: error.message };
    else if (error.microphone) fault = { kind: `microphone-${error.microphone}` };
    this.set({ fault, active: false, latched: false, phase: this.socket ? "ready" : "off" });
    return false;
  }

  // A new pair of ids, for a browser that is not let in with the old one.
  renew() {
    newIdentity();
    this.set({ fault: null });
  }

  close() {
    this.closed = true;
    clearTimeout(this.timer);
    this.closeMicrophone();
    this.socket?.close(NORMAL);
    this.player.close();
  }

  // --- listening ---

  async openMicrophone() {
    const why = missing();
    if (why) throw Object.assign(new Error(why), { microphone: why });
    if (this.microphone) return this.microphone.wake();
    this.opening ??= openMicrophone((samples) => this.frame(samples), () => this.microphoneEnded());
    try {
      this.set({ microphone: "asking" });
      this.microphone = await this.opening;
      if (this.closed) return this.closeMicrophone();
      this.set({ microphone: "on" });
    } catch (error) {
      const kind = MICROPHONE_FAULTS[error.name] || "failed";
      this.set({ microphone: "off" });
      throw Object.assign(error, { microphone: kind });
    } finally {
      this.opening = null;
    }
  }

  closeMicrophone() {
    this.microphone?.close();
    this.microphone = null;
    this.onLevel("in", 0);
    if (this.state.microphone === "on") this.set({ microphone: "off" });
  }

  microphoneEnded() {
    this.rest();
    this.set({ fault: { kind: "microphone-ended" } });
  }

  listen() {
    clearTimeout(this.timer);
    this.send({ type: "listen", state: "start", mode: this.state.mode });
    this.voice.lastVoiceAt = 0;
    this.streaming = true;
    this.set({ phase: "listening", subtitle: "" });
  }

  frame(samples) {
    if (!this.streaming) return;
    this.onLevel("in", this.voice.hear(samples));
    this.encoder.encode(samples);
    this.finishing?.();
  }

  // The end of a question by button: what the microphone holds of it still goes, then "stop".
  async finish() {
    if (this.finishing) return;
    if (!this.streaming) return this.set({ latched: false });
    const endedAt = performance.now();
    this.set({ latched: false });
    await new Promise((resolve) => {
      this.finishing = resolve;
      setTimeout(resolve, 2 * FRAME_MS);
    });
    this.finishing = null;
    this.streaming = false;
    this.onLevel("in", 0);
    await this.encoder.settled();
    if (this.state.phase !== "listening") return;
    this.send({ type: "listen", state: "stop" });
    this.asked(endedAt);
  }

  // --- answers ---

  asked(at = performance.now()) {
    this.askedAt = at;
    this.set({ phase: "thinking", subtitle: "" });
    this.wait(UNDERSTAND_MS, () => this.unheard());
  }

  // Nothing was understood; the server says nothing of it.
  unheard() {
    if (this.state.phase !== "thinking") return;
    this.line({ kind: "note", note: "unheard" });
    this.answered();
  }

  // From when the wait is counted: the button, the typed text, or the voice of a question of which the server has found
  // the end; 0 where nobody has asked.
  endOfQuestion() {
    if (this.state.phase === "thinking") return this.askedAt;
    return this.streaming ? this.voice.lastVoiceAt : 0;
  }

  cutShort() {
    this.deaf = true;
    this.stopDue = this.state.phase === "speaking" ? 1 : 0;
    this.player.stop();
    this.decoder.reset();
    this.answer = null;
  }

  heard(message) {
    switch (message.type) {
      case "stt": return this.understood(message.text);
      case "llm": return this.set({ emotion: message.emotion });
      case "tts": return this.spoken(message);
      case "mcp": return this.tools.answer(message.payload).then((payload) => payload && this.send({ type: "mcp", payload }));
      case "alert": return this.line({ kind: "note", text: `${message.status}: ${message.message}` });
      case "system": return message.command === "reboot" && this.socket.close(4000, "reboot");
    }
  }

  understood(text) {
    const { mode } = this.state;
    this.askedAt = this.endOfQuestion();
    if (mode !== "realtime") this.streaming = false;
    this.player.stop();
    this.answer = null;
    // What was called while the question was still being spoken belongs to its answer.
    const early = this.state.lines.findLastIndex((line) => !line.early) + 1;
    this.line({ kind: "you", text }, early);
    this.answer = this.line({ kind: "answer", sentences: [], times: {}, from: this.askedAt });
    this.mark("heard");
    this.set({ phase: "thinking", subtitle: "" });
    this.wait(ANSWER_MS, () => this.answered());
  }

  spoken({ state, text, failure }) {
    if (state === "start") {
      if (this.streaming && this.state.mode === "manual") {
        // It began when the button went down, and is being taken back.
        this.deaf = true;
        this.stopDue = 1;
        return;
      }
      this.deaf = false;
      clearTimeout(this.timer);
      this.player.begin();
      this.answer ??= this.line({ kind: "answer", sentences: [], times: {}, from: this.endOfQuestion() });
      if (this.state.mode !== "realtime") this.streaming = false;
      this.set({ phase: "speaking" });
    } else if (state === "sentence_start") {
      if (this.deaf || !text) return;
      this.answer ??= this.line({ kind: "answer", sentences: [], times: {}, from: 0 });
      this.edit(this.answer, (line) => ({ sentences: [...line.sentences, text] }));
      this.mark("sentence");
      this.set({ subtitle: text });
    } else if (state === "stop") {
      this.stopped(failure);
    }
  }

  async stopped(failure) {
    if (failure && this.answer) this.edit(this.answer, () => ({ failure }));
    const { phase, mode } = this.state;
    if (this.stopDue) {
      this.stopDue = 0;
      // Of an answer that was cut short: by the button, or by the question that is under way now.
      if (phase === "ready") this.answered();
      return;
    }
    if (phase !== "speaking" && phase !== "thinking") return;
    const answer = this.answer;
    if (mode === "realtime" && performance.now() - this.voice.lastVoiceAt < BARGE_IN_MS) this.player.stop();
    await this.decoder.settled();
    await this.player.drained();
    if (answer === this.answer && this.state.phase === phase) this.answered();
  }

  // An answer is over, however: listen again, or wait for the next press.
  answered() {
    clearTimeout(this.timer);
    this.deaf = false;
    this.answer = null;
    const { active, mode } = this.state;
    if (!active || !this.socket) return this.set({ phase: this.socket ? "ready" : "off", subtitle: "" });
    if (mode === "realtime" && this.streaming) return this.set({ phase: "listening", subtitle: "" });
    this.listen();
  }

  // A stage of the answer under way was reached.
  mark(stage, at = performance.now()) {
    if (!this.answer) return;
    this.edit(this.answer, (line) => (line.from && !(stage in line.times) ? { times: { ...line.times, [stage]: Math.max(0, at - line.from) } } : {}));
  }

  // What the server says of a turn of this device. It comes by another way than the answers, a little sooner or later,
  // and belongs to the latest; of an interruption, to the latest with words: the next question may have been heard.
  account({ account, wait_ms, tools, outcome }) {
    if (outcome === "unheard") return this.unheard();
    const interrupted = outcome === "interrupted";
    const line = this.state.lines.findLast((each) => each.kind === "answer" && (each.sentences.length || !interrupted));
    if (line && !line.account) this.edit(line.id, () => ({ account, wait_ms, tools, outcome }));
  }

  // --- lines ---

  line(line, place = this.state.lines.length) {
    const id = this.nextLine++;
    const lines = this.state.lines.toSpliced(place, 0, { id, at: Date.now() / 1000, ...line });
    for (const old of lines.splice(0, Math.max(0, lines.length - MAX_LINES))) if (old.picture) URL.revokeObjectURL(old.picture);
    this.set({ lines });
    return id;
  }

  // Where what an answer needs is shown: above it, as long as it has not begun.
  beforeAnswer() {
    const { lines } = this.state;
    const at = lines.findIndex((line) => line.id === this.answer);
    return at >= 0 && !lines[at].sentences.length ? at : lines.length;
  }

  edit(id, change) {
    this.set({ lines: this.state.lines.map((line) => (line.id === id ? { ...line, ...change(line) } : line)) });
  }

  wait(ms, then) {
    clearTimeout(this.timer);
    this.timer = setTimeout(then, ms);
  }
}

// Runs in every page under test before its own scripts, and keeps what the page plays: all that reaches the
// destination of an AudioContext, and every media element that is not muted. `takeHeard()` gives it, as
// [{rate, samples: base64 of s16le mono}], one for each source, and forgets it.
//
// Read from a stream with MediaStreamTrackProcessor: an AudioWorklet would need a module that the page's
// Content-Security-Policy allows. It exists in secure contexts only; elsewhere nothing is heard.
(() => {
  const sources = [];

  async function listen(track) {
    if (!("MediaStreamTrackProcessor" in window)) return;
    const source = { rate: 0, pieces: [] };
    sources.push(source);
    const reader = new MediaStreamTrackProcessor({ track, maxBufferSize: 1000 }).readable.getReader();
    for (;;) {
      const { value: data, done } = await reader.read();
      if (done) return;
      const floats = new Float32Array(data.numberOfFrames);
      data.copyTo(floats, { planeIndex: 0, format: "f32-planar" });
      source.rate = data.sampleRate;
      source.pieces.push(Int16Array.from(floats, (sample) => Math.max(-1, Math.min(1, sample)) * 32767));
      data.close();
    }
  }

  const ears = new WeakMap();
  const { connect, disconnect } = AudioNode.prototype;

  function earOf(node) {
    if (!(node instanceof AudioDestinationNode && node.context instanceof AudioContext)) return null;
    if (!ears.has(node)) {
      const ear = new MediaStreamAudioDestinationNode(node.context, { channelCount: 1 });
      ears.set(node, ear);
      listen(ear.stream.getAudioTracks()[0]);
    }
    return ears.get(node);
  }

  AudioNode.prototype.connect = function (target, ...rest) {
    const ear = earOf(target);
    if (ear) connect.call(this, ear, ...rest.slice(0, 1));
    return connect.call(this, target, ...rest);
  };
  AudioNode.prototype.disconnect = function (...args) {
    const ear = earOf(args[0]);
    if (ear) disconnect.call(this, ear, ...args.slice(1, 2));
    return disconnect.apply(this, args);
  };

  const elements = new WeakSet();

  function listenTo(element) {
    if (elements.has(element) || element.muted) return;
    elements.add(element);
    const stream = element.srcObject instanceof MediaStream ? element.srcObject : element.captureStream();
    stream.getAudioTracks().forEach(listen);
    stream.addEventListener("addtrack", ({ track }) => track.kind === "audio" && listen(track));
  }

  const { play } = HTMLMediaElement.prototype;
  HTMLMediaElement.prototype.play = function () {
    listenTo(this);
    return play.call(this);
  };
  document.addEventListener("play", ({ target }) => listenTo(target), true);

  async function base64(pieces) {
    const url = await new Promise((resolve) => {
      const reader = new FileReader();
      reader.onload = () => resolve(reader.result);
      reader.readAsDataURL(new Blob(pieces));
    });
    return url.slice(url.indexOf(",") + 1);
  }

  window.takeHeard = () =>
    Promise.all(
      sources
        .filter(({ pieces }) => pieces.length)
        .map(async (source) => ({ rate: source.rate, samples: await base64(source.pieces.splice(0)) })),
    );
})();

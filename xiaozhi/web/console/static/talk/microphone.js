// The microphone as frames of 60 ms at 16 kHz (Float32), with the browser's echo canceller.

export const RATE = 16000;
export const FRAME_MS = 60;
const SAMPLES = (RATE * FRAME_MS) / 1000;
const WANTED = { echoCancellation: true, noiseSuppression: true, autoGainControl: true, channelCount: 1 };

// Why there can be no microphone on this page, "" when there can be.
export function missing() {
  if (!navigator.mediaDevices?.getUserMedia) return window.isSecureContext ? "unsupported" : "insecure";
  return window.AudioWorkletNode ? "" : "unsupported";
}

// `onFrame(samples)`; `onEnded()`: the microphone was unplugged, or taken away. Asks the visitor, so it is called after a
// press. Throws what getUserMedia does.
export async function openMicrophone(onFrame, onEnded) {
  const stream = await navigator.mediaDevices.getUserMedia({ audio: WANTED });
  const context = new AudioContext();
  const close = () => {
    for (const track of stream.getTracks()) track.stop();
    if (context.state !== "closed") context.close();
  };
  try {
    await context.audioWorklet.addModule("/console/static/talk/microphone-worklet.js");
    await context.resume();
    const frames = new AudioWorkletNode(context, "microphone", {
      numberOfOutputs: 0,
      channelCount: 1,
      channelCountMode: "explicit",
      processorOptions: { rate: RATE, samples: SAMPLES },
    });
    frames.port.onmessage = (event) => onFrame(event.data);
    context.createMediaStreamSource(stream).connect(frames);
    for (const track of stream.getTracks()) track.onended = onEnded;
  } catch (error) {
    close();
    throw error;
  }
  return { close, wake: () => context.resume() };
}

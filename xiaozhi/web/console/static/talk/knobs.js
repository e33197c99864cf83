// What the visitor has chosen for this browser as a device, kept for the next visit.

const KEY = "xiaozhi.talk";
const USUAL = { mode: "manual", volume: 70, brightness: 80 };
const MODES = ["manual", "auto", "realtime"];

const level = (value, usual) => (Number.isInteger(value) && value >= 0 && value <= 100 ? value : usual);

export function knobs() {
  let kept = {};
  try {
    kept = JSON.parse(localStorage.getItem(KEY)) || {};
  } catch {
    // nothing is kept, or storage is off
  }
  return {
    mode: MODES.includes(kept.mode) ? kept.mode : USUAL.mode,
    volume: level(kept.volume, USUAL.volume),
    brightness: level(kept.brightness, USUAL.brightness),
  };
}

export function keepKnobs({ mode, volume, brightness }) {
  try {
    localStorage.setItem(KEY, JSON.stringify({ mode, volume, brightness }));
  } catch {
    // it holds until the page is left
  }
}

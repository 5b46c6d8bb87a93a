// Sound from one rate to another, in pieces of any size: a windowed sinc, one set of taps per place between samples.

const WIDTH = 16; // zero crossings on either side, at the lower of the two rates
const PLACES = 256; // between two samples; the nearest is taken

export class Resampler {
  constructor(from, to) {
    this.from = from;
    this.to = to;
    this.step = from / to;
    if (from === to) return;
    const cut = Math.min(1, to / from) * 0.94; // of half of the incoming rate
    this.reach = Math.ceil(WIDTH / cut);
    this.taps = Array.from({ length: PLACES + 1 }, (_, place) => makeTaps(place / PLACES, this.reach, cut));
    this.held = new Float32Array(2 * this.reach); // the past, and what is not yet passed
    this.at = this.reach; // where in `held` the next sample lies
  }

  /** The sound's delay, in seconds. */
  get delay() {
    return this.from === this.to ? 0 : this.reach / this.from;
  }

  push(samples) {
    if (this.from === this.to) return samples;
    const sound = new Float32Array(this.held.length + samples.length);
    sound.set(this.held);
    sound.set(samples, this.held.length);
    const last = sound.length - this.reach;
    const out = new Float32Array(Math.max(0, Math.ceil((last - this.at) / this.step)));
    for (let index = 0; index < out.length; index++) {
      const at = this.at + index * this.step;
      const whole = Math.floor(at);
      const taps = this.taps[Math.round((at - whole) * PLACES)];
      const start = whole - this.reach + 1;
      let sum = 0;
      for (let tap = 0; tap < taps.length; tap++) sum += taps[tap] * sound[start + tap];
      out[index] = sum;
    }
    this.at += out.length * this.step;
    const passed = Math.max(0, Math.floor(this.at) - this.reach);
    this.held = sound.slice(passed);
    this.at -= passed;
    return out;
  }
}

/** Taps for a place `between` (0 to 1) two samples; their sum is one. */
function makeTaps(between, reach, cut) {
  const taps = Float32Array.from({ length: 2 * reach }, (_, index) => {
    const x = index - reach + 1 - between;
    const angle = Math.PI * cut * x;
    const window = 0.5 + 0.5 * Math.cos((Math.PI * Math.max(-reach, Math.min(reach, x))) / reach);
    return (x === 0 ? 1 : Math.sin(angle) / angle) * window;
  });
  const sum = taps.reduce((total, tap) => total + tap, 0);
  return taps.map((tap) => tap / sum);
}

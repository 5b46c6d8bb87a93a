// Gives what the microphone hears at the rate that the server wants, on the audio thread. Muted, it gives silence:
// the clock of the conversation counts the user's sound, so it must not stop.

import { Levels } from "./levels.js";
import { Resampler } from "./resample.js";

const REPORT = 0.02; // seconds between two reports

class Microphone extends AudioWorkletProcessor {
  constructor({ processorOptions: { rate } }) {
    super();
    this.resampler = new Resampler(sampleRate, rate);
    this.levels = new Levels(sampleRate);
    this.muted = false;
    this.open = true;
    this.held = [];
    this.count = 0;
    this.port.onmessage = ({ data }) => {
      if (data.muted !== undefined) this.muted = data.muted;
      else if (data.close) this.open = false;
    };
  }

  process([input], [[out]]) {
    const heard = input[0];
    const sound = new Float32Array(heard ? heard.length : out.length);
    if (heard && !this.muted) {
      for (const channel of input) channel.forEach((value, index) => (sound[index] += value / input.length));
    }
    this.levels.push(sound, currentFrame);
    const samples = this.resampler.push(sound);
    this.held.push(samples);
    this.count += sound.length;
    if (this.count >= REPORT * sampleRate) this.report();
    return this.open;
  }

  report() {
    const samples = new Float32Array(this.held.reduce((sum, piece) => sum + piece.length, 0));
    let at = 0;
    for (const piece of this.held) {
      samples.set(piece, at);
      at += piece.length;
    }
    this.held = [];
    this.count = 0;
    this.port.postMessage({ samples, levels: this.levels.take() }, [samples.buffer]);
  }
}

registerProcessor("microphone", Microphone);

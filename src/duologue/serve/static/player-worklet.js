// Plays what arrives, through the jitter buffer, on the audio thread.

import { JitterBuffer } from "./jitter.js";
import { Levels } from "./levels.js";
import { Resampler } from "./resample.js";

const REPORT = 0.04; // seconds between two reports

class Player extends AudioWorkletProcessor {
  constructor({ processorOptions: { rate } }) {
    super();
    this.rate = rate;
    this.levels = new Levels(sampleRate);
    this.reported = 0;
    this.open = true;
    this.clear(0);
    this.port.onmessage = ({ data }) => {
      if (data.samples) this.buffer.push(this.resampler.push(data.samples));
      else if (data.stream) this.clear(data.stream);
      else if (data.close) this.open = false;
    };
  }

  /** A new stream begins: positions are counted from its first sample. Reports say whose they are. */
  clear(stream) {
    this.stream = stream;
    this.buffer = new JitterBuffer(sampleRate);
    this.resampler = new Resampler(this.rate, sampleRate);
  }

  process(_inputs, [[out, ...others]]) {
    this.buffer.pull(out);
    for (const other of others) other.set(out);
    this.levels.push(out, currentFrame);
    if (currentTime - this.reported >= REPORT) this.report(out.length);
    return this.open;
  }

  report(block) {
    this.reported = currentTime;
    const { playing, held, position, dropped, cuts, dry, pulled } = this.buffer;
    this.port.postMessage({
      stream: this.stream,
      levels: this.levels.take(),
      time: (currentFrame + block) / sampleRate, // when the sample at `position` leaves, on the context's clock
      position: position / sampleRate, // seconds of the stream
      playing,
      buffered: held / sampleRate,
      dropped: dropped / sampleRate,
      cuts,
      dry,
      silent: pulled / sampleRate,
    });
  }
}

registerProcessor("player", Player);

// How loud a stream of samples is, in bins of 20 ms of a clock that counts samples.

export const BIN = 0.02; // seconds

export class Levels {
  constructor(rate) {
    this.length = BIN * rate;
    this.peak = 0;
    this.bin = null;
    this.done = []; // pairs: number of the bin, largest absolute value
  }

  /** Samples of which the first is number `start` on the clock. */
  push(samples, start) {
    for (let index = 0; index < samples.length; index++) {
      const bin = Math.floor((start + index) / this.length);
      if (bin !== this.bin) {
        if (this.bin !== null) this.done.push(this.bin, this.peak);
        this.bin = bin;
        this.peak = 0;
      }
      const size = Math.abs(samples[index]);
      if (size > this.peak) this.peak = size;
    }
  }

  /** The bins that are over since the last time. */
  take() {
    const done = this.done;
    this.done = [];
    return done;
  }
}

// Sound that waits to be played. It arrives in lumps and unevenly; it leaves evenly, or with a short pause.
//
// Playing begins once 80 ms are there and a short wait of 10 ms has passed. What runs dry fades out, and the wait
// before playing again grows by 5 ms. What piles up beyond a limit is cut: the oldest goes, over a short cross-fade,
// and the limit grows, so that a line that is uneven all the time is not cut all the time.

export const RULES = {
  start: 0.08, // seconds that must be there before playing begins
  wait: 0.01, // and how long is waited then
  waitMore: 0.005, // longer after each time that it ran dry,
  waitMost: 0.08, // up to this
  limit: 0.12, // seconds beyond `start + wait` that may pile up
  limitMore: 0.02, // more after each cut,
  limitMost: 0.32, // up to this
  ramp: 0.005, // of fades
};

export class JitterBuffer {
  constructor(rate, rules = RULES) {
    this.rate = rate;
    this.rules = rules;
    this.pieces = [];
    this.offset = 0; // of the first piece: samples already played
    this.held = 0; // samples that wait
    this.position = 0; // index, in all that was ever pushed, of the next sample to play
    this.playing = false;
    this.gain = 0;
    this.wait = rules.wait;
    this.limit = rules.limit;
    this.waited = 0;
    this.dropped = 0; // samples that were cut
    this.cuts = 0;
    this.dry = 0; // times that it ran dry
    this.pulled = 0; // samples of silence after it first played
    this.everPlayed = false;
  }

  push(samples) {
    if (!samples.length) return;
    this.pieces.push(samples);
    this.held += samples.length;
  }

  /** Cut what is too much; to be called before a block is filled. Gives the end of the old sound, to fade from. */
  trim(block) {
    const { start, limitMore, limitMost } = this.rules;
    const kept = Math.round((start + this.wait) * this.rate);
    if (!this.playing || this.held <= kept + this.limit * this.rate) return null;
    const old = this.peek(block);
    const extra = this.held - kept;
    this.skip(extra);
    this.dropped += extra;
    this.cuts += 1;
    this.limit = Math.min(limitMost, this.limit + limitMore);
    return old;
  }

  /** Fill a block. */
  pull(out) {
    const { start, ramp } = this.rules;
    out.fill(0);
    if (!this.playing) {
      if (this.held < Math.floor(start * this.rate)) this.waited = 0;
      else if (this.waited >= this.wait * this.rate) this.playing = this.everPlayed = true;
      else this.waited += out.length;
      if (!this.playing) {
        if (this.everPlayed) this.pulled += out.length;
        return;
      }
    }
    const old = this.trim(out.length);
    const fade = ramp * this.rate;
    const enough = this.held >= out.length + fade;
    const count = Math.min(out.length, this.held);
    const sound = this.take(count);
    const slope = enough ? 1 / fade : -this.gain / Math.max(1, count + this.held);
    for (let index = 0; index < count; index++) {
      this.gain = Math.max(0, Math.min(1, this.gain + slope));
      const mix = old ? (index + 1) / (count + 1) : 1;
      out[index] = this.gain * (mix * sound[index] + (old ? (1 - mix) * old[index] : 0));
    }
    if (!this.held && !enough) this.stop(out.length - count);
  }

  stop(silent) {
    this.playing = false;
    this.gain = 0;
    this.waited = 0;
    this.dry += 1;
    this.pulled += silent;
    this.wait = Math.min(this.rules.waitMost, this.wait + this.rules.waitMore);
  }

  peek(count) {
    const out = new Float32Array(count);
    let at = -this.offset;
    for (const piece of this.pieces) {
      for (let index = Math.max(0, -at); index < piece.length && at + index < count; index++) out[at + index] = piece[index];
      at += piece.length;
      if (at >= count) break;
    }
    return out;
  }

  take(count) {
    const out = this.peek(count);
    this.skip(count);
    return out;
  }

  skip(count) {
    this.held -= count;
    this.position += count;
    this.offset += count;
    while (this.pieces.length && this.offset >= this.pieces[0].length) this.offset -= this.pieces.shift().length;
  }
}

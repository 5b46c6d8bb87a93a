// The sound of the page: one player, which holds the decoded audio of one card at a time. Each channel of the
// recording runs through a gain of its own, so that one side can be silenced while both keep running in step.

const player = {
  context: null,  // made at the first play: browsers want a gesture before sound
  card: null,     // the card whose audio is decoded in `buffer`
  buffer: null,
  gains: [],      // one per channel of the card's recording
  source: null,   // null: silent
  began: 0,       // the context's time at which the source started, and the second of the recording it started from
  from: 0,
  turn: 0,        // counts what was asked for, so that a late decoding does not overtake a newer wish

  get playing() {
    return this.source !== null;
  },

  /** The second that is heard now. Sound leaves the loudspeaker a little after it was played into the context. */
  get position() {
    const late = this.context.outputLatency || 0;
    return this.from + Math.max(0, this.context.currentTime - this.began - late);
  },

  async play(card) {
    const turn = ++this.turn;
    if (this.card !== card) await this.load(card, turn);
    if (turn !== this.turn) return;
    this.halt();
    const start = card.position >= this.buffer.duration - 0.01 ? 0 : card.position;
    this.source = this.context.createBufferSource();
    this.source.buffer = this.buffer;
    this.source.connect(this.splitter);
    this.context.resume();
    this.began = this.context.currentTime;
    this.from = start;
    this.source.start(0, start);
    card.showPlaying(true);
    this.follow();
  },

  async load(card, turn) {
    this.context ||= this.open();
    // Decoded audio is large (8 MB for 20 s): the last card's makes room before this one's is made.
    this.rest();
    this.card = this.buffer = null;
    const text = document.getElementById(`flac-${card.index}`).textContent;
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const buffer = await this.context.decodeAudioData(bytes.buffer);
    if (turn !== this.turn) return;
    this.wire(card, buffer);
  },

  open() {
    // Safari on phones: play even when the ring switch is off, as a video would.
    if (navigator.audioSession) navigator.audioSession.type = "playback";
    return new AudioContext();
  },

  /** recording -> splitter -> one gain per channel -> its place between left and right -> loudspeakers */
  wire(card, buffer) {
    this.splitter?.disconnect();
    this.gains.forEach((gain) => gain.disconnect());
    const count = buffer.numberOfChannels;
    this.splitter = this.context.createChannelSplitter(count);
    this.gains = Array.from({ length: count }, (_, channel) => {
      const gain = this.context.createGain();
      const pan = this.context.createStereoPanner();
      pan.pan.value = count > 1 ? -0.5 + channel / (count - 1) : 0;
      this.splitter.connect(gain, channel);
      gain.connect(pan).connect(this.context.destination);
      return gain;
    });
    this.card = card;
    this.buffer = buffer;
    this.setGains();
  },

  /** Solo wins over mute; a channel that no lane shows is always heard. */
  setGains() {
    const lanes = this.card.sample.lanes.map((lane, index) => ({ ...lane, ...this.card.mix[index] }));
    const solo = lanes.some((lane) => lane.solo);
    this.gains.forEach((gain, channel) => {
      const own = lanes.filter((lane) => lane.wave === channel);
      const heard = own.length === 0 ? !solo : own.some((lane) => (solo ? lane.solo : !lane.mute));
      gain.gain.value = heard ? 1 : 0;
    });
  },

  /** Move the card's cursor with the sound until it ends. */
  follow() {
    const source = this.source;
    const frame = () => {
      if (this.source !== source) return;
      if (this.position >= this.buffer.duration) {
        this.halt();
        this.card.showTime(this.buffer.duration);
        this.card.showPlaying(false);
        return;
      }
      this.card.showTime(this.position, true);
      requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
  },

  /** Stop the sound and leave the cursor where it is. */
  halt() {
    const source = this.source;
    this.source = null;
    if (source) {
      source.stop();
      source.disconnect();
    }
  },

  pause() {
    this.turn++;
    this.rest();
  },

  rest() {
    if (!this.playing) return;
    const at = this.position;
    this.halt();
    this.card.showTime(Math.min(at, this.buffer.duration));
    this.card.showPlaying(false);
  },

  toggle(card) {
    if (this.playing && this.card === card) this.pause();
    else this.play(card).catch((error) => card.showSoundNote(`cannot play: ${error.message}`));
  },

  seek(card, time) {
    card.showTime(time);
    if (this.playing && this.card === card) this.play(card);
  },
};

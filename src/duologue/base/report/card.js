// One card of the page: a sample's texts, timeline and sound. It is an empty shell until it comes near the window;
// all texts of the report enter the page as text nodes, never as markup.

const SIGNS = { good: "✓", bad: "✗", info: "•", missing: "∅", invalid: "!", "not exercised": "–" };
const MOST_SCALE = 640;  // pixels a second at the strongest zoom

class Card {
  constructor(sample, index) {
    this.sample = sample;
    this.index = index;
    this.position = 0;
    this.zoom = 1;
    this.mix = sample.lanes.map(() => ({ mute: false, solo: false }));
    sample.length = sample.duration;
    this.root = make("article", { class: "card shell", id: `sample-${sample.id}`, "aria-label": sample.title });
  }

  /** The texts that a search looks through. */
  get haystack() {
    const { id, title, verdict, why, lanes } = this.sample;
    const words = lanes.flatMap((lane) => (lane.words || []).map((word) => word[0]));
    return (this.hay ||= [id, title, verdict, why, words.join(" ")].join("\n").toLowerCase());
  }

  build() {
    if (this.built) return;
    this.built = true;
    const { title, id, verdict, status, why, facts } = this.sample;
    const link = make("a", { href: `#sample-${encodeURIComponent(id)}`, class: "id", title: "Link to this sample" }, id);
    const badge = make("span", { class: `badge status-${status.replace(" ", "-")}`, title: status },
      make("span", { "aria-hidden": "true" }, SIGNS[status] || "•"), ` ${verdict}`);
    const list = make("dl", { class: "facts" }, ...facts.map(([name, shown]) => make("div", {},
      make("dt", {}, name), make("dd", shown == null ? { class: "missing" } : {}, shown ?? "not measured"))));
    this.gutter = make("div", { class: "gutter" });
    this.inner = make("div", { class: "inner" });
    this.cursor = make("div", { class: "cursor" });
    this.scroller = make("div", { class: "timeline", tabindex: 0, role: "slider", "aria-label": `Timeline of ${title}`, "aria-valuemin": 0 }, this.inner);
    this.root.append(
      make("div", { class: "card-head" }, make("h3", {}, title), link, badge),
      why ? make("p", { class: "why" }, why) : "",
      facts.length ? list : "",
      make("div", { class: "tracks" }, this.gutter, this.scroller),
      this.buildTransport(title),
      this.buildTranscript());
    this.root.classList.remove("shell");
    this.listen();
    this.hearAbout();
  }

  buildTransport(title) {
    const zoom = (sign, label, factor) => {
      const button = make("button", { type: "button", "aria-label": label, title: label }, sign);
      button.addEventListener("click", () => this.setZoom(factor ? this.zoom * factor : 1));
      return button;
    };
    this.playButton = make("button", { type: "button", class: "play", "aria-label": `Play ${title}` }, "▶");
    this.playButton.addEventListener("click", () => player.toggle(this));
    this.clock = make("span", { class: "clock" });
    this.soundNote = make("span", { class: "sound" });
    return make("div", { class: "transport" }, this.playButton, this.clock, this.soundNote,
      make("span", { class: "zoom" }, zoom("−", "Zoom out", 0.5), zoom("↔", "Show all", 0), zoom("+", "Zoom in", 2)));
  }

  buildTranscript() {
    const lanes = this.sample.lanes;
    const count = lanes.reduce((sum, lane) => sum + (lane.words || []).length, 0);
    this.spoken = [];
    const lines = lanes.map((lane, index) => {
      const line = make("p", { class: tone(lane, index) }, make("b", {}, lane.name));
      if (lane.words === null) line.append(make("i", {}, " not transcribed"));
      else if (!lane.words.length) line.append(make("i", {}, " no words"));
      for (const [text, start, end] of lane.words || []) {
        const word = make("span", start == null ? {} : { "data-time": start }, text);
        if (start != null) this.spoken.push({ word, start, end });
        line.append(" ", word);
      }
      return line;
    });
    // Clicking a word seeks: a convenience for the pointer, the timeline does the same by keyboard.
    const box = make("details", { class: "transcript", dir: "auto", ...(count <= 150 ? { open: "" } : {}) }, make("summary", {}, "Words"), ...lines);
    box.addEventListener("click", (event) => {
      if (event.target.dataset.time) player.seek(this, Number(event.target.dataset.time));
    });
    return lanes.some((lane) => lane.words) ? box : "";
  }

  /** Read what the page holds of this sample's sound; it may not have arrived yet while the page still loads. */
  hearAbout() {
    const about = document.getElementById(`sound-${this.index}`);
    if (about && !this.sound) {
      const sound = JSON.parse(about.textContent);
      const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
      this.sound = { ...sound, waves: sound.peaks.map(bytes) };
      this.sample.length = Math.max(this.sample.duration, sound.seconds);
    }
    this.audible = Boolean(document.getElementById(`flac-${this.index}`));
    this.playButton.disabled = !this.audible;
    this.showSoundNote(this.sound ? this.sound.note : "loading …");
    this.redraw();
  }

  redraw() {
    if (!this.built) return;
    const space = this.scroller.clientWidth;
    if (!space) return;
    this.space = space;
    const fit = (space - 2 * EDGE) / this.sample.length;
    this.zoom = Math.max(1, Math.min(this.zoom, MOST_SCALE / fit));
    this.perSecond = fit * this.zoom;
    this.drawing = drawTimeline(this.sample, this.sound, this.sample.length, this.perSecond);
    this.inner.replaceChildren(this.drawing.root, this.cursor);
    this.inner.style.width = `${this.drawing.width}px`;
    this.scroller.classList.toggle("zoomed", this.zoom > 1.001);
    this.cursor.style.height = `${this.drawing.axisTop}px`;
    this.gutter.replaceChildren(...this.sample.lanes.map((lane, index) => this.laneHead(lane, index)));
    this.showTime(this.position);
  }

  laneHead(lane, index) {
    const head = make("div", { class: `lane-head ${tone(lane, index)}` }, make("b", { title: lane.name }, lane.name));
    head.style.top = `${this.drawing.lanes[index].top}px`;
    const button = (kind, letter, label) => {
      const made = make("button", { type: "button", "aria-label": `${label} ${lane.name}`, title: `${label} ${lane.name}`, "aria-pressed": this.mix[index][kind] }, letter);
      made.addEventListener("click", () => {
        this.mix[index][kind] = !this.mix[index][kind];
        made.setAttribute("aria-pressed", this.mix[index][kind]);
        if (player.card === this) player.setGains();
      });
      return made;
    };
    if (this.audible && lane.wave != null) {
      head.append(make("span", {}, button("mute", "M", "Mute"), button("solo", "S", "Hear only")));
    }
    return head;
  }

  setZoom(zoom) {
    // Keep the cursor's place in view; without a cursor in view, the middle.
    this.zoom = Math.max(1, zoom);
    this.redraw();
    this.scroller.scrollLeft = this.drawing.x(this.position) - this.space / 2;
  }

  listen() {
    const timeAt = (event) => {
      const left = this.inner.getBoundingClientRect().left;
      return Math.max(0, Math.min(this.sample.length, (event.clientX - left - EDGE) / this.perSecond));
    };
    const tell = (event) => {
      const y = event.clientY - this.inner.getBoundingClientRect().top;
      showTip(describeMoment(this.sample, this.drawing, timeAt(event), y), event.clientX, event.clientY);
    };
    const area = this.scroller;
    let dragging = false;
    area.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      dragging = true;
      tell(event);
      // When zoomed in, a finger scrolls; a tap still seeks.
      if (event.pointerType !== "touch" || this.zoom === 1) area.setPointerCapture(event.pointerId);
      player.seek(this, timeAt(event));
    });
    area.addEventListener("pointermove", (event) => {
      if (dragging) player.seek(this, timeAt(event));
      tell(event);
    });
    for (const name of ["pointerup", "pointercancel"]) area.addEventListener(name, () => (dragging = false));
    // A finger "leaves" as soon as it is lifted: what it asked for stays until the next touch or scroll.
    area.addEventListener("pointerleave", (event) => event.pointerType === "touch" || hideTip());
    this.root.addEventListener("keydown", (event) => this.press(event));
  }

  press(event) {
    // Buttons, links and the summary keep their own keys.
    if (event.target !== this.scroller || event.ctrlKey || event.metaKey || event.altKey) return;
    const step = event.shiftKey ? 0.1 : 1;
    const end = this.sample.length;
    const to = (time) => player.seek(this, Math.max(0, Math.min(end, time)));
    const acts = {
      " ": () => this.audible && player.toggle(this),
      ArrowLeft: () => to(this.position - step),
      ArrowRight: () => to(this.position + step),
      Home: () => to(0),
      End: () => to(end),
      "+": () => this.setZoom(this.zoom * 2),
      "-": () => this.setZoom(this.zoom / 2),
      0: () => this.setZoom(1),
    };
    if (!acts[event.key]) return;
    event.preventDefault();
    acts[event.key]();
  }

  /** Put the cursor at `time`; `keepInView` scrolls along, as while playing. */
  showTime(time, keepInView = false) {
    this.position = time;
    if (!this.drawing) return;
    const left = this.drawing.x(time);
    this.cursor.style.transform = `translateX(${left}px)`;
    this.clock.textContent = `${time.toFixed(2)} / ${seconds(this.sample.length)}`;
    this.scroller.setAttribute("aria-valuenow", time.toFixed(2));
    this.scroller.setAttribute("aria-valuemax", this.sample.length.toFixed(2));
    this.scroller.setAttribute("aria-valuetext", seconds(time));
    for (const { word, start, end } of this.spoken) word.classList.toggle("now", time > 0 && start <= time && time < end);
    const seen = this.scroller.scrollLeft;
    if (keepInView && (left < seen || left > seen + this.space - 40)) this.scroller.scrollLeft = left - 40;
  }

  showPlaying(playing) {
    this.playButton.textContent = playing ? "❚❚" : "▶";
    this.playButton.setAttribute("aria-label", `${playing ? "Pause" : "Play"} ${this.sample.title}`);
    this.root.classList.toggle("playing", playing);
  }

  showSoundNote(text) {
    this.soundNote.textContent = text;
  }
}

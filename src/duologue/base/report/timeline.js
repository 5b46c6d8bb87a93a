"use strict";
// The timeline of one sample as SVG. Everything is drawn in pixels for the width at hand and drawn again when the
// width or the zoom changes: so texts keep their size, and words appear as soon as there is room for them.

const SVG = "http://www.w3.org/2000/svg";
const EDGE = 8;            // free pixels left and right of the time axis
const ROW = 15;            // height of a row of text
const WAVE = 44;           // height of a lane's bar
const WORD_ROWS = 3;       // words of a lane are staggered over at most so many rows

/** A new element; `attributes` with null are left out, texts are only ever set as text. */
function make(tag, attributes = {}, ...children) {
  return furnish(document.createElement(tag), attributes, children);
}

function draw(tag, attributes = {}, ...children) {
  return furnish(document.createElementNS(SVG, tag), attributes, children);
}

function furnish(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) if (value != null) element.setAttribute(name, value);
  element.append(...children.filter((child) => child != null));
  return element;
}

const ruler = document.createElement("canvas").getContext("2d");
function textWidth(text, size = 11.5) {
  ruler.font = `${size}px system-ui, sans-serif`;
  return ruler.measureText(text).width;
}

/** The colour class of a lane: by name for the two sides of a conversation, by position for any other. */
function tone(lane, index) {
  return ["user", "agent"].includes(lane.name.toLowerCase()) ? `tone-${lane.name.toLowerCase()}` : `tone-${index % 4}`;
}

const seconds = (value, digits = 2) => `${value.toFixed(digits)} s`;
const signed = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(2)} s`;

/** First row in which something from `left` on fits; rows are the right ends so far. -1: none of `most` is free. */
function freeRow(rows, left, right, most) {
  let row = rows.findIndex((end) => end <= left);
  if (row < 0) row = rows.length;
  if (row >= most) return -1;
  rows[row] = right;
  return row;
}

/** Where each word of a lane is written, or null when they do not all fit and have to be ticks. */
function placeWords(words, x, right) {
  const rows = [];
  const places = [];
  for (const [text, start] of words) {
    const width = textWidth(text);
    const left = Math.max(0, Math.min(x(start), right - width));
    const row = freeRow(rows, left, left + width + 5, WORD_ROWS);
    if (row < 0) return null;
    places.push({ text, left, row });
  }
  return { places, rows: rows.length };
}

/** Labels above the lanes: bands and marks share rows, so that none covers another. */
function placeLabels(sample, x, right) {
  const rows = [];
  const labels = [
    ...sample.bands.map(([start, , kind, label]) => ({ time: start, text: label || kind, kind: `band-${kind}` })),
    ...sample.marks.map(([time, label, kind]) => ({ time, text: `▾ ${label}`, kind: `mark-${kind}`, mark: true })),
  ].sort((a, b) => a.time - b.time);
  const placed = [];
  for (const label of labels) {
    const width = textWidth(label.text);
    const want = x(label.time) + (label.mark ? -4 : 3);  // the sign of a mark stands on its line
    const left = Math.max(0, Math.min(want, right - width));
    const row = freeRow(rows, left, left + width + 8, 5);
    if (row >= 0) placed.push({ ...label, left, row });
  }
  return { placed, rows: rows.length };
}

/** The envelope of one channel as a closed outline around the middle of its lane, one point per two pixels. */
function wavePath(peaks, rate, x, pixels, top) {
  const step = 2;
  const upper = [];
  const lower = [];
  for (let pixel = 0; pixel <= pixels; pixel += step) {
    const from = Math.floor((pixel / pixels) * peaks.length);
    const to = Math.max(from + 1, Math.floor(((pixel + step) / pixels) * peaks.length));
    let peak = 0;
    for (let i = from; i < to && i < peaks.length; i++) peak = Math.max(peak, peaks[i]);
    const half = Math.max(0.4, (peak / 255) * (WAVE / 2 - 2));
    const left = (x(0) + pixel).toFixed(1);
    upper.push(`${left} ${(top + WAVE / 2 - half).toFixed(1)}`);
    lower.push(`${left} ${(top + WAVE / 2 + half).toFixed(1)}`);
  }
  return `M${upper.join("L")}L${lower.reverse().join("L")}Z`;
}

function tickStep(perSecond) {
  return [0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600].find((step) => step * perSecond >= 56) || 1200;
}

/**
 * Draw `sample` at `perSecond` pixels a second.
 * Returns the SVG, its size, the scale `x` (seconds to pixels) and the top of every lane (for the buttons beside it).
 */
function drawTimeline(sample, sound, length, perSecond) {
  const width = length * perSecond + 2 * EDGE;
  const x = (time) => EDGE + Math.max(0, Math.min(length, time)) * perSecond;
  const labels = placeLabels(sample, x, width);
  const top = labels.rows * ROW + 4;
  const back = draw("g");
  const front = draw("g");
  let y = top + 4;

  const lanes = sample.lanes.map((lane, index) => {
    const group = draw("g", { class: tone(lane, index) });
    const laneTop = y;
    group.append(draw("rect", { class: "lane", x: EDGE, y, width: width - 2 * EDGE, height: WAVE, rx: 3 }));
    const peaks = sound?.waves[lane.wave];
    for (const [start, end, kind] of lane.spans) {
      const shape = { x: x(start), y, width: Math.max(1.5, x(end) - x(start)), height: WAVE, rx: 3 };
      group.append(draw("rect", { class: `span ${kind}${peaks ? "" : " solid"}`, ...shape }));
    }
    if (peaks) {
      const path = wavePath(peaks, sound.peakRate, x, (peaks.length / sound.peakRate) * perSecond, y);
      group.append(draw("path", { class: "wave", d: path }));
    }
    y += WAVE + 2;
    const timed = (lane.words || []).filter((word) => word.length === 3);
    const words = placeWords(timed, x, width);
    if (words) {
      for (const { text, left, row } of words.places) {
        group.append(draw("text", { class: "word", x: left, y: y + 11 + row * ROW }, text));
      }
      y += Math.max(words.rows, timed.length ? 1 : 0) * ROW;
    } else {
      for (const [, start, end] of timed) {
        group.append(draw("rect", { class: "tick", x: x(start), y: y + 2, width: Math.max(1, x(end) - x(start) - 1), height: 5 }));
      }
      y += 10;
    }
    y += 8;
    back.append(group);
    return { top: laneTop, bottom: y };
  });
  const bottom = y - 4;

  for (const [start, end, kind] of sample.bands) {
    const shape = { x: x(start), y: top, width: Math.max(1, x(end) - x(start)), height: bottom - top };
    front.append(draw("rect", { class: `band band-${kind}`, ...shape }));
  }
  for (const [time, , kind] of sample.marks) {
    front.append(draw("line", { class: `mark mark-${kind}`, x1: x(time), x2: x(time), y1: top - 4, y2: bottom }));
  }
  for (const { text, time, left, row, kind, mark } of labels.placed) {
    // A thin line leads from the label down to what it names.
    front.append(draw("line", { class: `leader ${kind}`, x1: x(time), x2: x(time), y1: (row + (mark ? 1 : 0.1)) * ROW, y2: top }));
    front.append(draw("text", { class: `label ${kind}`, x: left, y: 11 + row * ROW }, text));
  }
  for (const [start, end, label] of sample.brackets) {
    front.append(drawBracket(x(start), x(end), label || signed(end - start), y + 5, width));
    y += 20;
  }
  const axis = drawAxis(length, perSecond, x, y, top);
  const height = y + 22;
  const root = draw("svg", { width, height, viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" }, axis, back, front);
  return { root, width, height, x, lanes, axisTop: y };
}

/** An arrow between two moments with its label beside it; a distance of nothing is still a visible bar. */
function drawBracket(from, to, label, y, width) {
  const left = Math.min(from, to);
  const right = Math.max(from, to);
  const head = to >= from ? -5 : 5;
  const room = right + 6 + textWidth(label) < width;
  const long = right - left > 8;
  return draw("g", { class: "bracket" },
    draw("path", { d: `M${from} ${y - 6}V${y + 6}M${to} ${y - 6}V${y + 6}M${from} ${y}H${to}` }),
    long ? draw("path", { d: `M${to + head} ${y - 4}L${to} ${y}L${to + head} ${y + 4}` }) : null,
    draw("text", { x: room ? right + 6 : left - 6, y: y + 4, "text-anchor": room ? "start" : "end" }, label));
}

function drawAxis(length, perSecond, x, y, top) {
  const group = draw("g", { class: "axis" });
  const step = tickStep(perSecond);
  const digits = step < 0.1 ? 2 : step < 1 ? 1 : 0;
  for (let i = 0; i * step <= length + 1e-9; i++) {
    const at = x(i * step);
    group.append(draw("line", { x1: at, x2: at, y1: top, y2: y + 4 }));
    // The outermost labels stay inside the drawing.
    const [anchor, shift] = i === 0 ? ["start", -4] : (length - i * step) * perSecond < 12 ? ["end", EDGE] : ["middle", 0];
    group.append(draw("text", { x: at, y: y + 17, "text-anchor": anchor, dx: shift }, `${(i * step).toFixed(digits)} s`));
  }
  return group;
}

/** What lies under a moment of the timeline, in words, for the tooltip. `y` chooses the lane; null: all lanes. */
function describeMoment(sample, drawing, time, y) {
  const parts = [seconds(time)];
  const slack = 3 / ((drawing.width - 2 * EDGE) / sample.length);
  const covers = ([start, end]) => start - slack <= time && time <= end + slack;
  sample.lanes.forEach((lane, index) => {
    if (y != null && (y < drawing.lanes[index].top || y > drawing.lanes[index].bottom)) return;
    const word = (lane.words || []).find(([, start, end]) => start != null && covers([start, end]));
    const span = lane.spans.find(covers);
    if (word) parts.push(`${lane.name}: “${word[0]}” ${seconds(word[1])}`);
    if (span) parts.push(`${lane.name} ${span[3] || span[2]} ${seconds(span[0])} to ${seconds(span[1])}`);
  });
  for (const [start, end, kind, label] of sample.bands) {
    if (covers([start, end])) parts.push(`${label || kind} ${seconds(start)} to ${seconds(end)}`);
  }
  for (const [at, label] of sample.marks) if (Math.abs(at - time) <= 2 * slack) parts.push(`${label} at ${seconds(at)}`);
  return parts.join("\n");
}

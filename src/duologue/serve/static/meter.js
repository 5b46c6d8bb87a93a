// How late the line makes the conversation, in words and numbers.

const GOOD = 250; // ms that nobody minds
const LONG = 500; // ms that make people talk into each other
const RECENT = 5; // times shown, about seconds, over which sound that is lost is told of
const MUCH = 150; // ms of it

const ROWS = {
  roundTrip: "to the server and back",
  buffered: "waiting to be played",
  server: "server",
  gaps: "sound lost",
};

export class Meter {
  constructor(list, verdict) {
    this.verdict = verdict;
    this.cells = Object.fromEntries(
      Object.entries(ROWS).map(([name, label]) => {
        const row = document.createElement("div");
        const [term, cell] = ["dt", "dd"].map((tag) => document.createElement(tag));
        term.textContent = label;
        row.append(term, cell);
        list.append(row);
        return [name, cell];
      }),
    );
    this.clear();
  }

  clear() {
    for (const cell of Object.values(this.cells)) this.write(cell, "–");
    this.write(this.verdict, "");
    this.past = [0]; // what was lost in all, at the last times
  }

  /** `numbers` in milliseconds, `counts` of the player in seconds. */
  show({ roundTrip, buffered, late, queued, serverDropped, starved }, counts) {
    this.write(this.cells.roundTrip, ms(roundTrip));
    this.write(this.cells.buffered, ms(buffered));
    this.write(this.cells.server, late == null ? "–" : late < 5 ? "on time" : `${ms(late)} late`, late > 80);
    const gone = counts.dropped * 1000 + counts.silent * 1000 + (serverDropped ?? 0) + (starved ?? 0);
    this.write(this.cells.gaps, gone < 1 ? "none" : lostText(counts, serverDropped, starved), gone > 1000);
    if (roundTrip == null || buffered == null) return;
    this.past.push(gone);
    if (this.past.length > RECENT) this.past.shift();
    const total = roundTrip + (buffered ?? 0) + (late ?? 0) + (queued ?? 0);
    const losing = gone - this.past[0] > MUCH;
    this.write(this.verdict, verdict(total, losing, { roundTrip, buffered, late, queued }));
  }

  write(cell, text, warn = false) {
    if (cell.textContent !== text) cell.textContent = text;
    cell.classList.toggle("warn", warn);
  }
}

const ms = (value) => (value == null ? "–" : value < 1000 ? `${Math.round(value)} ms` : `${(value / 1000).toFixed(1)} s`);

function lostText(counts, dropped, starved) {
  const parts = [
    [counts.dropped * 1000, "cut here to catch up"],
    [counts.silent * 1000, "missing here"],
    [dropped ?? 0, "cut by the server"],
    [starved ?? 0, "of yours came too late"],
  ];
  return parts.filter(([value]) => value >= 1).map(([value, what]) => `${ms(value)} ${what}`).join(", ");
}

/** One sentence. The model's own reaction, two frames, comes on top of it. */
function verdict(total, losing, { roundTrip, buffered, late, queued }) {
  const lead = `The line adds ${Math.round(total / 10) / 100} s`;
  if (total < GOOD && !losing) return `${lead}: hardly noticeable.`;
  if (losing && !(late > 20)) return `${lead}, and sound is being lost: it arrives unevenly.`;
  if (losing) return `${lead}, and sound is being lost: the server cannot keep up.`;
  const why = [
    [roundTrip ?? 0, "the way to the server is long"],
    [buffered ?? 0, "sound arrives unevenly and waits here"],
    [(late ?? 0) + (queued ?? 0), "the server cannot keep up"],
  ].sort((one, two) => two[0] - one[0])[0][1];
  return `${lead}, ${total < LONG ? "noticeable" : "long enough to talk into each other"}: ${why}.`;
}

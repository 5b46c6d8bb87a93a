// The page: buttons, keys and what is shown, around one conversation after the other.

import { Conversation } from "./conversation.js";
import { Meter } from "./meter.js";
import { save } from "./recording.js";
import { Settings } from "./settings.js";
import { clockText, Timeline } from "./timeline.js";
import { Transcript } from "./transcript.js";

const base = document.baseURI;
const get = (id) => document.getElementById(id);

const settings = new Settings(base);
const timeline = new Timeline(get("timeline"));
const transcript = new Transcript(get("transcript"), get("no-words"), get("spoken"));
const meter = new Meter(get("meter"), get("verdict"));

/** For whoever looks in from outside: the newest conversation, and the one that is shown and can be saved. */
export const page = { conversation: null, shown: null, timeline, settings };

const BY_USER = "you hung up";
const NTH = ["next", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"];

const STATES = {
  microphone: () => "Asking for the microphone",
  connecting: () => "Connecting",
  queued: (position) => `Waiting for a place: ${NTH[position - 1] ?? `number ${position}`} in line`,
  preparing: () => (get("prompt").value || get("voice").value ? "The server reads the prompt" : "The server gets ready"),
  talking: () => "Talking: say something, interrupt whenever you like",
  lost: (reason) => `Connection lost (${reason}): trying again`,
  ended: (reason) => `Ended: ${reason}`,
};

const running = () => page.conversation !== null && !page.conversation.over;

function showState({ name, detail }) {
  document.body.dataset.state = name;
  document.body.toggleAttribute("data-running", running());
  document.body.toggleAttribute("data-failed", name === "ended" && detail !== BY_USER);
  get("state-text").textContent = STATES[name](detail);
  get("start").textContent = !running() ? "Start talking" : name === "talking" ? "End" : "Stop";
  get("mute").disabled = !running();
  if (name === "talking" && page.shown !== page.conversation) show(page.conversation);
  if (name === "lost") meter.clear();
  if (name === "ended") {
    transcript.close();
    timeline.run(null);
    showMute(false);
  }
  showFiles();
  showChange();
}

/** A conversation has begun: what was seen of the last one makes room for it. */
function show(conversation) {
  page.shown = conversation;
  timeline.clear();
  transcript.clear();
  meter.clear();
  timeline.run(() => conversation.sound.time);
}

function begin() {
  if (!settings.check()) return;
  const conversation = new Conversation(base, settings.wishes(), settings.format);
  page.conversation = conversation;
  conversation.fingerprint = settings.fingerprint;
  say("");
  const on = (name, act) =>
    conversation.addEventListener(name, ({ detail }) => page.conversation === conversation && act(detail));
  on("state", showState);
  on("levels", ({ side, levels }) => page.shown === conversation && timeline.levels(side, levels));
  on("clock", showClock);
  on("word", ({ piece, at, time }) => {
    timeline.word(piece, time);
    transcript.add(piece, at);
  });
  on("mute", showMute);
  on("note", say);
  on("anew", () => {
    transcript.rule();
    say("The server did not remember the conversation: this is a new one.");
  });
  conversation.start();
}

function end() {
  page.conversation.finish(BY_USER);
}

function showClock(now) {
  const { sound, counts, numbers } = page.conversation;
  timeline.zero = sound.time - now;
  transcript.clock(now);
  const text = clockText(now);
  if (get("clock-text").textContent === text) return;
  get("clock-text").textContent = text;
  meter.show(numbers, counts);
  showFiles();
}

function showMute(muted) {
  get("mute").setAttribute("aria-pressed", String(muted));
  get("mute").textContent = muted ? "Unmute" : "Mute";
  get("user-name").textContent = muted ? "you, muted" : "you";
  document.body.toggleAttribute("data-muted", muted);
}

function showFiles() {
  const recording = page.shown?.recording;
  get("save-sound").disabled = !recording || recording.empty;
  get("save-words").disabled = !recording || recording.empty;
}

/** While one talks, what was changed in the form can be taken up at once. */
function showChange() {
  const changed = running() && page.conversation.fingerprint !== settings.fingerprint;
  get("anew").hidden = !changed;
}

function say(text) {
  get("note").textContent = text;
  get("note").hidden = !text;
}

const toggleMute = () => running() && page.conversation.mute(!page.conversation.muted);

function about() {
  const { name, version, model } = settings.info ?? {};
  return { made: { server: name ?? null, version: version ?? null, model: model ?? null }, ...page.shown.about() };
}

function fileName(ending) {
  const stamp = new Date().toISOString().slice(0, 19).replaceAll(":", "-");
  return `duologue-${stamp}.${ending}`;
}

get("start").addEventListener("click", () => (running() ? end() : begin()));
get("mute").addEventListener("click", toggleMute);
get("anew").addEventListener("click", () => {
  end();
  begin();
  get("start").focus();
});
get("save-sound").addEventListener("click", () => save(page.shown.recording.wav(), fileName("wav")));
get("save-words").addEventListener("click", () => save(page.shown.recording.json(about()), fileName("json")));
for (const kind of ["input", "change"]) settings.form.addEventListener(kind, showChange);

document.addEventListener("keydown", (event) => {
  const key = event.key.toLowerCase();
  if (event.repeat || event.ctrlKey || event.altKey || event.metaKey || !["m", " "].includes(key)) return;
  const within = event.target.closest?.("input, textarea, select, button, summary, [contenteditable]");
  if (within && (key === " " || !within.matches("button, summary"))) return;
  if (!running()) return;
  event.preventDefault(); // space would scroll
  toggleMute();
});

addEventListener("pagehide", () => running() && end());

const LOOK_AGAIN = 1000; // ms between two looks at a server that is not ready

/** Ask what the server offers, until it is ready. */
async function readInfo() {
  try {
    const answer = await fetch(new URL("api/info", base));
    if (!answer.ok) throw new Error(`it said ${answer.status}`);
    const info = await answer.json();
    settings.offer(info);
    const model = info.model.split("/").at(-1); // a folder's name, or that on the hub without its owner
    get("demonstration").hidden = !/\bnano\b/.test(model);
    const places = info.slots === 1 ? "one place" : `${info.slots} places`;
    get("about").textContent = `${model}${info.slots ? `, ${places}` : ""}. Talk: it listens while it speaks.`;
    const ready = info.ready !== false;
    get("start").disabled = !ready;
    get("state-text").textContent = ready ? "Your microphone is used once you start" : "The server loads its model";
    if (!ready) setTimeout(readInfo, LOOK_AGAIN);
  } catch (error) {
    get("state-text").textContent = `The server does not answer (${error.message}): reload this page`;
    document.body.toggleAttribute("data-failed", true);
  }
}

await readInfo();
document.body.dataset.loaded = "";

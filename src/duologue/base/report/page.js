// The page around the cards: the tooltip, the bar that filters and sorts, the loading of cards as they come near.

const tooltip = document.getElementById("tooltip");

function showTip(text, x, y) {
  tooltip.textContent = text;
  tooltip.hidden = false;
  const { width, height } = tooltip.getBoundingClientRect();
  tooltip.style.left = `${Math.max(4, Math.min(x + 12, innerWidth - width - 4))}px`;
  tooltip.style.top = `${y - height - 14 > 0 ? y - height - 14 : y + 18}px`;
}

function hideTip() {
  tooltip.hidden = true;
}

addEventListener("pointerdown", hideTip, { capture: true });
addEventListener("scroll", hideTip, { capture: true, passive: true });

const cards = JSON.parse(document.getElementById("samples-data").textContent).map((sample, index) => new Card(sample, index));

/** The bar: which verdict, which words, in which order. */
const view = { verdict: null, text: "", fact: "", falling: false };

function arrange() {
  const matches = (card) => (view.verdict === null || card.sample.verdict === view.verdict) && card.haystack.includes(view.text);
  const value = (card) => card.sample.facts.find(([name]) => name === view.fact)?.[2] ?? null;
  const sign = view.falling ? -1 : 1;
  const sorted = [...cards].sort((a, b) => {
    if (!view.fact) return sign * (a.index - b.index);
    const [left, right] = [value(a), value(b)];
    // What was not measured comes last in either order.
    if (left === null || right === null) return (left === null) - (right === null) || a.index - b.index;
    return sign * (left - right) || a.index - b.index;
  });
  let shown = 0;
  for (const card of sorted) {
    card.root.hidden = !matches(card);
    if (!card.root.hidden) shown++;
  }
  if (player.playing && player.card.root.hidden) player.pause();
  document.getElementById("cards").append(...sorted.map((card) => card.root));
  document.getElementById("count").textContent = (shown === cards.length ? "" : `${shown} of `) + `${cards.length} ${cards.length === 1 ? "sample" : "samples"}`;
}

function buildToolbar() {
  const counts = new Map([[null, { count: cards.length }]]);
  for (const { sample } of cards) {
    const entry = counts.get(sample.verdict) || { count: 0, status: sample.status };
    counts.set(sample.verdict, { ...entry, count: entry.count + 1 });
  }
  const chips = [...counts].map(([verdict, { count, status }]) => {
    const chip = make("button", { type: "button", "aria-pressed": verdict === view.verdict }, verdict === null ? "all" : `${SIGNS[status]} ${verdict}`, make("small", {}, ` ${count}`));
    chip.addEventListener("click", () => {
      view.verdict = verdict;
      for (const other of chips) other.setAttribute("aria-pressed", other === chip);
      arrange();
    });
    return chip;
  });
  document.getElementById("verdicts").append(...chips);
  const numeric = new Set(cards.flatMap(({ sample }) => sample.facts.filter(([, , number]) => number !== null).map(([name]) => name)));
  const choices = [["", "as given"], ...[...numeric].map((name) => [name, name])];
  const sort = document.getElementById("sort");
  sort.append(...choices.map(([value, label]) => make("option", { value }, label)));
  sort.addEventListener("change", () => ((view.fact = sort.value), arrange()));
  const order = document.getElementById("order");
  order.addEventListener("click", () => {
    view.falling = !view.falling;
    order.setAttribute("aria-pressed", view.falling);
    order.textContent = view.falling ? "↓" : "↑";
    arrange();
  });
  const search = document.getElementById("search");
  search.addEventListener("input", () => ((view.text = search.value.trim().toLowerCase()), arrange()));
  document.getElementById("toolbar").addEventListener("submit", (event) => event.preventDefault());
}

function showLinked() {
  const wanted = decodeURIComponent(location.hash.replace(/^#sample-/, "#")).slice(1);
  const card = wanted && cards.find(({ sample }) => sample.id === wanted);
  if (!card) return;
  card.build();
  card.root.scrollIntoView();
}

function start() {
  buildToolbar();
  arrange();
  const byRoot = new Map(cards.map((card) => [card.root, card]));
  const near = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) byRoot.get(entry.target).build();
  }, { rootMargin: "600px" });
  for (const card of cards) near.observe(card.root);
  // The sound is the last part of the file.
  document.addEventListener("DOMContentLoaded", () => {
    for (const card of cards) if (card.built) card.hearAbout();
    const summary = JSON.parse(document.getElementById("sound-summary").textContent);
    const note = document.getElementById("sound-note");
    note.textContent = summary;
    note.hidden = !summary;
    showLinked();
  });
  addEventListener("hashchange", showLinked);
  // In the next frame: drawing changes the height of what is observed.
  const refit = () => cards.forEach((card) => card.built && card.scroller.clientWidth !== card.space && card.redraw());
  new ResizeObserver(() => requestAnimationFrame(refit)).observe(document.getElementById("cards"));
  addEventListener("beforeprint", () => cards.filter((card) => !card.root.hidden).forEach((card) => card.build()));
}

/** Remarks of table cells, by pointer or keyboard. */
for (const cell of document.querySelectorAll(".tip")) {
  const show = () => {
    const box = cell.getBoundingClientRect();
    showTip(cell.querySelector(".hint").textContent, box.left, box.top);
  };
  for (const name of ["pointerenter", "focus"]) cell.addEventListener(name, show);
  for (const name of ["pointerleave", "blur"]) cell.addEventListener(name, hideTip);
}
if (cards.length) start();

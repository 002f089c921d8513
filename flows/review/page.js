// One candidate is shown at a time, beside the list of those that the filters choose.

import { $, alone, ask, element, onKeys, trouble } from "./dom.js";
import { SAID, about, beside, drawList, mark, nextOf, remember, setOrder } from "./list.js";
import { CONTROLS, KEYS as PLAYER_KEYS, draw, play } from "./player.js";

const HANDS = ["hands", "driving-hands"];
const FIRST = ["score", "good frames", "fingers", "error"];
const state = { run: null, shown: null, undo: [], undecided: new Set() };

// The candidate

async function show(index) {
  if (index === undefined) return;
  const one = await ask(`api/candidates/${index}`);
  state.shown = one;
  history.replaceState(null, "", `#${index}`);
  $("name").textContent = one.name;
  $("reason").textContent = one.hidden ? "score and decision are hidden until you answer" : `${one.kept ? "kept" : "not kept"}: ${one.reason}`;
  drawVerdict();
  play(one.video, one.driving);
  for (const name of HANDS) $(name).src = `picture/${one.video}/${name}.jpg`;
  drawNumbers(one);
  drawClip(one);
  $("stopped").textContent = (one.stopped || []).join("\n");
  mark(index);
  skeleton($("candidate"), one.found);
  skeleton($("driving"), one.pose);
  document.body.classList.remove("listed");
  document.body.dataset.shown = index;
  ahead(beside(index, 1));
}

// What the next candidate needs is made and fetched while this one is looked at.
async function ahead(index) {
  if (index === undefined || index === state.shown.index) return;
  try {
    const one = await ask(`api/candidates/${index}`);
    for (const name of HANDS) new Image().src = `picture/${one.video}/${name}.jpg`;
    await fetch(`video/${one.video}`);
  } catch { /* Said when it is shown. */ }
}

function drawVerdict() {
  const { answer, reviews = [] } = state.shown;
  document.querySelector(".verdict").className = `verdict ${answer || ""}`;
  const said = reviews.map((one) => `${one.by}: ${one.answer}, ${new Date(one.at).toLocaleString()}`);
  $("verdict").textContent = [answer ? SAID[answer] : "not decided by hand", ...said].join(" · ");
}

function drawNumbers(one) {
  const rows = one.hidden ? [] : [
    ["score", one.score], ["good frames", one.good_frames], ["scorable", one.scorable],
    ...Object.entries(one.components),
    ...Object.entries(one.worst).map(([name, value]) => [`worst ${name}`, value]),
    ["seed", one.seed],
  ];
  const table = ([name, value]) => {
    const row = element("tr");
    row.append(element("td", name.replaceAll("_", " ")), element("td", typeof value === "number" ? value.toFixed(3) : value ?? "–"));
    return row;
  };
  $("first").replaceChildren(...rows.filter(([name]) => FIRST.includes(name))
    .sort(([one], [other]) => FIRST.indexOf(one) - FIRST.indexOf(other)).map(table));
  $("rest").replaceChildren(...rows.filter(([name]) => !FIRST.includes(name)).map(table));
  $("more").hidden = one.hidden;
}

function drawClip(one) {
  $("clip").replaceChildren(...one.clip.map((row) => {
    const box = element("div", undefined, `${row.answer || ""} ${row.index === one.index ? "shown" : ""}`);
    const film = element("video");
    Object.assign(film, { muted: true, loop: true, autoplay: true, playsInline: true, src: `video/${row.video}` });
    box.append(film, element("kbd", row.number), element("span", ` ${about(row)}`));
    box.addEventListener("click", () => alone(() => show(row.index)));
    return box;
  }));
}

function drawRun() {
  const { accepted, rejected, unsure, candidates, threshold, config, run, by, blind, agreements } = state.run;
  $("run").textContent = `${config}, run ${run}`;
  $("progress").textContent = `${(accepted + rejected + unsure).toLocaleString("en")} of ${candidates.toLocaleString("en")} reviewed` +
    `${blind ? ` by ${by}` : ""}: ${accepted} accepted, ${rejected} rejected, ${unsure} unsure. Nearest to the threshold` +
    `${blind ? "" : ` (${threshold})`} first.`;
  $("agreement").replaceChildren(...agreements.map((pair) => element("span",
    `${pair.first} and ${pair.second} agree on ${pair.agreed} of ${pair.common}, kappa ${pair.kappa?.toFixed(2) ?? "–"}`)));
}

async function skeleton(video, digest) {
  if (!digest) return;
  try {
    const pose = await ask(`pose/${digest}`);
    if (state.shown.pose === digest || state.shown.found === digest) video.pose = pose;
  } catch (error) { trouble(error); }
}

// Filters

async function filter() {
  const asked = new URLSearchParams({ show: $("show").value, by: $("by").value, text: $("text").value });
  setOrder(await ask(`api/order?${asked}`), (index) => alone(() => show(index)));
}

async function filterAndShow() {
  await filter();
  if (beside(state.shown.index, 0) !== state.shown.index) await show(beside(state.shown.index, 0));
}

function fillFilters() {
  $("by").append(...state.run.reviewers.map((name) => Object.assign(element("option", `reviewed by ${name}`), { value: name })));
  $("show").querySelector("[value=near]").textContent = `within ${state.run.near} of the threshold`;
}

// Decisions

async function decide(candidate, answer) {
  const { row, ...progress } = await ask("api/reviews", { candidate, answer });
  remember(row);
  Object.assign(state.run, progress);
  state.undecided[row.answer ? "delete" : "add"](row.index);
  drawRun();
}

async function say(answer) {
  const { video, index, reviews = [], answer: stood } = state.shown;
  // Undo brings back what stood: the own answer, or another one that this answer replaces.
  const replaced = state.run.rule === "latest" && !state.run.blind ? stood : null;
  const before = reviews.find((one) => one.by === state.run.by)?.answer ?? replaced;
  await decide(video, answer);
  state.undo.push({ video, before, index });
  await show(nextOf(state.undecided, index) ?? index);
}

// After a reload the page does not know its last decision: then undo takes back that of the shown candidate.
async function undo() {
  const last = state.undo.pop() ?? { video: state.shown.video, before: null, index: state.shown.index };
  await decide(last.video, last.before);
  await show(last.index);
}

const KEYS = {
  a: () => say("accept"), d: () => say("unsure"), r: () => say("reject"), u: undo,
  n: () => show(nextOf(state.undecided, state.shown.index)),
  ArrowRight: () => show(beside(state.shown.index, 1)), ArrowLeft: () => show(beside(state.shown.index, -1)),
};

onKeys((key) => {
  const sibling = /^[0-9]$/.test(key) && state.shown.clip.find((row) => row.number === Number(key));
  return sibling ? () => show(sibling.index) : KEYS[key];
}, PLAYER_KEYS, CONTROLS);
for (const [id, key] of Object.entries({ accept: "a", unsure: "d", reject: "r", undo: "u", next: "ArrowRight", previous: "ArrowLeft" })) {
  $(id).addEventListener("click", () => alone(KEYS[key]));
}
for (const id of ["show", "by", "text"]) $(id).addEventListener("change", () => { $(id).blur(); alone(filterAndShow); });
$("filters").addEventListener("submit", (event) => event.preventDefault());
$("menu").addEventListener("click", () => { document.body.classList.toggle("listed"); drawList(); });

alone(async () => {
  state.run = await ask("api/run");
  state.undecided = new Set(await ask("api/order?show=undecided"));
  fillFilters();
  drawRun();
  await filter();
  const asked = Number.parseInt(location.hash.slice(1), 10);
  await show(asked >= 0 && asked < state.run.candidates ? asked : nextOf(state.undecided, -1) ?? 0);
  draw();
});

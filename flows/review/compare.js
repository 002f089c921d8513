// One pair of videos at a time. The page does not know which of them is the aligned model's: only the server does.

import { $, alone, ask, onKeys, trouble } from "./dom.js";
import { CONTROLS, KEYS as PLAYER_KEYS, draw, play } from "./player.js";

const VIDEOS = ["left", "right", "driving"];
const SAID = { left: "left is better", right: "right is better", same: "no difference" };
const state = { run: null, shown: null, undo: [] };
const answers = () => state.run.answers;

async function show(index) {
  const one = await ask(`api/questions/${index}`);
  state.shown = one;
  history.replaceState(null, "", `#${index}`);
  $("name").textContent = one.name;
  play(...VIDEOS.map((side) => one[side]));
  for (const side of VIDEOS) $(`${side}-hands`).src = `picture/${one[side]}/hands.jpg`;
  drawAnswer();
  skeleton(one.pose);
  document.body.dataset.shown = index;
  ahead(undecided(index) ?? index);
}

// What the next pair needs is made and fetched while this one is looked at.
async function ahead(index) {
  if (index === state.shown.index) return;
  try {
    const one = await ask(`api/questions/${index}`);
    for (const side of VIDEOS) new Image().src = `picture/${one[side]}/hands.jpg`;
    await Promise.all(VIDEOS.map((side) => fetch(`video/${one[side]}`)));
  } catch { /* Said when it is shown. */ }
}

async function skeleton(token) {
  try {
    const pose = await ask(`pose/${token}`);
    if (state.shown.pose === token) $("driving").pose = pose;
  } catch (error) { trouble(error); }
}

function drawAnswer() {
  const said = answers()[state.shown.index], count = answers().length, open = answers().filter((one) => !one).length;
  $("verdict").textContent = said ? `you said: ${SAID[said]}` : "not answered";
  $("progress").textContent = `${state.run.config}, run ${state.run.run}: pair ${state.shown.index + 1} of ${count}, ` +
    (open ? `${open} not answered by ${state.run.by}` : `all answered by ${state.run.by}; thank you, you may close the page`);
  for (const side of ["left", "right"]) $(`${side}-side`).className = said === side ? "chosen" : "";
  $("same").className = said === "same" ? "chosen" : "";
}

// The next pair without an answer behind one, then from the start.
function undecided(index) {
  const places = answers().map((_, place) => (index + 1 + place) % answers().length);
  return places.find((place) => !answers()[place]);
}

const keep = async (question, answer) => { state.run.answers = await ask("api/preferences", { question, answer }); };

async function say(answer) {
  const { index, left } = state.shown, before = answers()[index];
  await keep(left, answer);
  state.undo.push({ index, left, before });
  await show(undecided(index) ?? index);
}

// After a reload the page does not know its last answer: then undo takes back that of the shown pair.
async function undo() {
  const { index, left, before = null } = state.undo.pop() ?? state.shown;
  await keep(left, before);
  await show(index);
}

const beside = (by) => Math.min(answers().length - 1, Math.max(0, state.shown.index + by));
const WORK = {
  left: () => say("left"), same: () => say("same"), right: () => say("right"), undo,
  next: () => show(beside(1)), previous: () => show(beside(-1)),
};
const KEYS = { ArrowLeft: "left", ArrowDown: "same", ArrowRight: "right", u: "undo", n: "next", b: "previous" };

onKeys((key) => WORK[KEYS[key]], PLAYER_KEYS, CONTROLS);
for (const id of Object.keys(WORK)) $(id).addEventListener("click", () => alone(WORK[id]));

alone(async () => {
  state.run = await ask("api/run");
  const asked = Number.parseInt(location.hash.slice(1), 10);
  await show(asked >= 0 && asked < answers().length ? asked : undecided(-1) ?? 0);
  draw();
});

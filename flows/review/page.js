"use strict";
// One candidate is shown at a time; the list beside it holds only the rows that are seen and asks for them in pages.

const ROW = 56, PAGE = 100, AROUND = 6, HANDS = ["hands", "driving-hands"];
const $ = (id) => document.getElementById(id);
const state = { run: null, shown: null, busy: false, undo: [], pages: new Map(), drawn: new Map(), skeleton: true };

async function ask(path, body) {
  const options = body && { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
  const answer = await fetch(path, options);
  const about = await answer.json().catch(() => ({ detail: answer.statusText }));
  if (!answer.ok) throw new Error(typeof about.detail === "string" ? about.detail : JSON.stringify(about.detail));
  return about;
}

function trouble(error) {
  $("trouble").hidden = !error;
  $("trouble").textContent = error ? `${error.message}. Is \`ipa review\` still running?` : "";
}

// Only one thing at a time: a key pressed before the next candidate is seen must not decide about it.
async function alone(work) {
  if (state.busy) return;
  state.busy = true;
  document.body.classList.add("busy");
  try { await work(); trouble(null); } catch (error) { trouble(error); } finally {
    state.busy = false;
    document.body.classList.remove("busy");
  }
}

function element(tag, text, kind) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

const score = (row) => row.score === null ? "unscorable" : row.score.toFixed(3);
const about = (row) => `${score(row)}, ${row.kept ? "kept" : "not kept"}`;

// The list

function drawList() {
  const list = $("list"), total = state.run.candidates;
  $("rows").style.height = `${total * ROW}px`;
  const first = Math.max(0, Math.floor(list.scrollTop / ROW) - AROUND);
  const last = Math.min(total, Math.ceil((list.scrollTop + list.clientHeight) / ROW) + AROUND);
  for (const [index, row] of state.drawn) {
    if (index < first || index >= last) { row.remove(); state.drawn.delete(index); }
  }
  for (let index = first; index < last; index++) drawRow(index);
}

function known(index) {
  const page = state.pages.get(Math.floor(index / PAGE));
  return Array.isArray(page) ? page[index % PAGE] : undefined;
}

function drawRow(index) {
  const row = known(index);
  if (!row) { fetchPage(Math.floor(index / PAGE)); return; }
  let drawn = state.drawn.get(index);
  if (!drawn) {
    drawn = element("div");
    drawn.style.top = `${index * ROW}px`;
    drawn.addEventListener("click", () => alone(() => show(index)));
    const picture = element("img");
    picture.src = `picture/${row.video}/small.jpg`;
    picture.alt = "";
    const text = element("div");
    text.append(element("b", row.name), element("span"));
    drawn.append(picture, text);
    state.drawn.set(index, drawn);
    $("rows").append(drawn);
  }
  drawn.className = `row ${row.verdict || ""} ${index === state.shown?.index ? "shown" : ""}`;
  drawn.querySelector("span").textContent = row.verdict ? `${about(row)}, ${row.verdict}ed` : about(row);
}

async function fetchPage(number) {
  if (state.pages.has(number)) return;
  state.pages.set(number, "asked for");
  try {
    state.pages.set(number, await ask(`api/candidates?offset=${number * PAGE}&limit=${PAGE}`));
    drawList();
  } catch (error) { state.pages.delete(number); trouble(error); }
}

function remember(row) {
  const page = state.pages.get(Math.floor(row.index / PAGE));
  if (Array.isArray(page)) page[row.index % PAGE] = row;
}

function scrollTo(index) {
  const list = $("list"), top = index * ROW;
  if (top < list.scrollTop || top + ROW > list.scrollTop + list.clientHeight) list.scrollTop = top - list.clientHeight / 3;
}

// The candidate

async function show(index) {
  const one = await ask(`api/candidates/${index}`);
  state.shown = one;
  history.replaceState(null, "", `#${index}`);
  $("name").textContent = one.name;
  $("reason").textContent = `${one.kept ? "kept" : "not kept"}: ${one.reason}`;
  drawVerdict();
  $("candidate").src = `video/${one.video}`;
  $("driving").src = `video/${one.driving}`;
  for (const name of HANDS) $(name).src = `picture/${one.video}/${name}.jpg`;
  drawComponents(one);
  drawClip(one);
  scrollTo(index);
  drawList();
  skeleton($("candidate"), one.found);
  skeleton($("driving"), one.pose);
  document.body.dataset.shown = index;
  const next = index + 1;
  if (next < state.run.candidates) ahead(next);
}

// What the next candidate needs is made and fetched while this one is looked at.
async function ahead(index) {
  try {
    const one = await ask(`api/candidates/${index}`);
    for (const name of HANDS) new Image().src = `picture/${one.video}/${name}.jpg`;
    await fetch(`video/${one.video}`);
  } catch { /* Said when it is shown. */ }
}

function drawVerdict() {
  const one = state.shown;
  document.querySelector(".verdict").className = `verdict ${one.verdict || ""}`;
  $("verdict").textContent = one.verdict
    ? `${one.verdict}ed by ${one.by}, ${new Date(one.at).toLocaleString()}` : "not decided by hand";
}

function drawComponents(one) {
  const rows = [
    ["score", one.score], ["good frames", one.good_frames], ["scorable", one.scorable],
    ...Object.entries(one.components),
    ...Object.entries(one.worst).map(([name, value]) => [`worst ${name}`, value]),
    ["seed", one.seed],
  ];
  $("components").replaceChildren(...rows.map(([name, value]) => {
    const row = element("tr");
    const text = typeof value === "number" ? value.toFixed(3) : value ?? "–";
    row.append(element("td", name.replaceAll("_", " ")), element("td", text));
    return row;
  }));
}

function drawClip(one) {
  $("clip").replaceChildren(...one.clip.map((row, place) => {
    const box = element("div", undefined, `${row.verdict || ""} ${row.index === one.index ? "shown" : ""}`);
    const film = element("video");
    Object.assign(film, { muted: true, loop: true, autoplay: true, playsInline: true, src: `video/${row.video}` });
    box.append(film, element("span", `${place + 1}: ${about(row)}`));
    box.addEventListener("click", () => alone(() => show(row.index)));
    return box;
  }));
}

function drawProgress() {
  const { accepted, rejected, candidates, threshold, config, run } = state.run;
  $("run").textContent = `${config}, run ${run}`;
  $("progress").textContent = `${(accepted + rejected).toLocaleString("en")} of ${candidates.toLocaleString("en")} decided: ` +
    `${accepted} accepted, ${rejected} rejected. Nearest to the threshold (${threshold}) first.`;
}

// Skeletons: drawn over the picture that the video shows.

async function skeleton(video, digest) {
  video.pose = null;
  if (!digest) return;
  try {
    const pose = await ask(`pose/${digest}`);
    if (state.shown.pose === digest || state.shown.found === digest) video.pose = pose;
  } catch (error) { trouble(error); }
}

function drawSkeleton(video) {
  const canvas = video.nextElementSibling, pose = video.pose, pen = canvas.getContext("2d");
  const width = video.clientWidth, height = video.clientHeight;
  if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
  pen.clearRect(0, 0, width, height);
  if (!pose || !state.skeleton || !video.duration) return;
  const frame = Math.min(pose.frames.length - 1, Math.floor(video.currentTime / video.duration * pose.frames.length));
  const points = pose.frames[frame], scale = Math.min(width / pose.width, height / pose.height);
  const left = (width - pose.width * scale) / 2, top = (height - pose.height * scale) / 2;
  pen.lineWidth = 1.5;
  pose.bones.forEach(([start, end], bone) => {
    if (points[3 * start + 2] < 0.3 || points[3 * end + 2] < 0.3) return;
    pen.strokeStyle = `hsl(${bone * 47 % 360} 90% 55%)`;
    pen.beginPath();
    pen.moveTo(left + points[3 * start] * scale, top + points[3 * start + 1] * scale);
    pen.lineTo(left + points[3 * end] * scale, top + points[3 * end + 1] * scale);
    pen.stroke();
  });
}

function frame() {
  drawSkeleton($("candidate"));
  drawSkeleton($("driving"));
  requestAnimationFrame(frame);
}

// Decisions

async function decide(candidate, verdict) {
  const answer = await ask("api/reviews", { candidate, verdict });
  remember(answer.row);
  Object.assign(state.run, { accepted: answer.accepted, rejected: answer.rejected });
  drawProgress();
  return answer;
}

async function say(verdict) {
  const { video, verdict: before, index } = state.shown;
  const answer = await decide(video, verdict);
  state.undo.push({ video, before, index });
  await show(answer.next ?? index);
}

// After a reload the page does not know its last decision: then undo takes back that of the shown candidate.
async function undo() {
  const last = state.undo.pop() ?? { video: state.shown.video, before: null, index: state.shown.index };
  await decide(last.video, last.before);
  await show(last.index);
}

async function nextUndecided() {
  const { next } = await ask(`api/next?after=${state.shown.index}`);
  if (next !== null) await show(next);
}

const step = (by) => show(Math.min(state.run.candidates - 1, Math.max(0, state.shown.index + by)));
const KEYS = {
  a: () => say("accept"), r: () => say("reject"), u: undo, n: nextUndecided,
  ArrowRight: () => step(1), ArrowLeft: () => step(-1),
  s: async () => { state.skeleton = !state.skeleton; },
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || !state.shown) return;
  const sibling = /^[1-9]$/.test(event.key) && state.shown.clip[event.key - 1];
  const work = sibling ? () => show(sibling.index) : KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!work) return;
  event.preventDefault();
  alone(work);
});

$("accept").addEventListener("click", () => alone(KEYS.a));
$("reject").addEventListener("click", () => alone(KEYS.r));
$("undo").addEventListener("click", () => alone(KEYS.u));
$("list").addEventListener("scroll", () => requestAnimationFrame(drawList));
addEventListener("resize", drawList);

alone(async () => {
  state.run = await ask("api/run");
  drawProgress();
  const asked = Number.parseInt(location.hash.slice(1), 10);
  await show(asked >= 0 && asked < state.run.candidates ? asked : state.run.next ?? 0);
  requestAnimationFrame(frame);
});

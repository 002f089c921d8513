// The page's videos: they run together, in slow motion, frame by frame and enlarged, with skeletons drawn over them.

import { $, element } from "./dom.js";

const FILMS = [...document.querySelectorAll(".film video")];
const SPEEDS = [1, 0.5, 0.25], ZOOMS = [1, 2, 4];
const state = { paused: false, speed: 0, zoom: 0, skeleton: true, centre: [50, 50], at: 0 };
const [first, ...others] = FILMS;
const turn = (place, list) => (place + 1) % list.length;

// Show other videos, by name. Pause, speed, zoom and, while it is paused, the time stay as they are: candidates are
// compared so.
export function play(...videos) {
  state.at = first.currentTime || state.at;
  FILMS.forEach((film, place) => {
    film.pose = null;
    film.src = `video/${videos[place]}`;
  });
  apply();
}

export const CONTROLS = {
  pause: () => { state.paused = !state.paused; apply(); },
  back: () => step(-1),
  forward: () => step(1),
  slow: () => { state.speed = turn(state.speed, SPEEDS); apply(); },
  zoom: () => { state.zoom = turn(state.zoom, ZOOMS); apply(); },
  skeleton: () => { state.skeleton = !state.skeleton; apply(); },
};

export const KEYS = { " ": "pause", ",": "back", ".": "forward", f: "slow", z: "zoom", s: "skeleton" };

const label = (id, text, key) => $(id).replaceChildren(`${text} `, element("kbd", key));

function apply() {
  const zoom = ZOOMS[state.zoom];
  for (const film of FILMS) {
    film.playbackRate = film.defaultPlaybackRate = SPEEDS[state.speed];
    film.parentElement.style.transform = zoom === 1 ? "" : `scale(${zoom})`;
    film.parentElement.style.transformOrigin = `${state.centre[0]}% ${state.centre[1]}%`;
    if (state.paused) film.pause(); else film.play().catch(() => {}); // Interrupted by the next video.
  }
  label("pause", state.paused ? "play" : "pause", "space");
  label("slow", `speed ${SPEEDS[state.speed]}`, "f");
  label("zoom", `zoom ${zoom}`, "z");
  label("skeleton", state.skeleton ? "hide skeleton" : "skeleton", "s");
}

const frames = () => FILMS.find((film) => film.pose)?.pose.frames.length ?? 0;
const frameOf = (film, count) => Math.min(count - 1, Math.floor(film.currentTime / film.duration * count));

function step(by) {
  const count = frames();
  if (!count || !first.duration) return;
  state.paused = true;
  apply();
  const frame = (frameOf(first, count) + by + count) % count;
  first.currentTime = (frame + 0.5) / count * first.duration;
}

// The others follow at each seek of the first, and a loop is a seek too.
first.addEventListener("seeked", () => { for (const film of others) film.currentTime = first.currentTime; });
first.addEventListener("loadedmetadata", () => { first.currentTime = state.paused ? state.at : 0; });
for (const film of others) film.addEventListener("loadedmetadata", () => { film.currentTime = first.currentTime; });

for (const film of FILMS) {
  const box = film.parentElement.parentElement;
  const aim = (event) => {
    const { left, top, width, height } = box.getBoundingClientRect();
    state.centre = [100 * (event.clientX - left) / width, 100 * (event.clientY - top) / height];
  };
  box.addEventListener("pointermove", (event) => { if (state.zoom) { aim(event); apply(); } });
  box.addEventListener("click", (event) => { aim(event); CONTROLS.zoom(); });
}

function drawSkeleton(film) {
  const canvas = film.nextElementSibling, pose = film.pose, pen = canvas.getContext("2d");
  const width = film.clientWidth, height = film.clientHeight;
  if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
  pen.clearRect(0, 0, width, height);
  if (!pose || !state.skeleton || !film.duration) return;
  const points = pose.frames[frameOf(film, pose.frames.length)], scale = Math.min(width / pose.width, height / pose.height);
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

export function draw() {
  FILMS.forEach(drawSkeleton);
  const count = frames();
  $("frame").textContent = count && first.duration ? `frame ${frameOf(first, count) + 1} of ${count}` : "";
  requestAnimationFrame(draw);
}

// The list of candidates: it holds only the rows that are seen and asks for them in pages.

import { $, ask, element, trouble } from "./dom.js";

export const SAID = { accept: "accepted", reject: "rejected", unsure: "unsure" };
const ROW = 56, PAGE = 100, AROUND = 6;
const pages = new Map(), drawn = new Map();
let order = [], shown = null, choose = null;

export function about(row) {
  if (row.hidden) return "not reviewed yet";
  const parts = [row.score === null ? "unscorable" : row.score.toFixed(3), row.kept ? "kept" : "not kept"];
  return [...parts, ...(row.answer ? [SAID[row.answer]] : [])].join(", ");
}

// The order of the chosen candidates, as indices of the queue. `choose` is called with the index of a clicked row.
export function setOrder(indices, onChoice) {
  order = indices;
  choose = onChoice;
  for (const row of drawn.values()) row.remove();
  drawn.clear();
  $("found").textContent = `${order.length.toLocaleString("en")} listed`;
  drawList();
}

// The candidate beside one in the list; beside one that is not listed, the first.
export function beside(index, by) {
  const place = order.indexOf(index);
  return place < 0 ? order[0] : order[Math.min(order.length - 1, Math.max(0, place + by))];
}

// The next one of a set behind an index in the list, then from the list's start.
export function nextOf(set, index) {
  const from = order.indexOf(index) + 1;
  return [...order.slice(from), ...order.slice(0, from)].find((one) => set.has(one));
}

export function drawList() {
  const list = $("list");
  $("rows").style.height = `${order.length * ROW}px`;
  const first = Math.max(0, Math.floor(list.scrollTop / ROW) - AROUND);
  const last = Math.min(order.length, Math.ceil((list.scrollTop + list.clientHeight) / ROW) + AROUND);
  for (const [place, row] of drawn) {
    if (place < first || place >= last) { row.remove(); drawn.delete(place); }
  }
  for (let place = first; place < last; place++) drawRow(place);
}

export function mark(index) {
  const list = $("list"), top = order.indexOf(index) * ROW;
  shown = index;
  if (top >= 0 && (top < list.scrollTop || top + ROW > list.scrollTop + list.clientHeight)) {
    list.scrollTop = top - list.clientHeight / 3;
  }
  drawList();
}

export function remember(row) {
  const page = pages.get(Math.floor(row.index / PAGE));
  if (Array.isArray(page)) page[row.index % PAGE] = row;
}

function known(index) {
  const page = pages.get(Math.floor(index / PAGE));
  return Array.isArray(page) ? page[index % PAGE] : undefined;
}

function drawRow(place) {
  const index = order[place], row = known(index);
  if (!row) { fetchPage(Math.floor(index / PAGE)); return; }
  let box = drawn.get(place);
  if (!box) {
    box = element("div");
    box.style.top = `${place * ROW}px`;
    box.addEventListener("click", () => choose(index));
    const picture = element("img");
    picture.src = `picture/${row.video}/small.jpg`;
    picture.alt = "";
    const text = element("div");
    text.append(element("b", row.name), element("span"));
    box.append(picture, text);
    drawn.set(place, box);
    $("rows").append(box);
  }
  box.className = `row ${row.answer || ""} ${index === shown ? "shown" : ""}`;
  box.querySelector("span").textContent = about(row);
}

async function fetchPage(number) {
  if (pages.has(number)) return;
  pages.set(number, "asked for");
  try {
    pages.set(number, await ask(`api/candidates?offset=${number * PAGE}&limit=${PAGE}`));
    drawList();
  } catch (error) { pages.delete(number); trouble(error); }
}

$("list").addEventListener("scroll", () => requestAnimationFrame(drawList));
addEventListener("resize", drawList);

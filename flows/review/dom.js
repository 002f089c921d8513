// The page's elements, and questions to its server.

export const $ = (id) => document.getElementById(id);

export async function ask(path, body) {
  const options = body && { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
  const answer = await fetch(path, options);
  const about = await answer.json().catch(() => ({ detail: answer.statusText }));
  if (!answer.ok) throw new Error(typeof about.detail === "string" ? about.detail : JSON.stringify(about.detail));
  return about;
}

export function trouble(error) {
  $("trouble").hidden = !error;
  $("trouble").textContent = error ? `${error.message}. Is \`ipa review\` still running?` : "";
}

// Only one thing at a time: a key pressed before the next videos are seen must not decide about them.
let busy = false;

export async function alone(work) {
  if (busy) return;
  busy = true;
  document.body.classList.add("busy");
  try { await work(); trouble(null); } catch (error) { trouble(error); } finally {
    busy = false;
    document.body.classList.remove("busy");
  }
}

// What a key does: `keys` are decisions and ways, one at a time; `player` are names of the player's controls, at once.
export function onKeys(keys, player, controls) {
  document.addEventListener("keydown", (event) => {
    const typing = ["INPUT", "SELECT"].includes(event.target.tagName);
    if (event.ctrlKey || event.metaKey || event.altKey || typing || document.body.dataset.shown === undefined) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const work = keys(key);
    if (!work && !player[key]) return;
    event.preventDefault();
    if (player[key]) controls[player[key]]();
    else if (!event.repeat) alone(work);
  });
  // A clicked button must not keep the focus: the next space is for the videos.
  document.addEventListener("click", (event) => event.target.closest("button")?.blur());
  for (const id of Object.values(player)) $(id).addEventListener("click", controls[id]);
}

export function element(tag, text, kind) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

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

export function element(tag, text, kind) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

// Keeps a view current: puts the parts that the server says have changed where they belong.
"use strict";

const connection = document.getElementById("connection");
const FOCUSABLE = "a[href], button, input, select, textarea, [tabindex]";

/** Remember what has the focus, so that it has it again if its part is made anew. */
function focused() {
  const element = document.activeElement;
  const part = element && element.closest("[data-part], [data-list]");
  if (!part || element === part) return () => {};
  const at = [...part.querySelectorAll(FOCUSABLE)].indexOf(element);
  const { id } = element;
  return () => {
    if (element.isConnected && document.activeElement === element) return;
    const found = (id && document.getElementById(id)) || part.querySelectorAll(FOCUSABLE)[at];
    if (found) found.focus({ preventScroll: true });
  };
}

function element(html) {
  const template = document.createElement("template");
  template.innerHTML = html.trim();
  return template.content.firstElementChild;
}

function update(list, changed) {
  const known = new Map([...list.children].map((row) => [row.dataset.key, row]));
  for (const [key, html] of Object.entries(changed.rows || {})) {
    const row = element(html);
    if (known.has(key)) known.get(key).replaceWith(row);
    known.set(key, row);
  }
  for (const [key, texts] of Object.entries(changed.cells || {})) {
    const cells = known.has(key) ? known.get(key).querySelectorAll("td.number") : [];
    cells.forEach((cell, at) => { cell.textContent = texts[at]; });
  }
  if (!changed.order) return;
  changed.order.forEach((key, at) => {
    const row = known.get(key);
    if (list.children[at] !== row) list.insertBefore(row, list.children[at] || null);
  });
  while (list.children.length > changed.order.length) list.lastElementChild.remove();
}

function apply(message) {
  const refocus = focused();
  for (const [name, html] of Object.entries(message.parts || {})) {
    const part = document.querySelector(`[data-part="${name}"]`);
    if (part) part.innerHTML = html;
  }
  for (const [name, changed] of Object.entries(message.lists || {})) {
    const list = document.querySelector(`[data-list="${name}"]`);
    if (list) update(list, changed);
  }
  refocus();
}

function say(live, words) {
  connection.classList.toggle("live", live);
  const says = connection.querySelector(".says");
  if (says.textContent !== words) says.textContent = words;
}

// On a narrow screen the map begins where the cause is
document.querySelectorAll(".map").forEach((map) => {
  const root = map.querySelector(".node.root");
  if (!root || map.scrollWidth <= map.clientWidth) return;
  const at = root.getBoundingClientRect();
  map.scrollLeft += at.left + at.width / 2 - map.getBoundingClientRect().left - map.clientWidth / 2;
});

// A tab that nobody sees does not follow: a browser has few connections for one host.
let events = null;
let address = connection && connection.dataset.events;

function follow() {
  if (events || document.hidden) return;
  events = new EventSource(address);
  address = connection.dataset.events.replace(/&have=[^&]*/, "");  // later, nobody knows
  events.addEventListener("open", () => say(true, "live"));
  events.addEventListener("message", (event) => apply(JSON.parse(event.data)));
  events.addEventListener("error", () =>
    say(false, events.readyState === EventSource.CLOSED ? "not live: reload" : "connecting again"));
}

function rest() {
  if (events) events.close();
  events = null;
}

if (connection) {
  follow();
  document.addEventListener("visibilitychange", () => (document.hidden ? rest() : follow()));
  window.addEventListener("pagehide", rest);
  window.addEventListener("pageshow", (event) => event.persisted && follow());
}

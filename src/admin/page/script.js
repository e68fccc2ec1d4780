// Keeps a view up to date, tells times as the reader's clock does, and sends commands. Everything can be read without it.
"use strict";

const root = document.body.dataset.root;

// --- Times: how long ago, and the reader's own clock when pointed at.

function ago(seconds) {
  const steps = [[120, 1, "s"], [7200, 60, "min"], [172800, 3600, "h"], [Infinity, 86400, "d"]];
  const [, unit, name] = steps.find(([below]) => Math.abs(seconds) < below);
  const length = `${Math.floor(Math.abs(seconds) / unit)} ${name}`;
  return seconds < 0 ? `in ${length}` : `${length} ago`;
}

function tellTimes() {
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  for (const time of document.querySelectorAll("time")) {
    const at = new Date(time.dateTime);
    if (isNaN(at)) continue;
    time.title = `${at.toLocaleString()} ${zone}\n${time.dateTime.replace("T", " ").replace("Z", "")} UTC`;
    let shown = time.querySelector(".ago");
    if (!shown) {
      shown = document.createElement("span");
      shown.className = "ago";
      time.append(" ", shown);
    }
    shown.textContent = `(${ago((Date.now() - at) / 1000)})`;
  }
}

// --- Keeping up to date: the server tells that something happened, and the view is fetched again.

let stream = null;
let release = null;
let due = null;
const others = "BroadcastChannel" in window ? new BroadcastChannel(`gander ${new URL(root, location).pathname}`) : null;

function isInUse() {
  const selection = getSelection();
  return document.querySelector("dialog[open]") || document.querySelector("main details[open]")
    || document.activeElement?.matches("main input, main select, main pre") || (selection && !selection.isCollapsed);
}

async function refresh() {
  due = null;
  if (document.hidden || isInUse()) return;
  try {
    const answer = await fetch(location.href, { headers: { accept: "text/html" } });
    if (!answer.ok) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("main");
    if (!fresh || isInUse()) return;
    const focused = document.activeElement?.closest("main [href]")?.getAttribute("href");
    document.querySelector("main").replaceChildren(...fresh.childNodes);
    if (focused) document.querySelector(`main [href="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
    enliven();
  } catch { /* The relay restarts; the stream comes back by itself. */ }
}

function happened() {
  due ??= setTimeout(refresh, 1000);
}

function open() {
  if (stream || document.hidden) return;
  stream = new EventSource(`${root}api/v1/stream`);
  const tell = () => { happened(); others?.postMessage("happened"); };
  stream.onmessage = tell;
  stream.addEventListener("missed", tell);
}

// One stream for all tabs of a browser, and none while they are hidden: it has six connections to a server.
function follow() {
  if (document.hidden) {
    stream?.close();
    stream = null;
    release?.();
    release = null;
  } else if (navigator.locks) {
    navigator.locks.request("gander-stream", () => document.hidden ? null : new Promise((done) => { release = done; open(); }));
    happened();
  } else {
    open();
    happened();
  }
}

// --- Commands, by the API.

async function post(path, body) {
  const answer = await fetch(root + path, {
    method: "POST", headers: { "content-type": "application/json" }, body: body ?? "{}",
  });
  const said = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(said.detail ?? `The relay answered ${answer.status}.`);
  return said;
}

function element(name, text, className) {
  const made = document.createElement(name);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

// Asks in a dialog; `run` gets what shows progress, and returns what is said at the end.
function ask(title, question, run) {
  const dialog = document.createElement("dialog");
  const text = element("p", question);
  const go = element("button", title);
  const close = element("button", "Cancel", "second");
  const row = element("div", "", "commands");
  row.append(go, close);
  dialog.append(element("h2", title), text, row);
  dialog.setAttribute("aria-label", title);
  document.body.append(dialog);
  const state = { cancelled: false, say: (line) => { text.textContent = line; } };
  dialog.addEventListener("close", () => { state.cancelled = true; dialog.remove(); refresh(); });
  close.addEventListener("click", () => dialog.close());
  go.addEventListener("click", async () => {
    go.disabled = true;
    try {
      text.textContent = await run(state, dialog);
    } catch (error) {
      text.textContent = error.message;
    }
    go.remove();
    close.textContent = "Close";
    close.focus();
  });
  dialog.showModal();
}

async function one(button) {
  ask(button.textContent, button.dataset.ask, async () => {
    const { status, detail } = await post(button.dataset.post, button.dataset.body);
    return detail ?? `Done: ${status ?? "it was taken"}.`;
  });
}

// All that match: a plan with its count, then page by page until it is done or cancelled.
async function all(button) {
  const path = button.dataset.all;
  const selection = JSON.parse(button.dataset.body);
  const plan = await post(path, JSON.stringify({ ...selection, dry_run: true })).catch((error) => ({ error }));
  if (plan.error) return ask(button.textContent, plan.error.message, async () => "");
  const count = `${plan.at_least ? "At least " : ""}${plan.matching}`;
  ask(button.textContent, `${count} match. ${button.dataset.ask}`, async (state, dialog) => {
    const bar = document.createElement("progress");
    bar.max = plan.matching || 1;
    bar.value = 0;
    dialog.querySelector("p").after(bar);
    let [done, declined, after] = [0, 0, undefined];
    do {
      const page = await post(path, JSON.stringify({ ...selection, ...(after && { after }) }));
      for (const { status } of page.results) status === "declined" || status === "refused" ? declined++ : done++;
      bar.value = done + declined;
      state.say(`${done} done, ${declined} left as they were …`);
      after = page.next;
      if (page.stopped) return `Stopped after ${done}: ${page.stopped}.`;
    } while (after && !state.cancelled);
    return `${done} done, ${declined} left as they were${state.cancelled ? "; cancelled" : ""}.`;
  });
}

function enliven() {
  tellTimes();
  for (const row of document.querySelectorAll(".commands[hidden]")) row.hidden = false;
  for (const button of document.querySelectorAll("[data-post]")) button.onclick = () => one(button);
  for (const button of document.querySelectorAll("[data-all]")) button.onclick = () => all(button);
}

enliven();
setInterval(tellTimes, 10000);
if (document.body.dataset.live) {
  document.addEventListener("visibilitychange", follow);
  others?.addEventListener("message", happened);
  follow();
}

// Keeps a view up to date, tells times as the reader's clock does, and sends commands. Everything can be read without it.
"use strict";

const root = document.body.dataset.root;

// --- Times: how long ago, and by UTC or by the reader's own clock.

function ago(seconds) {
  const steps = [[120, 1, "s"], [7200, 60, "min"], [172800, 3600, "h"], [Infinity, 86400, "d"]];
  const [, unit, name] = steps.find(([below]) => Math.abs(seconds) < below);
  const length = `${Math.floor(Math.abs(seconds) / unit)} ${name}`;
  return seconds < 0 ? `in ${length}` : `${length} ago`;
}

const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
const byClock = document.querySelector("[data-clock]");

function isLocal() {
  try { return localStorage.getItem("gander-clock") === "local"; } catch { return false; }
}

function local(at) {
  const isToday = at.toDateString() === new Date().toDateString();
  return at.toLocaleString("sv", isToday ? { timeStyle: "medium" } : { dateStyle: "short", timeStyle: "medium" });
}

function tellTimes() {
  byClock.hidden = false;
  byClock.textContent = isLocal() ? `Times in ${zone}` : "Times in UTC";
  for (const time of document.querySelectorAll("time")) {
    const at = new Date(time.dateTime);
    if (isNaN(at)) continue;
    time.dataset.utc ??= time.firstChild.textContent;
    time.firstChild.textContent = isLocal() ? local(at) : time.dataset.utc;
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

// --- Keeping up to date: the server tells that something changed, and the view is fetched again.

let stream = null;
let release = null;
let due = null;
let fetching = false;
let wanted = false;
let seenAt = Date.now();
const name = `gander ${new URL(root, location).pathname}`;
const others = "BroadcastChannel" in window ? new BroadcastChannel(name) : null;

function isInUse() {
  const selection = getSelection();
  return document.querySelector("dialog[open]") || (selection && !selection.isCollapsed)
    || document.activeElement?.matches("main input, main select, main pre, main button:not([data-copy]), main summary");
}

// What is shown is old: said above it, so that nobody takes it for how things are.
function tellStale(why) {
  const stale = document.querySelector(".stale");
  stale.hidden = !why;
  if (why) stale.textContent = `Not up to date since ${new Date(seenAt).toLocaleTimeString()}: ${why}`;
}

async function refresh(always) {
  if (fetching) { wanted = true; return; }
  if (document.hidden || (!always && isInUse())) return;
  fetching = true;
  try {
    const answer = await fetch(location.href, { headers: { accept: "text/html" } });
    if (answer.status === 401) { location.reload(); return; }
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("main");
    if (!answer.ok || !fresh) { tellStale(`the relay answers ${answer.status}.`); return; }
    seenAt = Date.now();
    tellStale(null);
    if (always || !isInUse()) show(fresh);
  } catch {
    tellStale("the relay does not answer.");
  } finally {
    fetching = false;
    if (wanted) { wanted = false; changed(); }
  }
}

function show(fresh) {
  const main = document.querySelector("main");
  const opened = [...main.querySelectorAll("details")].map((details) => details.open);
  const [attribute, focused] = ["href", "data-copy"].map((name) =>
    [name, document.activeElement?.closest(`main [${name}]`)?.getAttribute(name)]).find(([, value]) => value) ?? [];
  main.replaceChildren(...fresh.childNodes);
  const now = main.querySelectorAll("details");
  if (now.length === opened.length) now.forEach((details, index) => { details.open = opened[index]; });
  if (focused) main.querySelector(`[${attribute}="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
  enliven();
}

function changed() {
  due ??= setTimeout(() => { due = null; refresh(false); }, 200);
}

function open() {
  if (stream || document.hidden) return;
  stream = new EventSource(`${root}changes`);
  stream.onopen = changed;
  stream.onmessage = () => { changed(); others?.postMessage("changed"); };
  stream.onerror = () => {
    // A browser gives up where the answer was an error, and tries again by itself otherwise.
    if (stream?.readyState === EventSource.CLOSED) { stream = null; setTimeout(() => { if (release || !navigator.locks) open(); }, 5000); }
    changed();
  };
}

// One stream for all tabs of a browser, and none while they are hidden: it has six connections to a server.
function follow() {
  if (document.hidden) {
    stream?.close();
    stream = null;
    release?.();
    release = null;
  } else if (navigator.locks) {
    navigator.locks.request(name, () => document.hidden ? null : new Promise((done) => { release = done; open(); }));
    changed();
  } else {
    open();
    changed();
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
  row.append(...(run ? [go] : []), close);
  dialog.append(element("h2", title), text, row);
  dialog.setAttribute("aria-label", title);
  document.body.append(dialog);
  const state = { cancelled: false, say: (line) => { text.textContent = line; } };
  let running = false;
  dialog.addEventListener("cancel", (event) => { if (running) { event.preventDefault(); state.cancelled = true; } });
  dialog.addEventListener("close", () => { dialog.remove(); refresh(true); });
  close.addEventListener("click", () => { if (running) state.cancelled = true; else dialog.close(); });
  go.addEventListener("click", async () => {
    go.disabled = true;
    running = true;
    try {
      text.textContent = await run(state, dialog);
    } catch (error) {
      text.textContent = error.message;
    }
    running = false;
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
  const [path, title] = [button.dataset.all, button.textContent];
  const selection = JSON.parse(button.dataset.body);
  const plan = await post(path, JSON.stringify({ ...selection, dry_run: true })).catch((error) => ({ error }));
  if (plan.error) return tell(title, plan.error.message);
  const what = Object.entries(selection).map(([name, word]) => name === "from" ? `${word} and later ones` : word || "no reason").join(", ").replaceAll("_", " ");
  const count = `${plan.at_least ? "At least " : ""}${plan.matching}`;
  ask(title, `${count} match (${what}). ${button.dataset.ask}`, async (state, dialog) => {
    const bar = document.createElement("progress");
    bar.max = plan.matching || 1;
    bar.value = 0;
    dialog.querySelector("p").after(bar);
    const reasons = new Set();
    let [done, declined, after] = [0, 0, undefined];
    const sum = (end) => `${done} done, ${declined} left as they were${end}${[...reasons].slice(0, 3).map((reason) => ` ${reason}.`).join("")}`;
    do {
      let page;
      try {
        page = await post(path, JSON.stringify({ ...selection, ...(after && { after }) }));
      } catch (error) {
        return sum(`; then: ${error.message}`);
      }
      for (const { status, detail, errors } of page.results) {
        const isLeft = status === "declined" || status === "refused";
        if (isLeft) { declined++; reasons.add(detail ?? errors?.[0]?.problem ?? status); } else done++;
      }
      bar.value = done + declined;
      state.say(sum(" …"));
      after = page.next;
      if (page.stopped) return sum(`; stopped: ${page.stopped}.`);
    } while (after && !state.cancelled);
    return sum(after ? "; cancelled." : ".");
  });
}

function tell(title, text) {
  ask(title, text, null);
}

// Copies the text beside a button. Off loopback and HTTPS a browser lets a page copy only what is selected.
async function copy(button) {
  const text = button.parentElement.querySelector("pre");
  let done = true;
  try {
    await navigator.clipboard.writeText(text.textContent);
  } catch {
    getSelection().selectAllChildren(text);
    done = document.execCommand("copy");
    if (done) getSelection().removeAllRanges();
  }
  button.textContent = done ? "Copied" : "Selected";
  setTimeout(() => { button.textContent = "Copy"; }, 2000);
}

function enliven() {
  tellTimes();
  for (const row of document.querySelectorAll(".commands[hidden]")) row.hidden = false;
  for (const button of document.querySelectorAll("[data-copy]")) { button.hidden = false; button.onclick = () => copy(button); }
  for (const button of document.querySelectorAll("[data-post]")) button.onclick = () => one(button);
  for (const button of document.querySelectorAll("[data-all]")) button.onclick = () => all(button);
}

byClock.addEventListener("click", () => {
  try { localStorage.setItem("gander-clock", isLocal() ? "utc" : "local"); } catch { /* It stays as it is. */ }
  tellTimes();
});
enliven();
setInterval(tellTimes, 10000);
if (document.body.dataset.live) {
  setInterval(changed, 30000);
  document.addEventListener("visibilitychange", follow);
  others?.addEventListener("message", changed);
  follow();
}

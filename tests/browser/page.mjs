// Uses the page of a running relay as a person with a browser does. What is not as it should be ends it with a message.
//
//   node page.mjs ADMIN_URL HOOK_URL < {"token", "sender", "pictures"}
//
// `pictures`: a directory for screenshots, those of the documentation among them; none if empty. The upstream answers
// 400 while a key begins with `dead`.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import http from "node:http";
import { AxeBuilder } from "@axe-core/playwright";
import { chromium } from "playwright-core";

const [admin, hook] = process.argv.slice(2);
const { token, sender, pictures } = JSON.parse(readFileSync(0, "utf8"));
const naughty = JSON.parse(readFileSync(new URL("naughty-strings.json", import.meta.url), "utf8"));

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync"],
});

async function post(payload) {
  const answer = await fetch(hook, {
    method: "POST", headers: { authorization: `Bearer ${sender}`, "content-type": "application/json" },
    body: typeof payload === "string" ? payload : JSON.stringify(payload),
  });
  return [answer.status, await answer.json()];
}

function alert(key, state, title = `High CPU Usage - ${key}`) {
  return { servicepilot_event_id: key, state, severity: "HIGH", title, description: "CPU > 90%", host: "payments-01" };
}

// A context in which whatever a page does that it must not ends the test.
async function guarded(options, base = admin) {
  const context = await browser.newContext(options);
  context.setDefaultTimeout(60_000);
  const wrong = [];
  context.on("page", (page) => {
    page.on("pageerror", (error) => wrong.push(`error: ${error.message}`));
    page.on("dialog", (dialog) => { wrong.push(`dialog: ${dialog.message()}`); dialog.dismiss(); });
    page.on("request", (request) => { if (!request.url().startsWith(base)) wrong.push(`asked elsewhere: ${request.url()}`); });
    page.on("console", (message) => {
      // The form to sign in comes with the status 401.
      if (message.type() === "error" && !message.text().includes("401")) wrong.push(`console: ${message.text()}`);
    });
  });
  return { context, check: () => assert.deepEqual(wrong, []) };
}

async function signIn(page, base = admin) {
  await page.goto(`${base}/`);
  await page.getByLabel("Admin token").fill(token);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.locator(".tiles").waitFor();
}

async function axe(page, name) {
  const { violations } = await new AxeBuilder({ page }).analyze();
  const serious = violations.filter(({ impact }) => ["serious", "critical"].includes(impact));
  assert.deepEqual(serious.map(({ id, nodes }) => `${name}: ${id} at ${nodes[0].target}`), []);
}

async function picture(page, name) {
  if (pictures) await page.screenshot({ path: `${pictures}/${name}.png`, fullPage: true });
}

const step = async (name, run) => {
  const started = Date.now();
  await run();
  console.log(`${name}: ${Date.now() - started} ms`);
};

await step("events of all kinds", async () => {
  for (const [key, state] of [["web-1", "CRITICAL"], ["web-2", "CRITICAL"], ["web-1", "OK"], ["dead-1", "CRITICAL"], ["dead-2", "CRITICAL"]]) {
    assert.equal((await post(alert(key, state)))[0], 202);
  }
  assert.equal((await post('{"servicepilot_event_id": broken'))[0], 400);
  assert.equal((await post(alert("odd-1", "SIDEWAYS")))[0], 422);
});

for (const [name, options] of [
  ["light", {}],
  ["dark", { colorScheme: "dark" }],
  ["phone", { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true }],
]) {
  await step(`every view, ${name}`, async () => {
    const { context, check } = await guarded(options);
    const page = await context.newPage();
    await page.goto(`${admin}/`);
    await axe(page, "sign-in");
    await signIn(page);
    for (const [view, path] of [["overview", ""], ["events", "events"], ["queue", "queue"], ["incidents", "incidents"], ["attention", "attention"], ["bench", "bench"], ["connect", "connect"]]) {
      await page.goto(`${admin}/${path}`);
      await page.locator("h1").waitFor({ state: "attached" });
      await axe(page, `${view}, ${name}`);
      await picture(page, `${name}-${view}`);
      const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      assert.ok(wide <= 0, `${view}, ${name}: ${wide} pixels wider than the window`);
    }
    await page.goto(`${admin}/events?state=dead`);
    await page.locator("tbody a").first().click();
    await page.getByRole("heading", { name: "What happened" }).waitFor();
    await axe(page, `story, ${name}`);
    await picture(page, `${name}-story`);
    check();
    await context.close();
  });
}

if (pictures) await step("the pictures of the documentation", async () => {
  const { context, check } = await guarded({ viewport: { width: 960, height: 600 } });
  const page = await context.newPage();
  await signIn(page);
  await page.screenshot({ path: `${pictures}/overview.png` });
  await page.goto(`${admin}/events?key_contains=dead-2`);
  await page.locator("tbody a").first().click();
  await page.getByRole("heading", { name: "What happened" }).waitFor();
  await page.screenshot({ path: `${pictures}/story.png` });
  check();
  await context.close();
});

await step("from an alert's name to what Callgoose said, in three clicks and under ten seconds", async () => {
  const { context, check } = await guarded();
  const page = await context.newPage();
  await signIn(page);
  await page.goto(`${admin}/events`);
  const started = Date.now();
  await page.getByLabel("Key or title").fill("high cpu usage - web-2");
  await page.getByRole("button", { name: "Show" }).click();
  await page.locator("tbody a").click();
  await page.getByText("Answer", { exact: true }).click();
  await page.locator(".steps details[open] pre").waitFor();
  const took = Date.now() - started;
  assert.ok(took < 10_000, `it took ${took} ms`);
  check();
  await context.close();
});

await step("what happens is shown by itself, by one stream for all tabs", async () => {
  const { context, check } = await guarded();
  const streams = new Set();
  context.on("request", (request) => { if (request.url().endsWith("/changes")) streams.add(request); });
  for (const ended of ["requestfinished", "requestfailed"]) context.on(ended, (request) => streams.delete(request));
  const first = await context.newPage();
  await signIn(first);
  const tabs = [first];
  for (let tab = 1; tab < 10; tab++) {
    tabs.push(await context.newPage());
    await tabs[tab].goto(`${admin}/events`);
  }
  assert.equal(streams.size, 1, "streams");
  assert.equal((await post(alert("live-1", "CRITICAL")))[0], 202);
  for (const tab of tabs) await tab.getByRole("cell", { name: "live-1" }).first().waitFor();
  check();
  await context.close();
});

await step("one event is replayed, and all that match", async () => {
  const { context, check } = await guarded();
  const page = await context.newPage();
  await signIn(page);
  await page.goto(`${admin}/events?state=dead&key_contains=dead-1`);
  await page.locator("tbody a").click();
  await page.getByRole("button", { name: "Discard" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Discard" }).click();
  await page.getByText("Done: discarded.").waitFor();
  await page.getByRole("button", { name: "Close" }).click();
  await page.getByText("discarded").first().waitFor();

  await page.goto(`${admin}/events?state=dead`);
  await page.locator("tbody a").first().click();
  await page.getByRole("button", { name: "Replay from here on" }).click();
  await page.getByText(/^1 match \(dead, servicepilot, .*, \d+ and later ones\)\. Send this one/).waitFor();
  await page.getByRole("dialog").getByRole("button", { name: "Cancel" }).click();

  await page.goto(`${admin}/attention`);
  const group = page.locator(".group", { hasText: "dead" }).first();
  await group.getByRole("button", { name: "Replay all" }).click();
  await page.getByText(/^1 match \(dead, servicepilot, .*\)\. Send them again/).waitFor();
  await page.getByRole("dialog").getByRole("button", { name: "Replay all" }).click();
  await page.getByText("1 done, 0 left as they were.").waitFor();
  check();
  await context.close();
});

await step("times are in UTC or by the reader's clock", async () => {
  const { context, check } = await guarded({ timezoneId: "Asia/Kolkata" });
  const page = await context.newPage();
  await signIn(page);
  const time = page.locator("tbody time").first();
  const [utc, at] = [await time.textContent(), await time.getAttribute("datetime")];
  assert.match(utc, /^\d\d:\d\d:\d\d UTC/);
  await page.getByRole("button", { name: "Times in UTC" }).click();
  const there = new Date(new Date(at).getTime() + 330 * 60_000).toISOString().slice(11, 19);
  assert.ok((await time.textContent()).includes(there), `${await time.textContent()} has ${there}`);
  await page.goto(`${admin}/events`);
  await page.getByRole("button", { name: "Times in Asia/" }).click();
  assert.match(await page.locator("tbody time").first().textContent(), /UTC/);
  check();
  await context.close();
});

await step("the rule bench decides a recorded payload", async () => {
  const { context, check } = await guarded();
  const page = await context.newPage();
  await signIn(page);
  await page.goto(`${admin}/events?state=refused&search=SIDEWAYS`);
  await page.locator("tbody a").click();
  await page.getByRole("link", { name: "How the rules decide it now" }).click();
  await page.getByRole("button", { name: "Decide" }).click();
  await page.getByText("no rule matches").first().waitFor();
  await axe(page, "bench, decided");
  await picture(page, "light-bench-decided");
  check();
  await context.close();
});

await step("what is typed into a sender is copied piece by piece", async () => {
  const { context, check } = await guarded({ permissions: ["clipboard-read", "clipboard-write"] });
  const page = await context.newPage();
  await signIn(page);
  await page.getByRole("link", { name: "Connect" }).click();
  await page.getByRole("heading", { name: "Connect" }).waitFor();
  await page.getByRole("button", { name: "Copy: URL" }).first().click();
  await page.getByText("Copied").waitFor();
  assert.match(await page.evaluate(() => navigator.clipboard.readText()), /^https:\/\/localhost:\d+\/hooks\/servicepilot$/);
  // An event shows by itself, though the button has the focus.
  const before = await page.locator("main time").first().getAttribute("datetime");
  assert.equal((await post(alert("connect-1", "CRITICAL")))[0], 202);
  await page.waitForFunction((before) => document.querySelector("main time").dateTime !== before, before);
  await axe(page, "connect, copied");
  assert.equal(await page.locator("main").getByText(token).count(), 0);
  check();
  await context.close();
});

await step("without scripts all of it can be read", async () => {
  const { context, check } = await guarded({ javaScriptEnabled: false });
  const page = await context.newPage();
  await signIn(page);
  await page.getByRole("link", { name: "Events", exact: true }).click();
  await page.getByLabel("State").selectOption("delivered");
  await page.getByRole("button", { name: "Show" }).click();
  await page.locator("tbody a").first().click();
  await page.getByRole("heading", { name: "What happened" }).waitFor();
  await page.getByRole("link", { name: "Connect" }).click();
  await page.getByText("/hooks/servicepilot").first().waitFor();
  assert.equal(await page.getByRole("button", { name: "Copy: URL" }).count(), 0);
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByLabel("Admin token").waitFor();
  check();
  await context.close();
});

await step("a link in a chat leads a person who signed in to the event", async () => {
  const { context, check } = await guarded({}, "http://");
  const page = await context.newPage();
  await signIn(page);
  const chat = http.createServer((_, answer) => {
    answer.setHeader("content-type", "text/html");
    answer.end(`<a href="${admin}/events?state=dead">dead letters</a>`);
  });
  await new Promise((listening) => chat.listen(0, "127.0.0.1", listening));
  await page.goto(`http://localhost:${chat.address().port}/`);
  await page.getByRole("link", { name: "dead letters" }).click();
  await page.getByRole("heading", { name: "Events" }).waitFor();
  check();
  await context.close();
  chat.closeAllConnections();
  chat.close();
});

await step("a page that can't be kept up to date says so", async () => {
  const { context } = await guarded();
  const page = await context.newPage();
  await signIn(page);
  await context.setOffline(true);
  await page.getByText("Not up to date since").waitFor();
  await context.setOffline(false);
  await page.getByText("Not up to date since").waitFor({ state: "hidden" });
  // Signed out in another tab.
  const other = await context.newPage();
  await other.goto(`${admin}/`);
  await other.getByRole("button", { name: "Sign out" }).click();
  await post(alert("late-1", "CRITICAL"));
  await page.getByLabel("Admin token").waitFor();
  await context.close();
});

await step("below a path of a proxy", async () => {
  const { hostname, port } = new URL(admin);
  const proxy = http.createServer((request, answer) => {
    const path = request.url.replace(/^\/tools\/gander/, "");
    const headers = { ...request.headers, host: `${hostname}:${port}` };
    const passed = http.request({ hostname, port, path, method: request.method, headers }, (from) => {
      answer.writeHead(from.statusCode, from.headers);
      from.pipe(answer);
    });
    passed.on("error", () => answer.destroy());
    answer.on("close", () => passed.destroy());
    request.pipe(passed);
  });
  await new Promise((listening) => proxy.listen(0, "127.0.0.1", listening));
  const base = `http://127.0.0.1:${proxy.address().port}/tools/gander`;
  const { context, check } = await guarded({}, base);
  const page = await context.newPage();
  await signIn(page, base);
  await page.getByRole("link", { name: "Events", exact: true }).click();
  await page.locator("tbody a").first().click();
  await page.getByRole("heading", { name: "What happened" }).waitFor();
  await page.getByRole("link", { name: "Open incidents" }).click();
  await page.getByRole("heading", { name: "Open incidents" }).waitFor();
  assert.equal(page.url(), `${base}/incidents`);
  check();
  await context.close();
  proxy.closeAllConnections();
  proxy.close();
});

await step("strings that others stumbled over are text in every field", async () => {
  const taken = [];
  for (const text of naughty) {
    const [, answer] = await post({ ...alert(text, "CRITICAL", text), description: text, host: text, service: text });
    if (answer.id) taken.push([text, answer.id]);
  }
  assert.ok(taken.length > naughty.length / 2, `${taken.length} of ${naughty.length} were taken`);
  const { context, check } = await guarded();
  const page = await context.newPage();
  await signIn(page);
  for (const path of ["", "queue", "connect", "incidents", "attention", "events?limit=1000", "events?search=script&limit=200", "events?key_contains=%22%3E%3Cscript%3E"]) {
    await page.goto(`${admin}/${path}`);
    assert.equal(await page.locator("main script, main img, main iframe, main style").count(), 0, path);
  }
  const risky = taken.filter(([text]) => /[<"'`&{]/.test(text)).slice(0, 60);
  for (const [, id] of risky) {
    await page.goto(`${admin}/events/${id}`);
    assert.equal(await page.locator("main script, main img, main iframe, main style").count(), 0, id);
  }
  check();
  await context.close();
});

await browser.close();

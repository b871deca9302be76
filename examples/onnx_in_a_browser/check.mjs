// Draws a stroke on the page in headless Chromium, and prints what the page answered, and for which pixels.
// node check.mjs PATH-OF-CHROMIUM
import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { extname, join, normalize } from "node:path";
import { chromium } from "playwright-core";

const types = { ".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm" };
const server = createServer(async (request, response) => {
  try {
    const path = normalize(new URL(request.url, "http://localhost").pathname).replace(/^\/$/, "/index.html");
    const body = await readFile(join(new URL(".", import.meta.url).pathname, path));
    response.writeHead(200, { "Content-Type": types[extname(path)] ?? "application/octet-stream" }).end(body);
  } catch {
    response.writeHead(404).end();
  }
}).listen(0);

const browser = await chromium.launch({ executablePath: process.argv[2], args: ["--no-sandbox"] });
const page = await browser.newPage();
const problems = [];
page.setDefaultTimeout(300_000);
page.on("console", (message) => message.type() === "error" && !message.location().url.endsWith("favicon.ico") && problems.push(message.text()));
page.on("pageerror", (error) => problems.push(String(error)));
await page.goto(`http://localhost:${server.address().port}/?size=8`);
await page.waitForFunction(() => document.getElementById("answer").value === "draw a digit", null, { timeout: 60_000 }).catch(() => { console.error(problems.join("; ") || "the page did not load"); process.exit(1); });
const paper = await page.locator("#paper").boundingBox();
await page.mouse.move(paper.x + 128, paper.y + 30);
await page.mouse.down();
await page.mouse.move(paper.x + 128, paper.y + 226, { steps: 40 });
await page.mouse.up();
await page.waitForFunction(() => document.getElementById("answer").value.includes("stopped"));
const found = await page.evaluate(() => ({ answer: document.getElementById("answer").value, pixels: [...pixels()] }));
console.log(JSON.stringify({ ...found, problems }));
await browser.close();
server.close();

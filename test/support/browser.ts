/** A real browser for the tests of the page: Debian's chromium, driven by puppeteer-core, which downloads none. */
import { existsSync } from "node:fs";
import { type Browser, launch, type Page } from "puppeteer-core";
import type { CleanUp } from "./clean-up.ts";
import { makeFolder } from "./run.ts";
import { type Asked, startServer } from "./servers/http.ts";

const CHROMIUM = "/usr/bin/chromium";

/** Why tests in a browser are skipped, if they are. */
export const noBrowser = existsSync(CHROMIUM) ? false : `there is no ${CHROMIUM}: apt-get install chromium`;

/** What a browser would ask its vendor for by itself would be taken for a request of the page. */
const QUIET = [
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-quic",
  "--disable-sync",
  "--no-first-run",
  "--no-proxy-server",
];

export async function startBrowser(cleanUp: CleanUp): Promise<Browser> {
  const profile = makeFolder();
  cleanUp(profile.remove);
  const browser = await launch({
    executablePath: CHROMIUM,
    userDataDir: profile.path,
    args: ["--no-sandbox", "--disable-gpu", ...QUIET],
  });
  cleanUp(() => browser.close());
  return browser;
}

export type View = { width?: number; scheme?: "light" | "dark"; media?: "screen" | "print" };

/** A server that gives these pages, by their paths, and keeps what it is asked for; every other path is an empty page. */
export async function startSite(cleanUp: CleanUp, pages: Record<string, string>) {
  const { url, requests, close } = await startServer((asked: Asked, response) => {
    response.writeHead(200, { "content-type": "text/html; charset=utf-8" }).end(pages[asked.path] ?? "");
  });
  cleanUp(close);
  return { url, requests };
}

/** A tab, of a phone, of a screen or as it is printed. */
export async function openTab(browser: Browser, url: string, view: View = {}) {
  const { width = 1280, scheme = "light", media = "screen" } = view;
  const tab = await browser.newPage();
  tab.setDefaultTimeout(10_000); // what is to be clicked is there, or never will be
  await tab.setViewport({ width, height: 800 });
  // At once, as each by itself takes the other back.
  const features = [{ name: "prefers-color-scheme", value: scheme }];
  await (await tab.createCDPSession()).send("Emulation.setEmulatedMedia", { media, features });
  // tsx names the functions within functions by this one, which a browser does not have.
  await tab.evaluateOnNewDocument("globalThis.__name = (named) => named");
  await tab.goto(url);
  return tab;
}

/** Texts that are hard to read: with their contrast, and below which ratio (4.5 is WCAG's for AA). */
export async function listFaintTexts(tab: Page, least = 4.5): Promise<string[]> {
  return tab.evaluate((least) => {
    type Colour = { rgb: number[]; alpha: number };
    // Computed colours are rgb(…), or color(srgb …) where the style mixed them.
    const parse = (text: string): Colour => {
      const [red = 0, green = 0, blue = 0, alpha = 1] = (text.match(/[\d.]+/g) ?? []).map(Number);
      return { rgb: [red, green, blue].map((part) => (text.startsWith("rgb") ? part / 255 : part)), alpha };
    };
    const over = (upper: Colour, lower: number[]) =>
      upper.rgb.map((part, i) => part * upper.alpha + (lower[i] ?? 0) * (1 - upper.alpha));
    const groundOf = (element: Element | null): number[] => {
      if (!element) return matchMedia("(prefers-color-scheme: dark)").matches ? [0.07, 0.07, 0.07] : [1, 1, 1];
      const colour = parse(getComputedStyle(element).backgroundColor);
      return colour.alpha === 1 ? colour.rgb : over(colour, groundOf(element.parentElement));
    };
    const light = (rgb: number[]) => {
      const [red = 0, green = 0, blue = 0] = rgb.map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
      return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
    };
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    const faint: string[] = [];
    while (texts.nextNode()) {
      const element = texts.currentNode.parentElement;
      const text = texts.currentNode.textContent?.trim();
      if (!element || !text || element.closest(".unseen, .run:not(.last), caption")) continue;
      const ground = groundOf(element);
      const [high = 0, low = 0] = [light(over(parse(getComputedStyle(element).color), ground)), light(ground)].sort(
        (a, b) => b - a,
      );
      const contrast = (high + 0.05) / (low + 0.05);
      if (contrast < least) faint.push(`${contrast.toFixed(2)}: ${text}`);
    }
    return faint;
  }, least);
}

/** How the page of test/tools/page.ts looks: on a screen or a phone, in light or dark, and on paper. */
export const STYLE = `
:root {
  color-scheme: light dark;
  --bad: #b3261e; --warn: #875000; --good: #1a7f37; --mute: #59636e;
  --line: #d5dae0; --soft: #f3f5f7; --bad-soft: #fdf0ef; --warn-soft: #fdf5e6;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --bad: #ff7b72; --warn: #e3a83b; --good: #45b95c; --mute: #a0a9b3;
    --line: #3b424a; --soft: #1e2227; --bad-soft: #2d1d1d; --warn-soft: #292319;
  }
}
* { box-sizing: border-box }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100% }
body {
  margin: 0 auto; padding: 1.5rem clamp(1rem, 3vw, 3rem) 3rem; max-width: 90rem;
  background: Canvas; color: CanvasText; font: 1rem/1.45 system-ui, sans-serif; overflow-wrap: anywhere;
}
h1 { margin: 0; font-size: 1.25rem }
h2 { margin: 0; font-size: 1.1rem }
ul { margin: 0; padding: 0; list-style: none }
p { margin: .25rem 0 }
a { color: LinkText; text-underline-offset: .15em; text-decoration-thickness: 1px }
a:focus-visible { outline: 2px solid currentColor; outline-offset: 2px }
code { font: .9em ui-monospace, monospace }
i { font-style: normal }
time { white-space: nowrap }
:target { scroll-margin-top: 1rem }
:is(tr, .quiet li):target { outline: 2px solid CanvasText }
.unseen, .run span, caption {
  position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap;
}
.asof, .facts, .source, .legend, .why { color: var(--mute) }
.error { color: var(--warn); font-weight: 600 }
b.broken { color: var(--bad) }
b.often, b.untold { color: var(--warn) }

/* Marks: squares, each state with a form of its own. */
.mark, .failed, .passed {
  display: inline-block; width: 1.25rem; height: 1.25rem; flex: none; vertical-align: -.25rem;
  background: center / .6rem .6rem no-repeat;
  print-color-adjust: exact; -webkit-print-color-adjust: exact; forced-color-adjust: none;
}
.mark { margin-right: .5rem }
.mark + .mark { margin-left: -.25rem }
.failed, .mark.broken {
  --stroke: transparent calc(50% - 1px), Canvas calc(50% - 1px) calc(50% + 1px), transparent calc(50% + 1px);
  border-radius: 2px; background-color: var(--bad);
  background-image: linear-gradient(45deg, var(--stroke)), linear-gradient(-45deg, var(--stroke));
}
.passed, .mark.fine { background-image: linear-gradient(var(--good), var(--good)) }
.mark.often { background: linear-gradient(135deg, var(--warn) 50%, transparent 50%); border: 2px solid var(--warn) }
.mark.unread { border: 2px dashed var(--warn) }
.mark.stale { border: 2px solid var(--warn) }
.mark.untold { border: 2px solid var(--warn); background-image: linear-gradient(var(--warn), var(--warn)) }

/* The top */
header { display: flex; flex-wrap: wrap; align-items: baseline; gap: .25rem 1rem; margin-bottom: 1rem }
.counts {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: .5rem; flex: 1 0 100%;
}
.counts li { border: 1px solid var(--line); border-radius: 6px; color: var(--mute) }
.counts li > * { display: block; margin: 0; padding: .4rem .75rem .5rem; color: inherit; text-decoration: none }
.counts span { display: block; line-height: 1.3 }
.counts b { font-size: 1.75rem; line-height: 1.2; font-variant-numeric: tabular-nums }
.counts .mark { vertical-align: .05rem }
.counts .none .mark { opacity: .4 }
.counts li.broken { background: var(--bad-soft); border-color: var(--bad); color: var(--bad) }
.counts li:is(.often, .unread, .stale, .untold) {
  background: var(--warn-soft); border-color: var(--warn); color: var(--warn);
}
.counts li.fine { color: var(--good) }
.counts a:hover span { text-decoration: underline }
.part { margin: 0 0 .75rem; padding: .75rem 1rem; border: 1px solid var(--line); border-radius: 6px }
.part > ul > li {
  display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 3fr); gap: 0 1rem; padding: .4rem 0 0 1.75rem;
}
.part li li + li { padding-top: .4rem }
.part .project { font-weight: 600 }
.wall {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(min(14rem, 100%), 1fr));
  gap: .15rem .75rem; margin-top: .4rem;
}
.wall a { display: flex; align-items: center; padding: .15rem .25rem; color: inherit; text-decoration: none }
.wall a:hover bdi { text-decoration: underline }
.wall bdi { display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 2; overflow: hidden }
.wall .broken bdi { color: var(--bad); font-weight: 600 }

/* The projects */
main { border-top: 1px solid var(--line); margin-top: 1.5rem; padding-top: .5rem }
.legend { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; font-size: .9rem }
main section { padding-top: 1.25rem }
.source { font-size: .85rem }
table { width: 100%; margin: .5rem 0; border-collapse: collapse }
th { text-align: left; font-weight: inherit }
thead th { color: var(--mute); font-size: .85rem; padding: .2rem .5rem; border-bottom: 1px solid var(--line) }
thead .last { position: relative }
thead .last span { all: unset; position: absolute; right: 0; bottom: .2rem; white-space: nowrap }
tbody th, .state { padding: .25rem .5rem; vertical-align: top }
tbody th { width: 28% }
tbody th a { color: inherit; text-decoration-color: var(--mute) }
tbody .open th { font-weight: 600 }
tbody tr { border-bottom: 1px solid var(--line) }
tbody tr:hover { background: var(--soft) }
.run, .gap { width: 1.5rem; padding: .2rem 0; vertical-align: top; text-align: center }
.run a { display: block; min-height: 1.5rem }
.run a:hover i { outline: 2px solid currentColor; outline-offset: 1px }
.state { min-width: 10rem; font-size: .9rem; padding-left: 1rem; color: var(--mute) }
.badge {
  padding: .05rem .4rem; border: 1px solid; border-radius: 3px; margin-right: .25rem; white-space: nowrap;
  print-color-adjust: exact; -webkit-print-color-adjust: exact;
}
.badge.broken { background: var(--bad); border-color: var(--bad); color: Canvas }
.quiet { margin-top: .4rem }
.quiet li { padding: .15rem 0; border-bottom: 1px solid var(--line) }

/* Left open for long, the page says that it no longer is what it was. */
.aged {
  position: fixed; inset: auto 0 0; margin: 0; padding: .75rem 1rem; background: CanvasText; color: Canvas;
  text-align: center; visibility: hidden; animation: aged 1ms 7200s forwards;
}
.aged a { color: inherit }
@keyframes aged { to { visibility: visible } }

/* A phone */
@media (max-width: 40rem) {
  table, tbody { display: block }
  thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%) }
  tbody tr { display: flex; flex-wrap: wrap; justify-content: flex-end; padding: .35rem 0 }
  tbody th, .state { flex: 0 0 100%; width: auto; min-width: 0; padding: .1rem 0 }
  .run { width: 1.35rem }
  .gap { width: 0; padding: 0 }
  .part > ul > li { grid-template-columns: minmax(0, 1fr); padding-left: 0 }
  .part > ul > li + li { margin-top: .4rem }
  .counts { grid-template-columns: 1fr 1fr }
  .wall { display: flex; flex-wrap: wrap }
}

/* Paper */
@media print {
  :root { color-scheme: light }
  html { font-size: 10pt }
  body { padding: 0; max-width: none }
  .aged, nav, .source a { display: none }
  tr, .part li, .quiet li { break-inside: avoid }
  h2, .facts, .error { break-after: avoid }
}
`;

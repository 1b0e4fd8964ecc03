// Keeps a page current: when the server tells of something new the page fetches itself, and its
// main part is replaced. What is open, focused and scrolled stays so. Without scripts nothing is
// lost but this.

const main = () => document.querySelector("main");
const status = document.querySelector("#news");
let source;
let wanted = false;
let busy = false;

function listen() {
  const { events, seen } = main().dataset;
  if (!events || source || document.hidden) return;
  source = new EventSource(`${events}?seen=${seen}`);
  source.onopen = () => status.replaceChildren("live");
  source.onerror = () => status.replaceChildren("waiting for the server");
  source.onmessage = refresh;
}

// A browser opens six connections to a server: tabs nobody looks at must not hold them.
function rest() {
  source?.close();
  source = undefined;
  status.replaceChildren();
}

async function refresh() {
  wanted = true;
  if (busy) return;
  busy = true;
  while (wanted) {
    wanted = false;
    const began = performance.now();
    try {
      const answer = await fetch(location.href);
      if (answer.ok) replace(new DOMParser().parseFromString(await answer.text(), "text/html"));
    } catch {
      status.replaceChildren("waiting for the server");
    }
    await new Promise((resume) => setTimeout(resume, 500 + 3 * (performance.now() - began)));
  }
  busy = false;
}

function replace(page) {
  const old = main();
  const fresh = page.querySelector("main");
  if (!fresh || old.innerHTML === fresh.innerHTML) return;
  for (const kept of old.querySelectorAll("details[open][id]")) {
    fresh.querySelector(`#${CSS.escape(kept.id)}`)?.setAttribute("open", "");
  }
  for (const field of old.querySelectorAll("input[id], select[id]")) {
    const same = fresh.querySelector(`#${CSS.escape(field.id)}`);
    if (same) same.value = field.value;
  }
  const focused = old.contains(document.activeElement) ? place(document.activeElement) : undefined;
  const scrolled = [...old.querySelectorAll(".scroll[id]")].map((one) => [one.id, one.scrollLeft]);
  old.replaceWith(document.adoptNode(fresh));
  document.title = page.title;
  for (const [id, left] of scrolled) {
    const same = document.getElementById(id);
    if (same) same.scrollLeft = left;
  }
  focused?.()?.focus({ preventScroll: true });
  if (!main().dataset.events) rest();
}

// How to find an element again in the new page: by its id, by where it leads, or by what it opens.
function place(element) {
  if (element.id) return () => document.getElementById(element.id);
  const details = element.localName === "summary" && element.parentElement.id;
  if (details) return () => document.querySelector(`#${CSS.escape(details)} > summary`);
  const target = element.getAttribute("href");
  if (!target) return undefined;
  return () => document.querySelector(`main a[href="${CSS.escape(target)}"]`);
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) return rest();
  listen();
  if (source) refresh();
});
listen();

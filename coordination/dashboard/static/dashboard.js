// Zoom and search of pictures, the key / for the search, and logs that stay at their end. All of it is
// repeated after each renewal of the page. A page whose server is lost says so.
(() => {
  const zoom = {};

  function applyZoom(view) {
    const svg = view.querySelector("svg");
    if (!svg) return;
    const [, , width, height] = svg.getAttribute("viewBox").split(" ").map(Number);
    const factor = zoom[view.id] ?? Math.min(1, view.clientWidth / width || 1);
    svg.setAttribute("width", width * factor);
    svg.setAttribute("height", height * factor);
  }

  function mark(view) {
    const input = document.querySelector('form [name="q"][data-search]');
    const words = (input ? input.value : view.dataset.find || "").trim().toLowerCase();
    for (const box of view.querySelectorAll("[data-todo]")) {
      box.classList.toggle("away", Boolean(words) && !box.textContent.toLowerCase().includes(words));
    }
  }

  function renew() {
    const tab = document.getElementById("live")?.dataset.tab;
    if (tab) document.title = tab;
    for (const view of document.querySelectorAll(".chart-view")) {
      applyZoom(view);
      if (view.dataset.todoUrl) mark(view);
    }
    for (const log of document.querySelectorAll("[data-follow]")) {
      if (log.dataset.held !== "yes") log.scrollTop = log.scrollHeight;
    }
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-zoom] [data-by]");
    if (button) {
      const view = document.getElementById(button.closest("[data-zoom]").dataset.zoom);
      const svg = view.querySelector("svg");
      const now = svg.getAttribute("width") / svg.getAttribute("viewBox").split(" ")[2];
      const by = Number(button.dataset.by);
      if (by) zoom[view.id] = Math.min(4, Math.max(0.05, now * by));
      else delete zoom[view.id];
      applyZoom(view);
      return;
    }
    const box = event.target.closest("[data-todo-url] [data-todo]");
    if (box) {
      const view = box.closest("[data-todo-url]").dataset;
      location.assign(`${view.todoUrl}&${view.key || "id"}=${encodeURIComponent(box.dataset.todo)}`);
    }
  });

  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.target.closest("input, select, textarea")) return;
    const search = document.querySelector("[data-search]");
    if (search) {
      event.preventDefault();
      search.focus();
    }
  });

  document.addEventListener("input", (event) => {
    if (event.target.matches("[data-search]")) document.querySelectorAll("[data-todo-url]").forEach(mark);
  });

  // A renewal leaves alone what a person has begun to fill in, and the values that the form was made from.
  document.addEventListener("input", (event) => {
    event.target.closest("form")?.setAttribute("data-touched", "");
  });

  document.addEventListener("scroll", (event) => {
    const log = event.target;
    if (log.dataset && "follow" in log.dataset) {
      log.dataset.held = log.scrollHeight - log.scrollTop - log.clientHeight > 40 ? "yes" : "no";
    }
  }, true);

  // The server sends a message every five seconds at least, but not to a page in the background.
  const SILENCE_MS = 12000;
  let heard = Date.now();
  let away = false;
  let refused = false;

  function hear() {
    heard = Date.now();
    away = refused = false;
    tell();
  }

  function age(ms) {
    const seconds = Math.round(ms / 1000);
    return seconds < 120 ? `${seconds} s` : `${Math.round(seconds / 60)} min`;
  }

  function tell(lost = false) {
    const notice = document.getElementById("lost");
    if (!notice) return;
    const text = refused ? notice.dataset.signedOut : lost ? notice.dataset.away.replace("{}", age(Date.now() - heard)) : "";
    if (notice.textContent !== text) notice.textContent = text;
    notice.hidden = !text;
    document.getElementById("updates")?.toggleAttribute("hidden", Boolean(text));
    for (const button of document.querySelectorAll("#live form[method='post'] button")) button.disabled = Boolean(text);
  }

  document.addEventListener("htmx:sse:after:connection", hear);
  document.addEventListener("htmx:sse:after:message", hear);
  document.addEventListener("htmx:sse:error", (event) => {
    away = true;
    refused = event.detail?.status === 401;
    tell(true);
  });
  document.addEventListener("visibilitychange", () => { if (!away) heard = Date.now(); });
  setInterval(() => { if (!document.hidden && (away || Date.now() - heard > SILENCE_MS)) tell(true); }, 1000);

  document.addEventListener("htmx:after:swap", renew);
  addEventListener("resize", renew);
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", renew);
  else renew();
})();

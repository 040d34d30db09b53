// The log of a todo: lines that are marked by the address, find, wrap, copy, and following its end.
(() => {
  const MOST_FOUND = 2000;
  const MOST_LINES = 20000;
  const logs = () => [...document.querySelectorAll("pre.log")];
  const lines = () => document.querySelectorAll("pre.log .line");
  const tool = (name) => document.querySelector(`.log-tools [data-tool="${name}"]`);
  const number = (line) => Number(line.id.slice(1));
  const text = (line) => [...line.childNodes].slice(1).map((node) => node.textContent).join("");

  // Lines that the address names: #L5 or #L5-L9.

  function named() {
    const found = /^#L(\d+)(?:-L(\d+))?$/.exec(location.hash);
    if (!found) return null;
    const ends = [Number(found[1]), Number(found[2] ?? found[1])];
    return [Math.min(...ends), Math.max(...ends)];
  }

  function inRange(first, last) {
    const found = [];
    for (let line = document.getElementById(`L${first}`); line && found.length <= last - first;) {
      found.push(line);
      line = document.getElementById(`L${number(line) + 1}`);
    }
    return found;
  }

  function show(line) {
    const section = line.closest("details");
    if (section) section.open = true;
    const log = line.closest("pre.log");
    log.dataset.held = "yes";
    const [box, own] = [log.getBoundingClientRect(), line.getBoundingClientRect()];
    if (own.top < box.top || own.bottom > box.bottom) log.scrollTop += own.top - box.top - log.clientHeight / 3;
    line.scrollIntoView({ block: "nearest" });
    follow();
  }

  function mark(scroll) {
    for (const line of document.querySelectorAll(".line.marked")) line.classList.remove("marked");
    const range = named();
    const found = range ? inRange(...range) : [];
    for (const line of found) line.classList.add("marked");
    if (scroll && found.length) show(found[0]);
    return found;
  }

  document.addEventListener("click", (event) => {
    const link = event.target.closest(".line > a");
    if (!link || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    const log = link.closest("pre.log");
    const places = [log.scrollTop, scrollX, scrollY];
    const to = number(link.parentElement);
    const from = (event.shiftKey && named()) || [to];
    location.hash = from[0] === to ? `#L${to}` : `#L${Math.min(from[0], to)}-L${Math.max(from[0], to)}`;
    log.scrollTop = places[0]; // who clicks on a line sees it already
    scrollTo(places[1], places[2]);
    link.focus({ preventScroll: true }); // which going to a line has taken away
  });

  // The arrows go from number to number; the first one of each log is reached by Tab.
  document.addEventListener("keydown", (event) => {
    const link = event.target.closest?.(".line > a");
    const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (!link || !step) return;
    const next = document.getElementById(`L${number(link.parentElement) + step}`);
    if (!next) return;
    event.preventDefault();
    next.firstElementChild.focus();
  });

  // Find

  let found = [];
  let at = -1;

  function rangesIn(line, words) {
    const nodes = [];
    const walker = document.createTreeWalker(line, NodeFilter.SHOW_TEXT);
    let whole = "";
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
      if (node.parentElement.parentElement === line && node.parentElement.localName === "a") continue;
      nodes.push([whole.length, node]);
      whole += node.data;
    }
    const place = (offset) => {
      const [start, node] = nodes.findLast(([begin]) => begin <= offset);
      return [node, Math.min(offset - start, node.length)];
    };
    const ranges = [];
    const lower = whole.toLowerCase();
    for (let n = lower.indexOf(words); n >= 0 && lower.length === whole.length; n = lower.indexOf(words, n + words.length)) {
      const range = new Range();
      range.setStart(...place(n));
      range.setEnd(...place(n + words.length));
      ranges.push(range);
    }
    return ranges;
  }

  function find() {
    const words = tool("find").value.toLowerCase();
    found = [];
    if (words) {
      for (const line of lines()) {
        found.push(...rangesIn(line, words));
        if (found.length >= MOST_FOUND) break;
      }
    }
    at = Math.min(at, found.length - 1);
    highlight();
  }

  function highlight() {
    const count = found.length >= MOST_FOUND ? `${MOST_FOUND} or more` : found.length;
    const place = at >= 0 ? `${at + 1} of ${count}` : `${count} found`;
    tool("count").textContent = tool("find").value ? place : "";
    if (!CSS.highlights) return;
    CSS.highlights.set("found", new Highlight(...found));
    CSS.highlights.set("found-now", new Highlight(...(at >= 0 ? [found[at]] : [])));
  }

  function next(step) {
    if (!found.length) return;
    at = at < 0 ? (step > 0 ? 0 : found.length - 1) : (at + step + found.length) % found.length;
    highlight();
    show(found[at].startContainer.parentElement.closest(".line"));
  }

  // Wrap and copy

  function wrap(on) {
    tool("wrap").setAttribute("aria-pressed", on);
    for (const log of logs()) log.classList.toggle("no-wrap", !on);
    sessionStorage.setItem("log-wrap", on ? "yes" : "no");
  }

  async function copy() {
    const range = named();
    const chosen = range ? inRange(...range) : [...lines()];
    const words = chosen.map(text).join("");
    let said = "Copied";
    try {
      await navigator.clipboard.writeText(words);
    } catch {
      const field = document.createElement("textarea"); // where the page is not served by https
      field.value = words;
      document.body.append(field);
      field.select();
      if (!document.execCommand("copy")) said = "Not copied";
      field.remove();
      tool("copy").focus();
    }
    tool("said").textContent = `${said}: ${chosen.length} ${chosen.length === 1 ? "line" : "lines"}`;
    setTimeout(() => { tool("said").textContent = ""; }, 3000);
  }

  // The end of a growing log

  function follow() {
    const log = document.querySelector("pre.log[data-follow]");
    if (log) tool("follow").hidden = log.dataset.held !== "yes" || !log.querySelector(".more");
  }

  function renew() {
    if (!tool("find")) return;
    const first = document.querySelector(".first-error");
    const errors = document.querySelectorAll(".line.error");
    if (first.hidden && errors.length) {
      first.href = `#${errors[errors.length - 1].id}`;
      first.hidden = false;
    }
    for (const log of logs()) {
      while (log.childElementCount > MOST_LINES) log.firstElementChild.remove();
      log.querySelector(".line > a")?.setAttribute("tabindex", "0");
    }
    mark(false);
    if (tool("find").value) find();
    follow();
  }

  let waiting;
  document.addEventListener("input", (event) => {
    if (event.target !== tool("find")) return;
    clearTimeout(waiting);
    at = -1;
    waiting = setTimeout(find, 100);
  });
  document.addEventListener("keydown", (event) => {
    if (event.target !== tool("find")) return;
    if (event.key === "Enter") {
      event.preventDefault();
      clearTimeout(waiting);
      find();
      next(event.shiftKey ? -1 : 1);
    } else if (event.key === "Escape") {
      event.target.value = "";
      find();
    }
  });
  document.addEventListener("click", (event) => {
    const pressed = event.target.closest?.(".log-tools button")?.dataset.tool;
    if (pressed === "wrap") wrap(tool("wrap").getAttribute("aria-pressed") !== "true");
    if (pressed === "copy") copy();
    if (pressed === "follow") {
      const log = document.querySelector("pre.log[data-follow]");
      log.dataset.held = "no";
      log.scrollTop = log.scrollHeight;
      follow();
    }
  });
  document.addEventListener("scroll", (event) => {
    if (event.target.dataset && "follow" in event.target.dataset) follow();
  }, true);
  addEventListener("hashchange", () => mark(true));
  document.addEventListener("htmx:after:swap", renew);

  document.querySelector(".log-tools")?.removeAttribute("hidden");
  if (tool("find")) {
    wrap(sessionStorage.getItem("log-wrap") !== "no");
    renew();
    mark(true);
  }
})();

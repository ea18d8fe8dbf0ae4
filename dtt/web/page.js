// Replaces the parts of the page that have changed, at most once a second, when the event
// stream says that something has happened, and every ten seconds.
"use strict";

const PAUSE = 1000;
const INTERVAL = 10000;
// Without the credentials that the address of the page may have.
const here = location.origin + location.pathname;
const note = document.getElementById("updates");
let pending = null;
let loading = false;

async function refresh() {
  pending = null;
  if (loading || document.hidden) {
    return;
  }
  loading = true;
  try {
    const response = await fetch(here, { headers: { Accept: "text/html" } });
    if (!response.ok) {
      throw new Error(response.statusText);
    }
    const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
    for (const part of document.querySelectorAll("[data-live]")) {
      const other = fresh.getElementById(part.id);
      if (other && other.innerHTML !== part.innerHTML) {
        const focused = part.contains(document.activeElement) ? document.activeElement.id : "";
        const open = Array.from(part.querySelectorAll("details[open]"), (each) => each.id);
        part.replaceChildren(...other.childNodes);
        open.forEach((id) => document.getElementById(id)?.setAttribute("open", ""));
        if (focused) {
          document.getElementById(focused)?.focus({ preventScroll: true });
        }
      }
    }
    document.title = fresh.title;
    say("");
  } catch {
    say("The service does not answer; trying again.");
  } finally {
    loading = false;
  }
}

function say(text) {
  if (note.textContent.trim() !== text) {
    note.textContent = text;
  }
}

function soon() {
  pending ??= setTimeout(refresh, PAUSE);
}

const stream = new EventSource(new URL("v1/events", here));
stream.onopen = () => { document.body.dataset.live = "true"; };
stream.onerror = soon;
for (const name of document.querySelector("script[src='page.js']").dataset.events.split(" ")) {
  stream.addEventListener(name, soon);
}
setInterval(refresh, INTERVAL);
document.addEventListener("visibilitychange", refresh);

// What HTML and htmx do not do by themselves: the dialog, the slider's words, live signs, charts.
"use strict";

const byId = (id) => document.getElementById(id);
const targetOf = (event) => event.detail.target || event.target;

// The dialog: what an action asks, and what became of it.

const dialog = byId("dialog");

document.body.addEventListener("htmx:afterSwap", (event) => {
  if (targetOf(event).id !== "dialog-content") return;
  if (!dialog.open) dialog.showModal();
  const title = dialog.querySelector("h2");
  if (title) {
    title.id = "dialog-title";
    dialog.removeAttribute("aria-label");
    dialog.setAttribute("aria-labelledby", "dialog-title");
    title.focus();
  }
});

dialog.addEventListener("click", (event) => {
  if (!event.target.closest("[data-close]")) return;
  event.preventDefault();
  dialog.close();
});

// Whatever was done shows on the page below, too.
dialog.addEventListener("close", () => {
  const done = dialog.querySelector("[data-done]");
  byId("dialog-content").replaceChildren();
  if (done) location.reload();
});

// An aggregate through time: the slider says where it is, and follows what is shown.

document.body.addEventListener("input", (event) => {
  if (event.target.matches("[data-range]")) byId("revision-told").value = event.target.value;
});

document.body.addEventListener("htmx:afterSettle", (event) => {
  if (targetOf(event).id !== "at") return;
  const url = new URL(location);
  url.searchParams.set("revision", byId("revision").value);
  history.replaceState(history.state, "", url);
});

// Live: a sign whether the page is up to date, and the charts.

function sign(on, text) {
  const live = byId("live");
  if (!live) return;
  live.classList.toggle("on", on);
  live.classList.toggle("off", !on);
  if (byId("live-text").textContent !== text) byId("live-text").textContent = text;
}

let source = null;

document.body.addEventListener("htmx:sseOpen", (event) => {
  source = event.detail.source;
  sign(true, "live");
});
document.body.addEventListener("htmx:sseError", () => sign(false, "not live: the gateway does not answer"));

document.body.addEventListener("htmx:sseBeforeMessage", (event) => {
  const { type, data } = event.detail;
  if (type !== "samples") return;
  event.preventDefault();
  take(JSON.parse(data));
});

// A browser opens six connections to a host: a tab that nobody looks at keeps none of them.
document.addEventListener("visibilitychange", () => {
  const connected = document.querySelector("[sse-connect]");
  if (!connected) return;
  if (document.visibilityState === "hidden") {
    if (source) source.close();
    source = null;
    sign(false, "paused");
  } else if (!source) {
    // As htmx does when it meets an element, which makes its extension connect.
    for (const each of [connected, ...connected.querySelectorAll("[sse-swap]")]) {
      htmx.trigger(each, "htmx:afterProcessNode");
    }
  }
});

const SHOWN = 300;
const samples = [];
let charts = [];
let drawn = null;

function take(more) {
  for (const [at, commands, queries, lags] of more) {
    if (!samples.length || samples[samples.length - 1].at < at) samples.push({ at, commands, queries, lags });
  }
  samples.splice(0, Math.max(0, samples.length - SHOWN));
  draw();
}

const seen = (name) => {
  // A custom property keeps `light-dark(…)` as it is written: what it comes to is asked of an element.
  const probe = document.createElement("span");
  probe.className = "unseen";
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const value = getComputedStyle(probe).color;
  probe.remove();
  return value;
};

function views() {
  const worst = {};
  for (const { lags } of samples) {
    for (const [view, lag] of Object.entries(lags)) worst[view] = Math.max(worst[view] || 0, lag);
  }
  return Object.keys(worst).sort((one, other) => worst[other] - worst[one] || one.localeCompare(other)).slice(0, 5);
}

function draw() {
  const rates = byId("chart-rates"), lags = byId("chart-lags");
  if (!rates || !window.uPlot) return;
  const names = views();
  if (drawn !== names.join("\n")) {
    charts.forEach((chart) => chart.destroy());
    const hues = ["--accent", "--warn", "--good", "--bad", "--soft"].map(seen);
    charts = [
      chart(rates, ["commands", "queries"], hues, 1),
      chart(lags, names, hues, 0.1),
    ];
    drawn = names.join("\n");
  }
  const at = samples.map((each) => each.at);
  charts[0].setData([at, samples.map((each) => each.commands), samples.map((each) => each.queries)]);
  charts[1].setData([at, ...names.map((view) => samples.map((each) => each.lags[view] ?? null))]);
}

function chart(element, names, hues, least) {
  const axis = { stroke: seen("--soft"), grid: { stroke: seen("--line"), width: 1 }, ticks: { show: false } };
  const clock = (u, moments) => moments.map((at) => new Date(at * 1000).toISOString().slice(11, 19));
  return new uPlot({
    width: element.clientWidth,
    height: 150,
    series: [{}, ...names.map((label, at) => ({ label, stroke: hues[at], width: 2, points: { show: false } }))],
    axes: [{ ...axis, values: clock, space: 90 }, { ...axis, size: 46 }],
    legend: { live: false },
    scales: { y: { range: (u, low, high) => [0, Math.max(high * 1.1, least)] } },
    cursor: { y: false, drag: { x: false, y: false } },
  }, [[], ...names.map(() => [])], element);
}

function redraw() {
  drawn = null;
  if (charts.length) draw();
}

addEventListener("resize", redraw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);

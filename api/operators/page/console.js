const element = (id) => document.getElementById(id);
const number = (value) => value === undefined ? "" : value.toLocaleString("en");
const cell = (row, text, kind) => {
  const td = row.insertCell();
  td.textContent = text;
  if (kind) td.className = kind;
};

// Kept for this tab alone, and sent nowhere else than where this page came from.
const ask = (path) => {
  const token = sessionStorage.getItem("token");
  return fetch(path, token ? { headers: { authorization: `Bearer ${token}` } } : {});
};

element("login").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("token", element("token").value);
  element("token").value = "";
});

function show({ parts, errors }) {
  const body = element("parts");
  body.replaceChildren();
  for (const part of parts) {
    const row = body.insertRow();
    cell(row, part.part);
    cell(row, part.node || "");
    cell(row, part.ready ? "yes" : "no", part.ready ? "" : "no");
    cell(row, number(part.position), "number");
    cell(row, number(part.lag), "number");
    cell(row, number(part.waiting), "number");
    cell(row, part.memory_bytes ? number(Math.round(part.memory_bytes / 1e6)) : "", "number");
    cell(row, number(part.restarts), "number");
    cell(row, number(part.parked), "number");
    cell(row, part.error || "");
  }
  const recent = element("errors");
  recent.replaceChildren();
  for (const error of errors) {
    const row = recent.insertRow();
    cell(row, error.at);
    cell(row, `${error.method} ${error.path}`);
    cell(row, error.status, "no");
    cell(row, error.detail);
  }
  element("state").textContent = `${parts.length} parts, as of ${new Date().toLocaleTimeString()}`;
}

async function look() {
  try {
    const answer = await ask("/operators/status");
    element("login").hidden = ![401, 403].includes(answer.status);
    const content = await answer.json();
    if (answer.ok) show(content);
    else element("state").textContent = content.detail;
  } catch (error) {
    element("state").textContent = `the gateway does not answer: ${error.message}`;
  }
  setTimeout(look, 1000);
}
look();

// The page: files in, a barrier out; it asks the service that served it and no other host.

const MOBILE = ["Li", "Na", "K", "Rb", "Mg", "Ca", "Sr", "Zn", "Al"];
const CRYSTAL_NAME = /(\.cif|\.vasp|\.poscar)$|^(poscar|contcar)/i;

const find = (id) => document.getElementById(id);
const state = { files: [], isCrystal: false };

// ---- building elements: text only ever becomes text, never markup

function element(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

function drawing(name, attributes = {}, text = "") {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.textContent = text;
  return node;
}

const figure = (value, digits = 2) => (value === null || value === undefined ? "–" : value.toFixed(digits));

// ---- what was chosen

async function choose(files, ion = null) {
  state.files = [...files];
  if (!state.files.length) return;
  const [first] = state.files;
  const single = state.files.length === 1;
  state.isCrystal = single && (CRYSTAL_NAME.test(first.name) || (await isPymatgen(first)));
  find("chosen").replaceChildren(element("strong", {}, state.files.map((file) => file.name).join(" → ")));
  const elements = state.isCrystal ? mobileElements(await first.text()) : [];
  find("ions").replaceChildren(...elements.map((symbol) => element("option", { value: symbol })));
  find("ion").value = ion ?? (state.isCrystal ? (elements[0] ?? "") : "");
  find("send").disabled = false;
}

async function isPymatgen(file) {
  return /\.json$/i.test(file.name) && !(await file.text()).includes("lattice_angstrom");
}

function mobileElements(text) {
  const words = new Set(text.match(/\b[A-Z][a-z]?(?=\d*[+-]?\b)/g));
  return MOBILE.filter((symbol) => words.has(symbol));
}

// ---- asking the service

const headers = () => (find("key").value ? { "X-API-Key": find("key").value } : {});

function body() {
  const form = new FormData();
  if (state.files.length === 2) {
    form.append("initial", state.files[0]);
    form.append("final", state.files[1]);
  } else {
    for (const file of state.files) form.append(state.isCrystal ? "structure" : "band", file);
  }
  const ion = find("ion").value.trim();
  if (ion && (state.isCrystal || state.files.length === 2)) form.append("ion", ion);
  return form;
}

function query() {
  const chosen = new URLSearchParams({ mechanism: find("mechanism").value });
  if (find("threshold").value) chosen.set("threshold_ev", find("threshold").value);
  if (find("model").value) chosen.set("model", find("model").value);
  return chosen;
}

async function predict() {
  const result = find("result");
  result.setAttribute("aria-busy", "true");
  find("send").disabled = true;
  const started = performance.now();
  try {
    const response = await fetch(`/predict/barrier?${query()}`, { method: "POST", headers: headers(), body: body() });
    const answer = await response.json();
    const seconds = (performance.now() - started) / 1000;
    result.replaceChildren(...(response.ok ? show(answer, seconds) : [problem(answer)]));
    if (response.status === 401) askForKey();
  } catch (error) {
    result.replaceChildren(problem({ title: "No answer", detail: `The service did not answer: ${error.message}` }));
  } finally {
    result.setAttribute("aria-busy", "false");
    find("send").disabled = false;
  }
}

async function listModels() {
  const response = await fetch("/models", { headers: headers() });
  if (response.status === 401) return askForKey();
  if (!response.ok) return undefined;
  const listed = await response.json();
  const options = listed.models.map((card) =>
    element("option", { value: card.name }, card.name === listed.default ? `${card.name} (default)` : card.name),
  );
  find("model").replaceChildren(...options);
  find("model").value = listed.default;
  return undefined;
}

function askForKey() {
  find("key-field").hidden = false;
}

// ---- showing the answer

function show(answer, seconds) {
  const parts = [summary(answer, seconds)];
  if (answer.hops) parts.push(crystal(answer));
  return parts;
}

function summary(answer, seconds) {
  const known = answer.barrier_ev !== null && answer.barrier_ev !== undefined;
  const value = known
    ? element("div", { class: "figure", id: "barrier" }, figure(answer.barrier_ev), " ", element("small", {}, "eV"))
    : element("div", { class: "figure", id: "barrier" }, "–", " ", element("small", {}, "nothing connects"));
  const card = element("div", { class: "card" });
  const answerRow = element("div", { class: "answer" }, value, element("div", {}, known ? scale(answer) : null));
  const meaning = answer.hops ? "lowest barrier that percolates" : "barrier of the hop";
  const facts = [
    `${answer.ion} in ${answer.formula}, ${meaning}`,
    `${answer.model.name} ${answer.model.version} (${answer.model.digest.slice(0, 8)})`,
    answer.cached ? "from the cache" : `${Math.round(1000 * seconds)} ms`,
    `prediction ${answer.prediction_id}`,
  ];
  card.append(answerRow, verdict(answer), element("p", { class: "facts" }, facts.join(" · ")));
  const notes = [...(answer.in_domain?.reasons ?? []), ...answer.warnings];
  if (notes.length) card.append(noteList(notes));
  return card;
}

function verdict(answer) {
  const good = answer.good_conductor;
  if (good.verdict === null) return element("p", { class: "verdict" }, "No verdict without a barrier.");
  const words = good.verdict ? "Good conductor" : "Not a good conductor";
  const chance = `probability ${Math.round(100 * good.probability)} % that the barrier is below ${good.threshold_ev} eV`;
  return element("p", { class: `verdict ${good.verdict ? "good" : "bad"}` }, `${words}: ${chance}`);
}

function noteList(notes) {
  return element("div", { class: "notes" }, element("ul", {}, ...notes.map((note) => element("li", {}, note))));
}

/** The interval as a bar, the barrier as a dot, the threshold as a line, on an axis in eV. */
function scale(answer) {
  const { low, high, coverage } = answer.interval_ev;
  const threshold = answer.good_conductor.threshold_ev;
  const most = Math.max(high, threshold, answer.barrier_ev) * 1.12;
  const place = (energy) => 10 + (Math.max(energy, 0) / most) * 480;
  const words = `${figure(low)} to ${figure(high)} eV covers ${Math.round(100 * coverage)} %`;
  const picture = drawing("svg", { class: "scale", viewBox: "0 0 500 64", role: "img", "aria-label": words });
  picture.append(
    drawing("line", { class: "axis", x1: 10, x2: 490, y1: 34, y2: 34 }),
    drawing("rect", { class: "band", x: place(low), width: place(high) - place(low), y: 26, height: 16, rx: 8 }),
    drawing("line", { class: "threshold", x1: place(threshold), x2: place(threshold), y1: 18, y2: 50 }),
    drawing("circle", { class: "dot", cx: place(answer.barrier_ev), cy: 34, r: 7 }),
    drawing("text", { x: place(threshold), y: 12, "text-anchor": "middle" }, `good below ${threshold}`),
    drawing("text", { x: 10, y: 60 }, "0 eV"),
    drawing("text", { x: 490, y: 60, "text-anchor": "end" }, words),
  );
  return picture;
}

function crystal(answer) {
  const card = element("div", { class: "card" }, element("h2", {}, "Through the crystal"));
  const chips = Object.entries(answer.percolation_ev).map(([dimension, energy]) =>
    element("li", {}, `in ${dimension.replace("d", "")}D`, element("b", {}, energy === null ? "never" : `${figure(energy)} eV`)),
  );
  card.append(element("ul", { class: "chips", id: "percolation" }, ...chips), hopTable(answer));
  if (answer.truncated) card.append(noteList(["More hops exist than were predicted; ask for more with max_hops."]));
  return card;
}

function hopTable(answer) {
  const headings = [["Hop"], ["Length, Å", "number"], ["Times", "number"], ["Barrier, eV", "number"], ["Interval, eV", "number"], ["Good"]];
  const head = element("tr", {}, ...headings.map(([name, kind]) => element("th", { scope: "col", class: kind ?? "" }, name)));
  const caption = `Symmetry-distinct hops between the ${answer.sites.length} ${answer.ion} sites of the uploaded cell, ${answer.mechanism} mechanism`;
  const table = element("table", { id: "hops" }, element("caption", {}, caption), element("thead", {}, head));
  table.append(element("tbody", {}, ...answer.hops.map(hopRow)));
  return element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Hops" }, element("h2", {}, "Hops"), table);
}

function hopRow(hop) {
  const cell = (text, kind = "") => element("td", { class: kind }, text);
  const cells = [
    cell(`${hop.from_site} → ${hop.to_site}  [${hop.offset.join(" ")}]`),
    cell(figure(hop.distance_angstrom), "number"),
    cell(String(hop.multiplicity), "number"),
  ];
  if (hop.excluded_because) {
    const why = element("td", { class: "why", colspan: "3" }, `left out: ${hop.excluded_because}`);
    return element("tr", { class: "excluded" }, ...cells, why);
  }
  if (hop.barrier_ev === null) return element("tr", { class: "excluded" }, ...cells, cell("–", "number"), cell("–", "number"), cell(""));
  const good = hop.good_conductor.verdict;
  const { low, high } = hop.interval_ev;
  return element(
    "tr", {}, ...cells, cell(figure(hop.barrier_ev), "number"), cell(`${figure(low)} to ${figure(high)}`, "number"),
    cell(good ? "yes" : "no", good ? "good" : "bad"),
  );
}

function problem(fault) {
  const lines = [fault.detail, fault.where && `Where: ${fault.where}`, fault.expected && `What would be right: ${fault.expected}`];
  return element(
    "div", { class: "card problem", role: "alert" }, element("h2", {}, fault.title ?? "Something went wrong"),
    ...lines.filter(Boolean).map((line) => element("p", {}, line)),
  );
}

// ---- events

find("files").addEventListener("change", (event) => choose(event.target.files));
find("form").addEventListener("submit", (event) => {
  event.preventDefault();
  predict();
});
find("key").addEventListener("change", listModels);
for (const name of ["dragenter", "dragover", "dragleave", "drop"]) {
  find("drop").addEventListener(name, (event) => {
    event.preventDefault();
    find("drop").classList.toggle("over", name === "dragenter" || name === "dragover");
  });
}
find("drop").addEventListener("drop", (event) => choose(event.dataTransfer.files));
for (const button of document.querySelectorAll("[data-files]")) {
  button.addEventListener("click", async () => {
    const files = await Promise.all(button.dataset.files.split(",").map(fetchExample));
    await choose(files, button.dataset.ion ?? "");
    await predict();
  });
}

async function fetchExample(name) {
  const response = await fetch(`/static/examples/${name}`);
  return new File([await response.blob()], name);
}

listModels();

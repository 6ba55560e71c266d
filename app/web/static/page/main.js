// The page: files in, a result out, and a link that opens it again.

import { isCrystal, suggestedIons } from "./composition.js";
import { element, find } from "./dom.js";
import { plainFormula } from "./formula.js";
import { Result } from "./result.js";
import {
  Problem,
  ask,
  finished,
  forget,
  hasSecondOpinion,
  keepKey,
  keptKey,
  models,
  stopped,
  submit,
} from "./service.js";

const DEFAULT_THRESHOLD_EV = 0.65;
const LINK = /^#prediction=([0-9a-f-]{32,36})$/i;

const state = {
  files: [],
  isCrystal: false,
  threshold: DEFAULT_THRESHOLD_EV,
  running: null,
  shown: null,
  shownId: null,
};

// ---- the request

async function choose(files, ion = null) {
  if (!files.length) return;
  state.files = [...files];
  const [first] = state.files;
  state.isCrystal = state.files.length === 1 && (await isCrystal(first));
  find("chosen").replaceChildren(element("strong", {}, state.files.map((file) => file.name).join(" → ")));
  suggest(state.isCrystal ? suggestedIons(await first.text()) : [], ion);
  find("send").disabled = false;
}

function suggest(ions, chosen) {
  find("ion").value = chosen ?? ions[0] ?? "";
  const note = find("ion-note");
  note.hidden = !state.isCrystal || ions.length === 1;
  note.textContent = ions.length
    ? "Several could move: choose one."
    : "No common mobile ion in the file: enter an element.";
  const press = (symbol) => {
    find("ion").value = symbol;
    markIon();
  };
  find("ions").replaceChildren(
    ...ions.map((symbol) => element("button", { type: "button", onclick: () => press(symbol) }, symbol)),
  );
  markIon();
}

function markIon() {
  for (const button of find("ions").children)
    button.setAttribute("aria-pressed", String(button.textContent === find("ion").value.trim()));
}

function body() {
  const form = new FormData();
  if (state.files.length === 2) {
    form.append("initial", state.files[0]);
    form.append("final", state.files[1]);
  } else {
    for (const file of state.files) form.append(state.isCrystal ? "structure" : "band", file);
  }
  const cell = find("cell").value.trim();
  if (cell) form.append("cell", cell);
  const ion = find("ion").value.trim();
  if (ion && (state.isCrystal || state.files.length === 2)) form.append("ion", ion);
  return form;
}

function query() {
  const chosen = new URLSearchParams({ mechanism: find("mechanism").value, threshold_ev: state.threshold });
  if (find("longest").value) chosen.set("max_hop_angstrom", find("longest").value);
  if (find("model").value) chosen.set("model", find("model").value);
  if (find("second").checked && state.isCrystal) chosen.set("second_opinion", "bvse");
  return chosen;
}

// ---- sending it

async function predict() {
  await run("Reading the file and looking for hops", async (signal) => {
    try {
      return await sent(signal);
    } catch (error) {
      if (!takeOtherWay(error)) throw error;
      return sent(signal);
    }
  });
}

async function sent(signal) {
  const sending = submit(body(), query());
  // A file that is being sent when the user stops is accepted all the same; only then is there an id to delete it by.
  signal.addEventListener("abort", () => sending.then((id) => forget(id).catch(showError), () => {}));
  const id = await Promise.race([sending, stopped(signal)]);
  return finished(id, showProgress, signal);
}

/** Takes one file for a crystal and no band, or the reverse, where the service says that it is: names do not tell. */
function takeOtherWay(error) {
  const isCrystal = error.body?.kind === "single-crystal";
  if (state.files.length !== 1 || (!isCrystal && error.body?.kind !== "band-not-crystal")) return false;
  state.isCrystal = isCrystal;
  if (!isCrystal || find("ion").value.trim()) return true;
  suggest([], null);
  find("ion").focus();
  return false;
}

async function reopen(id) {
  await run("Opening the result", (signal) => finished(id, showProgress, signal));
}

async function run(words, work) {
  state.running?.controller.abort();
  const running = { controller: new AbortController() };
  state.running = running;
  busy(true, words);
  try {
    const answer = await work(running.controller.signal);
    if (state.running === running) await show(answer);
  } catch (error) {
    if (state.running === running) showError(error);
  } finally {
    if (state.running === running) {
      state.running = null;
      busy(false);
    }
  }
}

function stop() {
  state.running?.controller.abort();
}

function busy(isBusy, words = "") {
  find("progress").hidden = !isBusy;
  find("output").setAttribute("aria-busy", String(isBusy));
  find("send").disabled = isBusy || !state.files.length;
  find("bar").removeAttribute("value");
  find("progress-words").textContent = words;
  if (isBusy) find("status").textContent = words;
}

function showProgress(stored) {
  const percent = Math.round(100 * stored.progress);
  find("progress-words").textContent =
    stored.status === "queued" ? "Waiting in the queue" : `Predicting hops, ${percent} %`;
  if (stored.status === "running") find("bar").value = stored.progress;
}

// ---- showing the answer

async function show(answer) {
  state.threshold = answer.good_conductor?.threshold_ev ?? state.threshold;
  state.shown = new Result(answer, {
    threshold: state.threshold,
    onThreshold: (threshold) => (state.threshold = threshold),
    onError: showError,
  });
  state.shownId = answer.prediction_id;
  find("result").replaceChildren(state.shown.node);
  if (LINK.exec(location.hash)?.[1] !== answer.prediction_id)
    history.pushState(null, "", `/#prediction=${answer.prediction_id}`);
  find("status").textContent = "The result is ready.";
  document.title = `${answer.ion} in ${plainFormula(answer.formula)}: ionpath`;
  find("result").focus({ preventScroll: true });
  if (matchMedia("(max-width: 60rem)").matches) find("result").scrollIntoView();
  await state.shown.open();
}

function showError(error) {
  if (error.name === "AbortError") {
    find("status").textContent = "Stopped.";
    return;
  }
  if (!(error instanceof Problem)) console.error(error);
  state.shown = null;
  state.shownId = null;
  find("result").replaceChildren(
    problem(error instanceof Problem ? error.body : { title: "The page failed", detail: error.message }),
  );
  if (error.status === 401) askForKey();
}

function problem({ title, detail, where, expected }) {
  const line = (name, text) => text && element("p", {}, element("b", {}, `${name}: `), text);
  return element(
    "div",
    { class: "panel problem", role: "alert" },
    element("h1", {}, title ?? "Something went wrong"),
    element("p", {}, detail),
    line("Where", where),
    line("What would be right", expected),
  );
}

// ---- key, models, options

function askForKey() {
  find("key-form").hidden = false;
  find("key").focus();
}

async function useKey(event) {
  event.preventDefault();
  keepKey(find("key").value.trim());
  find("key").value = "";
  find("key").placeholder = keptKey() ? "kept in this tab" : "";
  if (await listModels()) openLink();
}

/** Fills the list of checkpoints; returns whether the page may send requests, which can need an API key. */
async function listModels() {
  try {
    const listed = await models();
    const named = (name) => (name === listed.default ? `${name} (default)` : name);
    const ofBarriers = listed.models.filter(({ kind }) => kind === undefined); // a card of barriers has none
    find("model").replaceChildren(...ofBarriers.map(({ name }) => element("option", { value: name }, named(name))));
    find("model").value = listed.default;
    if (find("result").querySelector(".problem")) find("result").replaceChildren();
  } catch (error) {
    if (error.status !== 401) return true;
    showError(error);
    return false;
  }
  return true;
}

async function offerSecondOpinion() {
  find("second-field").hidden = !(await hasSecondOpinion());
}

function openLink() {
  const id = LINK.exec(location.hash)?.[1];
  if (id && id !== state.shownId) reopen(id);
}

async function takeExample({ files, ion }) {
  try {
    const taken = files
      .split(",")
      .map(async (name) => new File([await (await ask(`/static/examples/${name}`)).blob()], name));
    await choose(await Promise.all(taken), ion);
  } catch (error) {
    showError(error);
    return;
  }
  await predict();
}

function listen() {
  find("files").addEventListener("change", (event) => choose(event.target.files));
  find("ion").addEventListener("input", markIon);
  find("form").addEventListener("submit", (event) => {
    event.preventDefault();
    if (state.files.length) predict();
  });
  find("stop").addEventListener("click", stop);
  find("key-form").addEventListener("submit", useKey);
  for (const button of document.querySelectorAll("[data-files]"))
    button.addEventListener("click", () => takeExample(button.dataset));
  const drop = find("drop");
  for (const name of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(name, (event) => {
      event.preventDefault(); // a file dropped beside the field must not replace the page
      drop.classList.toggle("over", name === "dragover");
    });
  }
  document.addEventListener("drop", (event) => choose(event.dataTransfer.files));
  addEventListener("hashchange", openLink);
  addEventListener("popstate", openLink);
  addEventListener("resize", () => state.shown?.resize());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => state.shown?.recolour());
}

listen();
listModels().then((isOpen) => isOpen && openLink());
offerSecondOpinion().catch(() => {}); // an option that is not available is not shown

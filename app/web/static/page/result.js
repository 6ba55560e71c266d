// Shows one answer: figures, picture, chart, percolation, conductivity, table, notes, downloads; all follow one threshold.

import { chart } from "./chart.js";
import { conductivity } from "./conductivity.js";
import { dimensions } from "./dimensions.js";
import { element, figure, top } from "./dom.js";
import { downloads } from "./downloads.js";
import { formula } from "./formula.js";
import { HopTable } from "./hops.js";
import { percolation, probabilityBelow, verdict } from "./judge.js";
import { notes } from "./notes.js";
import { sceneOf } from "./scene.js";
import { openPicture } from "./viewer.js";

const LEAST_EV = 0.05;
const MOST_EV = 2;
const WORDS = { good: "Good conductor", poor: "Not a good conductor" };

export class Result {
  #answer;
  #table = null;
  #picture = null;
  #picked = null;
  #onError;
  #parts = {};
  threshold;

  /** `onThreshold` is called with each new threshold, `onError` if a download fails. */
  constructor(answer, { threshold, onThreshold, onError }) {
    this.#answer = answer;
    this.#onError = onError;
    this.onThreshold = onThreshold;
    this.threshold = threshold;
    this.node = element("article", { class: "answer", "aria-labelledby": "answer-title" });
    this.node.append(
      ...[
        this.#summary(),
        this.#middle(),
        conductivity(answer),
        this.#hops(),
        notes(answer),
        downloads(answer, { pictureOf: () => this.#picture?.picture(), onError: this.#onError }),
      ].filter(Boolean),
    );
    this.#update();
  }

  /** Opens the picture; called once the node is on the page, since a picture needs a size. */
  async open() {
    const host = this.#parts.view;
    if (!this.#answer.input) return this.#noPicture("The service keeps no inputs, so there is no crystal to draw.");
    try {
      this.#picture = await openPicture(host, sceneOf(this.#answer));
    } catch (error) {
      return this.#noPicture(
        error.message === "no WebGL"
          ? "This browser shows no 3D graphics (WebGL), so the crystal is not drawn. Table and chart have every hop."
          : `The crystal cannot be drawn: ${error.message}. Table and chart have every hop.`,
      );
    }
    this.#picture.onPick = (number) => this.pick(number);
    this.#parts.legend.replaceChildren(...this.#picture.legend().map(({ name, colour }) => legendEntry(name, colour)));
    this.#parts.tools.hidden = false;
    this.#picture.resize();
    this.#picture.reset();
    this.#update();
    return undefined;
  }

  /** Follows a change of the theme. */
  recolour() {
    this.#picture?.recolour();
    this.#parts.legend.replaceChildren(
      ...(this.#picture?.legend() ?? []).map(({ name, colour }) => legendEntry(name, colour)),
    );
  }

  /** Follows a change of the window. */
  resize() {
    this.#picture?.resize();
  }

  /** Selects one hop in picture, chart and table; selecting it again deselects it. */
  pick(number) {
    this.#picked = this.#picked === number ? null : number;
    this.#update();
  }

  #noPicture(words) {
    this.#parts.view.replaceChildren(element("p", { class: "no-picture", role: "note" }, words));
  }

  #predicted() {
    const rows = this.#answer.hops ?? [this.#answer];
    return rows.map((one, index) => ({ ...one, number: index + 1 }));
  }

  #summary() {
    const answer = this.#answer;
    const parts = this.#parts;
    const known = answer.barrier_ev !== null && answer.barrier_ev !== undefined;
    const interval = answer.interval_ev;
    parts.verdict = element("p", { id: "verdict", class: "verdict", "aria-live": "polite" });
    parts.number = element("input", {
      id: "threshold",
      type: "number",
      min: 0.01,
      max: 100,
      step: 0.01,
      value: this.threshold,
    });
    parts.range = element("input", {
      id: "threshold-range",
      type: "range",
      min: LEAST_EV,
      max: MOST_EV,
      step: 0.01,
      value: this.threshold,
      "aria-label": "Threshold, eV",
    });
    parts.number.addEventListener("input", () => this.#judge(parts.number));
    parts.range.addEventListener("input", () => this.#judge(parts.range));
    return element(
      "section",
      { class: "panel summary" },
      element(
        "div",
        { class: "what" },
        element("h1", { id: "answer-title" }, element("b", {}, answer.ion), " in ", formula(answer.formula)),
        element(
          "p",
          { class: "hint" },
          answer.hops ? "lowest barrier of a path through the crystal" : "barrier of the hop",
        ),
      ),
      element(
        "div",
        { class: "figure" },
        element(
          "p",
          { id: "barrier", class: "big" },
          known ? [figure(answer.barrier_ev, 3), element("small", {}, " eV")] : "nothing connects",
        ),
        known &&
          element(
            "p",
            { class: "hint" },
            `${Math.round(100 * interval.coverage)} % interval ${figure(interval.low)} to ${top(interval.high)} eV`,
          ),
        uploadedBand(answer.uploaded_band),
      ),
      element(
        "div",
        { class: "judge" },
        parts.verdict,
        element(
          "div",
          { class: "slider" },
          element("label", { for: "threshold" }, "Good below"),
          parts.range,
          parts.number,
          element("span", {}, "eV"),
        ),
      ),
    );
  }

  #judge(input) {
    const threshold = Number(input.value);
    if (!(threshold > 0)) return;
    this.threshold = threshold;
    for (const other of [this.#parts.number, this.#parts.range]) if (other !== input) other.value = threshold;
    this.#update();
    this.onThreshold(threshold);
  }

  #middle() {
    const parts = this.#parts;
    parts.view = element("div", { id: "view", class: "view" });
    parts.legend = element("ul", { class: "legend", "aria-label": "Colours of the atoms" });
    parts.tools = this.#tools();
    parts.chart = element("div", { id: "chart", class: "chart-box" });
    parts.percolation = this.#answer.hops
      ? element("ul", { id: "percolation", class: "dimensions", "aria-label": "Percolation" })
      : null;
    const side = element("div", { class: "side" });
    if (parts.percolation)
      side.append(
        element("section", { class: "panel" }, element("h2", {}, "Paths through the crystal in"), parts.percolation),
      );
    side.append(element("section", { class: "panel grows" }, element("h2", {}, "Barriers and intervals"), parts.chart));
    return element(
      "div",
      { class: "middle" },
      element("figure", { class: "panel picture" }, parts.tools, parts.view, parts.legend),
      side,
    );
  }

  #tools() {
    const button = (name, label, act) =>
      element("button", { type: "button", "aria-label": label, onclick: () => act(this.#picture) }, name);
    const atoms = element("input", { type: "checkbox", checked: true });
    atoms.addEventListener("change", () => this.#picture.showAtoms(atoms.checked));
    return element(
      "div",
      { class: "tools", role: "toolbar", "aria-label": "Picture", hidden: true },
      ["a", "b", "c"].map((axis) => button(axis, `Look along ${axis}`, (picture) => picture.lookAlong(axis))),
      button("reset", "Reset the view", (picture) => picture.reset()),
      element("label", {}, atoms, " host"),
    );
  }

  #hops() {
    if (!this.#answer.hops) return null;
    this.#table = new HopTable(this.#answer, (number) => this.pick(number));
    return element("section", { class: "panel", "aria-label": "Hops" }, this.#table.node);
  }

  // ---- what follows the threshold and the picked hop

  #update() {
    const answer = this.#answer;
    const kind = verdict(answer.barrier_ev, this.threshold);
    this.#parts.verdict.className = `verdict ${kind ?? ""}`;
    this.#parts.verdict.replaceChildren(...this.#verdictWords(kind));
    this.#table?.update({ threshold: this.threshold, picked: this.#picked });
    this.#parts.percolation?.replaceChildren(
      ...dimensions(answer, { threshold: this.threshold, picked: this.#picked, onPick: (number) => this.pick(number) }),
    );
    this.#drawChart();
    this.#picture?.show(
      this.#predicted().map((one) => ({
        number: one.number,
        kind: verdict(one.barrier_ev, this.threshold) ?? "aside",
        isMain: one.barrier_ev <= highestOf(answer),
      })),
      this.#picked,
    );
  }

  #verdictWords(kind) {
    if (kind === null) return ["No verdict without a barrier"];
    const chance = probabilityBelow(this.#answer, this.threshold);
    const words = chance === null ? "" : `${Math.round(100 * chance)} % chance of a barrier below ${this.threshold} eV`;
    return [element("b", {}, WORDS[kind]), element("span", {}, words)];
  }

  #drawChart() {
    const rows = this.#predicted()
      .filter((one) => one.barrier_ev !== null)
      .map((one) => ({
        number: one.number,
        barrier: one.barrier_ev,
        low: one.interval_ev.low,
        high: one.interval_ev.high,
        coverage: one.interval_ev.coverage,
      }));
    if (!rows.length)
      return this.#parts.chart.replaceChildren(element("p", { class: "hint" }, "No hop could be predicted."));
    const marks = this.#answer.hops ? percolation(this.#answer) : uploadedMarks(this.#answer.uploaded_band);
    return this.#parts.chart.replaceChildren(
      chart({
        rows,
        marks,
        threshold: this.threshold,
        picked: this.#picked,
        coverage: rows[0].coverage,
        onPick: (number) => this.#answer.hops && this.pick(number),
      }),
    );
  }
}

/** Hops up to this barrier are enough to connect in the highest dimension that is reached. */
const highestOf = (answer) =>
  answer.hops ? Math.max(...Object.values(answer.percolation_ev).filter((barrier) => barrier !== null)) : Infinity;

/** The barrier of the band that was sent, by the energies in its file, beside the predicted one. */
function uploadedBand(band) {
  const ways = uploadedMarks(band).map(({ name, barrier }) => `${figure(barrier, 3)} eV ${name}`);
  if (!ways.length) return null;
  const words = `by the energies in the file ${ways.join(" and ")} (image ${band.highest_image} is the highest)`;
  return element("p", { id: "uploaded-band", class: "hint" }, words);
}

const uploadedMarks = (band) =>
  [
    { name: "forward", barrier: band?.forward_ev ?? null },
    { name: "back", barrier: band?.reverse_ev ?? null },
  ].filter(({ barrier }) => barrier !== null);

function legendEntry(name, colour) {
  const dot = element("span", { class: "dot", "aria-hidden": "true" });
  dot.style.backgroundColor = colour;
  return element("li", {}, dot, name);
}

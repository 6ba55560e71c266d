// The table of hops: a button in each row shows its path in the picture and in the chart.

import { element, figure, steps, top } from "./dom.js";
import { probabilityBelow, verdict } from "./judge.js";

const HEADINGS = [
  { name: "Hop", key: (hop) => hop.number, numeric: false },
  { name: "Barrier, eV", key: (hop) => hop.barrier_ev ?? Infinity, numeric: true },
  { name: "Interval, eV", key: null, numeric: true },
  { name: "Verdict", key: null, numeric: false },
  { name: "Chance", key: null, numeric: true },
  { name: "Length, Å", key: (hop) => hop.distance_angstrom, numeric: true },
  { name: "From → to, offset", key: null, numeric: false },
  { name: "Copies in the cell", key: (hop) => hop.multiplicity, numeric: true },
  { name: "Known chemistry", key: null, numeric: false },
];

const WORDS = { good: "● good", poor: "○ poor" };

/** Builds the table; the given state {threshold, picked, sort} is read at each `update`. */
export class HopTable {
  #body = element("tbody");
  #headings = [];
  #hops;
  #ion;
  #onPick;
  #sort = { column: 0, descending: false };

  constructor(answer, onPick) {
    this.#hops = answer.hops.map((hop, index) => ({ ...hop, number: index + 1 }));
    this.#ion = answer.ion;
    this.#onPick = onPick;
    const copies = this.#hops.reduce((sum, hop) => sum + hop.multiplicity, 0);
    const caption = `${this.#hops.length} distinct ${this.#hops.length === 1 ? "hop" : "hops"}, ${copies} in the cell. A number shows its path.`;
    this.node = element(
      "div",
      { class: "scroll", tabindex: 0, role: "region", "aria-label": "Table of hops" },
      element(
        "table",
        { id: "hops" },
        element("caption", {}, caption),
        element(
          "thead",
          {},
          element(
            "tr",
            {},
            HEADINGS.map((heading, column) => this.#heading(heading, column)),
          ),
        ),
        this.#body,
      ),
    );
  }

  update({ threshold, picked }) {
    const { column, descending } = this.#sort;
    const key = HEADINGS[column].key;
    const ordered = [...this.#hops].sort((one, other) => key(one) - key(other) || one.number - other.number);
    if (descending) ordered.reverse();
    this.#state = { threshold, picked };
    const focused = document.activeElement?.dataset?.hop;
    this.#body.replaceChildren(...ordered.map((hop) => this.#row(hop, threshold, picked)));
    if (focused) this.#body.querySelector(`[data-hop="${focused}"]`)?.focus({ preventScroll: true });
  }

  #state = null;

  #heading({ name, key, numeric }, column) {
    const content = key ? element("button", { type: "button", onclick: () => this.#sortBy(column) }, name) : name;
    const heading = element(
      "th",
      { scope: "col", class: numeric ? "number" : null, "aria-sort": key ? (column ? "none" : "ascending") : null },
      content,
    );
    this.#headings.push(heading);
    return heading;
  }

  #sortBy(column) {
    const descending = this.#sort.column === column && !this.#sort.descending;
    this.#sort = { column, descending };
    this.#headings.forEach((heading, index) => {
      if (HEADINGS[index].key)
        heading.setAttribute("aria-sort", index !== column ? "none" : descending ? "descending" : "ascending");
    });
    this.update(this.#state);
  }

  #row(hop, threshold, picked) {
    const isPicked = hop.number === picked;
    const button = element(
      "button",
      {
        type: "button",
        "data-hop": hop.number,
        "aria-pressed": String(isPicked),
        "aria-label": `Hop ${hop.number}: show its path`,
        onclick: () => this.#onPick(hop.number),
      },
      String(hop.number),
    );
    const kind = verdict(hop.barrier_ev, threshold);
    return element(
      "tr",
      { class: [isPicked ? "picked" : "", kind ?? "excluded"].join(" ").trim() },
      element("td", {}, button),
      kind
        ? predicted(hop, threshold, kind)
        : element("td", { colspan: 4, class: "why" }, `excluded: ${hop.excluded_because}`),
      number(figure(hop.distance_angstrom)),
      element(
        "td",
        { class: "path" },
        `${this.#ion} ${hop.from_site} → ${hop.to_site} `,
        element("span", { class: "cells" }, `[${steps(hop.offset)}]`),
      ),
      number(`${hop.multiplicity}×`),
      element("td", { class: "known" }, known(hop)),
    );
  }
}

function predicted(hop, threshold, kind) {
  const chance = probabilityBelow(hop, threshold);
  return [
    element("td", { class: "number strong" }, figure(hop.barrier_ev, 3)),
    number(`${figure(hop.interval_ev.low)} to ${top(hop.interval_ev.high)}`),
    element("td", { class: `verdict ${kind}` }, WORDS[kind]),
    number(chance === null ? "–" : `${Math.round(100 * chance)} %`),
  ];
}

/** Whether the hop is in the domain of the model; the notes give the reasons if not. */
const known = ({ in_domain: domain }) => (domain ? (domain.verdict === false ? "no" : "yes") : "");

const number = (text) => element("td", { class: "number" }, text);

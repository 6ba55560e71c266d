// Percolation in one, two and three directions: one card each, with its bottleneck hops.

import { element, figure, steps, top } from "./dom.js";
import { percolation, verdict } from "./judge.js";

const ALL = 3;

/** Builds the three cards; `onPick` is called with the number of the hop whose button was pressed. */
export function dimensions(answer, { threshold, picked, onPick }) {
  const hopButton = (number) =>
    element(
      "button",
      { type: "button", class: "link", "aria-pressed": String(number === picked), onclick: () => onPick(number) },
      `hop ${number}`,
    );
  return percolation(answer).map((one) => {
    const bottlenecks = one.bottleneck_hops ?? hopsAt(answer, one.barrier);
    return element(
      "li",
      { class: verdict(one.barrier, threshold) ?? "never" },
      element("span", { class: "name" }, `${one.name[0]} ${one.name === "1d" ? "direction" : "directions"}`),
      element("b", {}, one.barrier === null ? "never" : `${figure(one.barrier, 3)} eV`),
      one.interval_ev && element("span", {}, `${figure(one.interval_ev.low)} to ${top(one.interval_ev.high)}`),
      one.percolating_share > 0 &&
        one.percolating_share < 1 &&
        element("span", {}, `in ${Math.round(100 * one.percolating_share)} % of its fillings`),
      along(one.directions),
      one.bondValence !== undefined && element("span", {}, `bond valence ${energy(one.bondValence)}`),
      one.second !== undefined && element("span", {}, `bvlain ${energy(one.second)}`),
      one.barrier !== null &&
        bottlenecks.length > 0 &&
        element(
          "span",
          { class: "bottleneck" },
          "set by ",
          bottlenecks.map((index) => hopButton(index + 1)),
        ),
    );
  });
}

/** A barrier by another method. */
function energy(barrier) {
  return barrier === null ? "never" : `${figure(barrier)} eV`;
}

/** The lattice directions; left out where there are three, since these are all. */
function along(directions) {
  if (!directions?.length || directions.length === ALL) return null;
  const named = directions.map((one) => element("span", { class: "direction" }, `[${steps(one)}] `));
  return element("span", {}, "along ", named);
}

/** Indices of the hops with exactly that barrier: the bottlenecks. */
function hopsAt(answer, barrier) {
  return answer.hops.flatMap((hop, index) => (barrier !== null && hop.barrier_ev === barrier ? [index] : []));
}

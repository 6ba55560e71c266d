// Notes on the limits of an answer, in plain words.

import { element, figure, sentence } from "./dom.js";

/** Returns a list of notes, or null where there are none. */
export function notes(answer) {
  const found = [...ofDomain(answer), ...ofPercolation(answer), ...answer.warnings];
  if (!found.length) return null;
  return element(
    "section",
    { class: "panel notes", "aria-labelledby": "notes-title" },
    element("h2", { id: "notes-title" }, "Notes"),
    element(
      "ul",
      {},
      found.map((note) => element("li", {}, sentence(note))),
    ),
  );
}

function ofDomain(answer) {
  const predicted = answer.hops ?? [answer];
  const strange = predicted.filter((one) => one.in_domain?.verdict === false);
  if (!strange.length) return [];
  const reasons = [...new Set(strange.flatMap((one) => one.in_domain.reasons))];
  const which = answer.hops
    ? `${strange.length} of ${answer.hops.length} hops ${strange.length === 1 ? "is" : "are"}`
    : "This hop is";
  return [`${which} outside the domain of the model, so the barrier is less reliable: ${reasons.join("; ")}.`];
}

function ofPercolation(answer) {
  if (!answer.hops) return [];
  const found = [];
  if (answer.truncated) {
    found.push(
      "Only the shortest hops were predicted. Longer ones may connect at lower barriers: these are upper bounds.",
    );
  } else if (answer.percolation_upper_bound) {
    found.push("Some hops could not be predicted. With them the crystal may connect at lower barriers.");
  }
  if (answer.percolation_ev["1d"] === null) {
    found.push("The hops do not connect through the crystal: with them the ion has no long-range path.");
  }
  if (answer.disorder?.orderings.length > 1) {
    found.push(`The crystal is disordered: ${answer.disorder.orderings.length} orderings of its atoms were predicted.`);
  }
  return found;
}

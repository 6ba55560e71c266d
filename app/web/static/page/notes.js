// What the reader should know of an answer, in plain words.

import { element, figure, sentence } from "./dom.js";

/** Gives a list of notes, or null where there is nothing to say. */
export function notes(answer) {
  const told = [...ofDomain(answer), ...ofPercolation(answer), ...answer.warnings];
  if (!told.length) return null;
  return element(
    "section",
    { class: "panel notes", "aria-labelledby": "notes-title" },
    element("h2", { id: "notes-title" }, "Read this with it"),
    element(
      "ul",
      {},
      told.map((note) => element("li", {}, sentence(note))),
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
  return [`${which} unlike anything the model learned from, so trust the barrier less: ${reasons.join("; ")}.`];
}

function ofPercolation(answer) {
  if (!answer.hops) return [];
  const told = [];
  if (answer.truncated) {
    told.push(
      "Only the shortest hops were predicted. Longer ones may connect at lower barriers: these are upper bounds.",
    );
  } else if (answer.percolation_upper_bound) {
    told.push("Some hops could not be predicted. With them the crystal may connect at lower barriers.");
  }
  if (answer.percolation_ev["1d"] === null) {
    told.push("No row of hops leads through the crystal: with these hops the ion stays where it is.");
  }
  if (answer.disorder?.orderings.length > 1) {
    told.push(`The crystal is disordered: ${answer.disorder.orderings.length} orderings of its atoms were predicted.`);
  }
  return told;
}

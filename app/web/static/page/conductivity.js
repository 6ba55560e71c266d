// How well the crystal conducts, with an interval, and the three numbers that speak most for and against.

import { element, sentence } from "./dom.js";

const THRESHOLD = "1e-4";

/** Returns the panel, or null where the answer has no conductivity. */
export function conductivity(answer) {
  const found = answer.conductivity;
  if (!found) return null;
  const { low, high, coverage } = found.interval_log10;
  const chance = Math.round(100 * found.probability_above[THRESHOLD]);
  return element(
    "section",
    { id: "conductivity", class: "panel conductivity", "aria-labelledby": "conductivity-title" },
    element("h2", { id: "conductivity-title" }, "Conductivity at room temperature"),
    element(
      "p",
      {},
      element("b", {}, `${perCentimetre(found.log10_conductivity_s_per_cm)} S/cm`),
      `, ${Math.round(100 * coverage)} % interval ${perCentimetre(low)} to ${perCentimetre(high)} S/cm; `,
      `${chance} % chance of more than 10⁻⁴ S/cm`,
    ),
    element(
      "ul",
      {},
      found.influences.map(({ text }) => element("li", {}, sentence(text))),
      found.in_domain.reasons.map((reason) =>
        element("li", {}, sentence(`outside of what the model knows: ${reason}`)),
      ),
    ),
  );
}

/** A power of ten with one digit before the exponent, such as 3·10⁻⁵. */
function perCentimetre(log10) {
  const [digits, exponent] = (10 ** log10).toExponential(1).split("e");
  return `${digits}·10${raised(Number(exponent))}`;
}

const raised = (number) => [...String(number)].map((sign) => (sign === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[sign])).join("");

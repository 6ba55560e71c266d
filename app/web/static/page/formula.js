// Writes a formula as chemists do: the smallest integers, the most electropositive element first.

import { element } from "./dom.js";

const ORDER = (
  "Fr Cs Rb K Ba Ra Na Sr Ca Li Ac La Yb Eu Ce Pr Pm Nd Sm Gd Tb Dy Ho Y Er Tm Lu Th Pu Am Cm Bk Cf Es Fm Mg Hf " +
  "Zr Sc Np Ta Ti Mn Pa Be Nb Al Tl V Zn Cr Cd In U Ga Fe Cu Si Re Ni Co Ge Ag Sn Po Hg Bi Tc B Sb Te Mo As P " +
  "Ir Os Ru At Rh H Pt Pd Pb W Au Se C S I Br N Cl O F He Ne Ar Kr Xe Rn"
).split(" ");

/** Returns [symbol, count] pairs of a formula such as "Fe4 Li4 O16 P4", which becomes Li Fe P O4. */
function parts(text) {
  const counts = text.split(" ").map((part) => {
    const [, symbol, count] = part.match(/^([A-Z][a-z]?)([0-9.]*)$/) ?? [null, part, "1"];
    return [symbol, Number(count || 1)];
  });
  const whole = counts.every(([, count]) => Number.isInteger(count));
  const divisor = whole ? counts.reduce((common, [, count]) => greatestCommon(common, count), 0) || 1 : 1;
  return counts
    .map(([symbol, count]) => [symbol, count / divisor])
    .sort(([one], [other]) => ORDER.indexOf(one) - ORDER.indexOf(other));
}

const greatestCommon = (one, other) => (other ? greatestCommon(other, one % other) : one);

export const plainFormula = (text) =>
  parts(text)
    .map(([symbol, count]) => symbol + (count === 1 ? "" : count))
    .join("");

export const formula = (text) =>
  parts(text).flatMap(([symbol, count]) => (count === 1 ? [symbol] : [symbol, element("sub", {}, String(count))]));

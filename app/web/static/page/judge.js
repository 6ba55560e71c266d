// Judges a prediction at any threshold, from the quantiles that came with it.

/** The probability that a barrier lies below a threshold: linear between its quantiles, flat beyond them. */
export function probabilityBelow(predicted, threshold) {
  const known = Object.entries(predicted.quantiles_ev ?? {})
    .map(([level, energy]) => [Number(level), energy])
    .sort((one, other) => one[0] - other[0]);
  const isAbove = ([, energy]) => energy === null || energy > threshold; // null is above 15 eV
  if (!known.length) return null;
  const above = known.findIndex(isAbove);
  if (above === 0) return known[0][0];
  if (above < 0) return known.at(-1)[0];
  const [[lowLevel, low], [highLevel, high]] = [known[above - 1], known[above]];
  if (high === null) return lowLevel;
  return lowLevel + ((threshold - low) / (high - low)) * (highLevel - lowLevel);
}

/** "good", "poor", or null where there is no barrier. */
export function verdict(barrier, threshold) {
  if (barrier === null || barrier === undefined) return null;
  return barrier < threshold ? "good" : "poor";
}

export const DIMENSIONS = ["1d", "2d", "3d"];

/** The barrier of each dimension, with its interval, bottlenecks and directions. */
export function percolation(answer) {
  return DIMENSIONS.map((name) => ({
    name,
    barrier: answer.percolation_ev[name],
    bondValence: answer.bond_valence?.detail === null ? answer.bond_valence.percolation_ev[name] : undefined,
    second: answer.second_opinion?.answered ? answer.second_opinion.percolation_ev[name] : undefined,
    ...(answer.percolation?.[name] ?? {}),
  }));
}

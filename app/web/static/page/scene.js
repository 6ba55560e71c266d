// Turns a stored prediction into what is drawn: atoms, bonds, the cell, and the paths of each hop. No drawing here.

const SHORTEST_SIDE = 6.5; // angstrom: smaller cells are repeated, so that a network can be seen
const MOST_REPEATS = 3;
const MOST_ATOMS = 500;
const EDGE = 0.015; // of a cell: atoms this near a face are shown on both faces
const ANIONS = new Set(["O", "S", "Se", "Te", "F", "Cl", "Br", "I", "N", "H"]);
const BOND_STRETCH = 1.2; // longest bond, relative to the shortest of its cation

export const toCartesian = (lattice, frac) =>
  [0, 1, 2].map((axis) => frac[0] * lattice[0][axis] + frac[1] * lattice[1][axis] + frac[2] * lattice[2][axis]);

const length = (vector) => Math.hypot(...vector);
const wrapped = (frac) => frac.map((value) => value - Math.floor(value + 1e-6));
const added = (one, other) => one.map((value, axis) => value + other[axis]);

/** Returns {lattice, repeats, atoms: [{element, at, isIon, occupancy, bonds}], paths: Map of hop number to segments}. */
export function sceneOf(answer) {
  const scene = answer.input.sites ? crystalScene(answer, answer.input) : bandScene(answer.input);
  addBonds(scene.atoms);
  return scene;
}

function crystalScene(answer, input) {
  const lattice = input.lattice_angstrom;
  const repeats = repeatsOf(lattice, input.sites.length);
  const host = input.sites
    .map((site) => ({ species: mostOf(site.species, input.ion), frac: wrapped(site.frac_coords) }))
    .filter((site) => site.species !== null)
    .map((site) => ({ element: site.species, frac: site.frac, isIon: false, occupancy: 1 }));
  const sites = answer.sites.map((site) => ({
    element: answer.ion,
    frac: wrapped(site.frac_coords),
    isIon: true,
    occupancy: site.occupancy,
    index: site.index,
  }));
  const atoms = [...host, ...sites].flatMap((atom) =>
    shown(atom.frac, repeats).map((frac) => ({ ...atom, at: toCartesian(lattice, frac) })),
  );
  const paths = new Map(
    answer.hops.map((hop, index) => [
      index + 1,
      segments(hop, answer.sites, repeats).map((ends) => ends.map((end) => toCartesian(lattice, end))),
    ]),
  );
  return { lattice, repeats, atoms, paths };
}

function bandScene(input) {
  const lattice = input.lattice_angstrom;
  const host = input.host_species.map((element, index) => ({
    element,
    isIon: false,
    occupancy: 1,
    at: toCartesian(lattice, wrapped(input.host_frac_coords[index])),
  }));
  const home = input.image_frac_coords[0].map((value) => Math.floor(value + 1e-6));
  const places = input.image_frac_coords.map((frac) =>
    toCartesian(
      lattice,
      frac.map((value, axis) => value - home[axis]),
    ),
  );
  const images = places.map((at, index) => ({
    element: input.ion,
    isIon: true,
    occupancy: index === 0 || index === places.length - 1 ? 1 : 0.4,
    at,
  }));
  const path = places.slice(1).map((at, index) => [places[index], at]);
  return { lattice, repeats: [1, 1, 1], atoms: [...host, ...images], paths: new Map([[1, path]]) };
}

/** Number of repeats of the cell along each of its vectors. */
function repeatsOf(lattice, siteCount) {
  const repeats = lattice.map((vector) =>
    Math.min(MOST_REPEATS, Math.max(1, Math.ceil(SHORTEST_SIDE / length(vector)))),
  );
  while (siteCount * repeats[0] * repeats[1] * repeats[2] > MOST_ATOMS && Math.max(...repeats) > 1) {
    repeats[repeats.indexOf(Math.max(...repeats))] -= 1;
  }
  return repeats;
}

/** The element that fills most of a site; null where only the moving ion is on it, which is drawn by itself. */
function mostOf(species, ion) {
  const others = Object.entries(species).filter(([symbol]) => symbol !== ion);
  return others.length ? others.sort((one, other) => other[1] - one[1])[0][0] : null;
}

/** All copies of a position in the repeated cell, its far faces included. */
function shown(frac, repeats) {
  const along = frac.map((value, axis) => {
    const copies = Array.from({ length: repeats[axis] }, (_, cell) => value + cell);
    if (value < EDGE) copies.push(value + repeats[axis]);
    if (value > 1 - EDGE) copies.push(value - 1);
    return copies;
  });
  return along[0].flatMap((x) => along[1].flatMap((y) => along[2].map((z) => [x, y, z])));
}

/** The ends of all copies of a hop within the repeated cell; the hop itself if there are none. */
function segments(hop, sites, repeats) {
  const own = [[hop.from_site, hop.to_site, ...hop.offset]];
  const coords = sites.map((site) => wrapped(site.frac_coords));
  const homes = sites.map((site, index) =>
    site.frac_coords.map((value, axis) => Math.round(value - coords[index][axis])),
  );
  const found = (hop.copies?.length ? hop.copies : own).flatMap(([from, to, ...offset]) => {
    const shift = offset.map((value, axis) => value + homes[to][axis] - homes[from][axis]);
    return cells(repeats)
      .map((cell) => [added(coords[from], cell), added(added(coords[to], shift), cell)])
      .filter((ends) => ends.every((end) => isInside(end, repeats)));
  });
  if (found.length) return found;
  const [[from, to, ...offset]] = own;
  return [[sites[from].frac_coords, added(sites[to].frac_coords, offset)]];
}

function cells(repeats) {
  const range = (count) => Array.from({ length: count + 3 }, (_, step) => step - 2);
  const [x, y, z] = repeats.map(range);
  return x.flatMap((a) => y.flatMap((b) => z.map((c) => [a, b, c])));
}

const isInside = (frac, repeats) => frac.every((value, axis) => value > -EDGE && value < repeats[axis] + EDGE);

/** Bonds each host cation to the anions around it: those not much farther than the nearest. */
function addBonds(atoms) {
  for (const atom of atoms) atom.bonds = [];
  const anions = atoms
    .map((atom, index) => ({ atom, index }))
    .filter(({ atom }) => !atom.isIon && ANIONS.has(atom.element));
  atoms.forEach((atom, index) => {
    if (atom.isIon || ANIONS.has(atom.element)) return;
    const distances = anions.map((anion) => length(anion.atom.at.map((value, axis) => value - atom.at[axis])));
    const longest = BOND_STRETCH * Math.min(...distances, 3);
    anions.forEach((anion, rank) => {
      if (distances[rank] > longest) return;
      atom.bonds.push(anion.index);
      anion.atom.bonds.push(index);
    });
  });
}

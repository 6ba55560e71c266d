// The content of a file, as far as the page needs it: whether it is a crystal, and which ions may move in it.

/** Usual mobile ions: the migrating elements of the published barriers, the likeliest first. */
const MOBILE = ["Li", "Na", "K", "Rb", "Mg", "Ca", "Zn", "Sr", "Al"];
const CRYSTAL_NAME = /(\.cif|\.vasp|\.poscar)(\.gz|\.xz|\.bz2)?$|^(poscar|contcar|chgcar|locpot|vasprun|outcar)/i;
/** A JSON band, a list of structures, or rows of ASE. */
const BAND_JSON = /^\s*\[|"lattice_angstrom"|"nextid"|"data"\s*:\s*\[/;
const SYMBOL = /[A-Z][a-z]?/g;

export async function isCrystal(file) {
  if (CRYSTAL_NAME.test(file.name)) return true;
  return /\.json$/i.test(file.name) && !BAND_JSON.test(await file.text());
}

/** The ions to suggest for a crystal's text, the likeliest first. */
export function suggestedIons(text) {
  if (text.includes("\0")) return []; // a packed file
  const present = new Set(cifElements(text) ?? poscarElements(text) ?? text.match(/\b[A-Z][a-z]?(?=\d*[+-]?\b)/g));
  return MOBILE.filter((symbol) => present.has(symbol));
}

function cifElements(text) {
  if (!/^data_/m.test(text)) return null;
  const sum = text.match(/^_chemical_formula_sum\s+(?:'([^']*)'|"([^"]*)"|(\S+)|\r?\n;([^;]*);)/m);
  const formula = sum?.slice(1).find((part) => part !== undefined);
  if (formula && /[A-Z]/.test(formula)) return formula.match(SYMBOL);
  const sites = text.slice(Math.max(0, text.indexOf("_atom_site_")));
  return [...sites.matchAll(/^\s*([A-Z][a-z]?)[0-9+\-_A-Za-z]*\s/gm)].map((match) => match[1]);
}

function poscarElements(text) {
  const words = (text.split(/\r?\n/)[5] ?? "").trim().split(/\s+/);
  return words.every((word) => /^[A-Z][a-z]?(_|$)/.test(word)) ? words.map((word) => word.split("_")[0]) : null;
}

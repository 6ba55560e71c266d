// Draws a scene with 3Dmol.js, which is loaded when it is first needed.

import { element } from "./dom.js";
import { quaternion, unit } from "./orientation.js";
import { toCartesian } from "./scene.js";

const SCRIPT = "/static/vendor/3dmol/3Dmol-min.js";
const RADII = { host: 0.3, anion: 0.2, ion: 0.36 };
const STICK_RADIUS = 0.055;
const PATH_RADIUS = 0.15;
const SIDE_PATH_RADIUS = 0.055;
const PICKED_RADIUS = 0.22;
/** The initial orientation, in unit vectors along a, b and c: a points forward, b right, c up. */
const FIRST_VIEW = [1, 0.42, 0.3];
/** The share of the picture that the crystal fills. */
const FILLED = 0.8;
/** Host atoms are paler, so that the paths stand out. */
const VIVID = 0.55;
const GREY = 0x96;
const TURN_DEGREES = 8;
const AXES = ["a", "b", "c"];

let loading = null;

function load() {
  loading ??= new Promise((resolve, reject) => {
    const script = element("script", {
      src: SCRIPT,
      onload: () => resolve(window.$3Dmol),
      onerror: () => reject(new Error("3Dmol.js could not be loaded")),
    });
    document.head.append(script);
  });
  return loading;
}

export function hasWebgl() {
  const canvas = document.createElement("canvas");
  const context = canvas.getContext("webgl2") ?? canvas.getContext("webgl");
  context?.getExtension("WEBGL_lose_context")?.loseContext();
  return context !== null;
}

let opened = null;

/** Shows a scene in an element; throws if WebGL or the library fails. One viewer serves all: a browser has few. */
export async function openPicture(place, scene) {
  if (opened === null) {
    if (!hasWebgl()) throw new Error("no WebGL");
    const library = await load();
    const host = element("div", { class: "canvas" });
    place.replaceChildren(host);
    const viewer = library.createViewer(host, { backgroundColor: paper(), antialias: true });
    if (!viewer) throw new Error("no WebGL");
    opened = new Picture(library, viewer, host);
  }
  place.replaceChildren(opened.host);
  opened.setScene(scene);
  return opened;
}

const themed = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const paper = () => themed("--card");
const point = ([x, y, z]) => ({ x, y, z });

class Picture {
  #library;
  #viewer;
  #scene = null;
  #cell = null;
  #paths = [];
  #drawn = [];
  #picked = null;
  #showAtoms = true;
  onPick = () => {};

  constructor(library, viewer, host) {
    this.#library = library;
    this.#viewer = viewer;
    this.host = host;
    viewer.setProjection("orthographic");
    this.#listen(host);
  }

  setScene(scene) {
    this.#viewer.clear();
    this.onPick = () => {};
    this.#scene = scene;
    this.#paths = [];
    this.#drawn = [];
    this.#picked = null;
    this.#showAtoms = true;
    this.recolour();
    this.#viewer.resize();
    this.reset();
  }

  /** Draws paths [{number, kind: "good" | "poor" | "aside", isMain}]: side ones thin, those aside only where picked. */
  show(paths, picked) {
    this.#paths = paths;
    this.#picked = picked;
    this.#drawPaths();
  }

  showAtoms(wanted) {
    this.#showAtoms = wanted;
    this.#styleAtoms();
    this.#viewer.render();
  }

  /** Redraws everything in the colours of the theme. */
  recolour() {
    this.#viewer.setBackgroundColor(paper(), 1);
    this.#viewer.removeAllModels();
    this.#drawAtoms();
    this.#drawCell();
    this.#drawPaths();
  }

  reset() {
    const units = this.#scene.lattice.map(unit);
    this.#look(
      [0, 1, 2].map((k) => units.reduce((sum, vector, axis) => sum + FIRST_VIEW[axis] * vector[k], 0)),
      units[2],
    );
  }

  /** Looks along one of the lattice vectors. */
  lookAlong(axis) {
    const lattice = this.#scene.lattice;
    this.#look(lattice[AXES.indexOf(axis)], lattice[axis === "c" ? 1 : 2]);
  }

  #look(towards, up) {
    this.#viewer.setView([0, 0, 0, 0, ...quaternion(towards, up)]);
    this.#viewer.zoomTo();
    this.#viewer.zoom(this.#room());
    this.#viewer.render();
  }

  /** The factor by which the crystal can grow until it fills the picture. */
  #room() {
    const places = this.#viewer.modelToScreen(this.#scene.atoms.map((atom) => point(atom.at)));
    const extent = (axis) =>
      Math.max(...places.map((place) => place[axis])) - Math.min(...places.map((place) => place[axis]));
    const { clientWidth, clientHeight } = this.host;
    return FILLED * Math.min(clientWidth / Math.max(extent("x"), 1), clientHeight / Math.max(extent("y"), 1));
  }

  picture() {
    return this.#viewer.pngURI();
  }

  resize() {
    this.#viewer.resize();
  }

  /** The visible elements and their colours, the ion first. */
  legend() {
    const found = new Map();
    for (const atom of this.#scene.atoms) {
      const name = atom.isIon ? `${atom.element} (migrating)` : atom.element;
      if (!found.has(name)) found.set(name, { name, isIon: atom.isIon, colour: this.#colour(atom) });
    }
    return [...found.values()].sort((one, other) => Number(other.isIon) - Number(one.isIon));
  }

  #colour(atom) {
    if (atom.isIon) return themed("--ion");
    const vivid = this.#library.elementColors.Jmol[atom.element] ?? 0x909090;
    const mixed = [16, 8, 0].map((shift) => Math.round(VIVID * ((vivid >> shift) & 0xff) + (1 - VIVID) * GREY));
    return `#${mixed.map((part) => part.toString(16).padStart(2, "0")).join("")}`;
  }

  #drawAtoms() {
    const atoms = this.#scene.atoms.map((atom, serial) => ({
      elem: atom.element,
      ...point(atom.at),
      serial,
      bonds: atom.bonds,
      bondOrder: atom.bonds.map(() => 1),
      properties: { ion: atom.isIon ? 1 : 0 },
    }));
    this.#viewer.addModel().addAtoms(atoms);
    this.#styleAtoms();
  }

  #styleAtoms() {
    this.#scene.atoms.forEach((atom, serial) => {
      const color = this.#colour(atom);
      const radius = atom.isIon ? RADII.ion : atom.bonds.length && isAnion(atom) ? RADII.anion : RADII.host;
      const sphere = { color, radius, opacity: atom.isIon ? Math.max(0.35, Math.min(1, atom.occupancy)) : 1 };
      const style = atom.isIon ? { sphere } : { sphere, stick: { color, radius: STICK_RADIUS } };
      this.#viewer.setStyle({ serial }, atom.isIon || this.#showAtoms ? style : {});
    });
  }

  #drawCell() {
    const { lattice, repeats } = this.#scene;
    this.#viewer.removeAllLabels();
    if (this.#cell) this.#viewer.removeShape(this.#cell);
    const box = this.#viewer.addShape({ color: themed("--cell") });
    const corner = (x, y, z) => point(toCartesian(lattice, [x * repeats[0], y * repeats[1], z * repeats[2]]));
    for (const [s, t] of [
      [0, 0],
      [0, 1],
      [1, 0],
      [1, 1],
    ]) {
      for (const ends of [
        [
          [0, s, t],
          [1, s, t],
        ],
        [
          [s, 0, t],
          [s, 1, t],
        ],
        [
          [s, t, 0],
          [s, t, 1],
        ],
      ]) {
        box.addCylinder({ start: corner(...ends[0]), end: corner(...ends[1]), radius: 0.025, fromCap: 1, toCap: 1 });
      }
    }
    this.#cell = box;
    AXES.forEach((name, axis) => {
      const at = [0, 1, 2].map((other) => (other === axis ? repeats[axis] : 0));
      const beyond = toCartesian(lattice, at).map(
        (value, k) => value + (0.9 * lattice[axis][k]) / Math.hypot(...lattice[axis]),
      );
      this.#viewer.addLabel(name, {
        position: point(beyond),
        fontSize: 14,
        fontColor: themed("--soft"),
        showBackground: false,
        alignment: "center",
        inFront: true,
      });
    });
  }

  #drawPaths() {
    for (const shape of this.#drawn) this.#viewer.removeShape(shape);
    this.#drawn = this.#paths
      .filter(({ number, kind }) => kind !== "aside" || number === this.#picked)
      .map(({ number, kind, isMain }) => {
        const isPicked = number === this.#picked;
        const dimmed = this.#picked !== null && !isPicked;
        const shape = this.#viewer.addShape({
          color: themed(`--path-${isPicked ? "picked" : kind}`),
          alpha: dimmed ? 0.35 : 1,
          clickable: true,
          callback: () => this.onPick(number),
        });
        const radius = isPicked ? PICKED_RADIUS : isMain ? PATH_RADIUS : SIDE_PATH_RADIUS;
        for (const [start, end] of this.#scene.paths.get(number) ?? []) {
          shape.addCylinder({ start: point(start), end: point(end), radius, fromCap: 2, toCap: 2 });
        }
        return shape;
      });
    this.#viewer.render();
  }

  /** Arrow keys turn, + and - zoom; the wheel zooms if the picture has the focus, and scrolls the page otherwise. */
  #listen(host) {
    Object.assign(host, { tabIndex: 0, ariaLabel: "Crystal. Arrow keys turn it, plus and minus zoom." });
    host.setAttribute("role", "application");
    host.addEventListener("wheel", (event) => document.activeElement !== host && event.stopPropagation(), true);
    host.addEventListener("pointerdown", () => host.focus({ preventScroll: true }));
    host.addEventListener("keydown", (event) => {
      const turns = { ArrowLeft: ["y", -1], ArrowRight: ["y", 1], ArrowUp: ["x", -1], ArrowDown: ["x", 1] };
      const zooms = { "+": 1.15, "=": 1.15, "-": 1 / 1.15 };
      if (event.key in turns) this.#viewer.rotate(TURN_DEGREES * turns[event.key][1], turns[event.key][0]);
      else if (event.key in zooms) this.#viewer.zoom(zooms[event.key]);
      else return;
      event.preventDefault();
      this.#viewer.render();
    });
  }
}

const isAnion = (atom) => ["O", "S", "Se", "Te", "F", "Cl", "Br", "I", "N"].includes(atom.element);

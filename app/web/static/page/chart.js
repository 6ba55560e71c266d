// The barriers as a chart: one dot per hop, its interval as a bar, the threshold as a line, on one axis in eV.

import { drawing, figure, top } from "./dom.js";
import { verdict } from "./judge.js";

const WIDTH = 360;
const LEFT = 30;
const RIGHT = 14;
const TOP = 22;
const BOTTOM = 34;
const ROW = 20;
const ROOM = 1.06;
const MARK_ROOM = 20; // nearer names would overlap

/** Draws rows [{number, barrier, low, high}], with marks [{name, barrier}] above them. */
export function chart({ rows, marks, threshold, picked, coverage, onPick }) {
  const most = ROOM * Math.max(threshold * 1.15, ...rows.map((row) => row.high ?? row.barrier));
  const place = (energy) => LEFT + (Math.max(energy, 0) / most) * (WIDTH - LEFT - RIGHT);
  const bottom = TOP + rows.length * ROW + 4;
  const words =
    `Barriers of ${rows.length} hops in eV, each with the interval that covers ${Math.round(100 * coverage)} %: ` +
    rows.map((row) => `${row.number}: ${figure(row.barrier)} (${figure(row.low)} to ${top(row.high)})`).join("; ");
  const picture = drawing("svg", {
    class: "chart",
    viewBox: `0 0 ${WIDTH} ${bottom + BOTTOM}`,
    role: "img",
    "aria-label": words,
  });
  for (const energy of ticks(most)) {
    picture.append(
      drawing("line", { class: "grid", x1: place(energy), x2: place(energy), y1: TOP - 4, y2: bottom }),
      drawing("text", { class: "tick", x: place(energy), y: bottom + 14 }, energy.toFixed(most > 4 ? 0 : 1)),
    );
  }
  picture.append(drawing("text", { class: "tick", x: (LEFT + WIDTH) / 2, y: bottom + 29 }, "barrier, eV"));
  for (const { name, barrier } of grouped(marks, place)) {
    picture.append(
      drawing("line", { class: "mark", x1: place(barrier), x2: place(barrier), y1: TOP - 8, y2: bottom }),
      drawing("text", { class: "mark-name", x: place(barrier), y: TOP - 11 }, name),
    );
  }
  picture.append(
    drawing("line", { class: "threshold", x1: place(threshold), x2: place(threshold), y1: TOP - 4, y2: bottom }),
  );
  rows.forEach((row, index) =>
    picture.append(oneRow(row, TOP + (index + 0.5) * ROW, { place, threshold, picked, onPick })),
  );
  return picture;
}

function oneRow(row, y, { place, threshold, picked, onPick }) {
  const kind = verdict(row.barrier, threshold);
  const state = picked === null ? "" : row.number === picked ? " picked" : " dimmed";
  return drawing(
    "g",
    { class: `hop ${kind}${state}`, onclick: () => onPick(row.number) },
    drawing("rect", { class: "target", x: 0, y: y - ROW / 2, width: WIDTH, height: ROW }),
    drawing("text", { class: "number", x: LEFT - 10, y: y + 4 }, String(row.number)),
    drawing("rect", {
      class: "interval",
      x: place(row.low),
      width: Math.max(1, (row.high === null ? WIDTH : place(row.high)) - place(row.low)),
      y: y - 3,
      height: 6,
      rx: 3,
    }),
    drawing("circle", { class: "barrier", cx: place(row.barrier), cy: y, r: 4.5 }),
  );
}

function ticks(most) {
  const step = [0.1, 0.2, 0.5, 1, 2, 5].find((size) => most / size <= 6) ?? 10;
  return Array.from({ length: Math.floor(most / step) + 1 }, (_, index) => index * step);
}

/** Joins the names of marks that would overlap. */
function grouped(marks, place) {
  const groups = [];
  for (const mark of marks.filter(({ barrier }) => barrier !== null)) {
    const same = groups.find((group) => Math.abs(place(group.barrier) - place(mark.barrier)) < MARK_ROOM);
    if (same) same.name += ` ${mark.name}`;
    else groups.push({ ...mark });
  }
  return groups;
}

// Builds elements: text is always inserted as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";

export const find = (id) => document.getElementById(id);

export function element(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

export function drawing(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

function fill(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value === true) node.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(key, value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

export const figure = (value, digits = 2) => (value === null || value === undefined ? "–" : value.toFixed(digits));

/** The top of an interval; null is one that is no figure. */
export const top = (value) => (value === null ? "unbounded (above 15)" : figure(value));

/** A sentence of the service; text in backticks is shown as code. */
export function sentence(text) {
  return text.split("`").map((part, index) => (index % 2 ? element("code", {}, part) : part));
}

/** Lattice directions and offsets with minus signs as wide as digits. */
export const steps = (vector) => vector.map((step) => String(step).replace("-", "−")).join(" ");

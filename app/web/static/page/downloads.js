// Downloads of an answer: files, the picture, a link.

import { element } from "./dom.js";
import { download, save } from "./service.js";

/** Builds the panel; `pictureOf` returns the picture as a data URL or nothing, `onError` is called if a download fails. */
export function downloads(answer, { pictureOf, onError }) {
  const path = `/predictions/${encodeURIComponent(answer.prediction_id)}`;
  const give = (name, form) =>
    element("button", { type: "button", onclick: () => download(`${path}?format=${form}`).catch(onError) }, name);
  return element(
    "section",
    { class: "panel downloads", "aria-labelledby": "downloads-title" },
    element("h2", { id: "downloads-title" }, "Downloads"),
    element(
      "div",
      { class: "buttons" },
      give(answer.hops ? "Table (CSV)" : "Row (CSV)", "csv"),
      give("NEB folders (zip of POSCARs)", "zip"),
      give("NEB frames (JSON for ASE)", "neb-json"),
      give("Everything (JSON)", "json"),
      element("button", { type: "button", onclick: () => savePicture(answer, pictureOf()) }, "Picture (PNG)"),
      copyButton(answer),
    ),
    element(
      "p",
      { class: "hint" },
      element("a", { href: linkTo(answer), id: "permalink" }, "This link"),
      " opens the result again. ",
      facts(answer).join(" · "),
    ),
  );
}

const linkTo = (answer) => `/#prediction=${answer.prediction_id}`;

function copyButton(answer) {
  const copy = element("button", { type: "button", id: "copy-link" }, "Copy link");
  copy.addEventListener("click", async () => {
    await navigator.clipboard.writeText(new URL(linkTo(answer), location.href).href);
    copy.textContent = "Link copied";
  });
  // without https there is no clipboard, except on the loopback address
  copy.hidden = !navigator.clipboard;
  return copy;
}

function savePicture(answer, url) {
  if (!url) return;
  const bytes = Uint8Array.from(atob(url.split(",")[1]), (letter) => letter.charCodeAt(0));
  save(new Blob([bytes], { type: "image/png" }), `ionpath-${answer.prediction_id}.png`);
}

function facts(answer) {
  return [
    `${answer.model.name} ${answer.model.version} (${answer.model.digest.slice(0, 8)})`,
    answer.mechanism && `${answer.mechanism} mechanism`,
    answer.cached && "from the cache",
    new Date(answer.created_at).toLocaleString(),
  ].filter(Boolean);
}

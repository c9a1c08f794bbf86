// The atlas's own script: the order of the heat map, and colours, filters and thumbnails of the 2-D view. It only
// hides, shows and marks what the page already holds; text goes in as text.
"use strict";

const all = (root, selector) => [...root.querySelectorAll(selector)];
const show = (element, visible) => element.toggleAttribute("hidden", !visible);
const words = (name) => name.replaceAll("_", " ");

// Heat map: one order at a time, and what the square under the pointer says.
function makeMaps(tools) {
  const told = tools.querySelector("output");
  const maps = all(document, ".map");

  function apply() {
    const order = tools.querySelector("[name=order]:checked").value;
    maps.forEach((map) => show(map, map.dataset.order === order));
  }

  for (const map of maps) {
    map.addEventListener("pointerover", (event) => {
      const title = event.target.closest("rect, .tree g")?.querySelector("title");
      if (title) told.textContent = title.textContent;
    });
  }
  tools.addEventListener("input", apply);
  show(tools, true);
  apply();
}

// 2-D view: points take the colour of their category, task or dataset; the key says which is which.
function makePicture(tools) {
  const plane = document.querySelector("#plane");
  const points = all(plane, "path");
  const keys = document.querySelector(".keys");
  const own = [...keys.childNodes];
  const names = (kind) => [...new Set(points.map((point) => point.dataset[kind]))].sort();
  // Hues a golden angle apart, in three lightnesses: neighbours in the list differ.
  const paint = (place) => `hsl(${Math.round((place * 137.508) % 360)} 72% ${[40, 55, 32][place % 3]}%)`;

  function key(name, colour) {
    const item = document.createElement("span");
    const dot = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const circle = document.createElementNS("http://www.w3.org/2000/svg", "circle");
    for (const [attribute, value] of Object.entries({ width: 12, height: 12, class: "mark" })) dot.setAttribute(attribute, value);
    for (const [attribute, value] of Object.entries({ cx: 6, cy: 6, r: 5 })) circle.setAttribute(attribute, value);
    circle.style.fill = colour;
    dot.append(circle);
    item.append(dot, words(name));
    return item;
  }

  function apply() {
    const kind = tools.querySelector("[name=colour]:checked").value;
    const colours = new Map(names(kind).map((name, place) => [name, paint(place)]));
    const kept = new Set(all(tools, "[name=category]").filter((box) => box.checked).map((box) => box.value));
    const only = ["task", "dataset", "modality"].map((name) => [name, tools.querySelector(`[name=${name}]`).value]);
    let shown = 0;
    for (const point of points) {
      const fits = kept.has(point.dataset.category) && only.every(([name, value]) => ["", point.dataset[name]].includes(value));
      point.style.display = fits ? "" : "none";
      point.style.fill = kind === "category" ? "" : colours.get(point.dataset[kind]);
      shown += fits ? 1 : 0;
    }
    keys.replaceChildren(...(kind === "category" ? own : [...colours].map(([name, colour]) => key(name, colour))));
    tools.querySelector("output").textContent = `${shown} of ${points.length} points`;
  }

  tools.addEventListener("input", apply);
  show(tools, true);
  apply();
}

// The instance under the pointer: its pair of images, cut out of the one sheet, and what it is.
function makeCard(stage) {
  const card = stage.querySelector(".card");
  const canvas = card.querySelector("canvas");
  const sheet = document.querySelector("#sheet");
  let pointed;

  function draw(tile) {
    const thumb = Number(sheet.dataset.thumb);
    const columns = Number(sheet.dataset.columns);
    const from = [(tile % columns) * 2 * thumb, Math.floor(tile / columns) * thumb];
    canvas.getContext("2d").drawImage(sheet, ...from, 2 * thumb, thumb, 0, 0, canvas.width, canvas.height);
  }

  function leave() {
    pointed?.classList.remove("pointed");
    pointed = undefined;
    show(card, false);
  }

  stage.addEventListener("pointerover", (event) => {
    const point = event.target.closest("[data-tile]");
    leave();
    if (!point) return;
    pointed = point;
    point.classList.add("pointed");
    const { task, category, dataset, modality, image, tile } = point.dataset;
    card.querySelector("b").textContent = words(task);
    card.querySelector("span").textContent = `${category}; ${dataset} (${modality}), ${image}`;
    show(canvas, Boolean(sheet) && Number(tile) >= 0);
    if (!canvas.hidden) draw(Number(tile));
    show(card, true);
    const frame = stage.getBoundingClientRect();
    const at = point.getBoundingClientRect();
    const left = at.right - frame.left + 8;
    card.style.left = `${Math.max(0, left + card.offsetWidth > frame.width ? at.left - frame.left - card.offsetWidth - 8 : left)}px`;
    card.style.top = `${Math.max(0, Math.min(at.top - frame.top, frame.height - card.offsetHeight))}px`;
  });
  stage.addEventListener("pointerleave", leave);
}

all(document, "[data-tool=order]").forEach(makeMaps);
all(document, "[data-tool=picture]").forEach(makePicture);
all(document, ".stage").forEach(makeCard);

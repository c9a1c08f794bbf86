// The gallery's own script: filters, and which boxes belong to which entries. It only hides, shows and marks what
// the page already holds, so that no text is ever turned into markup.
"use strict";

const all = (root, selector) => [...root.querySelectorAll(selector)];
const show = (element, visible) => element.toggleAttribute("hidden", !visible);
const cards = all(document, ".card");
const numbers = (item) => item.dataset.boxes.split(" ").filter(Boolean);

// A card marks the boxes that are pointed at, or else those of the entries that are pinned, and their entries.
function makeCard(card) {
  const items = all(card, "li");
  let pinned = new Set();

  function mark(pointed) {
    const chosen = pointed ?? new Set(items.filter((item) => pinned.has(item)).flatMap(numbers));
    card.classList.toggle("pointed", chosen.size > 0);
    all(card, "g.box").forEach((box) => box.classList.toggle("strong", chosen.has(box.dataset.box)));
    items.forEach((item) => {
      item.classList.toggle("strong", pointed !== undefined && numbers(item).some((number) => chosen.has(number)));
      item.classList.toggle("pinned", pinned.has(item));
      all(item, ".at").forEach((at) => at.setAttribute("aria-pressed", String(pinned.has(item))));
    });
  }

  // Several entries speak of one box: a click on the box pins them all, a second one frees them.
  function toggle(some) {
    const on = !some.every((item) => pinned.has(item));
    some.forEach((item) => (on ? pinned.add(item) : pinned.delete(item)));
    mark();
  }

  function point(element, chosen) {
    element.addEventListener("pointerenter", () => mark(new Set(chosen)));
    element.addEventListener("pointerleave", () => mark());
  }

  for (const item of items) {
    const own = numbers(item);
    if (!own.length) continue;
    point(item, own);
    item.addEventListener("click", () => toggle([item]));
    for (const at of all(item, ".at")) {
      at.addEventListener("focus", () => mark(new Set([at.dataset.box])));
      at.addEventListener("blur", () => mark());
    }
  }
  for (const box of all(card, "g.box")) {
    point(box, [box.dataset.box]);
    box.addEventListener("click", () => toggle(items.filter((item) => numbers(item).includes(box.dataset.box))));
  }
  card.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    pinned = new Set();
    mark();
  });
}

// Filters: entries by task, text and boxes; images by split and source, and gone when no entry of theirs is left.
function makeFilters(tools) {
  const control = (name) => tools.querySelector(`[name=${name}]`);
  const texts = new Map(all(document, ".card li").map((item) => [item, `${item.textContent} ${item.dataset.id}`.toLowerCase()]));
  const names = new Map(cards.map((card) => [card, card.querySelector(".head").textContent.toLowerCase()]));

  function apply() {
    const tasks = new Set(all(tools, "[name=task]").filter((box) => box.checked).map((box) => box.value));
    const text = control("text").value.trim().toLowerCase();
    let images = 0;
    let entries = 0;
    for (const card of cards) {
      const here = ["split", "source"].every((name) => ["", card.dataset[name]].includes(control(name).value));
      const named = names.get(card).includes(text);
      let left = 0;
      for (const item of all(card, "li")) {
        const fits = tasks.has(item.dataset.task) && (named || texts.get(item).includes(text)) && (!control("boxed").checked || item.dataset.boxes);
        show(item, fits);
        left += fits ? 1 : 0;
      }
      const used = new Set(all(card, "li:not([hidden])").flatMap(numbers));
      all(card, "g.box").forEach((box) => show(box, used.has(box.dataset.box)));
      show(card, here && left > 0);
      images += here && left > 0 ? 1 : 0;
      entries += here ? left : 0;
    }
    const holder = document.querySelector(".cards");
    holder.className = `cards ${control("size").value}`;
    holder.classList.toggle("no-boxes", !control("draw").checked);
    show(document.querySelector(".empty"), images === 0);
    tools.querySelector("output").textContent = `${images} of ${cards.length} images, ${entries} of ${texts.size} entries`;
  }

  tools.addEventListener("input", apply);
  for (const button of all(tools, "[data-all]")) {
    button.addEventListener("click", () => {
      all(tools, "[name=task]").forEach((box) => (box.checked = button.dataset.all === "true"));
      apply();
    });
  }
  show(tools, true);
  apply();
}

cards.forEach(makeCard);
makeFilters(document.querySelector(".tools"));

// The leaderboard's own script: sorting, filters, choice of a reference, browsing of examples. It only hides,
// shows and reorders what the page already holds, so that no text is ever turned into markup.
"use strict";

const all = (root, selector) => [...root.querySelectorAll(selector)];
// `hidden` as an attribute works on SVG elements too.
const show = (element, visible) => element.toggleAttribute("hidden", !visible);

// Tables: a click or a key on a column's head sorts by it, again the other way round; empty cells stay last.
function makeSortable(table) {
  const heads = all(table.tHead, "th");
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const text = head.dataset.sort === "text";
      const before = head.getAttribute("aria-sort");
      const order = before ? (before === "ascending" ? "descending" : "ascending") : text ? "ascending" : "descending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", order);
      sortRows(table.tBodies[0], column, text, order === "ascending" ? 1 : -1);
    });
  });
}

function sortRows(body, column, text, sign) {
  const keyed = [...body.rows].map((row) => {
    const value = row.cells[column]?.dataset.value ?? "";
    return { row, key: text ? value : Number(value), empty: value === "" || (!text && Number.isNaN(Number(value))) };
  });
  const compare = text ? (a, b) => a.localeCompare(b, "en", { numeric: true }) : (a, b) => a - b;
  keyed.sort((a, b) => a.empty - b.empty || (a.empty ? 0 : sign * compare(a.key, b.key)));
  body.append(...keyed.map(({ row }) => row));
}

// Filters of a section: tasks by their boxes; runs by name, recipe and model, as the ranking's rows give them.
function makeFilters(board) {
  const tools = board.querySelector(".tools");
  const rows = all(board, ".ranking tbody tr");
  const control = (name) => tools.querySelector(`[name=${name}]`);
  const status = tools.querySelector("output");

  function apply() {
    const tasks = new Set(all(tools, "[name=task]").filter((box) => box.checked).map((box) => box.value));
    all(board, "[data-task]").forEach((element) => show(element, tasks.has(element.dataset.task)));
    const part = (control("name")?.value ?? "").trim().toLowerCase();
    const exact = (row, field) => ["", undefined, row.dataset[field]].includes(control(field)?.value);
    const chosen = rows.filter(
      (row) => row.dataset.name.toLowerCase().includes(part) && exact(row, "recipe") && exact(row, "model"),
    );
    const runs = new Set(chosen.map((row) => row.dataset.run));
    all(board, "[data-run]").forEach((element) => show(element, runs.has(element.dataset.run)));
    for (const name of ["intervals", "deltas"]) board.classList.toggle(`no-${name}`, control(name)?.checked === false);
    status.textContent = `${runs.size} of ${rows.length} runs, ${tasks.size} of ${all(tools, "[name=task]").length} tasks`;
  }

  tools.addEventListener("input", apply);
  show(tools, true);
  apply();
}

// The reference: every pair that can be chosen is in the page, one reference is shown at a time.
function makeReference(board) {
  const select = board.querySelector("[name=reference]");
  if (!select) return;
  function apply() {
    all(board, "[data-against]").forEach((element) => show(element, element.dataset.against === select.value));
    all(board, "[data-reference]").forEach((element) => show(element, element.dataset.reference === select.value));
    all(board, ".reference-name").forEach((name) => (name.textContent = select.selectedOptions[0].textContent));
  }
  select.addEventListener("input", apply);
  apply();
}

// Marks of a card hold a letter a run: r right, w wrong, u unread, - no answer.
function matches(marks, wanted, run) {
  if (!wanted) return true;
  const given = [...marks].filter((mark) => mark !== "-");
  if (wanted === "d") {
    const mine = run === "" ? given : [marks[Number(run)]];
    const right = (mark) => mark === "r";
    return given.some(right) && !given.every(right) && mine.every((mark) => mark !== "-");
  }
  if (run !== "") return marks[Number(run)] === wanted;
  if (wanted === "u") return given.includes("u");
  if (wanted === "w") return given.every((mark) => mark !== "r");
  return given.every((mark) => mark === wanted);
}

function makeSheets(board) {
  const tools = board.querySelector(".sift");
  if (!tools) return;
  const control = (name) => tools.querySelector(`[name=${name}]`);

  function apply() {
    const text = control("text").value.trim().toLowerCase();
    for (const sheet of all(board, ".sheet")) {
      const cards = all(sheet, ".card");
      cards.forEach((card) => {
        const fits = matches(card.dataset.marks, control("marks").value, control("of").value);
        show(card, fits && (!text || card.textContent.toLowerCase().includes(text)));
      });
      const visible = cards.filter((card) => !card.hidden).length;
      sheet.querySelector(".count").textContent = visible === cards.length ? visible : `${visible} of ${cards.length} shown,`;
      sheet.querySelector(".cards").scrollLeft = 0;
    }
  }

  tools.addEventListener("input", apply);
  for (const sheet of all(board, ".sheet")) {
    const strip = sheet.querySelector(".cards");
    const pager = sheet.querySelector(".pager");
    show(pager, true);
    pager.addEventListener("click", (event) => {
      const step = Number(event.target.dataset.step ?? 0);
      strip.scrollBy({ left: step * Math.max(316, strip.clientWidth - 316), behavior: "smooth" });
    });
  }
  // A run that is pointed at lets the predicted boxes of the others fade.
  for (const answer of all(board, ".answer")) {
    const card = answer.closest(".card");
    const runs = new Set(all(answer, "[data-run]").map((name) => name.dataset.run));
    const point = (on) => {
      card.classList.toggle("faint", on);
      all(card, ".box[data-run]").forEach((box) => box.classList.toggle("strong", on && runs.has(box.dataset.run)));
    };
    answer.addEventListener("pointerenter", () => point(true));
    answer.addEventListener("pointerleave", () => point(false));
  }
  show(tools, true);
  apply();
}

for (const board of document.querySelectorAll("section.board")) {
  all(board, "table.sortable").forEach(makeSortable);
  makeFilters(board);
  makeReference(board);
  makeSheets(board);
}

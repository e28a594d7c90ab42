"use strict";
// Sorting, searching, copying, ages, and newer pages. The page is complete without this script.
const MINUTE = 60000, STALE = 60 * MINUTE, LOOK = 3 * MINUTE;

// The sort key of a cell: a number if possible, else text; empty and missing cells come last.
function key(row, column) {
  const text = row.cells[column]?.textContent.trim() ?? "";
  const number = Number(text.replaceAll(",", "").split("/")[0]);
  return text === "" ? null : Number.isNaN(number) ? text : number;
}

function compare(one, other, down) {
  if (one === null || other === null) return (one === null) - (other === null);
  const order = typeof one === "number" && typeof other === "number" ? one - other : String(one) < String(other) ? -1 : 1;
  return one === other ? 0 : down ? -order : order;
}

function board(table) {
  const body = table.tBodies[0], rows = [...body.rows], heads = [...table.tHead.rows[0].cells];
  const find = document.getElementById("find"), which = document.getElementById("which");
  const order = document.getElementById("order"), counted = document.getElementById("count");
  const texts = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));

  function sort(column, down) {
    heads.forEach((head) => head.removeAttribute("aria-sort"));
    let sorted = rows;
    if (column !== null) {
      const keys = new Map(rows.map((row) => [row, key(row, column)]));
      sorted = rows.toSorted((one, other) => compare(keys.get(one), keys.get(other), down));
      heads[column].setAttribute("aria-sort", down ? "descending" : "ascending");
    }
    body.append(...sorted);
    order.value = column === null ? "" : column;
  }

  function filter() {
    const words = find.value.toLowerCase().split(/\s+/);
    let left = 0;
    for (const row of rows) {
      const kind = row.className || "g";
      row.hidden = !((!which.value || which.value === kind) && words.every((word) => texts.get(row).includes(word)));
      if (!row.hidden) left += 1;
    }
    counted.textContent = left === rows.length ? `${left} downlinks` : `${left} of ${rows.length} downlinks`;
  }

  order.add(new Option("by urgency", ""));
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    order.add(new Option(button.textContent, column));
    // First click: sorted; second: reversed; third: the first order.
    button.addEventListener("click", () => {
      const now = head.getAttribute("aria-sort"), first = column ? "descending" : "ascending";
      if (!now) sort(column, first === "descending");
      else if (now === first) sort(column, first !== "descending");
      else sort(null);
    });
  });
  order.addEventListener("change", () => (order.value === "" ? sort(null) : sort(Number(order.value), order.value !== "0")));
  find.addEventListener("input", filter);
  which.addEventListener("change", filter);
  document.getElementById("tools").addEventListener("submit", (event) => event.preventDefault());
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && !/INPUT|SELECT/.test(document.activeElement.tagName)) {
      event.preventDefault();
      find.focus();
    }
  });
  document.getElementById("tools").hidden = false;
  filter();
  table.restore = (words, kind, column, down) => {
    [find.value, which.value] = [words, kind];
    filter();
    if (column !== "") sort(Number(column), down);
  };
}

function copyable(code) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "copy";
  button.textContent = "copy";
  button.setAttribute("aria-label", `copy: ${code.textContent}`);
  button.addEventListener("click", async () => {
    getSelection().selectAllChildren(code);
    // Pages without TLS have no navigator.clipboard.
    if (navigator.clipboard) await navigator.clipboard.writeText(code.textContent).catch(() => document.execCommand("copy"));
    else document.execCommand("copy");
    button.textContent = "copied";
    setTimeout(() => (button.textContent = "copy"), 2000);
  });
  code.classList.add("with");
  code.after(button);
}

function age(milliseconds) {
  const minutes = Math.max(0, Math.round(milliseconds / MINUTE));
  return minutes < 120 ? `${minutes} min` : minutes < 2880 ? `${Math.round(minutes / 60)} h` : `${Math.round(minutes / 1440)} d`;
}

function ages() {
  for (const time of document.querySelectorAll("time")) {
    time.dataset.text ??= time.textContent;
    time.textContent = `${time.dataset.text}, ${age(Date.now() - Date.parse(time.dateTime))} ago`;
  }
  document.getElementById("stale").hidden = Date.now() - Date.parse(document.getElementById("read").dateTime) < STALE;
  if (Date.now() - looked >= LOOK) look();
}

// Loads the page again if there is a newer one. Scripts cannot read files, so a page in a file is always loaded again.
let looked = Date.now();
async function look() {
  looked = Date.now();
  if (location.protocol === "file:") return location.reload();
  const answer = await fetch(location.pathname, {method: "HEAD", cache: "no-store"}).catch(() => null);
  document.getElementById("lost").hidden = answer?.ok ?? false;
  if (answer?.ok && Date.parse(answer.headers.get("Last-Modified")) > Date.parse(document.lastModified)) location.reload();
}

// What a reader has entered, chosen, sorted and opened stays when the page is loaded again; browsers keep the scroll.
const kept = `kept ${location.pathname}`;
function keep() {
  const values = ["find", "which", "order"].map((id) => document.getElementById(id)?.value);
  const opened = [...document.querySelectorAll("details")].map((each) => each.open);
  const down = document.querySelector("[aria-sort=descending]") !== null;
  sessionStorage.setItem(kept, JSON.stringify({values, opened, down, focus: document.activeElement.id}));
}
function restore({values: [find, which, order], opened, down, focus}) {
  document.querySelectorAll("details").forEach((each, place) => (each.open = opened[place] ?? false));
  if (table) table.restore(find, which, order, down);
  document.getElementById(focus)?.focus({preventScroll: true});
}

// On narrow screens, each cell shows its heading.
for (const each of document.querySelectorAll("table")) {
  const heads = [...each.tHead.rows[0].cells].map((head) => head.textContent);
  for (const row of each.tBodies[0].rows)
    [...row.cells].forEach((cell, column) => {
      if (cell.children.length || cell.textContent.trim()) cell.dataset.head = heads[column];
    });
}
document.querySelector("figure .wide")?.scrollTo(1e6, 0); // to the latest days
const table = document.getElementById("board");
if (table) board(table);
document.querySelectorAll("td code, .causes code, .command code").forEach(copyable);
ages();
setInterval(ages, MINUTE / 2);
addEventListener("pagehide", keep);
const isAgain = performance.getEntriesByType("navigation")[0].type !== "navigate";
if (isAgain && sessionStorage.getItem(kept)) restore(JSON.parse(sessionStorage.getItem(kept)));

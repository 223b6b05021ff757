"use strict";
// The page is whole without this: it adds a filter to the table, and leads from a cell to its row.
const filter = document.querySelector(".filter");
const rows = [...document.querySelectorAll("tbody tr")];

function show() {
  const words = filter.elements.words.value.trim().toLowerCase();
  const status = filter.elements.status.value;
  let shown = 0;
  for (const row of rows) {
    const fits = (!status || row.classList.contains(status)) && row.textContent.toLowerCase().includes(words);
    row.hidden = !fits;
    shown += fits;
  }
  filter.querySelector("output").textContent = `${shown.toLocaleString("en")} of ${rows.length.toLocaleString("en")}`;
}

function lead(event) {
  const cell = event.target.closest(".grid .cell");
  const row = cell && document.getElementById(cell.title.split(" ")[0]);
  if (!row) return;
  filter.reset();
  show();
  rows.forEach((other) => other.classList.toggle("found", other === row));
  row.scrollIntoView({ block: "center" });
}

if (filter) {
  document.documentElement.classList.add("scripted");
  filter.hidden = rows.length < 2;
  filter.addEventListener("input", show);
  filter.addEventListener("submit", (event) => event.preventDefault());
  document.querySelector(".fleet").addEventListener("click", lead);
  show();
}

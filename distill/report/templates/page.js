"use strict";
(() => {
  const button = document.getElementById("theme");
  const names = { "": "system", light: "light", dark: "dark" };
  const order = Object.keys(names);
  let store = null;
  try { store = window.localStorage; } catch { /* a browser may deny it to file: pages */ }
  const show = (theme) => {
    if (theme) document.documentElement.dataset.theme = theme;
    else delete document.documentElement.dataset.theme;
    button.textContent = `Theme: ${names[theme]}`;
  };
  const saved = store ? store.getItem("distill-theme") : "";
  let current = order.includes(saved) ? saved : "";
  show(current);
  button.hidden = false;
  button.addEventListener("click", () => {
    current = order[(order.indexOf(current) + 1) % order.length];
    show(current);
    if (store) store.setItem("distill-theme", current);
  });

  const value = (row, column) => row.cells[column].textContent.trim();
  const number = (text) => Number.parseFloat(text.replaceAll(",", "").replace("\u2212", "-"));
  const compare = (a, b, numeric) => {
    if (!numeric) return a.localeCompare(b, "en", { numeric: true });
    const [x, y] = [number(a), number(b)];
    if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
    return x - y;
  };
  const sort = (table, column, head) => {
    const up = head.getAttribute("aria-sort") !== "ascending";
    const numeric = head.classList.contains("number");
    const known = (row) => !numeric || !Number.isNaN(number(value(row, column)));
    const rows = [...table.tBodies[0].rows];
    rows.sort((a, b) => {
      if (known(a) !== known(b)) return known(a) ? -1 : 1; // unknown values stay at the bottom
      return (up ? 1 : -1) * compare(value(a, column), value(b, column), numeric);
    });
    for (const each of table.tHead.rows[0].cells) each.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    table.tBodies[0].append(...rows);
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    for (const [column, head] of [...table.tHead.rows[0].cells].entries()) {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => sort(table, column, head));
    }
  }
})();

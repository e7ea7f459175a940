"use strict";
document.querySelectorAll("table.sortable").forEach(function (table) {
  const heads = Array.from(table.tHead.rows[0].cells);
  heads.forEach(function (head, column) {
    head.querySelector("button").addEventListener("click", function () {
      const down = head.getAttribute("aria-sort") === "ascending";
      const numeric = head.classList.contains("num");
      heads.forEach(function (other) { other.setAttribute("aria-sort", "none"); });
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const value = function (row) {
        const text = row.cells[column].dataset.value;
        if (!numeric) return text;
        return text === "inf" ? Infinity : text === "-inf" ? -Infinity : parseFloat(text);
      };
      const body = table.tBodies[0];
      const rows = Array.from(body.rows).map(function (row) { return [value(row), row]; });
      rows.sort(function (a, b) {
        // What is not there comes last, in both orders.
        if (numeric && (Number.isNaN(a[0]) || Number.isNaN(b[0]))) return Number.isNaN(a[0]) - Number.isNaN(b[0]);
        const order = numeric ? (a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : 0) : a[0].localeCompare(b[0], "en", { numeric: true });
        return down ? -order : order;
      });
      rows.forEach(function (pair) { body.appendChild(pair[1]); });
    });
  });
});

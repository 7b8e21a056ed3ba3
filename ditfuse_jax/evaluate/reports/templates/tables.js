"use strict";
// Tables: a click on a heading sorts by it, another one turns the order round.
for (const table of document.querySelectorAll(".sortable")) {
  const headings = [...table.tHead.rows].at(-1).cells;
  [...headings].forEach((heading, column) => {
    heading.tabIndex = 0;
    heading.onkeydown = event => { if (event.key === "Enter") heading.click(); };
    heading.onclick = () => {
      const down = heading.ariaSort === "descending" || (column === 0 && heading.ariaSort !== "ascending");
      for (const other of headings) other.removeAttribute("aria-sort");
      heading.ariaSort = down ? "ascending" : "descending";
      const key = row => {
        const cell = row.cells[column];
        return column === 0 ? cell.textContent : cell.dataset.value === "" ? null : Number(cell.dataset.value);
      };
      const sign = down ? 1 : -1, body = table.tBodies[0];
      body.append(...[...body.rows].sort((a, b) => {
        const x = key(a), y = key(b);
        if (x === null || y === null) return (x === null) - (y === null);
        return sign * (column === 0 ? x.localeCompare(y, undefined, { numeric: true }) : x - y || 0);
      }));
    };
  });
}

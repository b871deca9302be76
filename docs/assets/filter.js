// A field above every long table, which hides the rows that do not hold the words typed.
document$.subscribe(() => {
  for (const table of document.querySelectorAll("article table")) {
    const rows = [...table.querySelectorAll("tbody tr")];
    if (rows.length < 25) continue;
    const field = document.createElement("input");
    field.type = "search";
    field.placeholder = `Search ${rows.length} rows`;
    field.className = "seenn-filter";
    field.addEventListener("input", () => {
      const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      for (const row of rows) row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
    });
    table.before(field);
  }
});

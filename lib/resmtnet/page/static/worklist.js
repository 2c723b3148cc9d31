// Keys of the worklist; see SHORTCUTS in worklist_view.py.
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, select, textarea, .q-menu, .q-dialog")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const links = [...document.querySelectorAll(".worklist-table .study-link")];
  const now = links.indexOf(document.activeElement);
  const step = { j: 1, k: -1 }[event.key];
  if (step && links.length) {
    const next = links[now < 0 ? 0 : Math.min(Math.max(now + step, 0), links.length - 1)];
    next.focus();
    next.scrollIntoView({ block: "nearest" });
  } else if (event.key === "/") {
    document.querySelector(".worklist-search input")?.focus();
  } else if (event.key === "n") {
    document.querySelector(".worklist-next")?.click();
  } else {
    return;
  }
  event.preventDefault();
});

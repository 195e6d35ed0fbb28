const cards = [...document.querySelectorAll(".card")];
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.shiftKey || !cards.length) return;
  // Each group is a separate grid, so rows differ in length.
  const rows = [...Map.groupBy(cards, (card) => card.offsetTop).values()];
  const last = cards.length - 1, at = cards.findIndex((card) => card.contains(document.activeElement));
  const row = rows.findIndex((row) => row.includes(cards[at])), column = rows[row]?.indexOf(cards[at]);
  const inRow = (to) => cards.indexOf(rows[to]?.[Math.min(column, rows[to].length - 1)]);
  const to = new Map([
    ["Home", 0], ["End", last],
    ["ArrowLeft", at - 1], ["h", at - 1], ["ArrowRight", at + 1], ["l", at + 1],
    ["ArrowUp", inRow(row - 1)], ["k", inRow(row - 1)], ["ArrowDown", inRow(row + 1)], ["j", inRow(row + 1)],
  ]).get(event.key);
  if (to === undefined) return;
  event.preventDefault();
  const inView = () => cards.findIndex((card) => card.getBoundingClientRect().bottom > 0);
  const card = cards[at < 0 && to !== 0 && to !== last ? inView() : to];
  if (!card) return;
  card.querySelector("a").focus({ preventScroll: true });
  card.scrollIntoView({ block: "nearest" });
});

const cards = [...document.querySelectorAll(".card")];
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.shiftKey || !cards.length) return;
  const below = cards.findIndex((card) => card.offsetTop > cards[0].offsetTop);
  const columns = below < 0 ? cards.length : below, last = cards.length - 1;
  const at = cards.findIndex((card) => card.contains(document.activeElement));
  const lowerRow = Math.floor(at / columns) < Math.floor(last / columns);
  const to = new Map([
    ["Home", 0], ["End", last],
    ["ArrowLeft", at - 1], ["h", at - 1], ["ArrowRight", at + 1], ["l", at + 1],
    ["ArrowUp", at - columns], ["k", at - columns],
    ...["ArrowDown", "j"].map((key) => [key, lowerRow ? Math.min(at + columns, last) : at]),
  ]).get(event.key);
  if (to === undefined) return;
  event.preventDefault();
  const inView = () => cards.findIndex((card) => card.getBoundingClientRect().bottom > 0);
  const card = cards[at < 0 && to !== 0 && to !== last ? inView() : to];
  if (!card) return;
  card.querySelector("a").focus({ preventScroll: true });
  card.scrollIntoView({ block: "nearest" });
});

// What the grid shows of hits: an item for each photo, and for each copy of an expanded group. An item has a photo, its
// hit, and `tileKey`, which changes whenever its tile must be rebuilt.

export function itemOf(hit, isExpanded) {
  const copies = hit.similar.length;
  return { tileKey: `${hit.file}\n${hit.id}\n${hit.confidence}\n${copies}\n${isExpanded}`, photo: hit, hit, copies, isExpanded };
}

export function copyOf(hit, n) {
  const photo = hit.similar[n];
  return { tileKey: `${photo.file}\n${photo.id}\ncopy`, photo, hit, isCopy: true };
}

export const shapeOf = (aspect) => Math.min(3.2, Math.max(0.42, aspect || 1));
export const isDated = ({ sort }, byDefault) => (sort ? sort.endsWith("date") : byDefault);

const MONTH = new Intl.DateTimeFormat("en", { month: "long", year: "numeric", timeZone: "UTC" });
const DAY = new Intl.DateTimeFormat("en", { weekday: "short", day: "numeric", month: "long", year: "numeric", timeZone: "UTC" });

// A date such as "2023-07-05" as a heading; "" is no date.
export function dateName(day, byDay) {
  if (!day) return "Without a date";
  const [year, month, date] = day.split("-").map(Number);
  return byDay ? DAY.format(Date.UTC(year, month - 1, date)) : MONTH.format(Date.UTC(year, month - 1, 1));
}

// A heading above the first photo of each month or day: `days` are [date, number of photos].
export function headings(days, byDay) {
  const found = [];
  let n = 0;
  for (const [day, length] of days) {
    const key = byDay ? day : day.slice(0, 7);
    if (found.at(-1)?.key === key) found.at(-1).count += length;
    else found.push({ kind: "heading", n, key, day, count: length });
    n += length;
  }
  return found;
}

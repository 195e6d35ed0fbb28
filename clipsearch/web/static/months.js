// Months as filters write them, such as "2023-07". A year means its first month.

const NAME = /^([12]\d{3})(?:-(0[1-9]|1[0-2]))?$/;

// Such as "July 2023"; null if the value is no month.
export function monthTitle(value) {
  const match = NAME.exec(value);
  if (!match) return null;
  return new Date(Number(match[1]), Number(match[2] ?? 1) - 1).toLocaleDateString("en", { month: "long", year: "numeric" });
}

const shifted = (value, by) => {
  const match = NAME.exec(value);
  if (!match) return value;
  const n = 12 * Number(match[1]) + Number(match[2] ?? 1) - 1 + by;
  return `${String(Math.floor(n / 12)).padStart(4, "0")}-${String((n % 12) + 1).padStart(2, "0")}`;
};

export const monthBefore = (value) => NAME.test(value) ? shifted(value, -1) : "";
export const monthAfter = (value) => shifted(value, 1);

// The geometry of the results: justified rows in which each photo keeps its proportions. Only numbers, no elements, so
// that the rows of 100,000 photos take milliseconds.

export const LINE = 64; // pixels, of a heading or divider
const MAX_HEIGHT = 3e7; // pixels: browsers cut off elements above 33 million

export class Rows {
  // `aspect(n)` of the photos up to `length`, and `lines`, each { n, ... }: above photo `n`, which then starts a row.
  constructor(length, aspect, lines, width, gap, rowHeight) {
    Object.assign(this, { length, aspect, width, gap, tops: [], heights: [], firsts: [] });
    let aspects = 0;
    for (let n = 0; n < length; n += 1) aspects += aspect(n);
    const estimate = aspects * rowHeight * rowHeight / width;
    this.lines = lines;
    this.fill(lines, rowHeight * Math.min(1, Math.sqrt(MAX_HEIGHT / Math.max(1, estimate))));
  }

  fill(lines, rowHeight) {
    const { length, aspect, width, gap } = this;
    let y = 0, from = 0, aspects = 0, line = 0;
    const end = (to, isFull) => {
      if (to === from) return;
      const full = (width - gap * (to - from - 1)) / aspects, height = isFull ? full : Math.min(rowHeight, full);
      this.tops.push(y);
      this.heights.push(height);
      this.firsts.push(from);
      y += height + gap;
      from = to;
      aspects = 0;
    };
    for (let n = 0; n < length; n += 1) {
      for (; line < lines.length && lines[line].n === n; line += 1) {
        end(n, false);
        lines[line].y = y;
        y += LINE;
      }
      aspects += aspect(n);
      if (aspects * rowHeight + gap * (n - from) >= width) end(n + 1, true);
    }
    end(length, false);
    this.height = y;
  }

  get count() {
    return this.tops.length;
  }

  // The first photo of a row, and the one after its last.
  range(row) {
    return [this.firsts[row], this.firsts[row + 1] ?? this.length];
  }

  // The first row that ends below a height.
  at(y) {
    return firstWhere(this.count, (row) => this.tops[row] + this.heights[row] >= y);
  }

  // The row of a photo.
  of(n) {
    return firstWhere(this.count, (row) => this.firsts[row] > n) - 1;
  }

  // The place of a photo, or undefined.
  box(n) {
    if (!(n >= 0 && n < this.length)) return undefined;
    const row = this.of(n), h = this.heights[row];
    let x = 0;
    for (let other = this.firsts[row]; other < n; other += 1) x += this.aspect(other) * h + this.gap;
    return { x, y: this.tops[row], w: this.aspect(n) * h, h };
  }

  // The photos and the lines between two heights, as [first, end].
  photosBetween(from, to) {
    const first = this.at(from), end = firstWhere(this.count, (row) => this.tops[row] >= to);
    return first < end ? [this.firsts[first], this.range(end - 1)[1]] : [0, 0];
  }

  linesBetween(from, to) {
    const first = firstWhere(this.lines.length, (n) => this.lines[n].y + LINE >= from);
    return this.lines.slice(first, firstWhere(this.lines.length, (n) => this.lines[n].y >= to));
  }

  // The photo of the row above or below (step -1 or 1) that is closest to a photo.
  beside(n, step) {
    const [first, end] = this.range(this.of(n) + step);
    if (first === undefined) return n;
    const middle = (box) => box.x + box.w / 2, target = middle(this.box(n));
    let best = first;
    for (let other = first; other < end; other += 1)
      if (Math.abs(middle(this.box(other)) - target) < Math.abs(middle(this.box(best)) - target)) best = other;
    return best;
  }
}

// The first of the numbers below `count` for which a condition, false and then true, is true; `count` if none.
export function firstWhere(count, isTrue) {
  let low = 0, high = count;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (isTrue(middle)) high = middle; else low = middle + 1;
  }
  return low;
}

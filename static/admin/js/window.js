// A long list of rows in a box that scrolls: only the rows in sight exist.

const ROW = 27; // px, if no row exists yet
const AROUND = 8; // rows beyond each end of what is in sight

/**
 * @param box scrolls
 * @param table whose body gets the rows
 * @param columns number of cells of a row
 * @param make makes a row: an object with `element` and `update(row)`
 * @param scrolled called after each scrolling
 */
export function makeWindow({ box, table, columns, make, scrolled = () => {} }) {
  const body = table.tBodies[0];
  const before = filler();
  const behind = filler();
  let rows = [];
  let existing = new Map();
  // Sizes of the page, read when they change: a look after a change of the page would lay out the page once more.
  let size = ROW;
  let top = 0;
  let room = 0;

  box.addEventListener('scroll', () => {
    top = box.scrollTop;
    render();
    scrolled();
  }, { passive: true });
  new ResizeObserver(() => requestAnimationFrame(() => {
    room = box.clientHeight;
    size = existing.values().next().value?.element.offsetHeight || ROW;
    render();
  })).observe(box);

  /** The numbers of the rows that exist: the first, and the one behind the last. */
  function inSight() {
    const first = Math.max(0, Math.floor(top / size) - AROUND);
    return [Math.min(first, rows.length), first + Math.ceil(room / size) + 2 * AROUND];
  }

  function render() {
    const [first, last] = inSight();
    const kept = new Map();
    const wanted = rows.slice(first, last);
    const keys = new Set(wanted.map((row) => row.id));
    for (const [id, shown] of existing) if (!keys.has(id)) shown.element.remove();
    let previous = before.element;
    wanted.forEach((row, index) => {
      const shown = existing.get(row.id) ?? make(row);
      kept.set(row.id, shown);
      shown.update(row);
      put(shown.element, 'aria-rowindex', first + index + 2);
      if (previous.nextSibling !== shown.element) previous.after(shown.element);
      previous = shown.element;
    });
    existing = kept;
    before.fill(first);
    behind.fill(Math.max(0, rows.length - last));
    put(table, 'aria-rowcount', rows.length + 1);
  }

  function filler() {
    const element = document.createElement('tr');
    const cell = element.insertCell();
    element.className = 'filler';
    element.setAttribute('aria-hidden', 'true');
    cell.colSpan = columns;
    body.append(element);
    return {
      element,
      fill(count) {
        element.hidden = count === 0;
        cell.style.height = `${count * size}px`;
      },
    };
  }

  return {
    inSight,
    show(next) {
      rows = next;
      render();
    },
  };
}

/** Sets an attribute to a number, unless the attribute has the number: a change costs more than a look. */
export function put(element, name, number) {
  const text = String(number);
  if (element.getAttribute(name) !== text) element.setAttribute(name, text);
}

/** The head of a table, with a cell for each label. */
export function head(labels) {
  const row = document.createElement('tr');
  for (const label of labels) {
    const cell = document.createElement('th');
    cell.scope = 'col';
    cell.textContent = label;
    row.append(cell);
  }
  return row;
}

// Counts since the start, and the configuration. Texts only: a value may have any characters.

/**
 * @param table has a row per count, below a heading for each group
 * @param list has the variables that differ from their defaults
 */
export function makeFacts(table, list) {
  let shown = '';
  return {
    show(model) {
      const text = JSON.stringify(model.counts);
      if (text === shown) return;
      shown = text;
      table.tBodies[0].replaceChildren(...model.counts.map(([group, name, count]) => row(group, name, count)));
    },
    begin(about) {
      list.replaceChildren(...(about.configuration ?? []).flatMap(([name, value]) => [element('dt', name), element('dd', value)]));
    },
  };
}

function row(group, name, count) {
  const line = document.createElement('tr');
  const head = element('th', group);
  head.scope = 'row';
  line.append(head, element('td', name), element('td', count.toLocaleString()));
  return line;
}

function element(kind, text) {
  const made = document.createElement(kind);
  made.textContent = text;
  return made;
}

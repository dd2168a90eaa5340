// Counts since the start, and the configuration. Texts only: a value may have any characters.

import { visible, whole } from './format.js';

/**
 * @param refused has a row for each client that meets a limit
 * @param nobody is shown if no client does
 * @param table has a row per count, below a heading for each group
 * @param list has the variables that differ from their defaults
 */
export function makeFacts({ table, list, refused, nobody }) {
  const card = table.closest('details');
  let shown = '';
  let shownRefused = '';
  let counts = [];
  card.addEventListener('toggle', showCounts);

  function showCounts() {
    if (!card.open) return;
    const text = JSON.stringify(counts);
    if (text === shown) return;
    shown = text;
    table.tBodies[0].replaceChildren(...counts.map(([group, name, count]) => row(group, name, count)));
  }

  return {
    show(model) {
      const whom = JSON.stringify(model.refused);
      if (whom !== shownRefused) {
        shownRefused = whom;
        refused.tBodies[0].replaceChildren(...model.refused.map(([policy, who, count]) => row(who, policy, count)));
      }
      refused.hidden = !model.refused.length;
      nobody.hidden = !refused.hidden;
      counts = model.counts;
      showCounts();
    },
    begin(about) {
      list.replaceChildren(...(about.configuration ?? []).flatMap(([name, value]) => [element('dt', name), element('dd', value, Infinity)]));
    },
  };
}

function row(group, name, count) {
  const line = document.createElement('tr');
  const head = element('th', group);
  head.scope = 'row';
  line.append(head, element('td', name), element('td', whole(count)));
  return line;
}

function element(kind, text, longest) {
  const made = document.createElement(kind);
  made.textContent = visible(text, longest);
  return made;
}

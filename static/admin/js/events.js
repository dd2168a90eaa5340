// What has changed, the newest first.

import { timeOfDay, visible } from './format.js';

export function makeEvents(list, nothing) {
  let shown = 0; // events of the model that the list has
  return {
    reset() {
      shown = 0;
      list.replaceChildren();
    },
    show(model, news) {
      const added = shown ? news : model.events;
      for (const event of added) list.prepend(item(event));
      shown += added.length;
      while (list.childElementCount > model.events.length) list.lastElementChild.remove();
      nothing.hidden = list.childElementCount > 0;
    },
  };
}

function item(event) {
  const element = document.createElement('li');
  const time = document.createElement('time');
  const text = document.createElement('span');
  time.dateTime = new Date(event.at * 1000).toISOString();
  time.textContent = timeOfDay(event.at);
  text.textContent = visible(event.text);
  text.dataset.level = event.level;
  element.append(time, text);
  return element;
}

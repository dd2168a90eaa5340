// The dialog of acts: which acts there are, what each will do, a confirmation, and what the gateway has answered.

import { done } from './acts.js';
import { visible } from './format.js';

export function makeDialog(dialog) {
  const title = dialog.querySelector('h2');
  const text = dialog.querySelector('p');
  const list = dialog.querySelector('ul');
  const go = dialog.querySelector('.go');
  const leave = dialog.querySelector('.leave');
  const field = dialog.querySelector('label');
  const input = field.querySelector('input');
  let act = null;

  leave.addEventListener('click', () => dialog.close());
  go.addEventListener('click', carryOut);

  function open(heading) {
    title.textContent = visible(heading);
    if (!dialog.open) dialog.showModal();
  }

  /** Offers acts. A single act is asked for at once. */
  function offer(heading, acts) {
    open(heading);
    if (acts.length === 1) return confirm(acts[0]);
    say('');
    list.replaceChildren(...acts.map(item));
    list.hidden = false;
    return undefined;
  }

  function item(each) {
    const element = document.createElement('li');
    const button = document.createElement('button');
    const says = document.createElement('span');
    button.type = 'button';
    button.textContent = each.name;
    says.textContent = visible(each.says);
    button.addEventListener('click', () => confirm(each));
    element.append(button, says);
    return element;
  }

  function say(sentence, state = '') {
    text.textContent = visible(sentence);
    text.dataset.state = state;
    list.hidden = go.hidden = field.hidden = true;
    leave.textContent = 'Close';
  }

  function confirm(each) {
    act = each;
    say(act.says);
    leave.textContent = 'Cancel';
    go.textContent = act.name;
    go.hidden = go.disabled = false;
    field.hidden = !act.asks;
    if (act.asks) {
      field.firstChild.textContent = `${act.asks.label} `;
      Object.assign(input, { min: act.asks.low, max: act.asks.high, value: act.asks.value });
      input.focus();
    } else {
      leave.focus(); // a key pressed by mistake does nothing
    }
  }

  async function carryOut() {
    const order = act.asks ? { ...act.order, [act.asks.member]: input.valueAsNumber } : act.order;
    if (act.asks && !input.reportValidity()) return;
    go.disabled = true;
    const answer = await fetch(`/admin/api/${act.path}`, {
      method: 'POST', headers: { Accept: 'application/json', 'Content-Type': 'application/json' }, body: JSON.stringify(order),
    }).catch(() => null);
    const said = await answer?.json().catch(() => null);
    if (answer?.ok && said) say(done(act, said), 'good');
    else say(said?.message ? `Refused: ${said.message}` : 'The gateway cannot be reached.', 'bad');
    leave.focus();
  }

  return { offer };
}

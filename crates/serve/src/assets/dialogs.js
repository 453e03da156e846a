// What people do: acknowledge, end, silence. Each asks for a name, and says what happened.

import * as api from './api.js';
import { dialog, h } from './dom.js';
import { chosen, t } from './words.js';

/** Tells what happened, also to screen readers. */
export function say(text) {
  const line = document.querySelector('#said');
  line.textContent = text;
  clearTimeout(line.timer);
  line.timer = setTimeout(() => { line.textContent = ''; }, 6000);
}

/** Does what `action` says, and tells how it went; returns whether it went well. */
export async function attempt(action, after) {
  try {
    await action();
    say(t('done'));
    await after?.();
    return true;
  } catch (error) {
    say(t('failed', error.message));
    return false;
  }
}

/** The field for the name of who acts. */
export const nameField = (you) => field('by', t('yourName'), { value: you.name ?? chosen.name, required: true, autocomplete: 'name', maxlength: 100 });

export function field(name, label, attributes, control) {
  const id = `field-${name}`;
  return h('label.field', { for: id }, label, control ?? h('input', { id, name, ...attributes }));
}

function ask({ title, hint, fields, button, send, after }) {
  const problem = h('p.wrong', { role: 'alert' });
  const form = h('form', {
    method: 'dialog',
    submit: async (event) => {
      event.preventDefault();
      const values = Object.fromEntries(new FormData(form));
      chosen.set('name', values.by);
      try {
        await send(values);
        box.close();
        say(t('done'));
        await after?.();
      } catch (error) { problem.textContent = t('failed', error.message); }
    },
  }, h('p', null, hint), fields, problem,
  h('div.actions', null, h('button.primary', { type: 'submit' }, button), h('button', { type: 'button', click: () => box.close() }, t('cancel'))));
  const box = dialog(title, t('close'), null, form);
  box.classList.add('small');
  form.querySelector('input, select, textarea')?.focus();
}

const note = () => field('note', `${t('note')} (${t('optional')})`, { maxlength: 1000 });

export const acknowledge = (id, you, after) => ask({
  title: t('ackTitle'), hint: t('ackHint'), fields: [nameField(you), note()], button: t('acknowledge'),
  send: ({ by, note }) => api.acknowledge(id, { by, note }), after,
});

export const resolve = (id, you, after) => ask({
  title: t('resolveTitle'), hint: t('resolveHint'), fields: [nameField(you), note()], button: t('resolve'),
  send: ({ by, note }) => api.resolve(id, { by, note }), after,
});

const LENGTHS = [[60, () => t('hours', 1)], [240, () => t('hours', 4)], [720, () => t('hours', 12)], [1440, () => t('days', 1)], [10080, () => t('days', 7)]];

export const silence = (brand, you, after) => ask({
  title: t('silenceTitle', brand ?? t('everyBrand')), hint: t('silenceHint'),
  fields: [
    field('minutes', t('howLong'), {}, h('select', { id: 'field-minutes', name: 'minutes' }, LENGTHS.map(([minutes, text]) => h('option', { value: minutes }, text())))),
    field('reason', t('reason'), { required: true, maxlength: 1000 }), nameField(you),
  ],
  button: t('silence'),
  send: ({ minutes, reason, by }) => api.silence({ brand, minutes: Number(minutes), reason, by }), after,
});

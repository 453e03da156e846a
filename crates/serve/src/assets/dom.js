// Builds elements. Text only ever becomes text nodes: nothing from outside is parsed as markup.

/** Characters that hide, or change the direction of what stands around them. */
const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;

/** `text` without hidden characters. */
export const clean = (text) => String(text ?? '').replace(HIDDEN, ' ');

/** An element: h('a.big', {href: '#'}, 'text', otherElement). Attributes that are null are left
 * out; functions become listeners. */
export function h(name, attributes, ...children) {
  const [tag, ...classes] = name.split('.');
  const element = document.createElement(tag || 'div');
  if (classes.length) element.className = classes.join(' ');
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === 'function') element.addEventListener(key, value);
    else element.setAttribute(key, value === true ? '' : value);
  }
  append(element, children);
  return element;
}

function append(element, children) {
  for (const child of children.flat(5)) {
    if (child === null || child === undefined || child === false || child === '') continue;
    element.append(child instanceof Node ? child : clean(child));
  }
}

/** An element of SVG, without content. */
export function svg(name, attributes, children = []) {
  const element = document.createElementNS('http://www.w3.org/2000/svg', name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** Replaces the content of an element, unless what it shows is the same as before. */
export function show(element, key, ...children) {
  const now = JSON.stringify(key);
  if (element.shown === now) return false;
  element.shown = now;
  const focused = element.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  element.replaceChildren();
  append(element, children.map((child) => (typeof child === 'function' ? child() : child)));
  if (focused) element.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
  return true;
}

/** A tweet's text with the words at `marks` (begin and end in characters) marked. */
export function marked(text, marks) {
  const characters = [...String(text)];
  const parts = [];
  let at = 0;
  for (const [begin, end] of marks ?? []) {
    if (begin < at || end > characters.length) continue;
    parts.push(characters.slice(at, begin).join(''), h('mark', null, characters.slice(begin, end).join('')));
    at = end;
  }
  parts.push(characters.slice(at).join(''));
  return parts.filter((part) => part !== '');
}

/** A dialog that is shown at once, closes by Escape, by a click beside it or by its button, and is
 * removed then. */
export function dialog(title, closeLabel, onClose, ...children) {
  const box = h('dialog', { 'aria-label': clean(title) });
  const close = h('button.close', { type: 'button', 'aria-label': closeLabel, click: () => box.close() }, '×');
  box.append(h('div.top', null, h('h2', null, title), close));
  append(box, children);
  box.addEventListener('click', (event) => { if (event.target === box) box.close(); });
  box.addEventListener('close', () => { box.remove(); onClose?.(); });
  document.body.append(box);
  box.showModal();
  return box;
}

// Speaks with the daemon's API (see /openapi.json).

/** An answer that is not a success. */
export class Refused extends Error {
  constructor(status, message) { super(message); this.status = status; }
}

async function call(method, path, body) {
  const response = await fetch(path, {
    method,
    headers: body === undefined ? {} : { 'Content-Type': 'application/json' },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  if (response.status === 401) location.reload();
  if (!response.ok) {
    const answer = await response.json().catch(() => ({}));
    throw new Refused(response.status, answer.error ?? `${response.status} ${response.statusText}`);
  }
  return response.status === 204 ? null : response.json();
}

const path = (strings, ...values) =>
  strings.reduce((all, part, n) => all + encodeURIComponent(values[n - 1]) + part);

const query = (parameters) => {
  const given = Object.entries(parameters).filter(([, value]) => value !== null && value !== undefined && value !== '');
  return given.length ? `?${new URLSearchParams(given)}` : '';
};

export const brands = () => call('GET', '/v1/brands');
export const shares = (brand, parameters) => call('GET', path`/v1/brands/${brand}/shares` + query(parameters));
export const voices = (parameters) => call('GET', '/v1/voice' + query(parameters));
export const incidents = () => call('GET', '/v1/incidents?limit=200');
export const incident = (id) => call('GET', path`/v1/incidents/${id}`);
export const acknowledge = (id, action) => call('POST', path`/v1/incidents/${id}/acknowledge`, action);
export const resolve = (id, action) => call('POST', path`/v1/incidents/${id}/resolve`, action);
export const silences = () => call('GET', '/v1/silences');
export const silence = (silence) => call('POST', '/v1/silences', silence);
export const endSilence = (id) => call('DELETE', path`/v1/silences/${id}`);
export const tweets = (parameters) => call('GET', '/v1/tweets' + query(parameters));
export const explain = (id) => call('GET', path`/v1/tweets/${id}/explain`);
export const label = (label) => call('POST', '/v1/labels', label);
export const labels = () => call('GET', '/v1/labels');
export const samples = () => call('GET', '/v1/samples');
export const drawSample = (sample) => call('POST', '/v1/samples', sample);
export const sample = (id) => call('GET', path`/v1/samples/${id}`);
export const labelSample = (id, labels) => call('POST', path`/v1/samples/${id}/labels`, labels);
export const drift = () => call('GET', '/v1/drift');
export const models = () => call('GET', '/v1/models');
export const deliveries = () => call('GET', '/v1/deliveries');

/** Calls `onChange` when there is something new, `onState` with `live` or `lost`. The browser
 * connects again by itself and tells what it saw last; only a refusal ends its attempts. */
export function follow(onChange, onState) {
  const source = new EventSource('/v1/events');
  source.addEventListener('open', () => onState('live'));
  source.addEventListener('change', () => { onState('live'); onChange(); });
  source.addEventListener('away', () => onState('lost'));
  source.addEventListener('error', () => {
    onState('lost');
    if (source.readyState === EventSource.CLOSED) setTimeout(() => follow(onChange, onState), 10_000);
  });
  addEventListener('pagehide', () => source.close(), { once: true });
}

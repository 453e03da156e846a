// Runs before the page is drawn: chooses the colours, and hides what is only for readers without
// scripts.
(() => {
  const root = document.documentElement;
  root.classList.add('scripted');
  try {
    const theme = localStorage.getItem('monitor.theme');
    if (theme === 'light' || theme === 'dark') root.dataset.theme = theme;
  } catch { /* a browser that stores nothing */ }
})();
// What the page asks first, before its modules are there.
for (const href of ['/v1/brands', '/v1/incidents?limit=200']) {
  document.head.append(Object.assign(document.createElement('link'), { rel: 'preload', as: 'fetch', crossOrigin: 'anonymous', href }));
}

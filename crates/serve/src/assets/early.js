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

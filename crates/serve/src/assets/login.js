// Keeps the incident that a mail's link names: after signing in, the browser goes there.
document.querySelector('form').action = '/login' + location.hash;

// Light, dark, or as the system says; remembered in this browser.

const THEMES = ['system', 'light', 'dark'];

export function makeTheme(button, changed) {
  let theme = THEMES.includes(localStorage.getItem('theme')) ? localStorage.getItem('theme') : 'system';
  function use() {
    document.documentElement.dataset.theme = theme;
    button.textContent = `Theme: ${theme}`;
    changed();
  }
  button.addEventListener('click', () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    localStorage.setItem('theme', theme);
    use();
  });
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', changed);
  use();
}

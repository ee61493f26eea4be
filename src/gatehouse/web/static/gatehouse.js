// The little that pages cannot do without a script: copy, times in the reader's zone, menus that close.
// Every page works without it, but for the copy buttons, which stay hidden then.

document.documentElement.classList.add("scripted");

const LOCAL = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

function showLocalTimes() {
  for (const element of document.querySelectorAll("time[datetime]")) {
    const moment = new Date(element.dateTime);
    if (!Number.isNaN(moment.getTime())) element.title = LOCAL.format(moment);
  }
}

async function copyFrom(button) {
  const source = document.getElementById(button.dataset.copy);
  await navigator.clipboard.writeText(source.textContent.trim());
  const status = button.querySelector("[role=status]");
  button.classList.add("copied");
  if (status) status.textContent = "Copied";
  setTimeout(() => {
    button.classList.remove("copied");
    if (status) status.textContent = "";
  }, 2000);
}

// Also after a choice: what it opens stands alone.
function closeMenus(target) {
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (!menu.contains(target) || target.closest(".menu-list button")) menu.open = false;
  }
}

document.addEventListener("click", (event) => {
  closeMenus(event.target);
  const button = event.target.closest("[data-copy]");
  if (button) copyFrom(button).catch(() => selectText(button.dataset.copy));
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  const menu = document.querySelector("details.menu[open]");
  if (!menu) return;
  menu.open = false;
  menu.querySelector("summary").focus();
});

// Pages on plain http have no clipboard but on localhost: select the text, so that one key copies it.
function selectText(id) {
  const range = document.createRange();
  range.selectNodeContents(document.getElementById(id));
  const selection = getSelection();
  selection.removeAllRanges();
  selection.addRange(range);
}

showLocalTimes();

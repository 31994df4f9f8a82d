"use strict";
// Shows the lines that have every word; words are compared without case and accents.
const plain = (text) => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
const form = document.querySelector(".search");
const query = document.getElementById("query");
const provider = document.getElementById("provider");
const count = document.getElementById("count");
const nothing = document.getElementById("nothing");
const lines = [...document.querySelectorAll("li")].map((element) => ({ element, text: plain(element.textContent) }));
const months = [...document.querySelectorAll(".month")];
const total = count.textContent;

function search() {
  const words = plain(query.value).split(/\s+/).filter(Boolean);
  const wanted = provider ? provider.value : "";
  let shown = 0;
  for (const { element, text } of lines) {
    const isShown = (!wanted || element.dataset.provider === wanted) && words.every((word) => text.includes(word));
    element.hidden = !isShown;
    shown += isShown;
  }
  for (const month of months) month.hidden = !month.querySelector("li:not([hidden])");
  count.textContent = words.length || wanted ? `${shown.toLocaleString("en")} of ${total}` : total;
  nothing.hidden = shown > 0 || lines.length === 0;
  history.replaceState(null, "", words.length ? `#${encodeURIComponent(query.value)}` : location.pathname);
}

form.hidden = false;
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("input", search);
addEventListener("keydown", (event) => {
  if (event.key === "/" && document.activeElement !== query) {
    event.preventDefault();
    query.focus();
  }
});
if (location.hash) {
  query.value = decodeURIComponent(location.hash.slice(1));
  search();
}

// Sets the colours before anything is painted, so that nothing flashes.
"use strict";
try {
  const kept = localStorage.getItem("mergecore-theme");
  if (kept) document.documentElement.dataset.theme = kept;
} catch { /* private windows keep nothing */ }

// Before anything is drawn, so that a dark room gets no white flash.
"use strict";
document.documentElement.dataset.theme = (() => {
  try {
    return localStorage.getItem("dgl-theme") || "auto";
  } catch {
    return "auto"; // storage is denied: the screen decides
  }
})();

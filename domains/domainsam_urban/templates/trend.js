(function () {
  "use strict";
  var box = document.getElementById("swipe");
  if (!box) { return; }
  var views = JSON.parse(document.getElementById("views").textContent);
  var slider = document.getElementById("split");
  var outlines = document.getElementById("outlines");
  function source(name) { return document.getElementById(name).src; }
  function show(side) {
    var view = views[document.getElementById("pick-" + side).value];
    var pane = document.getElementById("pane-" + side);
    var base = pane.querySelector(".base"), over = pane.querySelector(".over");
    base.src = source(view.base);
    base.classList.toggle("grey", view.grey);
    over.src = source(view.over);
    over.hidden = !outlines.checked;
    document.getElementById("tag-" + side).textContent = view.name;
  }
  function split() { box.style.setProperty("--split", slider.value + "%"); }
  function refresh() { show("left"); show("right"); split(); }
  ["left", "right"].forEach(function (side) {
    document.getElementById("pick-" + side).addEventListener("change", refresh);
  });
  outlines.addEventListener("change", refresh);
  slider.addEventListener("input", split);
  refresh();
}());

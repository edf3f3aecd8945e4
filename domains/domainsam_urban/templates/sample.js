(function (root) {
  "use strict";
  // What is decided without a page: tests call it from Node.
  function emptyLabels(sample) {
    return sample.points.map(function () { return sample.years.map(function () { return ""; }); });
  }
  function restore(sample, text) {
    var fresh = emptyLabels(sample), kept;
    try { kept = JSON.parse(text); } catch (error) { return fresh; }
    if (!Array.isArray(kept) || kept.length !== fresh.length) { return fresh; }
    return fresh.map(function (row, index) {
      return row.map(function (_, year) {
        var value = Array.isArray(kept[index]) ? kept[index][year] : "";
        return value === "1" || value === "0" || value === "u" ? value : "";
      });
    });
  }
  function count(labels) {
    return labels.filter(function (row) { return row.every(function (value) { return value !== ""; }); }).length;
  }
  function row(sample, labels, index) {
    var point = sample.points[index], values = {};
    sample.fields.forEach(function (name) { values[name] = point[name]; });
    sample.years.forEach(function (year, number) {
      var value = labels[index][number];
      values[year] = value === "1" ? 1 : value === "0" ? 0 : null;
    });
    values.unsure = sample.years.filter(function (_, number) { return labels[index][number] === "u"; }).join(";");
    return values;
  }
  function columns(sample) { return sample.fields.concat(sample.years, ["unsure"]); }
  function cell(value) {
    if (value === null || value === undefined) { return ""; }
    var text = String(value);
    // A spreadsheet would calculate what begins so; numbers stay as they are.
    if (typeof value === "string" && /^[=+\-@\t\r\n]/.test(text)) { text = "'" + text; }
    return /[",\r\n]/.test(text) ? '"' + text.replace(/"/g, '""') + '"' : text;
  }
  function toCsv(sample, labels) {
    var names = columns(sample), lines = [names.map(cell).join(",")];
    sample.points.forEach(function (_, index) {
      var values = row(sample, labels, index);
      lines.push(names.map(function (name) { return cell(values[name]); }).join(","));
    });
    return lines.join("\r\n") + "\r\n";
  }
  function toGeoJson(sample, labels) {
    return JSON.stringify({
      type: "FeatureCollection",
      features: sample.points.map(function (point, index) {
        var values = row(sample, labels, index);
        delete values.lon;
        delete values.lat;
        return {
          type: "Feature",
          geometry: { type: "Point", coordinates: [point.lon, point.lat] },
          properties: values
        };
      })
    });
  }
  function nextOpen(labels, from) {
    for (var step = 1; step <= labels.length; step += 1) {
      var index = (from + step) % labels.length;
      if (labels[index].indexOf("") >= 0) { return index; }
    }
    return from;
  }
  // Where a key leads: state is {point, year}, labels are changed in place.
  function press(sample, labels, state, key) {
    var last = sample.points.length - 1, years = sample.years.length;
    var label = key === "U" ? "u" : key;
    if (label === "1" || label === "0" || label === "u") {
      labels[state.point][state.year] = label;
      if (state.year < years - 1) { return { point: state.point, year: state.year + 1 }; }
      return { point: Math.min(last, state.point + 1), year: state.point < last ? 0 : state.year };
    }
    if (key === "Backspace" || key === "Delete") { labels[state.point][state.year] = ""; return state; }
    if (key === "ArrowLeft") { return { point: Math.max(0, state.point - 1), year: 0 }; }
    if (key === "ArrowRight") { return { point: Math.min(last, state.point + 1), year: 0 }; }
    if (key === "ArrowUp") { return { point: state.point, year: Math.max(0, state.year - 1) }; }
    if (key === "ArrowDown") { return { point: state.point, year: Math.min(years - 1, state.year + 1) }; }
    return null;
  }
  var core = {
    emptyLabels: emptyLabels, restore: restore, count: count, toCsv: toCsv, toGeoJson: toGeoJson,
    nextOpen: nextOpen, press: press
  };
  if (typeof module !== "undefined") { module.exports = core; }
  if (typeof document === "undefined") { return; }

  var holder = document.getElementById("sample");
  var sample = JSON.parse(holder.textContent);
  var store = "domainsam-sample-" + holder.getAttribute("data-key");
  var words = { "1": "settlement", "0": "other", "u": "cannot be told", "": "–" };
  var state = { point: 0, year: 0 };
  function byId(name) { return document.getElementById(name); }
  function load() {
    try { return restore(sample, root.localStorage.getItem(store)); } catch (error) { return emptyLabels(sample); }
  }
  var labels = load();
  function keep() {
    try {
      root.localStorage.setItem(store, JSON.stringify(labels));
      byId("kept").textContent = "kept in this browser";
    } catch (error) {
      byId("kept").textContent = "this browser keeps nothing: save a file before you close the page";
    }
  }
  function element(parent, tag, name, text) {
    var made = document.createElement(tag);
    if (name) { made.className = name; }
    if (text !== undefined) { made.textContent = text; }
    parent.appendChild(made);
    return made;
  }
  function drawChip(parent, address, metres, share) {
    var chip = element(parent, "div", "chip");
    var image = element(chip, "img");
    image.src = address;
    image.alt = "";
    var unit = element(chip, "div", "unit");
    unit.style.width = unit.style.height = (100 * share) + "%";
    element(chip, "div", "across");
    element(chip, "div", "down");
    element(chip, "small", "", Math.round(metres) + " m");
  }
  function drawYear(parent, year) {
    var box = element(parent, "section", year === state.year ? "year current" : "year");
    var title = element(box, "h2", "", sample.years[year]);
    element(title, "b", "", words[labels[state.point][year]]);
    var chips = sample.points[state.point].chips[sample.years[year]];
    var row = element(box, "div", "chips");
    if (chips) {
      drawChip(row, chips[0], sample.detail_m, sample.unit);
      drawChip(row, chips[1], sample.context_m, sample.unit * sample.detail_m / sample.context_m);
    } else {
      element(row, "p", "soft", "no picture of this place in " + sample.years[year]);
    }
    var bar = element(box, "div", "bar");
    ["1", "0", "u"].forEach(function (key) {
      var button = element(bar, "button", "", key + " " + words[key]);
      button.type = "button";
      button.addEventListener("click", function () { state = { point: state.point, year: year }; act(key); });
    });
  }
  function draw() {
    var parent = byId("years"), point = sample.points[state.point], done = count(labels);
    parent.textContent = "";
    sample.years.forEach(function (_, year) { drawYear(parent, year); });
    byId("place").textContent = "point " + (state.point + 1) + " of " + sample.points.length + " · " +
      point.lat.toFixed(6) + ", " + point.lon.toFixed(6);
    byId("progress").value = done / sample.points.length;
    byId("done").textContent = done + " of " + sample.points.length + " done";
  }
  function act(key) {
    var next = press(sample, labels, state, key);
    if (next === null) { return false; }
    state = next;
    keep();
    draw();
    return true;
  }
  function save(text, type, ending) {
    var link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: type }));
    link.download = sample.name + "_labelled." + ending;
    document.body.appendChild(link);
    link.click();
    document.body.removeChild(link);
    setTimeout(function () { URL.revokeObjectURL(link.href); }, 1000);
  }
  document.addEventListener("keydown", function (event) {
    if (event.ctrlKey || event.metaKey || event.altKey) { return; }
    if (act(event.key)) { event.preventDefault(); }
  });
  byId("back").addEventListener("click", function () { act("ArrowLeft"); });
  byId("next").addEventListener("click", function () { act("ArrowRight"); });
  byId("open").addEventListener("click", function () {
    var point = nextOpen(labels, state.point);
    state = { point: point, year: Math.max(0, labels[point].indexOf("")) };
    draw();
  });
  byId("csv").addEventListener("click", function () { save(toCsv(sample, labels), "text/csv", "csv"); });
  byId("geojson").addEventListener("click", function () {
    save(toGeoJson(sample, labels), "application/geo+json", "geojson");
  });
  byId("clear").addEventListener("click", function () {
    if (root.confirm("Take back all labels of this sample?")) { labels = emptyLabels(sample); keep(); draw(); }
  });
  draw();
}(typeof window === "undefined" ? this : window));

const data = JSON.parse(document.getElementById("scores").textContent);
const one = selector => document.querySelector(selector);
const metricOf = name => data.metrics.find(metric => metric.name === name);
// Smaller is better for every metric; undefined values come last.
const badness = (metric, value) => value === null ? Infinity
  : metric.direction === "higher" ? -value : metric.direction === "lower" ? value : Math.abs(value);
const round = value => value === null ? "–" : String(+value.toPrecision(4));
const option = (value, text) => Object.assign(document.createElement("option"), { value, textContent: text });
let collect = () => {};  // set by the viewer: collects the rows of pictures

// Two metrics against each other.
if (one(".scatter")) {
  const [across, up, per] = [".x", ".y", ".per"].map(name => one(`.scatter ${name}`));
  for (const metric of data.metrics) for (const select of [across, up]) select.append(option(metric.name, metric.title));
  up.selectedIndex = 1;
  const hues = [245, 20, 150, 320, 85, 200, 50, 280, 120, 0];
  const colour = new Map(data.methods.filter(m => !m.reference).map((m, i) => [m.name, `hsl(${hues[i % hues.length]} 62% 56%)`]));
  data.methods.filter(m => m.reference).forEach((m, i) => colour.set(m.name, `hsl(240 5% ${40 + 9 * i}%)`));
  const hidden = new Set(), namespace = one(".scatter svg").namespaceURI;
  const W = 820, H = 430;
  const mean = values => { const v = values.filter(x => x !== null); return v.length ? v.reduce((a, b) => a + b) / v.length : null; };
  const ticks = (low, high) => {
    const unit = 10 ** Math.floor(Math.log10((high - low) / 4)), step = unit * [5, 2, 1].find(m => (high - low) / (unit * m) >= 4);
    return Array.from({ length: Math.floor(high / step) - Math.ceil(low / step) + 1 }, (_, i) => +((Math.ceil(low / step) + i) * step).toPrecision(9));
  };
  const element = (name, attributes, text) => {
    const made = document.createElementNS(namespace, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const draw = () => {
    const shown = data.methods.filter(m => !hidden.has(m.name)), points = [], means = [];
    for (const method of shown) {
      const xs = data.values[method.name][across.value], ys = data.values[method.name][up.value];
      const both = data.stems.map((stem, i) => ({ method, stem, x: xs[i], y: ys[i] })).filter(p => p.x !== null && p.y !== null);
      if (both.length) means.push({ method, x: mean(both.map(p => p.x)), y: mean(both.map(p => p.y)) });
      if (per.value === "image") points.push(...both);
    }
    const range = name => {
      const values = [...points, ...means].map(p => p[name]);
      const low = Math.min(...values), high = Math.max(...values), pad = (high - low || Math.abs(high) || 1) * 0.07;
      return [low - pad, high + pad];
    };
    const svg = element("svg", { viewBox: `-62 -14 ${W + 92} ${H + 66}`, role: "img", "aria-label": "scatter plot" });
    if (means.length) {
      const [x0, x1] = range("x"), [y0, y1] = range("y");
      const px = v => (v - x0) / (x1 - x0) * W, py = v => (y1 - v) / (y1 - y0) * H;
      for (const t of ticks(x0, x1)) svg.append(element("line", { x1: px(t), x2: px(t), y1: 0, y2: H }), element("text", { x: px(t), y: H + 19, "text-anchor": "middle" }, t));
      for (const t of ticks(y0, y1)) svg.append(element("line", { x1: 0, x2: W, y1: py(t), y2: py(t) }), element("text", { x: -9, y: py(t) + 4, "text-anchor": "end" }, t));
      for (const p of points) {
        const circle = element("circle", { class: "image", cx: px(p.x), cy: py(p.y), r: 4.5, fill: colour.get(p.method.name) });
        circle.append(element("title", {}, `${p.stem}, ${p.method.title}: ${round(p.x)}, ${round(p.y)}`));
        circle.onclick = () => reveal(p.stem);
        svg.append(circle);
      }
      const labels = [];  // overlapping labels are moved apart
      for (const p of means.sort((a, b) => b.y - a.y)) {
        const circle = element("circle", { cx: px(p.x), cy: py(p.y), r: 8, fill: colour.get(p.method.name), style: "stroke: var(--ink); stroke-width: 1.5" });
        circle.append(element("title", {}, `mean of ${p.method.title}: ${round(p.x)}, ${round(p.y)}`));
        const end = px(p.x) > W - 130, x = px(p.x) + (end ? -13 : 13);
        let y = py(p.y) + 4;
        for (const other of labels) if (Math.abs(other.x - x) < 70 && y - other.y < 15) y = other.y + 15;
        labels.push({ x, y, text: element("text", { class: "name", x, y, "text-anchor": end ? "end" : "start" }, p.method.title) });
        svg.append(circle);
      }
      svg.append(...labels.map(label => label.text));
    }
    const title = name => { const m = metricOf(name); return `${m.title} ${{ higher: "→ better", lower: "← better" }[m.direction] ?? ""}`; };
    svg.append(element("text", { class: "title", x: W / 2, y: H + 44, "text-anchor": "middle" }, title(across.value)),
      element("text", { class: "title", transform: `translate(-50 ${H / 2}) rotate(-90)`, "text-anchor": "middle" }, title(up.value)));
    one(".scatter .canvas").replaceChildren(svg);
  };
  one(".scatter .keys").append(...data.methods.map(method => {
    const key = document.createElement("button"), dot = document.createElement("i");
    key.type = "button"; dot.style.background = colour.get(method.name);
    key.append(dot, method.title); key.ariaPressed = true;
    key.onclick = () => {
      if (!hidden.delete(method.name)) hidden.add(method.name);
      key.ariaPressed = !hidden.has(method.name); draw();
    };
    return key;
  }));
  for (const select of [across, up, per]) select.onchange = draw;
  one(".scatter").hidden = false;
  draw();
}

// The worst and best images of a method by a metric.
const EXTREMES = 3;
let reveal = stem => {
  const row = [...document.querySelectorAll(".row")].find(row => row.dataset.stem === stem);
  if (!row) return;
  if (row.hidden) { one(".cases .order").value = "name"; arrange(); }
  document.querySelectorAll(".row.target").forEach(other => other.classList.remove("target"));
  row.classList.add("target"); row.scrollIntoView({ behavior: "smooth", block: "center" });
};
let arrange = () => {};
if (one(".cases")) {
  const [order, by, of] = [".order", ".metric", ".method"].map(name => one(`.cases ${name}`));
  by.append(...data.metrics.map(metric => option(metric.name, metric.title)));
  of.append(...data.methods.map(method => option(method.name, method.title)));
  of.value = data.own;
  const gallery = one(".gallery"), byName = [...gallery.children], scores = new Map(byName.map(row => [row, [...row.querySelectorAll("header span")]]));
  const part = text => Object.assign(document.createElement("h3"), { className: "part", textContent: text });
  arrange = () => {
    const metric = metricOf(by.value), values = data.values[of.value][by.value];
    const value = row => values[data.stems.indexOf(row.dataset.stem)] ?? null;
    const scored = byName.filter(row => value(row) !== null);
    const best = [...scored].sort((a, b) => badness(metric, value(a)) - badness(metric, value(b)));
    const worst = [...best].reverse();
    for (const row of byName) {
      const header = row.querySelector("header"), note = document.createElement("span"), number = document.createElement("b");
      number.textContent = round(value(row)); note.append(`${metric.title} `, number);
      header.replaceChildren(header.firstElementChild, ...(order.value === "name" ? scores.get(row) : [note]));
    }
    const n = Math.min(EXTREMES, Math.floor(best.length / 2)), label = data.methods.find(m => m.name === of.value).title;
    const list = {
      name: () => byName, worst: () => worst, best: () => best,
      extremes: () => [part(`Worst of ${label}`), ...worst.slice(0, n), part(`Best of ${label}`), ...best.slice(0, n)],
    }[order.value]();
    for (const row of byName) row.hidden = !list.includes(row);
    gallery.replaceChildren(...list, ...byName.filter(row => row.hidden));
    by.parentElement.hidden = of.parentElement.hidden = order.value === "name";
    collect();
  };
  for (const select of [order, by, of]) select.onchange = arrange;
  if (byName.length > 2 * EXTREMES) order.value = "extremes";
  one(".cases").hidden = false;
}

if (document.querySelector(".viewer")) {
  // One zoom and position for all pictures of a row, so that switching compares the same spot.
  let rows = [];
  const viewer = document.querySelector(".viewer"), stage = viewer.querySelector(".stage");
  const picture = stage.querySelector("img"), tabs = viewer.querySelector(".tabs");
  let row = 0, column = 0, scale = 1, x = 0, y = 0, drag = null;

  function place() {
    picture.style.transform = `translate(${x}px, ${y}px) scale(${scale})`;
    picture.classList.toggle("close-up", scale >= 3);
  }
  function reset() { scale = 1; x = y = 0; place(); }
  function show(newRow, newColumn) {
    if (newRow !== row) reset();
    row = newRow; column = Math.min(newColumn, rows[row].images.length - 1);
    const { stem, images } = rows[row], chosen = images[column];
    // Without the file at full size, the picture of the page.
    picture.onerror = () => { picture.onerror = null; picture.src = chosen.src; };
    picture.src = chosen.dataset.full ?? chosen.src; picture.alt = chosen.alt;
    picture.classList.toggle("small", chosen.classList.contains("small"));
    viewer.querySelector(".bar b").textContent = stem;
    viewer.querySelector(".bar span").textContent =
      `${chosen.alt} · ${chosen.getAttribute("width")} × ${chosen.getAttribute("height")}`;
    tabs.replaceChildren(...images.map((image, i) => {
      const tab = document.createElement("button");
      tab.type = "button"; tab.textContent = image.alt;
      tab.setAttribute("aria-pressed", i === column);
      tab.onclick = () => show(row, i);
      return tab;
    }));
  }
  collect = () => {
    rows = [...document.querySelectorAll(".row:not([hidden])")].map(row => ({
      stem: row.dataset.stem, images: [...row.querySelectorAll("img")],
    }));
    rows.forEach(({ images }, i) => images.forEach((image, j) => {
      image.parentElement.onclick = () => { reset(); show(i, j); viewer.showModal(); };
    }));
  };
  collect();
  viewer.querySelector(".close").onclick = () => viewer.close();
  viewer.onkeydown = event => {
    const count = rows[row].images.length;
    const moves = {
      ArrowRight: [row, (column + 1) % count], ArrowLeft: [row, (column + count - 1) % count],
      ArrowDown: [(row + 1) % rows.length, column],
      ArrowUp: [(row + rows.length - 1) % rows.length, column],
    };
    if (moves[event.key]) { event.preventDefault(); show(...moves[event.key]); }
  };
  stage.onwheel = event => {
    event.preventDefault();
    const box = stage.getBoundingClientRect();
    const fromX = event.clientX - box.left - box.width / 2;
    const fromY = event.clientY - box.top - box.height / 2;
    const next = Math.min(24, Math.max(1, scale * Math.exp(-event.deltaY / 400)));
    x = fromX - (fromX - x) * next / scale; y = fromY - (fromY - y) * next / scale;
    scale = next; if (scale === 1) x = y = 0;
    place();
  };
  stage.onpointerdown = event => {
    event.preventDefault(); stage.setPointerCapture(event.pointerId);
    drag = [event.clientX - x, event.clientY - y];
  };
  stage.onpointermove = event => {
    if (drag) { x = event.clientX - drag[0]; y = event.clientY - drag[1]; place(); }
  };
  stage.onpointerup = stage.onpointercancel = () => { drag = null; };
  stage.ondblclick = reset;
}

arrange();

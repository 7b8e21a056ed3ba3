// The brush over the first image.  Python sends {image: URL}; what is drawn goes back as
// {mask: URL of a PNG, white where it is drawn}, or an empty text if nothing is.
const one = selector => element.querySelector(selector);
const image = one("img"), canvas = one("canvas"), brush = one(".brush"), size = one(".size");
const pen = canvas.getContext("2d", { willReadFrequently: true });
let strokes = [];  // {erase, width, points}, in pixels of the canvas
let current = null;  // the stroke that is being drawn
let place = [0, 0];  // of the brush

const width = () => Math.max(2, size.value / 100 * Math.min(canvas.width, canvas.height));

function draw({ erase, width, points }) {
  pen.globalCompositeOperation = erase ? "destination-out" : "source-over";
  pen.strokeStyle = "#ff3b00";
  pen.lineWidth = width;
  pen.lineCap = pen.lineJoin = "round";
  pen.beginPath();
  pen.moveTo(...points[0]);
  for (const point of points) pen.lineTo(...point);
  pen.stroke();
}

function redraw() {
  pen.clearRect(0, 0, canvas.width, canvas.height);
  strokes.forEach(draw);
}

function mask() {
  const { data } = pen.getImageData(0, 0, canvas.width, canvas.height);
  if (!data.some((value, index) => index % 4 === 3 && value > 0)) return "";
  const made = Object.assign(document.createElement("canvas"), { width: canvas.width, height: canvas.height });
  const ink = made.getContext("2d");
  ink.drawImage(canvas, 0, 0);
  ink.globalCompositeOperation = "source-in";
  ink.fillStyle = "#fff";
  ink.fillRect(0, 0, made.width, made.height);
  ink.globalCompositeOperation = "destination-over";
  ink.fillStyle = "#000";
  ink.fillRect(0, 0, made.width, made.height);
  return made.toDataURL("image/png");
}

function send() {
  const drawn = mask();
  one(".hint").textContent = drawn ? "What you ask for applies where it is painted." : "Paint where it is to apply.";
  props.value = { mask: drawn };
}

function showBrush() {
  const scale = canvas.clientWidth / canvas.width;
  const side = `${width() * scale}px`;
  Object.assign(brush.style, { left: `${place[0] * scale}px`, top: `${place[1] * scale}px`, width: side, height: side });
  brush.hidden = false;
}

function begin() {
  current = { erase: one(".erase").getAttribute("aria-pressed") === "true", width: width(), points: [place] };
  strokes.push(current);
  draw(current);
}

function move(point) {
  place = point;
  showBrush();
  if (!current) return;
  draw({ ...current, points: [current.points.at(-1), point] });
  current.points.push(point);
}

function end() {
  if (!current) return;
  current = null;
  send();
}

function undo() {
  end();
  strokes.pop();
  redraw();
  send();
}

function pointed(event) {
  const box = canvas.getBoundingClientRect();
  const scale = canvas.width / box.width;
  return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
}

canvas.addEventListener("pointerdown", event => {
  if (event.button !== 0 || !event.isPrimary) return;
  canvas.setPointerCapture(event.pointerId);
  move(pointed(event));
  begin();
});
canvas.addEventListener("pointermove", event => { if (event.isPrimary) move(pointed(event)); });
for (const name of ["pointerup", "pointercancel", "blur"]) canvas.addEventListener(name, end);
canvas.addEventListener("pointerleave", () => { brush.hidden = document.activeElement !== canvas; });
canvas.addEventListener("focus", showBrush);
canvas.addEventListener("blur", () => { brush.hidden = true; });

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
canvas.addEventListener("keydown", event => {
  if (event.key in ARROWS) {
    const step = event.shiftKey ? 1 : width() / 2, [x, y] = ARROWS[event.key];
    const inside = (value, most) => Math.min(Math.max(value, 0), most);
    move([inside(place[0] + x * step, canvas.width), inside(place[1] + y * step, canvas.height)]);
  } else if (event.key === " ") {
    if (!current) begin();
  } else if (event.key === "z" && (event.ctrlKey || event.metaKey)) {
    undo();
  } else return;
  event.preventDefault();
});
canvas.addEventListener("keyup", event => { if (event.key === " ") end(); });

for (const name of ["paint", "erase"]) one(`.${name}`).addEventListener("click", () => {
  for (const other of ["paint", "erase"]) one(`.${other}`).setAttribute("aria-pressed", String(other === name));
});
one(".undo").addEventListener("click", undo);
one(".clear").addEventListener("click", () => { strokes = []; redraw(); send(); });

function show() {
  const shown = props.value && props.value.image;
  strokes = [];
  current = null;
  if (!shown) {
    one(".stage").hidden = true;
    one(".hint").textContent = "Choose images first.";
    props.value = { mask: "" };
    return;
  }
  image.onload = () => {
    canvas.width = image.naturalWidth;
    canvas.height = image.naturalHeight;
    place = [canvas.width / 2, canvas.height / 2];
    one(".stage").style.setProperty("--aspect", canvas.width / canvas.height);
    one(".stage").hidden = false;
    send();
  };
  image.src = shown;
}

watch("value", show);
show();

if (data.overlays.runs) {
  const {channels, low, high, steps, runs} = data.overlays;
  const colours = 8, dashes = [[], [6, 3], [2, 2], [8, 3, 2, 3], [1, 3]];
  const isFirst = n => runs.findIndex(other => other.lever === runs[n].lever) === n;
  const nameOf = n => `${runs[n].lever} @${runs[n].seed}`;
  const firsts = runs.map((run, n) => n).filter(isFirst).slice(0, 3);
  const shown = new Set(kept.shown ? runs.map((run, n) => n).filter(n => kept.shown.includes(runs[n].id)) : firsts);
  const visible = () => [...shown].sort((a, b) => a - b);
  const drives = new Map();
  const select = $("#drive"), cursor = $("#cursor");
  let drive = null, view = [0, 1], at = 0, dragged = null, shownSheet = "";

  function bytes(text) {
    const chars = atob(text), found = new Uint8Array(chars.length);
    for (let i = 0; i < chars.length; i++) found[i] = chars.charCodeAt(i);
    return found.buffer;
  }

  function unpack(text, channel) {
    const numbers = new Int16Array(bytes(text)), values = new Float32Array(numbers.length);
    const step = (high[channel] - low[channel]) / steps;
    for (let i = 0; i < values.length; i++) values[i] = low[channel] + (numbers[i] + steps / 2) * step;
    return values;
  }

  // A drive is read when it is looked at first, and of it the runs that are shown.
  function load(n) {
    if (!drives.has(n)) {
      const raw = JSON.parse($(`#drive-${n}`).textContent), time = new Int32Array(bytes(raw.time));
      const usual = time.slice(1).map((t, i) => t - time[i]).sort()[time.length >> 1] || 1;
      drives.set(n, {
        time, frame: new Int32Array(bytes(raw.frame)), longest: 3 * usual, pictures: raw.pictures,
        truth: raw.truth.map(unpack), raw: raw.runs, runs: [],
      });
    }
    return drives.get(n);
  }
  const valuesOf = n => drive.runs[n] ||= drive.raw[n].map(unpack);

  const colour = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const lineOf = n => ({colour: `--c${n % colours}`, dash: dashes[Math.floor(n / colours) % dashes.length]});

  const sample = n => make("svg", {"aria-hidden": "true", viewBox: "0 0 20 8"}, make("line", {x1: 0, x2: 20, y1: 4, y2: 4, style: `stroke: var(${lineOf(n).colour})`, "stroke-width": 2.5, "stroke-dasharray": lineOf(n).dash.join(" ") || "none"}));

  // Buttons of each lever's first run, and of the others once they are asked for.
  const more = runs.map((run, n) => n).filter(n => !isFirst(n) && !shown.has(n)).map(n => toggle(n, true));
  function toggle(n, isHidden) {
    const button = make("button", {type: "button", "aria-pressed": shown.has(n), "data-run": runs[n].id, title: runs[n].id}, sample(n), nameOf(n));
    button.hidden = isHidden;
    button.addEventListener("click", () => {
      if (!shown.delete(n)) shown.add(n);
      button.setAttribute("aria-pressed", shown.has(n));
      draw(); drawWindows(); tell();
    });
    return button;
  }
  $("#legend").append(...runs.map((run, n) => n).filter(n => isFirst(n) || shown.has(n)).map(n => toggle(n, false)), ...more);
  if (more.length) {
    const button = make("button", {type: "button"}, `${more.length} more seeds`);
    button.addEventListener("click", () => { more.forEach(other => { other.hidden = false; }); more[0].focus(); button.remove(); });
    $("#legend").append(button);
  }

  const canvases = channels.map((channel, c) => {
    const canvas = make("canvas", {role: "img", "aria-label": `${channel}: truth and predictions over time`});
    $("#plots").append(make("div", {}, make("div", {class: "channel"}, channel), canvas));
    const index = event => {
      const box = canvas.getBoundingClientRect();
      const share = Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1);
      return nearest(view[0] + share * (view[1] - view[0]));
    };
    canvas.addEventListener("pointerdown", event => { if (event.pointerType === "mouse") { dragged = [index(event), index(event)]; canvas.setPointerCapture(event.pointerId); } else move(index(event)); });
    canvas.addEventListener("pointermove", event => { if (dragged) dragged[1] = index(event); move(index(event)); });
    canvas.addEventListener("pointerup", () => { finish(); });
    canvas.addEventListener("pointercancel", () => { dragged = null; draw(); });
    canvas.addEventListener("dblclick", () => zoom(null));
    return canvas;
  });

  function finish() {
    const [a, b] = dragged ? [...dragged].sort((x, y) => x - y) : [0, 0];
    dragged = null;
    if (b - a > 3) zoom([drive.time[a], drive.time[b]]); else draw();
  }

  function nearest(time) {
    let first = 0, last = drive.time.length - 1;
    while (last - first > 1) { const middle = (first + last) >> 1; if (drive.time[middle] < time) first = middle; else last = middle; }
    return time - drive.time[first] < drive.time[last] - time ? first : last;
  }

  // Shows a stretch of time, in ms since the drive's first frame; all of it for null.
  function zoom(span) {
    const end = drive.time[drive.time.length - 1] || 1;
    view = span ? [Math.max(span[0], 0), Math.min(span[1], end)] : [0, end];
    draw();
  }

  function scale(by) {
    const here = drive.time[at], half = (view[1] - view[0]) * by / 2;
    zoom(half * 2 >= drive.time[drive.time.length - 1] ? null : [here - half, here + half]);
  }

  function move(to) {
    at = to;
    cursor.value = at;
    cursor.setAttribute("aria-valuetext", `${(drive.time[at] / 1000).toFixed(1)} s, frame ${drive.frame[at]}`);
    if (drive.time[at] < view[0] || drive.time[at] > view[1]) { const width = view[1] - view[0]; zoom([drive.time[at] - width / 2, drive.time[at] + width / 2]); } else draw();
    tell();
  }

  function tell() {
    const row = (head, values) => make("tr", {}, make("th", {scope: "row"}, ...head), ...values.map(value => make("td", {}, value[at].toFixed(3))));
    const rows = visible().map(n => row([sample(n), nameOf(n)], valuesOf(n)));
    const names = make("thead", {}, make("tr", {}, make("td", {}), ...channels.map(channel => make("th", {scope: "col"}, channel))));
    const when = `${(drive.time[at] / 1000).toFixed(1)} s, frame ${drive.frame[at]}`;
    $("#readout").replaceChildren(make("div", {class: "soft"}, when), make("table", {}, names, make("tbody", {}, row([make("b", {}, "truth")], drive.truth), ...rows)));
    look();
  }

  function look() {
    const box = $("#picture"), pictures = drive.pictures;
    if (!pictures) { box.style.height = "0"; box.style.backgroundImage = "none"; shownSheet = ""; return; }
    let n = 0;
    while (n + 1 < pictures.places.length && pictures.places[n + 1] <= at) n++;
    const each = pictures.columns * pictures.rows, sheet = Math.floor(n / each), place = n % each;
    const rows = Math.ceil(Math.min(each, pictures.places.length - sheet * each) / pictures.columns);
    const width = box.clientWidth || 230, height = width * pictures.height / pictures.width;
    box.style.height = `${height}px`;
    if (shownSheet !== pictures.sheets[sheet]) { shownSheet = pictures.sheets[sheet]; box.style.backgroundImage = `url(${shownSheet})`; }
    box.style.backgroundSize = `${width * pictures.columns}px ${height * rows}px`;
    box.style.backgroundPosition = `${-width * (place % pictures.columns)}px ${-height * Math.floor(place / pictures.columns)}px`;
    box.setAttribute("aria-label", `camera at frame ${drive.frame[pictures.places[n]]}`);
  }

  function draw() {
    canvases.forEach((canvas, c) => {
      const ratio = devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
      if (!width) return;
      canvas.width = width * ratio; canvas.height = height * ratio;
      const pen = canvas.getContext("2d");
      pen.scale(ratio, ratio);
      const room = 0.06 * (high[c] - low[c]), x = time => (time - view[0]) / (view[1] - view[0] || 1) * width;
      const y = value => 4 + (height - 20) * (high[c] + room - value) / (high[c] - low[c] + 2 * room);
      axes(pen, c, x, y, width, height);
      const from = Math.max(nearest(view[0]) - 1, 0), to = Math.min(nearest(view[1]) + 1, drive.time.length - 1);
      trace(pen, drive.truth[c], from, to, x, y, colour("--truth"), [], 1.7);
      for (const n of visible()) trace(pen, valuesOf(n)[c], from, to, x, y, colour(lineOf(n).colour), lineOf(n).dash, 1.3);
      if (dragged) { pen.fillStyle = colour("--band"); pen.fillRect(Math.min(x(drive.time[dragged[0]]), x(drive.time[dragged[1]])), 0, Math.abs(x(drive.time[dragged[0]]) - x(drive.time[dragged[1]])), height); }
      pen.strokeStyle = colour("--accent"); pen.setLineDash([]); pen.lineWidth = 1;
      pen.beginPath(); pen.moveTo(x(drive.time[at]), 0); pen.lineTo(x(drive.time[at]), height - 14); pen.stroke();
    });
  }

  function round(span) {
    const rough = span / 6, size = 10 ** Math.floor(Math.log10(rough || 1));
    return [1, 2, 5, 10].map(n => n * size).find(step => step >= rough * 0.999);
  }

  function axes(pen, c, x, y, width, height) {
    pen.font = "11px system-ui, sans-serif"; pen.fillStyle = colour("--soft"); pen.strokeStyle = colour("--grid"); pen.lineWidth = 1;
    const step = round((high[c] - low[c]) * 2), seconds = round((view[1] - view[0]) / 1000);
    for (let value = Math.ceil(low[c] / step) * step; value <= high[c] + 1e-9; value += step) {
      pen.beginPath(); pen.moveTo(0, y(value)); pen.lineTo(width, y(value)); pen.stroke();
      pen.fillText(String(Number(value.toFixed(4))), 4, y(value) - 3);
    }
    for (let value = Math.ceil(view[0] / 1000 / seconds) * seconds; value * 1000 <= view[1]; value += seconds) {
      const left = x(value * 1000);
      if (left > 12 && left < width - 24) pen.fillText(`${Number(value.toFixed(3))} s`, left - 8, height - 3);
    }
  }

  function trace(pen, values, from, to, x, y, ink, dash, width) {
    pen.strokeStyle = ink; pen.setLineDash(dash); pen.lineWidth = width; pen.lineJoin = "round";
    pen.beginPath();
    for (let i = from; i <= to; i++) {
      if (i === from || drive.time[i] - drive.time[i - 1] > drive.longest) pen.moveTo(x(drive.time[i]), y(values[i]));
      else pen.lineTo(x(drive.time[i]), y(values[i]));
    }
    pen.stroke();
  }

  function choose(n) {
    drive = load(n);
    select.selectedIndex = n;
    cursor.max = drive.time.length - 1;
    at = 0;
    zoom(null); move(0);
  }

  // Small multiples: one window each, on one scale.
  const figures = data.windows.map(one => {
    const svg = make("svg", {viewBox: "0 0 200 120", role: "img"});
    const go = make("button", {type: "button"}, `${data.overlays.drives[one.drive]}, frame ${one.frame}`);
    go.addEventListener("click", () => { choose(one.drive); const t = drive.time[one.place]; zoom([t - 5000, t + 5000]); move(one.place); $("#overlays").scrollIntoView(); cursor.focus(); });
    $("#multiples").append(make("figure", {}, svg, make("figcaption", {}, go)));
    return svg;
  });

  function drawWindows() {
    data.windows.forEach((one, n) => {
      const own = [one.before, one.truth, ...visible().map(run => one.runs[run])].flat();
      const [bottom, top] = [Math.min(...own, 0), Math.max(...own, 0)], span = top - bottom || 1;
      const before = one.before.length, total = Math.max(before + one.truth.length - 1, 1);
      const x = i => 6 + 188 * i / total, y = value => 8 + 98 * (top - value) / span;
      const path = (values, start) => "M" + values.map((value, i) => `${x(start + i).toFixed(1)} ${y(value).toFixed(1)}`).join("L");
      const lines = [make("line", {x1: 0, x2: 200, y1: y(0), y2: y(0), style: "stroke: var(--grid)"})];
      if (before) lines.push(make("line", {x1: x(before - 1), x2: x(before - 1), y1: 0, y2: 108, style: "stroke: var(--soft)", "stroke-dasharray": "2 3"}), make("text", {x: x(before - 1) + 3, y: 117}, "now"));
      lines.push(make("path", {d: path([...one.before, ...one.truth], 0), fill: "none", style: "stroke: var(--truth)", "stroke-width": 1.8}));
      for (const run of visible()) lines.push(make("path", {d: path(one.runs[run], before), fill: "none", style: `stroke: var(${lineOf(run).colour})`, "stroke-width": 1.5, "stroke-dasharray": lineOf(run).dash.join(" ") || "none"}));
      lines.push(make("text", {x: 4, y: 117}, `${bottom.toFixed(2)} to ${top.toFixed(2)}`));
      figures[n].replaceChildren(...lines);
      figures[n].setAttribute("aria-label", `truth ${one.truth.join(", ")}; ${visible().map(run => `${runs[run].lever} ${one.runs[run].join(", ")}`).join("; ")}`);
    });
  }

  select.addEventListener("change", () => choose(select.selectedIndex));
  cursor.addEventListener("input", () => move(Number(cursor.value)));
  $("#zoom-in").addEventListener("click", () => scale(0.5));
  $("#zoom-out").addEventListener("click", () => scale(2));
  $("#zoom-all").addEventListener("click", () => zoom(null));
  addEventListener("resize", () => { draw(); look(); });
  repaint.push(() => draw());
  choose(Math.max(data.overlays.drives.indexOf(kept.chosen?.drive), 0));
  drawWindows();
}

{
  const {keys, better, bounds, primary, runs, baselines} = data.numbers;
  const body = $("#numbers tbody"), head = $("#numbers thead"), slice = $("#slice"), readout = $("#readout-of");
  const choices = place => [...new Set(keys.map(key => key[place]).filter(Boolean))];
  const rank = names => names.sort((a, b) => order(a) - order(b) || a.localeCompare(b, undefined, {numeric: true}));
  const order = name => name === primary[2] || name === primary[3] ? -2 : name === "overall" || name === "meank" ? -1 : name.includes(":") ? 1 : 0;
  const fill = (select, names, wish) => {
    for (const name of names) select.append(make("option", {value: name}, bounds.includes(name) ? `${name} (a bound)` : name));
    if (names.includes(wish)) select.value = wish;
  };
  const isBare = name => baselines.some(row => row.name === name);
  fill(slice, rank(choices(2)), kept.chosen?.slice || primary[2]);
  fill(readout, rank(choices(3).filter(name => !isBare(name))), kept.chosen?.["readout-of"] || primary[3]);
  if (kept.chosen?.filter) $("#filter").value = kept.chosen.filter;
  const nameOf = (metric, channel) => channel ? `${channel} ${metric}` : metric;
  let sorted = {name: nameOf(primary[0], primary[1]), up: better[primary[0]] !== "higher"};

  // The columns at this slice: one for each metric and channel, of the readout chosen or of none.
  function columns() {
    const found = new Map();
    keys.forEach(([metric, channel, where, how], at) => {
      if (where !== slice.value || (how && how !== readout.value && !isBare(how))) return;
      const name = nameOf(metric, channel);
      const column = found.get(name) || {name, metric, channel, at: -1, bare: {}};
      if (isBare(how)) column.bare[how] = at; else column.at = at;
      found.set(name, column);
    });
    const first = column => (column.metric === primary[0] ? 0 : better[column.metric] ? 2 : 4) + (column.channel === primary[1] ? 0 : 1);
    return [...found.values()].filter(column => column.at >= 0).sort((a, b) => first(a) - first(b) || a.name.localeCompare(b.name));
  }

  function best(column) {
    const way = better[column.metric];
    const values = runs.map(run => run.values[column.at]).filter(value => value !== null);
    return !way || values.length < 2 ? null : way === "lower" ? Math.min(...values) : Math.max(...values);
  }

  function draw() {
    const shown = columns(), wanted = $("#filter").value.trim().toLowerCase();
    if (sorted.name !== null && !["run", "lever"].includes(sorted.name) && !shown.some(column => column.name === sorted.name)) sorted = {name: null, up: true};
    const by = shown.find(column => column.name === sorted.name);
    const listed = runs.filter(run => `${run.id} ${run.lever} ${run.what}`.toLowerCase().includes(wanted));
    const compare = by ? (a, b) => {
      const [x, y] = [a.values[by.at], b.values[by.at]];
      return x === null ? 1 : y === null ? -1 : sorted.up ? x - y : y - x;
    } : (a, b) => (sorted.up ? 1 : -1) * a[sorted.name === "lever" ? "lever" : "id"].localeCompare(b[sorted.name === "lever" ? "lever" : "id"], undefined, {numeric: true});
    if (sorted.name !== null) listed.sort(compare);
    head.replaceChildren(make("tr", {}, heading("run", "run"), heading("lever", "lever"), ...shown.map(column => heading(column.name, column.name, better[column.metric]))));
    const bests = shown.map(best);
    body.replaceChildren(...listed.map(run => make("tr", {"data-run": run.id}, make("th", {scope: "row"}, run.id), make("td", {class: "text"}, run.lever), ...shown.map((column, n) => {
      const value = run.values[column.at], isBest = value !== null && value === bests[n];
      const cell = make("td", {"data-value": value ?? "", title: value ?? "no number"}, figure(value));
      if (isBest) { cell.className = "best"; cell.append(make("span", {class: "sr"}, " best")); }
      return cell;
    }))), ...baselines.filter(row => shown.some(column => row.name in column.bare)).map(row => make("tr", {class: "baseline"},
      make("th", {scope: "row"}, row.name), make("td", {class: "text"}, "no policy"), ...shown.map(column => make("td", {}, row.name in column.bare ? figure(row.values[column.bare[row.name]]) : "–")))));
    $("#shown").textContent = `${listed.length} of ${runs.length} runs${data.numbers.left_out ? `; ${data.numbers.left_out} older ones are left out` : ""}`;
  }

  function heading(name, words, way) {
    const button = make("button", {type: "button", title: ["run", "lever"].includes(name) ? "sort" : way ? `${way} is better` : "says nothing of which is better"}, words);
    button.addEventListener("click", () => {
      sorted = {name, up: sorted.name === name ? !sorted.up : way !== "higher"};
      draw();
      $$("#numbers thead button").find(other => other.textContent === words).focus();
    });
    const cell = make("th", {scope: "col"}, button);
    if (sorted.name === name) cell.setAttribute("aria-sort", sorted.up ? "ascending" : "descending");
    return cell;
  }

  for (const node of [slice, readout]) node.addEventListener("change", draw);
  $("#filter").addEventListener("input", draw);
  if (keys.length) draw(); else { $("#metrics .scroll").replaceChildren(make("p", {class: "empty"}, "No run has finished yet.")); }
}

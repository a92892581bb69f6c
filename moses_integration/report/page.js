"use strict";
(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const specs = read("specs"), neighbours = read("neighbours"), views = {};
  const dark = matchMedia("(prefers-color-scheme: dark)");

  // Charts. Their sizes are those of a desktop; what is wider than the page is made narrower.
  const style = () => getComputedStyle(document.documentElement);
  const config = () => {
    const ink = style().getPropertyValue("--ink").trim(), line = style().getPropertyValue("--line").trim();
    const text = { labelColor: ink, titleColor: ink };
    return {
      background: "transparent", font: "system-ui, DejaVu Sans, sans-serif",
      axis: { ...text, gridColor: line, domainColor: line, tickColor: line, gridOpacity: 0.6 },
      legend: { ...text, columns: innerWidth < 600 ? 2 : 5 }, header: text,
      title: { color: ink }, text: { color: ink }, rule: { color: ink }, view: { stroke: line },
    };
  };
  const widthOf = (spec) => {
    if (spec.vconcat) return Math.max(...spec.vconcat.map(widthOf));
    if (spec.hconcat) return spec.hconcat.reduce((sum, each) => sum + widthOf(each), 0);
    if (spec.facet) return widthOf(spec.spec) * spec.columns;
    return typeof spec.width === "number" ? spec.width : 0;
  };
  const scaled = (spec, factor, inner) => {
    const copy = { ...spec };
    for (const key of ["vconcat", "hconcat"]) if (copy[key]) copy[key] = copy[key].map((each) => scaled(each, factor, true));
    if (copy.spec) {
      if (factor < 0.75) { copy.columns = 1; factor *= 2; }
      copy.spec = scaled(copy.spec, factor, true);
    }
    if (typeof copy.width === "number") copy.width = Math.round(copy.width * factor);
    if (typeof copy.height === "number" && (inner || copy.height > copy.width)) copy.height = Math.round(copy.height * Math.max(factor, 0.6));
    return copy;
  };
  const draw = async (place) => {
    const name = place.dataset.chart, spec = specs[name];
    const factor = Math.min(1, (place.clientWidth - 75) / widthOf(spec));
    const options = { renderer: name === "scores" || name.startsWith("map-") ? "canvas" : "svg", actions: false, config: config() };
    place.dataset.drawn = dark.matches ? "dark" : "light";  // the print stylesheet asks
    const found = await vegaEmbed(place, scaled(spec, factor, false), options);
    views[name] = place.view = found.view;
    if (name === "scores") found.view.addSignalListener("brush", (_, area) => showBrushed(area));
    if (name.startsWith("map-")) found.view.addEventListener("click", (_, item) => {
      if (item && item.datum && item.datum.i !== undefined) showNeighbours(name.slice(4), item.datum.i);
    });
  };
  const drawAll = async () => {
    for (const place of document.querySelectorAll("[data-chart]")) await draw(place);
    document.documentElement.dataset.drawn = "yes";
  };

  // Entries under the brush of the scatter plot.
  const cell = (row, text, kind) => { const made = row.insertCell(); made.textContent = text; made.className = kind || ""; };
  const showBrushed = (area) => {
    const body = document.querySelector("#brushed tbody"), note = document.getElementById("brushed-note");
    body.replaceChildren();
    const chosen = area && area.x && area.y ? specs.scores.vconcat[1].hconcat[0].layer[1].data.values.filter((p) =>
      p.x >= Math.min(...area.x) && p.x <= Math.max(...area.x) && p.y >= Math.min(...area.y) && p.y <= Math.max(...area.y)) : [];
    for (const p of chosen.slice(0, 50)) {
      const row = body.insertRow();
      cell(row, p.s, "phrase"); cell(row, p.t, "phrase");
      cell(row, p.x.toFixed(2), "n"); cell(row, p.y.toFixed(2), "n"); cell(row, p.n, "n"); cell(row, p.l, "n");
    }
    document.getElementById("brushed").hidden = !chosen.length;
    note.textContent = chosen.length ? `${chosen.length.toLocaleString("en")} entries of the sample chosen${chosen.length > 50 ? "; the first 50:" : ":"}` : "Drag a rectangle in the plot to list its entries here; click in the legend to see one group.";
  };

  // Maps: search, and the nearest in the full space.
  const pointsOf = (map) => specs[`map-${map}`].layer[0].data.values;
  const showNeighbours = (map, place) => {
    const points = pointsOf(map), near = neighbours[map][place].map((other) => points[other].t);
    document.getElementById(`near-${map}`).textContent = `${points[place].t} — nearest: ${near.join(" · ")}`;
  };
  for (const field of document.querySelectorAll("[data-map]")) field.addEventListener("input", () => {
    const map = field.dataset.map, wanted = field.value.trim().toLowerCase(), points = pointsOf(map);
    if (views[`map-${map}`]) views[`map-${map}`].signal("query", wanted).runAsync();
    const exact = points.find((p) => p.t.toLowerCase() === wanted) || (wanted && points.find((p) => p.t.toLowerCase().includes(wanted)));
    if (exact) showNeighbours(map, exact.i);
    else document.getElementById(`near-${map}`).textContent = wanted ? "Not on this map." : "";
  });

  // Tables: sort by a click on a head, filter by words and choices, show a part, copy all.
  for (const tools of document.querySelectorAll("[data-table]")) {
    const table = document.getElementById(tools.dataset.table), body = table.tBodies[0];
    const rows = [...body.rows], search = tools.querySelector("input"), status = tools.querySelector("output");
    const more = tools.querySelector("[data-more]");
    const choices = [...tools.querySelectorAll("select")];
    let limit = 25;
    const key = (row, at) => { const text = row.cells[at].dataset.v ?? row.cells[at].textContent.trim(); return [text, text === "" ? NaN : Number(text)]; };
    const show = () => {
      const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      const fits = rows.filter((row) => {
        const text = row.textContent.toLowerCase();
        return words.every((word) => text.includes(word)) && choices.every((c) => !c.value || row.dataset[c.name] === c.value);
      });
      body.replaceChildren(...fits.slice(0, limit));
      status.textContent = `${Math.min(limit, fits.length)} of ${fits.length} shown`;
      more.hidden = fits.length <= limit;
      return fits;
    };
    [...table.tHead.rows[0].cells].forEach((head, at) => {
      const button = document.createElement("button");
      button.type = "button"; button.textContent = head.textContent; head.replaceChildren(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        rows.sort((one, two) => {
          const [a, x] = key(one, at), [b, y] = key(two, at);
          const order = Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b) : x - y;
          return down ? -order : order;
        });
        show();
      });
    });
    search.addEventListener("input", show);
    choices.forEach((choice) => choice.addEventListener("change", show));
    more.addEventListener("click", () => { limit += 50; show(); });
    tools.querySelector("[data-copy]").addEventListener("click", async (event) => {
      const line = (row) => [...row.cells].map((c) => c.textContent.trim().replace(/\s+/g, " ")).join("\t");
      await navigator.clipboard.writeText([table.tHead.rows[0], ...show()].map(line).join("\n"));
      event.target.textContent = "Copied";
    });
    addEventListener("beforeprint", () => { body.replaceChildren(...rows); });
    addEventListener("afterprint", show);
    show();
  }

  showBrushed(null);
  drawAll();
  dark.addEventListener("change", drawAll);
  let width = innerWidth, timer;
  addEventListener("resize", () => { clearTimeout(timer); timer = setTimeout(() => { if (innerWidth !== width) { width = innerWidth; drawAll(); } }, 300); });
})();

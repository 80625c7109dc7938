(() => {
  "use strict";
  const $ = (s, root = document) => root.querySelector(s), $$ = (s, root = document) => [...root.querySelectorAll(s)];

  // The map of tensors: one stop for the tab key, arrows from cell to cell.
  const maps = $$("table.map");
  const rows = maps.flatMap(t => $$("tbody tr", t).map(r => $$("td", r)));
  const say = $("#tensor-readout");
  if (rows.length && say) {
    const tell = c => { if (c.title) say.textContent = c.title; };
    rows.flat().forEach(c => { c.tabIndex = -1; c.addEventListener("mouseenter", () => tell(c)); c.addEventListener("focus", () => tell(c)); });
    rows[0][0].tabIndex = 0;
    maps.forEach(t => t.addEventListener("keydown", e => {
      const step = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1]}[e.key];
      if (!step) return;
      const y = rows.findIndex(r => r.includes(e.target));
      if (y < 0) return;
      const to = (rows[y + step[0]] || [])[rows[y].indexOf(e.target) + step[1]];
      if (!to) return;
      e.preventDefault();
      e.target.tabIndex = -1; to.tabIndex = 0; to.focus(); tell(to);
    }));
  }

  // The map of experts: what lies under the pointer, or under the arrow keys.
  const data = $("#experts-data"), heat = $("#heat");
  if (data && heat) {
    const d = JSON.parse(data.textContent), out = $("#heat-readout");
    let y = 0, x = 0;
    const shown = () => $$("svg", heat).find(s => s.getBoundingClientRect().height > 0);
    const tell = () => {
      const l = d.layers[y], e = l.e[x];
      let text = "layer " + l.l + ", expert " + e;
      if (l.n) text += ": " + l.n[x].toLocaleString("en") + " activations, " + (100 * l.n[x] / l.sum).toPrecision(3) + " % of the layer";
      else if (l.s) text += ": " + (100 * l.s[x]).toPrecision(3) + " % of the layer";
      else text += ": no statistics";
      if (l.t) text += "; split plan " + d.types[l.t[x]];
      out.textContent = text;
      const box = shown().getBoundingClientRect(), own = heat.getBoundingClientRect();
      const w = box.width / l.e.length, h = box.height / d.layers.length;
      Object.assign($(".cursor", heat).style, {display: "block", left: box.left - own.left + x * w - 2 + "px", top: box.top - own.top + y * h - 2 + "px", width: w + 4 + "px", height: h + 4 + "px"});
    };
    heat.tabIndex = 0;
    heat.addEventListener("mousemove", e => {
      const s = shown(), b = s.getBoundingClientRect();
      const ny = Math.floor((e.clientY - b.top) / b.height * d.layers.length);
      if (ny < 0 || ny >= d.layers.length) return;
      const nx = Math.floor((e.clientX - b.left) / b.width * d.layers[ny].e.length);
      if (nx < 0 || nx >= d.layers[ny].e.length) return;
      y = ny; x = nx; tell();
    });
    heat.addEventListener("focus", tell);
    heat.addEventListener("keydown", e => {
      const step = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], Home: [0, -1e9], End: [0, 1e9]}[e.key];
      if (!step || e.target !== heat) return;
      e.preventDefault();
      y = Math.min(d.layers.length - 1, Math.max(0, y + step[0]));
      x = Math.min(d.layers[y].e.length - 1, Math.max(0, x + step[1]));
      tell();
    });
  }

  // The table of tensors: search and sort.
  const table = $("#tensors table"), box = $("#tensor-search");
  if (table && box) {
    const body = table.tBodies[0], all = [...body.rows].map(r => ({r, text: r.textContent.toLowerCase()}));
    $("#search-line").hidden = false;
    const count = $("#search-count");
    const filter = () => {
      const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
      let n = 0;
      for (const {r, text} of all) { r.hidden = !words.every(w => text.includes(w)); if (!r.hidden) n++; }
      count.textContent = n + " of " + all.length;
    };
    box.addEventListener("input", filter);
    filter();
    $$("thead th", table).forEach((th, i) => {
      const b = document.createElement("button");
      b.type = "button"; b.textContent = th.textContent; th.textContent = ""; th.append(b);
      b.addEventListener("click", () => {
        const up = th.getAttribute("aria-sort") !== "ascending";
        $$("thead th", table).forEach(o => o.removeAttribute("aria-sort"));
        th.setAttribute("aria-sort", up ? "ascending" : "descending");
        const key = r => r.cells[i].dataset.v !== undefined ? +r.cells[i].dataset.v : r.cells[i].textContent;
        const sorted = all.map((o, n) => ({o, n, k: key(o.r)})).sort((p, q) =>
          (typeof p.k === "number" ? p.k - q.k : p.k.localeCompare(q.k, "en", {numeric: true})) * (up ? 1 : -1) || p.n - q.n);
        body.append(...sorted.map(s => s.o.r));
      });
    });
  }
  // Long lists are printed only where they were opened.
  addEventListener("beforeprint", () => $$("details:not(.long)").forEach(d => { d.open = true; }));
})();

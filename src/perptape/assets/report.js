// The page's own script. Everything a tape said reaches the page as text: textContent, never HTML.
"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const page = JSON.parse(byId("series").textContent);
  const MINUS = "\u2212", NONE = "\u2013";

  // ---- what was embedded: little-endian floats in base64 -------------------------------------
  function floats(text, Type) {
    const chars = atob(text);
    const bytes = new Uint8Array(chars.length);
    for (let k = 0; k < chars.length; k++) bytes[k] = chars.charCodeAt(k);
    return new Type(bytes.buffer);
  }

  // the time axis of the coin that is shown: starts of equal steps, in s
  let xs = [], count = 0, step_s = 1;
  function useAxis(axis) {
    count = axis.count;
    step_s = axis.step_s;
    xs = Array.from({ length: count }, (_, k) => axis.t0_s + k * step_s);
    byId("step").textContent = axis.step;
  }

  // low, high and last of each bucket; null where nothing is known
  function drawn(text, base) {
    const all = floats(text, Float32Array);
    const part = (k) => Array.from(all.subarray(k * count, (k + 1) * count),
      (v) => Number.isNaN(v) ? null : v + base);
    return { low: part(0), high: part(1), last: part(2) };
  }

  // ---- numbers as text -----------------------------------------------------------------------
  const fixed = (v, n) => v == null ? NONE : (v < 0 ? MINUS : "") + Math.abs(v).toFixed(n);
  const bps = (v) => v == null ? NONE : fixed(v, Math.abs(v) < 1 ? 3 : 2) + " bps";
  const price = (v) => {
    if (v == null) return NONE;
    const digits = Math.max(0, Math.min(10, 7 - Math.floor(Math.log10(Math.abs(v) || 1)) - 1));
    return v.toFixed(digits);
  };
  const stamp = (s, digits) => new Date(Math.floor(s * 1e3 + 1e-3)).toISOString()
    .replace("T", " ").replace("Z", "").slice(0, digits ? 23 : 19);
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  function element(tag, className, text) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text != null) made.textContent = text;
    return made;
  }

  // ---- one chart -----------------------------------------------------------------------------
  const charts = [];
  let shared = false; // guards against charts answering each other's zoom

  // A bucket is a box from its lowest to its highest value, with its last value as a step.
  function boxes(values) {
    return (u, seriesIdx, from, to) => {
      const stroke = new Path2D(), fill = new Path2D();
      const x = (v) => u.valToPos(v, "x", true), y = (v) => u.valToPos(v, "y", true);
      let before = null;
      for (let k = Math.max(0, from - 1); k <= Math.min(to + 1, count - 1); k++) {
        if (values.last[k] == null) { before = null; continue; }
        const left = x(xs[k]), right = x(xs[k] + step_s), level = y(values.last[k]);
        const top = y(values.high[k]), height = y(values.low[k]) - top;
        if (height > 0.5) fill.rect(left, top, Math.max(right - left, devicePixelRatio), height);
        if (before == null) stroke.moveTo(left, level);
        else { stroke.lineTo(left, before); stroke.lineTo(left, level); }
        stroke.lineTo(Math.max(right, left + 1), level);
        before = level;
      }
      return { stroke, fill, clip: null, band: null, gaps: null, flags: 0 };
    };
  }

  function shade(u, intervals) {
    const { left, top, width, height } = u.bbox;
    u.ctx.save();
    u.ctx.fillStyle = colour("--untrusted");
    for (const [start, end] of intervals) {
      const a = Math.max(left, u.valToPos(start, "x", true));
      const b = Math.min(left + width, Math.max(u.valToPos(end, "x", true), a + 1));
      if (b > a) u.ctx.fillRect(a, top, b - a, height);
    }
    u.ctx.restore();
  }

  function level(u, value, label, dash) {
    const { left, top, width, height } = u.bbox, ratio = devicePixelRatio;
    if (value == null) return;
    const y = u.valToPos(value, "y", true);
    if (y < top || y > top + height) return;
    const c = u.ctx;
    c.save();
    c.strokeStyle = c.fillStyle = colour("--mean");
    c.lineWidth = ratio;
    c.setLineDash(dash.map((d) => d * ratio));
    c.beginPath(); c.moveTo(left, y); c.lineTo(left + width, y); c.stroke();
    if (label) {
      c.font = 12 * ratio + "px " + getComputedStyle(document.body).fontFamily;
      c.textAlign = "right";
      c.textBaseline = y - top < 20 * ratio ? "top" : "bottom";
      const at = c.textBaseline === "top" ? y + 3 * ratio : y - 3 * ratio;
      c.lineWidth = 4 * ratio; c.setLineDash([]); c.strokeStyle = colour("--page");
      c.strokeText(label, left + width - 6 * ratio, at);
      c.fillText(label, left + width - 6 * ratio, at);
    }
    c.restore();
  }

  function ticks(u, splits, axis, space, step) {
    let day = "";
    return splits.map((s) => {
      const text = stamp(s, true), date = text.slice(0, 10);
      const clock = step >= 60 ? text.slice(11, 16) : step >= 1 ? text.slice(11, 19) : text.slice(17);
      const shown = step >= 86400 ? date : day === date ? clock : clock + "\n" + date;
      day = date;
      return shown;
    });
  }

  const roomy = () => window.innerWidth >= 720;

  function options(host, lines, kind, intervals, levels) {
    const gap = kind === "gap";
    const font = "12px " + getComputedStyle(document.body).fontFamily;
    const axis = (more) => ({
      stroke: () => colour("--soft"), font, grid: { stroke: () => colour("--grid"), width: 1 },
      ticks: { stroke: () => colour("--grid"), width: 1, size: 5 }, ...more,
    });
    const digits = (step) => Math.max(0, Math.min(10, Math.ceil(-Math.log10(step) - 1e-9)));
    const side = roomy() ? 78 : 60;
    const axes = [
      axis({ values: ticks, size: 44, space: 70 }),
      axis({ scale: "y", size: side, space: 34,
        values: (u, splits, k, s, step) => splits.map((v) => fixed(v, digits(step))) }),
    ];
    if (gap && roomy()) axes.push(axis({ scale: "y", side: 1, size: side, space: 34, grid: { show: false },
      values: (u, splits, k, s, step) => splits.map((v) => (1 + v / 1e4).toFixed(digits(step / 1e4))) }));
    const series = [{}];
    for (const line of lines) {
      series.push({ paths: () => null, points: { show: false } });
      series.push({ paths: () => null, points: { show: false } });
      series.push({ stroke: () => colour("--" + line.colour), width: 1.4, points: { show: false },
        fill: () => colour("--" + line.colour) + "70", paths: boxes(line.values) });
    }
    return {
      width: host.clientWidth, height: roomy() ? 220 : 190, axes, series,
      padding: [10, gap && roomy() ? 0 : roomy() ? side : 10, 0, 0],
      legend: { show: false },
      scales: {
        x: { time: true },
        y: { range: (u, low, high) => {
          if (low == null) return [0, 1];
          const pad = (high - low) * 0.08 || Math.abs(high) * 1e-5 || 1;
          return [low - pad, high + pad];
        } },
      },
      tzDate: (s) => uPlot.tzDate(new Date(s * 1e3), "Etc/UTC"),
      cursor: { points: { show: false }, y: false, drag: { x: true, y: false, dist: 6 },
        sync: { key: "pair", setSeries: false } },
      hooks: {
        drawClear: [(u) => shade(u, intervals)],
        draw: [(u) => { for (const l of levels) level(u, l.value, l.label, l.dash); }],
        setCursor: [(u) => read(u)],
        setScale: [(u, key) => {
          if (key !== "x" || shared) return;
          shared = true;
          for (const c of charts) if (c.plot !== u) c.plot.setScale("x", { min: u.scales.x.min, max: u.scales.x.max });
          shared = false;
        }],
      },
    };
  }

  function addChart(heading, lines, kind, intervals, levels = []) {
    const box = element("div", "chart");
    const readout = element("p", "readout");
    const host = element("div", "host");
    box.append(element("h3", "", heading), readout, host);
    byId("charts").append(box);
    const data = [xs];
    for (const { values } of lines) data.push(values.low, values.high, values.last);
    const chart = { lines, kind, levels, readout, host, plot: null };
    chart.plot = new uPlot(options(host, lines, kind, intervals, levels), data, host);
    charts.push(chart);
  }

  // ---- what stands under the cursor ----------------------------------------------------------
  let chosen = null;

  function item(readout, mark, name, value) {
    const span = element("span");
    span.append(element("i", "i-" + mark), name + " ", element("b", "", value));
    readout.append(span);
  }

  function read(u) {
    const chart = charts.find((c) => c.plot === u);
    if (!chart) return;
    const k = u.cursor.idx;
    chart.readout.replaceChildren();
    for (const line of chart.lines) {
      const low = line.values.low[k], high = line.values.high[k], last = line.values.last[k];
      let value = "";
      if (k != null && last == null) value = "not known";
      else if (k != null && chart.kind === "gap") {
        value = bps(last) + " (ratio " + (1 + last / 1e4).toFixed(6) + ")";
        if (high - low > 5e-4) value += ", " + fixed(low, 2) + " to " + bps(high);
      } else if (k != null) value = high > low ? price(low) + " to " + price(high) : price(last);
      item(chart.readout, line.colour, line.name, value);
    }
    for (const l of chart.levels) if (l.name) item(chart.readout, "mean", l.name, l.text);
    if (chart === charts[0]) sayTime(k);
  }

  function sayTime(k) {
    const at = byId("at");
    if (k == null) {
      at.textContent = "Point at a chart or tap it for values; drag to zoom, double-click for all. Grey: not trusted.";
      return;
    }
    const start = xs[k], end = start + step_s;
    const why = [chosen.sell, chosen.buy].flatMap((m, side) => page.markets[m].untrusted
      .filter(([a, b]) => a < end && b > start)
      .map(([, , reason]) => chosen.labels[side] + ": " + reason));
    at.textContent = stamp(start, true) + " to " + stamp(end, true).slice(11) + " UTC"
      + (why.length ? " \u00b7 not trusted: " + why.join("; ") : "");
  }

  // ---- one pair ------------------------------------------------------------------------------
  function gapChart(pair, intervals) {
    if (!pair || pair.gap == null) return;
    const [sell, buy] = pair.labels;
    const levels = [];
    if (pair.mean != null) levels.push({ value: pair.mean, dash: [6, 4], label: "", name: "mean", text: bps(pair.mean) });
    levels.push({ value: 0, dash: [1, 3], label: "" });
    if (pair.break_even != null) levels.push({ value: pair.break_even, dash: [2, 3], label: "pays both fees " + bps(pair.break_even) });
    addChart("Ratio: bid of " + sell + " over ask of " + buy + ", in bps from 1",
      [{ name: "gap", colour: "gap", values: drawn(pair.gap, 0) }], "gap", intervals, levels);
  }

  function priceChart([sell, buy], [sellLabel, buyLabel], intervals) {
    if (sell.bid == null || buy.ask == null) return;
    addChart("Bid of " + sellLabel + " against ask of " + buyLabel + (sell.quote === buy.quote ? ", " + sell.quote : ""), [
      { name: "bid " + sellLabel, colour: "sell", values: drawn(sell.bid, sell.base_price) },
      { name: "ask " + buyLabel, colour: "buy", values: drawn(buy.ask, buy.base_price) },
    ], "price", intervals);
  }

  function choose(index) {
    const pair = chosen = page.pairs[index];
    const sell = page.markets[pair.sell], buy = page.markets[pair.buy];
    const back = page.pairs.find((p) => p.sell === pair.buy && p.buy === pair.sell);
    const intervals = [...sell.untrusted, ...buy.untrusted];
    for (const c of charts.splice(0)) c.plot.destroy();
    byId("charts").replaceChildren();
    byId("choice").value = String(index);
    byId("pair-words").textContent = pair.words;
    if (sell.axis == null) return;
    useAxis(page.axes[sell.axis]);
    priceChart([sell, buy], pair.labels, intervals);
    priceChart([buy, sell], [...pair.labels].reverse(), intervals);
    gapChart(pair, intervals);
    gapChart(back, intervals);
    if (!charts.length) byId("charts").append(element("p", "soft", "Nothing to draw: these two were never trusted at the same time."));
    for (const c of charts) read(c.plot);
  }

  function zoom(factor, shift) {
    if (!charts.length) return;
    const u = charts[0].plot, first = xs[0], last = xs[count - 1] + step_s;
    const { min, max } = u.scales.x, width = Math.min((max - min) * factor, last - first);
    const middle = (min + max) / 2 + shift * (max - min);
    const start = Math.max(first, Math.min(middle - width / 2, last - width));
    u.setScale("x", factor === Infinity ? { min: first, max: last } : { min: start, max: start + width });
  }

  if (page.pairs.length) {
    byId("choice").addEventListener("change", (e) => choose(Number(e.target.value)));
    for (const link of document.querySelectorAll("a[data-pair]"))
      link.addEventListener("click", () => choose(Number(link.dataset.pair)));
    const moves = { in: [0.5, 0], out: [2, 0], left: [1, -0.5], right: [1, 0.5], all: [Infinity, 0] };
    for (const button of document.querySelectorAll("[data-zoom]"))
      button.addEventListener("click", () => zoom(...moves[button.dataset.zoom]));
    choose(page.first);
    const resize = () => { for (const c of charts) if (c.host.clientWidth) c.plot.setSize({ width: c.host.clientWidth, height: c.plot.height }); };
    const redraw = () => { for (const c of charts) c.plot.redraw(false, true); };
    new ResizeObserver(resize).observe(byId("charts"));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
    const print = (on) => () => { document.documentElement.toggleAttribute("data-print", on); resize(); redraw(); };
    addEventListener("beforeprint", print(true));
    addEventListener("afterprint", print(false));
  }

  // ---- strips and tables ---------------------------------------------------------------------
  for (const hole of document.querySelectorAll("[data-why]")) {
    const say = () => { byId("why").textContent = hole.dataset.why; };
    for (const event of ["click", "focus", "mouseenter"]) hole.addEventListener(event, say);
  }

  for (const table of document.querySelectorAll("table.sortable")) {
    for (const button of table.querySelectorAll("th button")) {
      button.addEventListener("click", () => {
        const head = button.closest("th"), column = Number(button.dataset.column);
        const down = head.getAttribute("aria-sort") !== "descending";
        for (const other of table.querySelectorAll("th[aria-sort]")) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const value = (row) => {
          const text = row.cells[column].dataset.v;
          return text == null ? null : Number(text);
        };
        const rows = [...table.tBodies[0].rows];
        rows.sort((a, b) => {
          const x = value(a), y = value(b);
          if (x == null || y == null) return (x == null) - (y == null);
          return down ? y - x : x - y;
        });
        table.tBodies[0].append(...rows);
      });
    }
  }
})();

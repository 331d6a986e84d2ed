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

  // decimals in which every multiple of a step can be told: two of 0.25
  function digits(step) {
    let n = Math.max(0, Math.min(10, Math.ceil(-Math.log10(step) - 1e-9)));
    if (n < 10 && Math.abs(step * 10 ** n - Math.round(step * 10 ** n)) > 1e-6) n++;
    return n;
  }

  const roomy = () => window.innerWidth >= 720;

  function options(host, lines, kind, intervals, levels) {
    const gap = kind === "gap";
    const font = "12px " + getComputedStyle(document.body).fontFamily;
    const axis = (more) => ({
      stroke: () => colour("--soft"), font, grid: { stroke: () => colour("--grid"), width: 1 },
      ticks: { stroke: () => colour("--grid"), width: 1, size: 5 }, ...more,
    });
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
      else if (k != null && (chart.kind === "gap" || chart.kind === "edge")) {
        value = bps(last) + (chart.kind === "gap" ? " (ratio " + (1 + last / 1e4).toFixed(6) + ")" : "");
        if (high - low > 5e-4) value += ", " + fixed(low, 2) + " to " + bps(high);
      } else if (k != null && chart.kind === "rate") value = bps(last) + " an hour";
      else if (k != null) value = high > low ? price(low) + " to " + price(high) : price(last);
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

  // ---- sizes and delays ------------------------------------------------------------------------
  let size = 0, delay = 0, tier = 0; // places in the lists of the page

  const money = (v) => {
    if (v == null) return NONE;
    if (!v) return "0";
    const three = (x) => String(Number(Math.abs(x).toPrecision(3)));
    const [unit, letter] = [[1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""]].find(([u]) => Math.abs(Number(v.toPrecision(3))) >= u) || [1, ""];
    return (v < 0 ? MINUS : "") + three(v / unit) + letter;
  };
  const percent = (share) => {
    if (share == null) return NONE;
    if (share === 0 || share === 1) return 100 * share + "\u202f%";
    const edge = Math.min(share, 1 - share);
    if (edge < 1e-4) return (share < 1e-4 ? "< 0.01" : "> 99.99") + "\u202f%";
    return (100 * share).toFixed(edge < 1e-2 ? 2 : 1) + "\u202f%";
  };
  const seconds = (s) => {
    if (s == null) return NONE;
    if (s < 10) return String(Number(s.toFixed(3))) + " s";
    if (s < 60) return s.toFixed(1) + " s";
    const whole = Math.round(s), two = (n) => String(n).padStart(2, "0");
    if (whole < 3600) return Math.floor(whole / 60) + " min " + two(whole % 60) + " s";
    if (whole < 172800) return Math.floor(whole / 3600) + " h " + two(Math.floor(whole % 3600 / 60)) + " min";
    return Math.floor(whole / 86400) + " d " + two(Math.floor(whole % 86400 / 3600)) + " h";
  };
  const sizesOf = (pair) => tier && pair.tiers ? pair.tiers[tier - 1] : pair.sizes;
  const sizeOf = (pair) => pair && pair.sizes && sizesOf(pair)[size];
  const ofDelay = (list) => (list || []).find((d) => d.delay_ms === page.choice.delays_ms[delay]);
  const perDay = page.choice && page.pairs.some((p) => [...(p.sizes || []), ...(p.tiers || []).flat()].some((s) => (s.takes || []).some((t) => t.profit_per_day != null)));

  // what a cell of the matrix shows, by the class of its link
  const shown = {
    edge: [(s) => s.edge_bps && s.edge_bps.median, (v) => fixed(v, Math.abs(v) < 1 ? 3 : 2)],
    kept: [(s) => (ofDelay(s.delays) || {}).mean_bps, (v) => fixed(v, Math.abs(v) < 1 ? 3 : 2)],
    rate: [(s) => s.episodes && s.episodes.per_hour, (v) => fixed(v, 1)],
    earned: [(s) => (ofDelay(s.takes) || {})[perDay ? "profit_per_day" : "profit"], money],
  };

  function tint(value, top) {
    if (!value || !top) return "z";
    return (value > 0 ? "p" : "n") + Math.min(4, 1 + Math.floor(3.999 * Math.abs(value) / top));
  }

  function fillMatrix() {
    for (const table of document.querySelectorAll(".matrix table")) {
      for (const [key, [value, text]] of Object.entries(shown)) {
        const links = [...table.querySelectorAll("a." + key)];
        const values = links.map((a) => {
          const found = sizeOf(page.pairs[Number(a.dataset.pair)]);
          return found ? value(found) ?? null : null;
        });
        const top = Math.max(0, ...values.map((v) => Math.abs(v ?? 0)));
        links.forEach((a, k) => {
          a.textContent = values[k] == null ? NONE : text(values[k]);
          a.className = [key, tint(values[k], top), a.classList.contains("other") ? "other" : ""].join(" ").trim();
        });
      }
    }
  }

  const afterFees = () => !tier ? "after both taker fees"
    : page.choice.tiers[tier] === "no fees" ? "without fees" : "after both taker fees of " + page.choice.tiers[tier];

  function sizeWords(pair) {
    const found = sizeOf(pair);
    if (!found) return pair.sizes || !page.choice ? "" : "Nothing is known of sizes here: no books, or no sizes of quotes.";
    const at = "At " + money(found.notional) ;
    if (!found.edge_bps) return at + ": no edge, " + (found.reason || "nothing known") + ".";
    const said = [at + (pair.depth === "top" ? " (the best prices are all the depth that is known)" : "")
      + ": edge " + afterFees() + " " + bps(found.edge_bps.median) + " at the median, "
      + bps(found.edge_bps.max) + " at best, above zero at " + percent(found.edge_bps.share_positive)
      + " of the updates; both books held the size " + percent(found.depth_share) + " of the time."];
    const open = found.episodes;
    if (open && open.count) {
      said.push((open.count === 1 ? "One episode" : open.count + " episodes")
        + (open.per_hour != null ? ", " + fixed(open.per_hour, 1) + " per trusted hour"
          + (open.per_hour_low != null ? " (95 %: " + fixed(open.per_hour_low, 1) + " to " + fixed(open.per_hour_high, 1) + ")" : "") : "")
        + (open.median_s != null ? ", " + seconds(open.median_s) + " long at the median" : "") + ".");
    } else said.push("It never opened" + (open && open.per_hour_high ? ": with 95 % at most " + fixed(open.per_hour_high, 1) + " times per trusted hour." : "."));
    const taken = ofDelay(found.takes), late = page.choice.delays_ms[delay];
    if (taken && taken.takes) {
      said.push((taken.takes === 1 ? "One take" : taken.takes + " takes") + " " + late + " ms after an opening: "
        + money(taken.profit) + " in all" + (taken.unfilled ? ", " + taken.unfilled + " found too little to trade" : "")
        + (taken.profit_per_day != null ? ", " + money(taken.profit_per_day) + " per trusted day"
          + (taken.low != null ? " (" + money(taken.low) + " to " + money(taken.high) + " with 95 %)" : "") : "") + ".");
    }
    said.push("Behind that: " + pair.trusted + " of common trusted time.");
    return said.join(" ");
  }

  // ---- curves of one pair: a chart each, with an axis of its own --------------------------------
  const curves = [];

  function curve(heading, words, spec) {
    const box = element("div", "curve"), readout = element("p", "readout"), host = element("div", "host");
    box.append(element("h3", "", heading), element("p", "soft", words));
    byId("curves").append(box);
    if (!spec) return box.classList.add("wordy");
    box.append(readout, host);
    const made = { spec, host, readout, plot: null };
    made.plot = new uPlot(curveOptions(made), curveData(spec), host);
    curves.push(made);
    sayCurve(made, null);
  }

  function curveData(spec) {
    const data = [spec.x];
    for (const line of spec.lines) {
      if (line.low) data.push(line.high, line.low);
      data.push(line.values);
    }
    return data;
  }

  function curveOptions(made) {
    const spec = made.spec, series = [{}], bands = [];
    const paths = spec.stepped ? uPlot.paths.stepped({ align: 1 }) : uPlot.paths.linear();
    const font = "12px " + getComputedStyle(document.body).fontFamily;
    const axis = (more) => ({
      stroke: () => colour("--soft"), font, grid: { stroke: () => colour("--grid"), width: 1 },
      ticks: { stroke: () => colour("--grid"), width: 1, size: 5 }, ...more,
    });
    for (const line of spec.lines) {
      if (line.low) {
        bands.push({ series: [series.length, series.length + 1], fill: () => colour("--" + line.colour) + "38" });
        for (let k = 0; k < 2; k++) series.push({ paths, points: { show: false }, stroke: "transparent" });
      }
      series.push({ paths, stroke: () => colour("--" + line.colour), width: 2, dash: line.dash,
        points: { show: !spec.stepped && spec.x.length < 20, size: 7, fill: () => colour("--" + line.colour), stroke: () => colour("--" + line.colour) } });
    }
    const across = spec.labels
      ? { splits: () => spec.x, values: (u, splits) => splits.map((k) => spec.labels[k] ?? ""), space: 20 }
      : { values: (u, splits, k, s, step) => splits.map((v) => fixed(v, digits(step))), space: 60 };
    return {
      width: made.host.clientWidth, height: 220, series, bands, legend: { show: false },
      padding: [10, 14, 0, 0],
      axes: [
        axis({ ...across, size: 26, label: spec.xLabel, labelSize: 22, labelGap: 0, labelFont: font }),
        axis({ scale: "y", size: 58, space: 34, values: (u, splits, k, s, step) => splits.map((v) => fixed(v, digits(step))) }),
      ],
      scales: {
        x: { time: false, range: spec.labels ? [-0.4, spec.x.length - 0.6] : [spec.x[0], spec.x[spec.x.length - 1]] },
        y: { range: spec.y || ((u, low, high) => {
          if (low == null) return [0, 1];
          const least = Math.min(low, 0), most = Math.max(high, 0), pad = (most - least) * 0.08 || 1;
          return [least === 0 ? (low < 0 ? -pad : 0) : least - pad, most === 0 ? pad * 0.5 : most + pad];
        }) },
      },
      cursor: { points: { show: false }, y: false, drag: { x: false, y: false } },
      hooks: {
        drawClear: [(u) => zone(u, spec)],
        draw: [(u) => level(u, 0, "", [1, 3])],
        setCursor: [(u) => sayCurve(made, u.cursor.idx)],
      },
    };
  }

  function zone(u, spec) {
    const { left, top, width, height } = u.bbox, x = (v) => Math.max(left, Math.min(left + width, u.valToPos(v, "x", true)));
    u.ctx.save();
    if (spec.zone) {
      u.ctx.fillStyle = colour("--untrusted");
      u.ctx.fillRect(x(spec.zone[0]), top, Math.max(x(spec.zone[1]) - x(spec.zone[0]), devicePixelRatio), height);
    }
    if (spec.at != null) {
      u.ctx.strokeStyle = colour("--soft"); u.ctx.lineWidth = devicePixelRatio;
      u.ctx.beginPath(); u.ctx.moveTo(x(spec.at), top); u.ctx.lineTo(x(spec.at), top + height); u.ctx.stroke();
    }
    u.ctx.restore();
  }

  function sayCurve({ spec, readout }, k) {
    readout.replaceChildren();
    if (k == null) k = spec.rest ?? null;
    if (k != null) readout.append(element("b", "", spec.labels ? spec.labels[k] + " " + spec.unit : fixed(spec.x[k], spec.digits) + " " + spec.unit), " ");
    for (const line of spec.lines) {
      const value = k == null ? "" : spec.text(line.values[k])
        + (line.low && line.low[k] != null ? " (" + spec.text(line.low[k]) + " to " + spec.text(line.high[k]) + ")" : "");
      item(readout, line.colour, line.name, value);
    }
  }

  const inBps = (v) => v == null ? NONE : fixed(v, 2);

  function delayCurve(found) {
    const heading = "Edge by delay";
    const all = page.choice.delays_ms.map((d) => (found.delays || []).find((f) => f.delay_ms === d) || {});
    if (!all.some((d) => d.held_s)) return curve(heading, "It was never at zero or above at this size, so there was nothing to be late for.");
    curve(heading, "In bps: what the edge was so much later, of the time in which it was at zero or above.", {
      x: all.map((d, k) => k), labels: page.choice.delays_ms.map(String), unit: "ms", xLabel: "delay of both legs, ms",
      at: delay, rest: delay, text: inBps,
      lines: [
        { name: "mean", colour: "sell", values: all.map((d) => d.mean_bps ?? null) },
        { name: "median", colour: "buy", dash: [6, 4], values: all.map((d) => d.median_bps ?? null) },
      ],
    });
    curve("Edge still there", "The share of that time in which it still was at zero or above so much later.", {
      x: all.map((d, k) => k), labels: page.choice.delays_ms.map(String), unit: "ms", xLabel: "delay of both legs, ms",
      at: delay, rest: delay, text: percent, y: [0, 1.05],
      lines: [{ name: "share", colour: "gap", values: all.map((d) => d.share ?? null) }],
    });
  }

  function sizeCurve(pair) {
    const sizes = sizesOf(pair), of = (value) => sizes.map((s) => value(s) ?? null);
    const edge = (name) => of((s) => s.edge_bps && s.edge_bps[name]);
    const lines = [
      { name: "median, p5 to p95", colour: "gap", values: edge("median"), low: edge("p5"), high: edge("p95") },
      { name: "at best", colour: "buy", dash: [6, 4], values: edge("max") },
      { name: page.choice.delays_ms[delay] + " ms after it opened, mean", colour: "sell", values: of((s) => (ofDelay(s.delays) || {}).mean_bps) },
    ].filter((line) => line.values.some((v) => v != null));
    if (!lines.length) return;
    curve("Edge by size", "In bps, " + afterFees() + ", from both books.", {
      x: pair.sizes.map((s, k) => k), labels: pair.sizes.map((s) => money(s.notional)), unit: "",
      xLabel: "size, in quote currency", at: size, rest: size, text: inBps, lines,
    });
  }

  function survivalCurve(found) {
    const lasting = found.lasting, heading = "How long an episode lasts";
    if (!lasting) return;
    if (!lasting.t_s || !lasting.t_s.length) return curve(heading, "No curve: " + lasting.reason + ".");
    const median = lasting.median_s == null ? "" : " Half of them last longer than " + seconds(lasting.median_s)
      + (lasting.median_low_s != null && lasting.median_high_s != null ? " (95 %: " + seconds(lasting.median_low_s) + " to " + seconds(lasting.median_high_s) + ")" : "") + ".";
    curve(heading, "The share of " + lasting.episodes + " episodes that still stand open, with its 95 % band (Kaplan\u2013Meier)." + median, {
      x: [0, ...lasting.t_s], stepped: true, unit: "s", digits: 3, xLabel: "s after it opened", text: percent, y: [0, 1.05],
      lines: [{ name: "still open", colour: "gap", values: [1, ...lasting.share], low: [1, ...lasting.low], high: [1, ...lasting.high] }],
    });
  }

  function leadCurve(pair) {
    const lead = pair.lead;
    if (!lead) return;
    const heading = "Who moves first";
    if (!lead.lags.length) return curve(heading, lead.words);
    curve(heading, lead.words + " Correlation of the two prices by lag; right of zero " + pair.labels[0] + " moves first. Grey: the interval.", {
      x: lead.lags, unit: "ms", digits: 0, xLabel: "lag, ms", text: (v) => fixed(v, 3), at: lead.at, zone: lead.zone,
      rest: lead.at == null ? null : Math.max(0, lead.lags.findIndex((v) => v >= lead.at)),
      lines: [{ name: "correlation", colour: "gap", values: lead.correlations }],
    });
  }

  function showCurves(pair) {
    for (const c of curves.splice(0)) c.plot.destroy();
    byId("curves").replaceChildren();
    const found = sizeOf(pair);
    if (found && found.edge_bps) {
      delayCurve(found);
      sizeCurve(pair);
      survivalCurve(found);
    }
    leadCurve(pair);
  }

  function chooseSize() {
    for (const [name, value] of [["size", size], ["delay", delay], ["tier", tier]])
      for (const select of document.querySelectorAll("select." + name)) select.value = String(value);
    fillMatrix();
  }

  // ---- one pair ------------------------------------------------------------------------------
  function gapChart(pair, intervals) {
    if (!pair || pair.gap == null) return;
    const [sell, buy] = pair.labels;
    const levels = [];
    if (pair.mean != null) levels.push({ value: pair.mean, dash: [6, 4], label: "", name: "mean", text: bps(pair.mean) });
    levels.push({ value: 0, dash: [1, 3], label: "" });
    const paid = pair.break_evens[tier];
    if (paid != null && paid !== 0) levels.push({ value: paid, dash: [2, 3], label: "pays both fees " + bps(paid) });
    addChart("Ratio: bid of " + sell + " over ask of " + buy + ", in bps from 1",
      [{ name: "gap", colour: "gap", values: drawn(pair.gap, 0) }], "gap", intervals, levels);
  }

  // the edge at the chosen size, and what both venues expected of funding
  function edgeChart(pair, intervals) {
    const packed = pair && pair.edges && pair.edges[size];
    if (!packed) return;
    const values = drawn(packed, 0), scale = pair.scales[tier] ?? NaN; // the same ratio less other fees
    if (tier) for (const part of Object.values(values)) part.forEach((v, k) => { if (v != null) part[k] = 1e4 * ((1 + v / 1e4) * scale - 1); });
    addChart("Edge in bps at " + money(page.choice.notionals[size]) + ", " + afterFees(),
      [{ name: "edge", colour: "gap", values }], "edge", intervals,
      [{ value: 0, dash: [1, 3], label: "" }]);
  }

  function fundingChart([sell, buy], [sellLabel, buyLabel], intervals) {
    const lines = [];
    if (sell.funding) lines.push({ name: sellLabel, colour: "sell", values: drawn(sell.funding, 0) });
    if (buy.funding) lines.push({ name: buyLabel, colour: "buy", values: drawn(buy.funding, 0) });
    if (lines.length) addChart("Funding as told, bps per hour: longs pay shorts", lines, "rate", intervals);
  }

  function priceChart([sell, buy], [sellLabel, buyLabel], intervals) {
    if (sell.bid == null || buy.ask == null) return;
    addChart("Bid of " + sellLabel + " against ask of " + buyLabel + (sell.quote === buy.quote ? ", " + sell.quote : ""), [
      { name: "bid " + sellLabel, colour: "sell", values: drawn(sell.bid, sell.base_price) },
      { name: "ask " + buyLabel, colour: "buy", values: drawn(buy.ask, buy.base_price) },
    ], "price", intervals);
  }

  // what is not trusted on either side, so that no stretch is shaded twice
  function united(intervals) {
    const found = [];
    for (const [start, end] of intervals.sort((a, b) => a[0] - b[0])) {
      const last = found[found.length - 1];
      if (last && start <= last[1]) last[1] = Math.max(last[1], end);
      else found.push([start, end]);
    }
    return found;
  }

  function choose(index) {
    const pair = chosen = page.pairs[index];
    const sell = page.markets[pair.sell], buy = page.markets[pair.buy];
    const back = page.pairs.find((p) => p.sell === pair.buy && p.buy === pair.sell);
    const intervals = united([...sell.untrusted, ...buy.untrusted]);
    for (const c of charts.splice(0)) c.plot.destroy();
    byId("charts").replaceChildren();
    byId("choice").value = String(index);
    byId("pair-words").textContent = pair.words;
    byId("size-words").textContent = sizeWords(pair);
    byId("funding-words").textContent = pair.funding_words || "";
    byId("tie-words").textContent = pair.tie_words || "";
    showCurves(pair);
    if (sell.axis == null) return;
    useAxis(page.axes[sell.axis]);
    priceChart([sell, buy], pair.labels, intervals);
    priceChart([buy, sell], [...pair.labels].reverse(), intervals);
    gapChart(pair, intervals);
    gapChart(back, intervals);
    edgeChart(pair, intervals);
    fundingChart([sell, buy], pair.labels, intervals);
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
    if (page.choice) {
      size = page.choice.notionals.indexOf(page.choice.notional);
      delay = page.choice.delays_ms.indexOf(page.choice.delay_ms);
      chooseSize();
      for (const name of ["size", "delay", "tier"]) {
        for (const select of document.querySelectorAll("select." + name)) {
          select.addEventListener("change", () => {
            if (name === "size") size = Number(select.value);
            else if (name === "delay") delay = Number(select.value);
            else tier = Number(select.value);
            chooseSize();
            choose(page.pairs.indexOf(chosen));
          });
        }
      }
    }
    choose(page.first);
    const resize = () => { for (const c of [...charts, ...curves]) if (c.host.clientWidth) c.plot.setSize({ width: c.host.clientWidth, height: c.plot.height }); };
    const redraw = () => { for (const c of [...charts, ...curves]) c.plot.redraw(false, true); };
    new ResizeObserver(resize).observe(byId("charts"));
    new ResizeObserver(resize).observe(byId("curves"));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
    const print = (on) => () => { document.documentElement.toggleAttribute("data-print", on); resize(); redraw(); };
    addEventListener("beforeprint", print(true));
    addEventListener("afterprint", print(false));
  }

  if (!roomy()) document.querySelector(".glossary").open = false; // a phone's first screen is the verdict's

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

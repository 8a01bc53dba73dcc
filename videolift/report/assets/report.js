"use strict";
// Draws the report from the JSON in the page. Text only ever enters the page through textContent.
const D = JSON.parse(document.getElementById("data").textContent);
const SCORES = Object.entries(D.scores).map(([name, score], number) => ({ name, number, ...score }));
const $ = (id) => document.getElementById(id);

function h(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== ""));
  return node;
}
const put = (id, ...children) => $(id).append(...children.flat(Infinity).filter((child) => child !== null && child !== ""));
function svg(tag, attributes, text) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text) node.textContent = text;
  return node;
}

// Numbers for people
const sum = (values) => values.reduce((a, b) => a + b, 0);
const known = (values) => values.filter((value) => value !== null && value !== undefined);
const count = (n, noun) => `${n.toLocaleString("en")} ${noun}${n === 1 ? "" : "s"}`;
const number = (x) => x === null || x === undefined ? "" : Number.isInteger(x) ? x.toLocaleString("en") : Math.abs(x) < 1e-3 ? x.toExponential(1) : String(+x.toPrecision(3));
const duration = (s) => s < 60 ? `${number(s)} s` : s < 3600 ? `${number(s / 60)} min` : `${number(s / 3600)} h`;
const bytes = (b) => b < 1e6 ? `${number(b / 1e3)} kB` : b < 1e9 ? `${number(b / 1e6)} MB` : `${number(b / 1e9)} GB`;
const unit = (score) => score.unit === "share" ? "" : ` ${score.unit}`;
function quantile(values, q) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted.length ? sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] : null;
}
const poor = (score, value) => value !== null && value !== undefined && (score.above ? value > score.limit : value < score.limit);
const scoreOf = (video, n) => video.scores ? video.scores[n] : null;
const work = (video) => sum(known(video.seconds || []));

// Head: the verdict first
function verdict() {
  const c = D.counts, all = sum(Object.values(c));
  const unverified = D.packaged - D.verified;
  const facts = `${count(all, "video")} in = ${c.done} done + ${c.quarantined} quarantined + ${c.excluded} excluded + ${c.pending} pending`;
  let kind = "good", text = `All ${count(c.done, "video")} done`;
  if (c.pending) [kind, text] = ["warn", `${count(c.pending, "video")} still to do`];
  else if (c.quarantined > D.allowed) [kind, text] = ["bad", `${count(c.quarantined, "video")} lost`];
  else if (c.quarantined) [kind, text] = ["warn", `${count(c.quarantined, "video")} lost, ${D.allowed} allowed`];
  const checked = !D.packaged ? "nothing is packaged yet" : !unverified ? `${count(D.verified, "file")} verified against ${D.verified === 1 ? "its checksums" : "their checksums"}` : `${count(unverified, "file")} of ${D.packaged} not verified yet`;
  if (unverified && kind === "good") kind = "warn";
  const suspects = D.videos.filter((video) => video.excess > 1).length;
  const listed = D.videos.length < all ? ` This page lists ${count(D.videos.length, "video")}, lost and worst first; charts and sums of work are of those.` : "";
  return h("div", { class: `verdict ${kind}` }, `${text}; ${checked}.`,
    h("p", {}, facts + (suspects ? `. ${count(suspects, "video")} with a score worth a look.` : ".") + listed));
}
function head() {
  const t = D.totals, line = D.timeline;
  const tiles = [["videos packaged", number(D.packaged)], ["length", D.length_s ? duration(D.length_s) : ""], ["frames", number(t.frames)], ["windows", number(t.windows)],
    ["tracked points", number(t.points)], ["size", t.bytes ? bytes(t.bytes) : ""], ["work of workers", duration(D.work_s)], ["wall time", line.seconds ? duration(line.seconds) : ""]];
  put("top", h("h1", {}, `videolift report: ${D.output}`),
    h("p", { class: "soft small" }, `run ${D.run}${line.last ? `, ${line.first} to ${line.last} UTC` : ""}`), verdict(),
    h("dl", { class: "tiles" }, tiles.filter(([, value]) => value).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))));
}

// Videos: filters, gallery, table
const STEP = { gallery: 24, table: 200 };
const view = { kind: "gallery", shown: STEP.gallery, sort: "worst", down: true, found: D.videos };
const filters = {};
const reasonOf = (video) => video.losses.map((n) => D.losses[n].code);
const COLUMNS = [
  ["video", (v) => v.id], ["state", (v) => v.state], ["tier", (v) => v.tier], ["split", (v) => v.split], ["frames", (v) => v.frames], ["windows", (v) => v.windows],
  ["points per window", (v) => v.windows ? Math.round(v.points / v.windows) : null], ["work, s", (v) => +work(v).toFixed(1)],
  ["worst score", (v) => v.worst === undefined ? null : SCORES[v.worst].name], ["times its limit", (v) => v.excess],
];
function selector(label, key, values, wide) {
  const found = [...new Set(values.filter((value) => value !== undefined && value !== null && value !== ""))].sort();
  if (found.length < (wide ? 1 : 2)) return null;
  const select = h("select", { onchange: (event) => { filters[key] = event.target.value; refresh(); }, "data-filter": key }, h("option", { value: "" }, "any"), found.map((value) => h("option", {}, value)));
  return h("label", {}, label, select);
}
const TESTS = {
  state: (v, x) => v.state === x, tier: (v, x) => v.tier === x, split: (v, x) => v.split === x, subject: (v, x) => v.subject === x,
  reason: (v, x) => reasonOf(v).includes(x), score: (v, x) => poor(D.scores[x], scoreOf(v, SCORES.findIndex((s) => s.name === x))),
  text: (v, x) => `${v.id} ${v.text || ""} ${v.subject || ""}`.toLowerCase().includes(x.toLowerCase()),
};
function refresh() {
  const active = Object.entries(filters).filter(([, value]) => value);
  const found = D.videos.filter((video) => active.every(([key, value]) => TESTS[key](video, value)));
  const column = COLUMNS.find(([name]) => name === view.sort), score = SCORES.find((s) => s.name === view.sort);
  if (column || score) {
    const value = score ? (v) => scoreOf(v, score.number) : column[1];
    const direction = view.down ? -1 : 1;
    found.sort((a, b) => { // what is not known comes last either way
      const [x, y] = [value(a), value(b)];
      if (x === y) return 0;
      if (x === null || x === undefined) return 1;
      if (y === null || y === undefined) return -1;
      return (x < y ? -1 : 1) * direction;
    });
  }
  view.found = found;
  view.shown = STEP[view.kind];
  drawVideos();
  drawScores();
}
function drawVideos() {
  const some = view.found.slice(0, view.shown);
  $("status").textContent = `${count(view.found.length, "video")}${view.found.length < D.videos.length ? ` of ${D.videos.length.toLocaleString("en")}` : ""}`;
  $("list").replaceChildren(view.kind === "gallery" ? h("div", { class: "gallery" }, some.map(card)) : videoTable(some));
  const left = view.found.length - some.length;
  if (left > 0) $("list").append(h("button", { class: "more", onclick: () => { view.shown += STEP[view.kind]; drawVideos(); } }, `Show more (${left.toLocaleString("en")} left)`));
}
function lossText(n) {
  const loss = D.losses[n];
  return h("div", { class: "loss" }, h("p", {}, loss.stage ? h("b", {}, `${loss.stage}: `) : "", loss.text), loss.remedy ? h("p", { class: "remedy" }, loss.remedy) : "");
}
function media(video) {
  if (!video.preview && video.poster) return h("div", { class: "media" }, poster(video));
  if (!video.preview) return video.state === "done" ? h("div", { class: "media none" }, h("span", {}, "no preview yet: ", h("code", {}, `videolift preview ${video.id}`))) : null;
  return h("button", { class: "media", "aria-label": `Play the preview of ${video.id}`, onclick: (event) => event.currentTarget.replaceWith(player(video)) },
    video.poster ? poster(video) : "", h("span", { class: "play", "aria-hidden": "true" }, "▶"));
}
const poster = (video) => h("img", { alt: `Tracks, hands and depth of ${video.id}`, loading: "lazy", src: `data:image/jpeg;base64,${video.poster}` });
function player(video) {
  const [start, end] = video.span || [null, null];
  const from = start === null ? "" : `#t=${start},${end}`;
  const node = h("video", { controls: true, autoplay: true, muted: true, playsinline: true, src: video.preview + from, "aria-label": `Preview of ${video.id}` });
  node.addEventListener("error", () => node.replaceWith(h("p", {}, `${video.preview} cannot be played: is it beside this page?`)), { once: true });
  return h("div", { class: "media" }, node);
}
function card(video) {
  const score = video.worst === undefined ? null : SCORES[video.worst];
  const badges = [h("span", { class: `badge ${video.state}` }, video.state), video.tier ? h("span", { class: "badge" }, `tier ${video.tier} ${video.scale || ""}`) : "", video.split ? h("span", { class: "badge" }, video.split) : ""];
  const lines = [
    h("h3", {}, video.id), h("div", { class: "badges" }, badges), video.text ? h("p", { class: "small" }, video.text) : "",
    video.losses.map(lossText), video.waits ? h("p", { class: "small" }, `waits for ${video.waits}`) : "",
    score ? h("p", { class: "small" }, video.excess > 1 ? ["worst score: ", h("span", { class: "poor" }, `${score.name} ${number(scoreOf(video, score.number))}${unit(score)}`), ` (limit ${number(score.limit)})`] : "all scores within their limits") : "",
    h("details", { ontoggle: (event) => { if (event.target.open && event.target.children.length === 1) event.target.append(facts(video)); } }, h("summary", {}, "All figures")),
  ];
  return h("article", { class: "card" }, media(video), h("div", { class: "body" }, lines));
}
function facts(video) {
  const rows = [["clip", video.frames ? `${number(video.frames)} frames, ${number(video.fps)} fps, ${duration(video.frames / video.fps)}` : ""], ["subject", video.subject],
    ["camera", video.pose ? `pose ${video.pose}, intrinsics ${video.intrinsics}` : ""], ["size", video.bytes ? bytes(video.bytes) : ""],
    ["backends", Object.entries(D.backends[video.backends] || {}).map(([stage, name]) => `${stage} ${name}`).join(", ")],
    ["time", D.stages.map((stage, n) => (video.seconds || [])[n] ? `${stage} ${duration(video.seconds[n])}` : "").filter(Boolean).join(", ")]];
  const scores = SCORES.filter((s) => known([scoreOf(video, s.number)]).length).map((s) => [s.name, h("span", { class: poor(s, scoreOf(video, s.number)) ? "poor" : "" }, `${number(scoreOf(video, s.number))}${unit(s)}`), `limit ${number(s.limit)}`]);
  const figures = D.figures.map((name, n) => [name, number(video.figures[n])]).filter(([, value]) => value !== "");
  return h("div", {}, table([], rows.filter(([, value]) => value)), scores.length ? table(["score", "value", ""], scores) : "", figures.length ? table(["measured", "value"], figures) : "",
    video.notes.map((note) => h("p", { class: "small soft" }, note)), logLinks(video),
    video.scene ? h("p", {}, h("a", { href: video.scene }, "Look at it in 3D")) : "");
}
const logLinks = (video) => video.logs.length ? h("p", { class: "small" }, "logs: ", video.logs.map((path) => h("a", { href: path, style: "margin-right:.6rem" }, path.split("/").slice(-2, -1)[0]))) : null;
function table(names, rows) {
  const numeric = (cell) => typeof cell === "string" && /^[-\d.,e]+( [a-zA-Z]+)?$/.test(cell);
  const top = names.length ? h("thead", {}, h("tr", {}, names.map((name, i) => h("th", { scope: "col", class: i && rows.some((row) => numeric(row[i])) ? "n" : "" }, name)))) : "";
  return h("div", { class: "scroll" }, h("table", {}, top, h("tbody", {}, rows.map((row) => h("tr", {}, row.map((cell, i) => h("td", { class: numeric(cell) ? "n" : i && cell !== "" ? "wrap" : "" }, cell)))))));
}
function videoTable(videos) {
  const sortBy = (name) => { view.down = view.sort === name ? !view.down : false; view.sort = name; $("sort").value = "worst"; refresh(); };
  const names = COLUMNS.map(([name], i) => h("th", { scope: "col", class: i > 3 && i !== 8 ? "n" : "", "aria-sort": view.sort === name ? (view.down ? "descending" : "ascending") : null }, h("button", { onclick: () => sortBy(name) }, name)));
  const rows = videos.map((video) => h("tr", {}, COLUMNS.map(([, value], i) => h("td", { class: i > 3 && i !== 8 ? "n" : "" }, i === 1 ? h("span", { class: `badge ${video.state}` }, video.state) : number2(value(video))))));
  return h("div", { class: "scroll" }, h("table", {}, h("caption", { class: "soft small" }, "Choose a column's name to sort by it."), h("thead", {}, h("tr", {}, names)), h("tbody", {}, rows)));
}
const number2 = (value) => typeof value === "number" ? number(value) : value || "";
function videos() {
  const search = h("label", { class: "search" }, "find", h("input", { type: "search", placeholder: "id, text or subject", oninput: (event) => { filters.text = event.target.value; refresh(); } }));
  const sort = h("label", {}, "order", h("select", { id: "sort", onchange: (event) => { view.sort = event.target.value; view.down = view.sort === "worst" || D.scores[view.sort]?.above !== false; refresh(); } },
    h("option", { value: "worst" }, "worst first"), h("option", { value: "video" }, "by name"), SCORES.map((s) => h("option", { value: s.name }, s.name))));
  const kinds = ["gallery", "table"].map((kind) => h("button", { "aria-pressed": String(kind === view.kind), onclick: (event) => { view.kind = kind; for (const b of event.target.parentNode.children) b.setAttribute("aria-pressed", String(b === event.target)); refresh(); } }, kind));
  const all = D.videos;
  put("videos", h("div", { class: "controls", role: "search" }, search, selector("state", "state", all.map((v) => v.state)), selector("tier", "tier", all.map((v) => v.tier)), selector("split", "split", all.map((v) => v.split)),
    selector("subject", "subject", all.map((v) => v.subject)), selector("reason", "reason", all.flatMap(reasonOf), true), selector("beyond its limit", "score", SCORES.filter((s) => all.some((v) => poor(s, scoreOf(v, s.number)))).map((s) => s.name), true), sort, h("div", { class: "kinds" }, kinds)),
    h("p", { id: "status", role: "status", class: "soft small" }), h("div", { id: "list" }));
}

// Losses, by reason
function losses() {
  const by = new Map();
  for (const video of D.videos) for (const n of video.losses) by.set(n, [...(by.get(n) || []), video]);
  const groups = [...by].sort((a, b) => b[1].length - a[1].length);
  const leftOut = new Map();
  for (const [video, why] of Object.entries(D.left_out)) leftOut.set(why, [...(leftOut.get(why) || []), video]);
  if (!groups.length && !leftOut.size) { $("losses").hidden = true; $("to-losses").hidden = true; return; }
  const some = (list) => list.slice(0, 50).join(", ") + (list.length > 50 ? `, and ${list.length - 50} more` : "");
  put("losses", groups.map(([n, list]) => h("div", { style: "margin:.8rem 0" }, h("h3", {}, `${count(list.length, "video")}: ${D.losses[n].code}`), lossText(n),
    h("details", {}, h("summary", {}, "which"), list.slice(0, 200).map((video) => h("p", {}, h("b", {}, video.id), " ", logLinks(video)))))),
    leftOut.size ? [h("h3", {}, `Not in ${D.statistics_group ? `the statistics of ${D.statistics_group}` : "the statistics"}`), [...leftOut].map(([why, list]) => h("p", { class: "small" }, `${why}: ${some(list)}`))] : "");
}

// Histograms: SVG, so that they follow dark mode, print, and say themselves to a screen reader
function bars(counts, low, high, options) {
  const W = 300, H = 110, base = H - 16, top = 14, width = W / counts.length;
  const heights = options.log ? counts.map((n) => Math.log10(1 + n)) : counts, most = Math.max(...heights, 1);
  const node = svg("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": options.label });
  const beyond = (x) => options.limit !== undefined && (options.above ? x >= options.limit : x < options.limit);
  counts.forEach((n, i) => {
    const height = n ? Math.max(1.5, (base - top) * heights[i] / most) : 0, x = low + (high - low) * (i + .5) / counts.length;
    if (n) { const bar = svg("rect", { x: i * width, y: base - height, width: Math.max(width - 1, .6), height, class: beyond(x) ? "bar beyond" : "bar" }); bar.append(svg("title", {}, `${number(+(x).toPrecision(3))}: ${n.toLocaleString("en")}`)); node.append(bar); }
  });
  node.append(svg("line", { x1: 0, x2: W, y1: base, y2: base, class: "axis" }), svg("text", { x: 0, y: H - 3 }, number(low)), svg("text", { x: W, y: H - 3, "text-anchor": "end" }, number(high) + (options.unit || "")));
  if (options.limit !== undefined && options.limit >= low && options.limit <= high) {
    const x = W * (options.limit - low) / (high - low || 1);
    node.append(svg("line", { x1: x, x2: x, y1: 0, y2: base, class: "limit" }), svg("text", { x: x > W / 2 ? x - 3 : x + 3, y: 9, class: "limit-text", "text-anchor": x > W / 2 ? "end" : "start" }, `limit ${number(options.limit)}`));
  }
  return node;
}
function histogram(values, options) {
  if (options.limit !== undefined) values = values.map((x) => Math.min(x, 4 * options.limit)); // far outliers would squeeze the rest into one bar
  const reach = options.limit === undefined ? [] : [options.limit];
  let low = Math.min(...extent(values, Math.min), ...reach), high = Math.max(...extent(values, Math.max), ...reach);
  if (options.unit === "" || options.fromZero) low = Math.min(0, low);
  if (low === high) [low, high] = [low - .5, high + .5];
  const n = options.whole ? Math.min(30, high - low + 1) : 30, counts = Array(Math.ceil(n)).fill(0);
  for (const x of values) counts[Math.min(counts.length - 1, Math.floor((x - low) / (high - low) * counts.length))]++;
  return bars(counts, low, high, options);
}
const extent = (values, pick) => [values.reduce((a, b) => pick(a, b), values[0])];
function chart(title, what, drawing, extra) {
  return h("figure", {}, h("figcaption", {}, h("b", {}, title), h("span", { class: "soft" }, what)), drawing, extra || "");
}
function drawScores() {
  const found = view.found, figure = (stage, name) => { const n = D.figures.indexOf(`${stage}.${name}`); return n < 0 ? [] : known(found.map((v) => v.figures[n])); };
  const charts = SCORES.map((s) => {
    const values = known(found.map((v) => scoreOf(v, s.number)));
    if (!values.length) return null;
    const bad = values.filter((x) => poor(s, x)).length, median = quantile(values, .5);
    const label = `${s.name}: median ${number(median)}${unit(s)} of ${count(values.length, "video")}, ${bad} beyond the limit ${number(s.limit)}`;
    const show = bad ? h("button", { class: "link small", onclick: () => { const select = document.querySelector("[data-filter=score]"); select.value = filters.score = s.name; refresh(); $("videos").scrollIntoView(); } }, `show ${count(bad, "video")} beyond the limit`) : h("span", { class: "small soft" }, "none beyond the limit");
    return chart(s.name, `${s.what}; median ${number(median)}${unit(s)}`, histogram(values, { limit: s.limit, above: s.above, unit: unit(s), label, fromZero: true }), show);
  }).filter(Boolean);
  const plain = [["points per window", "tracked points of each video's windows, mean", known(found.map((v) => v.windows ? v.points / v.windows : null)), ""],
    ["left hand", "share of frames with a pose", figure("hands", "left_valid_share"), ""], ["right hand", "share of frames with a pose", figure("hands", "right_valid_share"), ""],
    ["length", "seconds of video", known(found.map((v) => v.frames ? v.frames / v.fps : null)), " s"], ["work", "seconds of work per second of video", known(found.map((v) => v.frames ? work(v) / (v.frames / v.fps) : null)), ""]];
  for (const [title, what, values, of] of plain) if (values.length) charts.push(chart(title, `${what}; median ${number(quantile(values, .5))}`, histogram(values, { unit: of, fromZero: true, label: `${title}, ${what}: median ${number(quantile(values, .5))} over ${count(values.length, "video")}` })));
  $("score-charts").replaceChildren(...(charts.length ? charts : [h("p", {}, "No packaged video is among those shown.")]));
}
function scores() {
  put("scores", h("p", { class: "soft small" }, "How well the arrays of a file agree with each other, one value per video, of the videos that the filters above leave; they can be wrong together. Bars beyond a limit are red; values beyond four times the limit stand in the last bar."), h("div", { class: "charts", id: "score-charts" }));
}
const peaked = (d) => Math.max(...d.counts) > .3 * sum(d.counts); // most points stand still: on a linear scale the others vanish
function distributions() {
  const groups = Object.keys(D.distributions);
  if (!groups.length) { put("distributions", h("p", {}, "Nothing is packaged yet.")); return; }
  const place = h("div", {});
  const draw = (group) => {
    const all = D.distributions[group];
    place.replaceChildren(h("div", { class: "charts" }, all.filter((d) => d.counts.length).map((d) => chart(`${d.name} ${d.channel}`, `mean ${number(d.mean)}, std ${number(d.std)}${peaked(d) ? "; logarithmic bars" : ""}`, bars(d.counts, d.low, d.high, { log: peaked(d), label: `${d.name} ${d.channel}: from ${number(d.low)} to ${number(d.high)}, mean ${number(d.mean)}` }),
      h("span", { class: "small soft" }, `${d.below.toLocaleString("en")} below, ${d.above.toLocaleString("en")} above, range ${number(d.minimum)} to ${number(d.maximum)}`)))),
      h("details", { style: "margin-top:1rem" }, h("summary", {}, "All statistics as a table"), table(["", "channel", "samples", "mean", "std", "min", "max"], all.map((d) => [d.name, d.channel, number(d.samples), number(d.mean), number(d.std), number(d.minimum), number(d.maximum)]))));
  };
  const main = D.statistics_group in D.distributions ? D.statistics_group : groups[0];
  const select = h("select", { onchange: (event) => draw(event.target.value) }, groups.map((group) => h("option", { selected: group === main }, group)));
  put("distributions", h("p", { class: "soft small" }, `Every value in the packaged files, 1st to 99th percentile. Depth of different worth is never mixed; normalization_stats.yaml holds ${D.statistics_group}.`), groups.length > 1 ? h("div", { class: "controls" }, h("label", {}, "group", select)) : "", place);
  draw(main);
}

// Time and memory
function curves(title, key, of) {
  const stages = D.stages.filter((stage) => D.timeline.stages[stage]), steps = Math.max(...stages.map((s) => D.timeline.stages[s][key].length));
  const total = Array.from({ length: steps }, (_, i) => sum(stages.map((s) => D.timeline.stages[s][key][i]))), most = Math.max(...total, .01);
  const W = 600, H = 150, base = H - 18, node = svg("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": `${title}: at most ${number(most)}${of}` });
  const floor = Array(steps).fill(0);
  for (const stage of stages) {
    const values = D.timeline.stages[stage][key], y = (v) => base - (base - 16) * v / most, up = [], down = [];
    values.forEach((v, i) => { const x0 = W * i / steps, x1 = W * (i + 1) / steps, y0 = y(floor[i]), y1 = y(floor[i] + v); up.push(`${x0},${y1} ${x1},${y1}`); down.unshift(`${x1},${y0} ${x0},${y0}`); floor[i] += v; });
    node.append(svg("polygon", { points: [...up, ...down].join(" "), fill: `var(--c${D.stages.indexOf(stage) % 6})` }));
  }
  node.append(svg("line", { x1: 0, x2: W, y1: base, y2: base, class: "axis" }), svg("text", { x: 0, y: 10 }, `${number(most)}${of}`), svg("text", { x: 0, y: H - 4 }, "0"), svg("text", { x: W, y: H - 4, "text-anchor": "end" }, duration(D.timeline.seconds)));
  return chart(title, "", node);
}
function cost() {
  const rows = D.stages.flatMap((stage, n) => {
    const seconds = known(D.videos.map((v) => (v.seconds || [])[n])), line = D.timeline.stages[stage], states = D.stage_states[stage] || {};
    if (Object.keys(states).every((state) => state === "none")) return []; // left out of this run
    const peak = Math.max(line ? line.peak_bytes : 0, ...known(D.videos.map((v) => (v.peaks || [])[n])));
    return [[stage, number((states.done || 0) + (states.none || 0)), number(states.quarantined || 0), number((states.todo || 0) + (states.stale || 0)), duration(sum(seconds)), seconds.length ? duration(quantile(seconds, .5)) : "", seconds.length ? duration(Math.max(...seconds.slice(0, 1e5))) : "",
      line ? duration(line.wall_seconds) : "", line ? number(Math.max(...line.workers)) : "", peak ? bytes(peak) : ""]];
  });
  put("cost", table(["stage", "done", "quarantined", "to do", "work", "median video", "longest video", "wall time", "most workers", "peak memory of a video"], rows));
  if (Object.keys(D.timeline.stages).length) put("cost", h("div", { class: "legend", style: "margin:1rem 0 .4rem" }, D.stages.filter((s) => D.timeline.stages[s]).map((s) => h("span", {}, h("i", { style: `background:var(--c${D.stages.indexOf(s) % 6})` }), s))),
    h("div", { class: "charts", style: "grid-template-columns:repeat(auto-fit,minmax(min(100%,26rem),1fr))" }, curves("workers", "workers", ""), curves("memory of workers", "memory_gib", " GiB")));
}

// Provenance
function provenance() {
  const backends = Object.entries(D.identities).flatMap(([stage, list]) => list.map((identity) => [stage, String(identity.name), String(identity.version ?? ""), h("details", {}, h("summary", {}, "settings"), h("code", {}, JSON.stringify(Object.fromEntries(Object.entries(identity).filter(([k]) => k !== "name" && k !== "version")))))]));
  const settings = Object.entries(D.settings).map(([name, value]) => [name, JSON.stringify(value)]);
  put("provenance", table(["stage", "backend", "version", ""], backends),
    h("h3", { style: "margin-top:1.2rem" }, "Licences of what made this data"), D.licences.length ? table(["", "licence", "of"], D.licences.map((l) => [l.name, l.licence, l.of])) : h("p", {}, "None beyond this program's own."),
    h("h3", { style: "margin-top:1.2rem" }, "Settings that differ from their defaults"), settings.length ? table(["setting", "value"], settings) : h("p", {}, "None."),
    h("p", { class: "soft small" }, "The dataset's card is ", h("a", { href: "../h5_dataset/README.md" }, "h5_dataset/README.md"), "; what was lost also stands in ", h("a", { href: "../quarantine.csv" }, "quarantine.csv"), "."));
}

head(); videos(); losses(); scores(); distributions(); cost(); provenance(); refresh();
document.documentElement.dataset.ready = String(Math.round(performance.now()));

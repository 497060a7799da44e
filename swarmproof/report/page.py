"""The page's frame: markup, colours for light and dark, and the script that draws the charts.

Colours of the series are those of Okabe and Ito, which people who see colours differently can tell apart.
"""

#: For pages without a script.
STATIC_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>$title</title>
<style>$style</style>
</head>
<body>
<main>
$body
</main>
</body>
</html>
"""

PAGE = STATIC_PAGE.replace(
    "</main>\n",
    """</main>
<script type="application/json" id="data">$data</script>
$plotly
<script>$script</script>
""",
)

STYLE = """
:root { --back:#fbfbfa; --card:#fff; --ink:#1c2024; --soft:#656b73; --line:#dfe2e6; --grid:#eceef0;
  --valid:#0b7a4b; --invalid:#b3261e; --unknown:#9a6300; --blue:#0072b2; --orange:#d55e00; --grey:#8a9099;
  --band:rgba(213,94,0,.13); }
@media (prefers-color-scheme: dark) { :root { --back:#131518; --card:#1b1e22; --ink:#e8eaed; --soft:#9aa1aa;
  --line:#32373d; --grid:#272b30; --valid:#4cc38a; --invalid:#ff7b72; --unknown:#e3b341; --blue:#56b4e9;
  --orange:#f0883e; --grey:#8b949e; --band:rgba(240,136,62,.18); } }
* { box-sizing:border-box }
body { margin:0; background:var(--back); color:var(--ink); font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif }
main { max-width:1080px; margin:0 auto; padding:28px 20px 60px }
header { margin:8px 0 18px }
.kicker { margin:0; color:var(--soft) }
h1 { margin:2px 0; font-size:46px; letter-spacing:.01em; line-height:1.1 }
h2 { font-size:18px; margin:4px 0 10px }
.chart + h2 { margin-top:22px }
.lead { margin:6px 0 2px; font-size:19px; max-width:900px; overflow-wrap:anywhere }
.headline { margin:4px 0 0; color:var(--soft) }
.notes { margin:10px 0 0; padding-left:18px; color:var(--unknown) }
.soft { color:var(--soft); font-size:13px; margin:6px 0 14px }
h3 { font-size:15px; margin:18px 0 6px }
.wrap.numbers thead th:not(:first-child) { white-space:normal; vertical-align:bottom }
.wrap.numbers th, .wrap.numbers td { padding-right:9px } .wrap.numbers td { font-size:13px }
.spread td { white-space:nowrap } .spread td:last-child { width:330px }
.strip { width:320px; height:18px; display:block } .strip .axis { stroke:var(--grid) }
.strip .range { stroke:var(--orange); stroke-width:3; opacity:.35 } .strip circle { fill:var(--orange); opacity:.75 }
.strip .median { stroke:var(--ink); stroke-width:1.5 }
h1.small { font-size:30px } ul.lead { padding-left:20px; font-size:16px } .first td { padding-top:14px }
.plain { width:100%; height:auto; font:12px system-ui,sans-serif } .plain text { fill:var(--soft) }
.plain .grid { stroke:var(--grid) } .plain polyline { fill:none; stroke-width:2; stroke-linejoin:round }
.plain .a { stroke:var(--orange) } .plain .b { stroke:var(--blue) } .plain circle { stroke:var(--card) }
.plain circle.valid { fill:var(--valid) } .plain circle.invalid { fill:var(--invalid) }
.plain circle.unknown { fill:var(--unknown) } .plain circle.none { fill:var(--grey) }
figure { margin:16px 0 0 } figcaption { color:var(--soft); font-size:13px }
.key { display:inline-block; width:18px; height:8px; border-radius:2px }
.key.read { background:var(--blue) } .key.write { background:var(--orange) }
section { background:var(--card); border:1px solid var(--line); border-radius:10px; padding:16px 20px; margin:0 0 16px }
.valid { color:var(--valid) } .invalid { color:var(--invalid) }
.unknown { color:var(--unknown) } .none { color:var(--soft) }
.badge { font-weight:600; white-space:nowrap }
table { border-collapse:collapse; width:100%; font-variant-numeric:tabular-nums }
th, td { text-align:left; padding:6px 14px 6px 0; border-top:1px solid var(--line); vertical-align:top }
thead th { border-top:0; color:var(--soft); font-weight:500; white-space:nowrap }
.numbers th:not(:first-child), .numbers td:not(:first-child) { text-align:right; white-space:nowrap }
.numbers td:first-child { white-space:nowrap }
.part td { color:var(--soft); padding-top:14px; text-align:left !important }
.about th { color:var(--soft); font-weight:500; width:110px; white-space:nowrap }
.about td { overflow-wrap:anywhere }
.scroll { overflow-x:auto }
.chart { height:330px } .chart.low { height:260px }
.pick { margin:0; color:var(--soft) }
select { font:inherit; color:inherit; background:var(--card); border:1px solid var(--line); border-radius:6px;
  padding:2px 6px }
code { font:13px/1.4 ui-monospace,"SF Mono",Menlo,Consolas,monospace; overflow-wrap:anywhere }
.because { font-size:17px; border-left:4px solid var(--invalid); padding-left:12px; margin:6px 0 14px;
  overflow-wrap:anywhere }
.times { white-space:nowrap }
.faults { padding-left:18px; margin:0 } .faults li { margin:0 0 8px } small { color:var(--soft) }
.timeline { width:100%; height:auto; margin:0 0 10px; font:13px ui-monospace,Menlo,Consolas,monospace }
.timeline .tick { stroke:var(--grid) } .timeline .time { fill:var(--soft); font-size:11px }
.timeline .op { fill:var(--ink); paint-order:stroke; stroke:var(--card); stroke-width:5px }
.timeline .read { fill:var(--blue) } .timeline .write { fill:var(--orange) }
.timeline .other { opacity:.35 } .timeline .zone { fill:none; stroke-width:1.2 }
.timeline .zone.forward { stroke:var(--orange); fill:var(--band) } .timeline .zone.backward { stroke:var(--blue) }
.timeline .zone.blamed { stroke-width:2.2 }
.timeline .zonetext { fill:var(--ink); font-size:11px; paint-order:stroke; stroke:var(--card); stroke-width:4px }
.timeline .open { opacity:.45 } .timeline .fault { stroke:var(--invalid); stroke-dasharray:4 3 }
.timeline .faulttext { fill:var(--invalid); font-size:12px }
details summary { cursor:pointer; color:var(--soft); margin-top:10px }
@media print { @page { margin:12mm } body { background:#fff; font-size:12px } main { padding:0; max-width:none }
  section { border:0; padding:6px 0; margin:0 0 8px } header, .chart, figure, tr, h2, h3 { break-inside:avoid }
  h2, h3 { break-after:avoid } .pick { display:none } .scroll { overflow:visible } th, td { padding:3px 8px 3px 0 }
  .numbers { font-size:10px } }
"""

SCRIPT = r"""
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const pick = document.getElementById("operation");
for (const name of Object.keys(data.series)) pick.add(new Option(name, name));
const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const span = Object.values(data.series)[0].t;
const step = span.length > 1 ? span[1] - span[0] : 1;
const range = [Math.min(0, span[0] - step), span[span.length - 1] + step];

function faultMarks() {
  const shapes = [], annotations = [], room = 0.13 * (range[1] - range[0]);
  let last = -Infinity, level = 0;
  for (const fault of data.faults) {
    const colour = fault.took_effect ? css("--orange") : css("--grey");
    shapes.push({type: "line", xref: "x", yref: "paper", x0: fault.from, x1: fault.from, y0: 0, y1: 1,
      line: {color: colour, width: 1, dash: "dot"}});
    const band = to => shapes.push({type: "rect", xref: "x", yref: "paper", x0: fault.from, x1: to, y0: 0, y1: 1,
      fillcolor: css("--band"), line: {width: 0}, layer: "below"});
    const healed = fault.healed === null ? fault.to : fault.healed;
    if (fault.took_effect) band(Math.max(healed, fault.to));
    if (fault.to > fault.from && fault.to < healed) band(fault.to);  // twice the colour
    if (fault.healed !== null)
      shapes.push({type: "line", xref: "x", yref: "paper", x0: fault.healed, x1: fault.healed, y0: 0, y1: 1,
        line: {color: css("--valid"), width: 1, dash: "dot"}});
    level = fault.from - last < room ? (level + 1) % 3 : 0;
    last = fault.from;
    if (data.faults.length <= 16)
      annotations.push({yshift: 11 * level, xref: "x", yref: "paper", x: fault.from, y: 1, yanchor: "bottom",
        xanchor: "left",
        text: fault.text.replace(/</g, "&lt;") + (fault.took_effect ? "" : " (no effect)"), showarrow: false,
        font: {size: 11, color: colour}});
  }
  return {shapes, annotations};
}
function layout(extra) {
  const axis = {gridcolor: css("--grid"), linecolor: css("--line"), zeroline: false, automargin: true};
  const low = extra.yaxis.ticksuffix === "/s";
  const base = {paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", margin: {l: 60, r: 12, t: 44, b: 40},
    font: {color: css("--ink"), family: "system-ui,-apple-system,Segoe UI,sans-serif", size: 12},
    hovermode: "x unified",
    hoverlabel: {bgcolor: css("--card"), bordercolor: css("--line"), font: {color: css("--ink")}},
    legend: {orientation: "h", x: 1, xanchor: "right", y: low ? -0.42 : -0.2, yanchor: "top", traceorder: "normal"}};
  return {...base, ...extra, xaxis: {...axis, ...extra.xaxis}, yaxis: {...axis, ...extra.yaxis}};
}
const options = {responsive: true, displaylogo: false, displayModeBar: false};
const line = (x, y, name, colour, more) => ({x, y, name, mode: "lines+markers", marker: {size: 3, color: colour},
  line: {color: colour, width: 1.6}, connectgaps: false, text: y.map(spoken), hovertemplate: "%{text}", ...more});
const decades = {"10 us": 0.01, "100 us": 0.1, "1 ms": 1, "10 ms": 10, "100 ms": 100,
  "1 s": 1e3, "10 s": 1e4, "100 s": 1e5};
const ms = {type: "log", tickvals: Object.values(decades), ticktext: Object.keys(decades)};
const spoken = v => v === null ? "" : v < 1 ? `${Math.round(v * 1000)} us` : v < 1000 ? `${+v.toPrecision(3)} ms`
  : `${(v / 1000).toFixed(2)} s`;

const nodes = [...new Set(data.leaders.map(l => l.leader).filter(Boolean))].sort();
const clusters = [...new Set(data.leaders.map(l => l.cluster))].slice(0, 3);
const strip = 0.055;
function ribbon(marks) {
  const hues = ["--blue", "--valid", "--unknown", "--orange", "--grey"], whole = range[1] - range[0];
  for (const led of data.leaders) {
    const row = clusters.indexOf(led.cluster);
    if (row < 0) continue;
    const colour = led.leader ? css(hues[nodes.indexOf(led.leader) % hues.length]) : css("--invalid");
    marks.shapes.push({type: "rect", xref: "x", yref: "paper", x0: led.from, x1: led.to, y0: row * strip,
      y1: row * strip + strip * 0.85, fillcolor: colour, opacity: led.leader ? 0.35 : 0.8, line: {width: 0}});
    if (led.leader && (led.to - led.from) / whole > 0.05)
      marks.annotations.push({xref: "x", yref: "paper", x: (led.from + led.to) / 2, y: row * strip + strip * 0.42,
        text: `${led.leader} · term ${led.term}`.replace(/</g, "&lt;"), showarrow: false, yanchor: "middle",
        font: {size: 10, color: css("--ink")}});
  }
  return marks;
}
function draw() {
  const s = data.series[pick.value], slow = data.slow[pick.value];
  const seconds = {title: {text: "seconds from the start of the load", standoff: 4}, range};
  const dots = {x: slow.t, y: slow.ms, name: "slow ones", mode: "markers", type: "scatter",
    marker: {size: slow.count.map(n => Math.min(14, 5 + 2 * Math.log2(n))), color: css("--orange"), opacity: 0.55},
    text: slow.ms.map((v, i) => `${spoken(v)}${slow.count[i] > 1 ? ` (${slow.count[i]} times)` : ""}`),
    hovertemplate: "%{text}"};
  Plotly.react("latency", [dots, line(s.t, s.max, "max", css("--grey")), line(s.t, s.p99, "p99", css("--orange")),
    line(s.t, s.p50, "p50", css("--blue"))],
    layout({...ribbon(faultMarks()), xaxis: {...seconds, anchor: "free", position: 0},
      yaxis: {...ms, domain: [clusters.length ? clusters.length * strip + 0.02 : 0, 1]}}), options);
  const area = (y, name, colour) => ({x: s.t, y, name, mode: "lines", stackgroup: "all",
    line: {width: 0.8, color: colour}, hovertemplate: "%{y:,.1f}/s"});
  const rates = [area(s.ok, "acknowledged", css("--blue")), area(s.failed, "failed", css("--invalid")),
    area(s.unknown, "unknown", css("--unknown"))];
  const come = data.arrivals;
  if (come.t && pick.selectedIndex === 0) {
    const due = (y, name, colour, dash) => ({x: come.t, y, name, mode: "lines", hovertemplate: "%{y:,.1f}/s",
      line: {width: 1.6, color: colour, dash}});
    rates.push(due(come.offered, "offered", css("--ink"), "dot"));
    rates.push(due(come.dropped, "dropped", css("--invalid"), "dash"));
  }
  Plotly.react("rate", rates,
    layout({...faultMarks(), xaxis: seconds, yaxis: {rangemode: "tozero", ticksuffix: "/s"}}), options);
  const nines = [1, 2, 10, 100, 1000, 10000, 100000];
  const colours = {"whole run": "--grey", "before faults": "--blue", "during faults": "--orange",
    "after faults": "--valid"};
  const curves = Object.entries(data.curves[pick.value] || {}).map(([name, c]) =>
    line(c.x, c.ms, name, css(colours[name]), {mode: "lines", line: {width: name === "whole run" ? 1.4 : 2.2,
      color: css(colours[name]), dash: name === "whole run" ? "dash" : "solid"}}));
  Plotly.react("curve", curves, layout({margin: {l: 60, r: 12, t: 12, b: 40},
    xaxis: {type: "log", tickvals: nines, ticktext: ["0", "p50", "p90", "p99", "p99.9", "p99.99", "p99.999"],
      unifiedhovertitle: {text: "percentile"}},
    yaxis: ms}), options);
}
pick.addEventListener("change", draw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
const fit = () => { for (const name of ["latency", "rate", "curve"]) Plotly.Plots.resize(name); };
addEventListener("beforeprint", fit);
addEventListener("afterprint", fit);
draw();
"""
